package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cluster is a Dir of the private server:
//
//	lock            held by the process that uses it
//	data/           PostgreSQL's own, and the password, so that the two can't be separated
//	init-…/         a data directory in the making; renamed to data when it is complete
//	port            the one to try first
//	log, log.1      of this start and of the one before
//	binaries/       PostgreSQL itself, when it had to be downloaded
type cluster struct {
	options  ServerOptions
	dir      string // absolute, without symbolic links
	data     string
	bin      string
	password string
	owner    *owner // nil unless this process is root
}

const passwordFile = "handover.password"

func openCluster(o ServerOptions) (*cluster, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	c := &cluster{options: o, dir: dir, data: filepath.Join(dir, "data")}
	if c.owner, err = findOwner(c.data); err != nil {
		return nil, err
	}
	if c.owner == nil {
		return c, nil
	}
	if blocked := c.owner.blockedAt(filepath.Dir(dir)); blocked != "" {
		return nil, fmt.Errorf("the user %s, as whom PostgreSQL must run when Handover is run by root, can't enter %s: "+
			"choose a data directory elsewhere (HANDOVER_DATA_DIR=/var/lib/handover), run Handover as another user, or name a database (HANDOVER_DATABASE_URL)",
			c.owner.name, blocked)
	}
	return c, c.owner.take(dir)
}

// version is the major version of the PostgreSQL that made the data, 0 when there are none yet.
func (c *cluster) version() (int, error) {
	text, err := os.ReadFile(filepath.Join(c.data, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(c.data); err == nil {
			return 0, fmt.Errorf("%s is not a PostgreSQL data directory: move it away", c.data)
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%s is not a PostgreSQL data directory (PG_VERSION): move it away", c.data)
	}
	return major, nil
}

// init makes the data directory unless there is one, and reads the password. What an earlier init left unfinished is
// made again from nothing.
func (c *cluster) init(ctx context.Context) error {
	if _, err := os.Lstat(c.data); errors.Is(err, fs.ErrNotExist) {
		if err := c.initdb(ctx); err != nil {
			return err
		}
	}
	password, err := os.ReadFile(filepath.Join(c.data, passwordFile))
	if err != nil {
		return fmt.Errorf("the password of the private PostgreSQL is lost: %w", err)
	}
	c.password = strings.TrimSpace(string(password))
	return nil
}

func (c *cluster) initdb(ctx context.Context) error {
	// What a killed start left behind may still be written to, so this one has a folder of its own.
	leftovers, _ := filepath.Glob(filepath.Join(c.dir, "init-*"))
	for _, dir := range leftovers {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	scratch, err := os.MkdirTemp(c.dir, "init-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	making, password := filepath.Join(scratch, "data"), filepath.Join(scratch, "password")
	if err := os.WriteFile(password, []byte(rand.Text()+"\n"), 0o600); err != nil {
		return err
	}
	if err := c.owner.takeAll(scratch); err != nil {
		return err
	}
	args := []string{"-D", making, "-U", superuser, "--pwfile", password, "-A", "scram-sha-256", "-E", "UTF8", "-k"}
	if c.options.Settings["fsync"] == "off" {
		args = append(args, "--no-sync")
	}
	// Not every system has the first; both sort bytewise, but only it knows the case of letters beyond ASCII.
	for _, locale := range []string{"C.UTF-8", "C"} {
		if err := os.RemoveAll(making); err != nil {
			return err
		}
		said, err := c.command(ctx, "initdb", append(args, "--locale="+locale)...).CombinedOutput()
		if err == nil {
			break
		} else if locale == "C" || !strings.Contains(string(said), "locale") {
			return fmt.Errorf("initdb: %w:\n%s", err, lastLines(said))
		}
	}
	if err := os.Rename(password, filepath.Join(making, passwordFile)); err != nil {
		return err
	}
	if err := os.Rename(making, c.data); err != nil {
		return err
	}
	return syncDir(c.dir)
}

// command is one of PostgreSQL's, run as the owner, with nothing of our environment that it would take for advice.
func (c *cluster) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, name), args...)
	cmd.Dir, cmd.WaitDelay = "/", time.Second
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PG") && !strings.HasPrefix(v, "LC_") && !strings.HasPrefix(v, "LANG") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "LC_ALL=C")
	cmd.SysProcAttr = processAttributes()
	c.owner.become(cmd.SysProcAttr)
	return cmd
}

// port is the one asked for, or the remembered one if it is free and not the one to avoid, or a free one.
func (c *cluster) port(avoid int) (int, error) {
	if c.options.Port != 0 {
		return c.options.Port, nil
	}
	file := filepath.Join(c.dir, "port")
	if text, err := os.ReadFile(file); err == nil {
		if port, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && port != avoid {
			if l, err := listen(port); err == nil {
				return port, l.Close()
			}
		}
	}
	l, err := listen(0)
	if err != nil {
		return 0, err
	}
	port := l.Addr().(*net.TCPAddr).Port
	return port, errors.Join(l.Close(), os.WriteFile(file, []byte(strconv.Itoa(port)+"\n"), 0o600))
}

func listen(port int) (net.Listener, error) {
	return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
}

// postmaster reads who runs the cluster: the process, its port and its state ("starting", "ready", …); zeros when nobody
// does, or nobody has got that far yet.
func (c *cluster) postmaster() (pid, port int, state string) {
	text, err := os.ReadFile(filepath.Join(c.data, "postmaster.pid"))
	if err != nil {
		return 0, 0, ""
	}
	lines := strings.Split(string(text), "\n")
	pid, _ = strconv.Atoi(strings.TrimSpace(lines[0]))
	if len(lines) >= 8 {
		port, _ = strconv.Atoi(strings.TrimSpace(lines[3]))
		state = strings.TrimSpace(lines[7])
	}
	return pid, port, state
}

// runs tells whether the process is a postmaster of this cluster. A process id alone proves nothing: after a restart of
// the machine or the container it is anybody's.
func (c *cluster) runs(pid int) bool {
	return pid > 1 && strings.Contains(commandLine(pid), "-D "+c.data+" ")
}

func (c *cluster) logPath() string { return filepath.Join(c.dir, "log") }

func (c *cluster) newLog() (*os.File, error) {
	if err := os.Rename(c.logPath(), c.logPath()+".1"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.OpenFile(c.logPath(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
}

func (c *cluster) logTail() string {
	text, err := os.ReadFile(c.logPath())
	if err != nil {
		return err.Error()
	}
	return lastLines(text)
}

// lastLines is what is worth showing of a long text.
func lastLines(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-10):], "\n")
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
