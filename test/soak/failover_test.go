package soak_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/testkit"
)

// A PostgreSQL dies under load and its streaming standby is promoted. The service knows both by one URL and follows by
// itself: nothing that was acknowledged is lost, since commits wait for the standby.
func TestDrillPostgreSQLFailsOver(t *testing.T) {
	t.Parallel()
	w := newDrill(t)
	primary := newDatabase(t, filepath.Join(w.dir, "primary"))
	w.database = primary
	standbyAddr := startStandby(t, primary, filepath.Join(w.dir, "standby"))

	u, err := url.Parse(primary.url)
	if err != nil {
		t.Fatal(err)
	}
	both := fmt.Sprintf("postgres://%s@%s,%s%s?%s&target_session_attrs=read-write", u.User, primary.addr, standbyAddr, u.Path, u.RawQuery)
	w.connect(both, testkit.NATSServer(t).URL())
	w.open()
	stop := w.load()
	t.Logf("handed over in %v, on the primary", w.handOver(1).Round(time.Millisecond))

	pid, err := primary.pid()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := syscall.Kill(pid, syscall.SIGQUIT); err != nil { // at once, and for good
		t.Fatal(err)
	}
	<-primary.server.Done()
	promote(t, primary.url, standbyAddr)
	t.Logf("the primary was killed, and the standby promoted %v later", time.Since(began).Round(time.Millisecond))
	asked := time.Now()
	took := w.handOver(2)
	t.Logf("a role change asked for then was handed over after %v, %v after the primary died", took.Round(time.Millisecond), asked.Add(took).Sub(began).Round(time.Millisecond))
	for _, p := range w.parts {
		await(t, time.Minute, p.name+" is ready on the new primary", func() (bool, string) {
			err := p.ready()
			return err == nil, fmt.Sprint(err, "\n", tail(p.log))
		})
	}
	// A part that starts now finds the new primary, too, past the dead one; and so do commands.
	for _, p := range w.parts {
		p.kill()
		if err := p.start(); err != nil {
			t.Fatal(err)
		}
	}
	w.awaitReady()
	if out, err := w.command("migrate", "--dry-run"); err != nil {
		t.Errorf("%v %s", err, out)
	}
	t.Logf("and with all parts started anew in %v", w.handOver(3).Round(time.Millisecond))
	stop()
	w.rest()
	t.Logf("%s", w.judge(0))
}

// startStandby copies the primary, has the copy follow it, and has commits wait for the copy. It ends with the test.
func startStandby(t *testing.T, primary *database, dir string) (addr string) {
	t.Helper()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, primary.url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var bin string
	if err := conn.QueryRow(ctx, `SELECT setting FROM pg_config WHERE name = 'BINDIR'`).Scan(&bin); err != nil {
		t.Fatal(err)
	}
	// Whoever owns the primary's data owns the copy.
	info, err := os.Stat(filepath.Join(primary.options.Dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	data := filepath.Join(dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, data} {
		if err := os.Chown(d, int(owner.Uid), int(owner.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Dir, cmd.Env = "/", append(os.Environ(), "LC_ALL=C")
		return cmd
	}
	as := func(a *syscall.SysProcAttr) *syscall.SysProcAttr {
		if os.Geteuid() == 0 {
			a.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
		}
		return a
	}
	copying := command("pg_basebackup", "-D", data, "-R", "-X", "stream", "--checkpoint=fast", "--no-sync", "-d", primary.url)
	copying.SysProcAttr = as(dieWithUs())
	if out, err := copying.CombinedOutput(); err != nil {
		t.Fatalf("pg_basebackup: %v\n%s", err, out)
	}
	addr = freeAddr(t)
	_, port := split(addr)
	log := filepath.Join(filepath.Dir(dir), "standby.log")
	standby := command("postgres", "-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
		"-c", "hot_standby=on", "-c", "fsync=off", "-c", "max_connections=200", "-c", "timezone=UTC")
	p, err := launchAs(standby, log, as(dieWithUs()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(syscall.SIGQUIT, time.Minute) })
	for _, sql := range []string{`ALTER SYSTEM SET synchronous_standby_names = '*'`, `ALTER SYSTEM SET synchronous_commit = 'on'`, `SELECT pg_reload_conf()`} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	await(t, time.Minute, "the standby follows, and commits wait for it", func() (bool, string) {
		var state string
		err := conn.QueryRow(ctx, `SELECT state || ' ' || sync_state FROM pg_stat_replication`).Scan(&state)
		return err == nil && state == "streaming sync", fmt.Sprint(state, err, "\n", tail(log))
	})
	return addr
}

func promote(t *testing.T, primaryURL, addr string) {
	t.Helper()
	u, err := url.Parse(primaryURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Host = addr
	conn, err := pgx.Connect(context.Background(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var done bool
	if err := conn.QueryRow(context.Background(), `SELECT pg_promote(true, 60)`).Scan(&done); err != nil || !done {
		t.Fatalf("promote the standby: %v %v", done, err)
	}
}
