package soak_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"handover.io/internal/bus"
	"handover.io/internal/postgres"
)

// disk is a file system of its own for a server, so that it can be full: a small one in memory, which only root can make.
// Without root it is a directory, and can't be filled.
type disk struct {
	dir   string
	small bool
}

const diskSize = "3g"

func newDisk(t testing.TB, dir string) *disk {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	d := &disk{dir: dir}
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "mode=0755,size="+diskSize, "handover-soak", dir).CombinedOutput(); err != nil {
		t.Logf("%s can't be filled (mount: %v %s)", dir, err, strings.TrimSpace(string(out)))
		return d
	}
	d.small = true
	t.Cleanup(func() {
		// Lazily: whoever still has a file open must not keep the test from ending.
		if out, err := exec.Command("umount", "-l", dir).CombinedOutput(); err != nil {
			t.Errorf("umount %s: %v %s", dir, err, out)
		}
	})
	return d
}

// fill leaves so many KB.
func (d *disk) fill(left int) error {
	out, err := exec.Command("df", "-kP", d.dir).Output()
	if err != nil {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields := strings.Fields(lines[len(lines)-1])
	if len(fields) < 3 {
		return fmt.Errorf("df says %q", out)
	}
	used, err := strconv.Atoi(fields[2])
	if err != nil {
		return err
	}
	return d.resize(fmt.Sprintf("%dk", used+left))
}

func (d *disk) free() error { return d.resize(diskSize) }

func (d *disk) resize(size string) error {
	if out, err := exec.Command("mount", "-o", "remount,size="+size, d.dir).CombinedOutput(); err != nil {
		return fmt.Errorf("resize %s: %w: %s", d.dir, err, out)
	}
	return nil
}

// database is a PostgreSQL that is restarted in every way there is.
type database struct {
	*disk
	options   postgres.ServerOptions
	server    *postgres.Server
	url, addr string
}

func newDatabase(t testing.TB, dir string) *database {
	t.Helper()
	d := &database{disk: newDisk(t, dir), addr: freeAddr(t)}
	_, port, err := net.SplitHostPort(d.addr)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := strconv.Atoi(port)
	d.options = postgres.ServerOptions{Dir: filepath.Join(dir, "postgres"), Port: n, Settings: map[string]string{
		// The machine doesn't lose its power here, so nothing depends on a sync; all else is as it comes.
		"fsync": "off", "max_connections": "200", "shared_buffers": "128MB", "max_wal_size": "256MB",
	}}
	if err := d.start(); err != nil {
		t.Fatal(err)
	}
	d.url = d.server.URL()
	t.Cleanup(func() { _ = d.server.Stop(context.Background()) })
	return d
}

func (d *database) start() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, err := postgres.StartServer(ctx, d.options)
	if err == nil {
		d.server = s
	}
	return err
}

func (d *database) pid() (int, error) {
	b, err := os.ReadFile(filepath.Join(d.options.Dir, "data", "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(b), "\n")
	return strconv.Atoi(strings.TrimSpace(first))
}

// restart ends it by a signal (SIGINT fast, SIGQUIT immediate, SIGKILL) and starts it again.
func (d *database) restart(signal syscall.Signal) error {
	pid, err := d.pid()
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, signal); err != nil {
		return err
	}
	select {
	case <-d.server.Done():
	case <-time.After(time.Minute):
		return errors.New("PostgreSQL does not stop within a minute")
	}
	return d.again()
}

// again starts it after its end.
func (d *database) again() error {
	_ = d.server.Stop(context.Background()) // gives the directory free
	return d.start()
}

// ended tells whether it has ended by itself.
func (d *database) ended() bool {
	select {
	case <-d.server.Done():
		return true
	default:
		return false
	}
}

// The broker is this program again, told by its environment to be one.
const (
	brokerDir  = "SOAK_BROKER_DIR"
	brokerAddr = "SOAK_BROKER_ADDR"
	brokerURL  = "url" // a file in its directory, written when it is ready
)

func beBroker(dir string) int {
	log, _ := zap.NewDevelopment()
	s, err := bus.StartServer(bus.ServerOptions{Dir: filepath.Join(dir, "nats"), Addr: os.Getenv(brokerAddr), SyncAlways: true, Logger: log})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if err := os.WriteFile(filepath.Join(dir, brokerURL), []byte(s.URL()), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err) // its disk may be full; who needs the URL has it from before
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	<-ended
	s.Close()
	return 0
}

// broker is a NATS server in a process of its own.
type broker struct {
	*disk
	addr, log, url string
	p              *process
}

func newBroker(t testing.TB, dir string) *broker {
	t.Helper()
	b := &broker{disk: newDisk(t, dir), addr: freeAddr(t), log: dir + ".log"}
	if err := b.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.p.end(syscall.SIGKILL, time.Minute) })
	await(t, time.Minute, "the broker is ready", func() (bool, string) {
		url, err := os.ReadFile(filepath.Join(dir, brokerURL))
		b.url = string(url)
		return err == nil && b.url != "", tail(b.log)
	})
	return b
}

func (b *broker) start() (err error) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), brokerDir+"="+b.dir, brokerAddr+"="+b.addr)
	b.p, err = launch(cmd, b.log)
	return err
}

// restart ends it by a signal (SIGTERM in order, SIGKILL) and starts it again.
func (b *broker) restart(signal syscall.Signal, pause func()) error {
	if !b.p.end(signal, time.Minute) {
		return fmt.Errorf("the broker does not stop within a minute: %s", tail(b.log))
	}
	pause()
	return b.start()
}
