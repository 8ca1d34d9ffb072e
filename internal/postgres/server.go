package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
)

// ServerOptions of the private server. Only Dir is required.
type ServerOptions struct {
	// Dir holds everything: the data, the server's log, the port and the password. It is created when absent. When this
	// process is root, Dir is given to the unprivileged user that PostgreSQL insists on.
	Dir    string
	Logger *zap.Logger
	// Port on 127.0.0.1. 0, the default, takes a free one at the first start and the same one later, unless it is taken.
	Port int
	// Settings are put over the defaults, by their names in postgresql.conf.
	Settings map[string]string
	// Detached servers outlive this process, and one that is running already is used as it is.
	Detached bool
}

// defaultSettings differ from PostgreSQL's own where its defaults are for a machine of 2005. Durability is untouched.
var defaultSettings = map[string]string{
	"listen_addresses":                "127.0.0.1",
	"unix_socket_directories":         "",
	"password_encryption":             "scram-sha-256",
	"timezone":                        "UTC",
	"log_timezone":                    "UTC",
	"log_line_prefix":                 "%m [%p] ",
	"log_checkpoints":                 "off",
	"logging_collector":               "off",
	"max_connections":                 "100",
	"shared_buffers":                  "512MB",
	"max_wal_size":                    "4GB",
	"checkpoint_completion_target":    "0.9",
	"autovacuum_naptime":              "10s",
	"autovacuum_vacuum_scale_factor":  "0.05",
	"autovacuum_analyze_scale_factor": "0.05",
}

const (
	pollInterval = 10 * time.Millisecond
	// lockPatience is for the last moments of a process that is just ending.
	lockPatience = 3 * time.Second
	// shutdownPatience is for a fast shutdown, which writes everything dirty to disk; then it is an immediate one, after
	// which the next start recovers from the log.
	shutdownPatience = 60 * time.Second
	// orphanPatience is for the backends of a killed postmaster to end: they notice after the statement they are at.
	orphanPatience = 60 * time.Second
)

// Server is a running private PostgreSQL.
type Server struct {
	url  string
	pid  int
	lock *flock.Flock
	done <-chan struct{}
	log  *zap.Logger
}

// StartServer starts the private server in o.Dir, making its database first if there is none, and returns when it takes
// connections. One process at a time may hold a Dir (but see Detached). It puts in order what a killed process left: a
// server still running is stopped, a stale lock file removed, half a database made again.
//
// Its errors are for the person who started it: they name the remedy, or show the last lines of the server's log.
func StartServer(ctx context.Context, o ServerOptions) (_ *Server, err error) {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	c, err := openCluster(o)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(ctx, c.dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil || o.Detached {
			_ = lock.Unlock()
		}
	}()
	if c.bin, err = findBinaries(ctx, c); err != nil {
		return nil, err
	}
	if err := c.init(ctx); err != nil {
		return nil, err
	}
	if o.Detached {
		if s, err := c.attach(ctx); s != nil || err != nil {
			return s, err
		}
	}
	if err := c.stopLeftover(ctx); err != nil {
		return nil, err
	}
	s, err := c.start(ctx)
	if err != nil {
		return nil, err
	}
	s.lock = lock
	return s, nil
}

// URL is how to connect, password included.
func (s *Server) URL() string { return s.url }

// Done is closed when the server has ended, on purpose or not. It is nil for a server that somebody else started.
func (s *Server) Done() <-chan struct{} { return s.done }

// Stop shuts the server down fast: transactions are rolled back, everything is written to disk. It waits for the end;
// when ctx is done first the shutdown becomes an immediate one, which costs the next start a recovery but no data.
func (s *Server) Stop(ctx context.Context) error {
	err := stopProcess(ctx, s.pid)
	if err == nil && s.done != nil {
		<-s.done
	}
	if s.lock != nil {
		err = errors.Join(err, s.lock.Unlock())
	}
	return err
}

func lockDir(ctx context.Context, dir string) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(dir, "lock"))
	wait, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	held, err := lock.TryLockContext(wait, pollInterval)
	switch {
	case held:
		return lock, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%s is in use by another process; stop that one, or choose another data directory", dir)
	}
	return nil, fmt.Errorf("lock %s: %w", dir, err)
}

// start launches the server and waits until it takes connections. A port that was taken in the meantime is replaced,
// and backends that outlive their killed postmaster are given time to end.
func (c *cluster) start(ctx context.Context) (*Server, error) {
	patience := time.Now().Add(orphanPatience)
	for avoid := 0; ; {
		port, err := c.port(avoid)
		if err != nil {
			return nil, err
		}
		s, err := c.launch(ctx, port)
		switch {
		case err == nil:
			return s, nil
		case c.options.Port == 0 && avoid == 0 && strings.Contains(err.Error(), "Address already in use"):
			avoid = port
		case strings.Contains(err.Error(), "pre-existing shared memory block") && time.Now().Before(patience):
			if err := pause(ctx); err != nil {
				return nil, err
			}
		default:
			return nil, err
		}
	}
}

func (c *cluster) launch(ctx context.Context, port int) (*Server, error) {
	settings := maps.Clone(defaultSettings)
	maps.Copy(settings, c.options.Settings)
	args := []string{"-D", c.data, "-p", strconv.Itoa(port)}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		args = append(args, "-c", name+"="+settings[name])
	}
	logFile, err := c.newLog()
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	// The server has no context: it is stopped, not killed.
	cmd := c.command(context.Background(), "postgres", args...)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	pid, done, err := startProcess(cmd, c.options.Detached)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	if err := c.awaitReady(ctx, pid, done); err != nil {
		return nil, err
	}
	s := &Server{url: c.url(port), pid: pid, done: done, log: c.options.Logger}
	if err := c.ensureDatabase(ctx, s.url); err != nil {
		return nil, errors.Join(err, stopProcess(context.WithoutCancel(ctx), pid))
	}
	s.log.Info("PostgreSQL started", zap.String("part", "postgres"), zap.Int("port", port), zap.String("binaries", c.bin), zap.String("data", c.data))
	return s, nil
}

// awaitReady waits for as long as a recovery takes. Until PostgreSQL has got to it, the lock file is that of the last run.
func (c *cluster) awaitReady(ctx context.Context, pid int, done <-chan struct{}) error {
	for {
		if running, _, state := c.postmaster(); running == pid && state == "ready" {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("PostgreSQL did not start; the end of %s:\n%s", c.logPath(), c.logTail())
		case <-ctx.Done():
			return errors.Join(ctx.Err(), stopProcess(context.WithoutCancel(ctx), pid))
		case <-time.After(pollInterval):
		}
	}
}

// attach returns the running server of this cluster, or nil when there is none that works.
func (c *cluster) attach(ctx context.Context) (*Server, error) {
	pid, port, state := c.postmaster()
	if state != "ready" || !c.runs(pid) {
		return nil, nil
	}
	s := &Server{url: c.url(port), pid: pid, log: c.options.Logger}
	if err := c.ensureDatabase(ctx, s.url); err != nil && !Unavailable(err) {
		return nil, err
	} else if err != nil {
		return nil, ctx.Err()
	}
	return s, nil
}

const (
	superuser    = "handover"
	databaseName = "handover"
)

func (c *cluster) url(port int) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, c.password), Path: databaseName,
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), RawQuery: "sslmode=disable",
	}
	return u.String()
}

// ensureDatabase connects, and creates the database at the first start.
func (c *cluster) ensureDatabase(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if sqlState(err) != "3D000" {
		if err != nil {
			return fmt.Errorf("connect to the private PostgreSQL: %w", err)
		}
		return conn.Close(ctx)
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	config.Database = "postgres"
	if conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		return fmt.Errorf("connect to the private PostgreSQL: %w", err)
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+databaseName)
	return errors.Join(err, conn.Close(ctx))
}

// stopLeftover ends a server that a killed process of ours left running, and removes the lock file of one that is gone
// when its process id has since been given to somebody else, which PostgreSQL itself would take for a running server.
func (c *cluster) stopLeftover(ctx context.Context) error {
	pid, _, _ := c.postmaster()
	switch {
	case c.runs(pid):
		c.options.Logger.Warn("stopping the PostgreSQL that a killed process left running", zap.String("part", "postgres"), zap.Int("pid", pid))
		return stopProcess(ctx, pid)
	case pid != 0 && exists(pid):
		return os.Remove(filepath.Join(c.data, "postmaster.pid"))
	}
	return nil
}

// stopProcess asks a postmaster for a fast shutdown, then for an immediate one, and waits until it is gone.
func stopProcess(ctx context.Context, pid int) error {
	fast, cancel := context.WithTimeout(ctx, shutdownPatience)
	defer cancel()
	_ = syscall.Kill(pid, syscall.SIGINT)
	if waitGone(fast, pid) == nil {
		return nil
	}
	_ = syscall.Kill(pid, syscall.SIGQUIT)
	immediate, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := waitGone(immediate, pid); err != nil {
		return fmt.Errorf("PostgreSQL (process %d) does not stop: %w", pid, err)
	}
	return nil
}

func waitGone(ctx context.Context, pid int) error {
	for !ended(pid) {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	return nil
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollInterval):
		return nil
	}
}
