package testkit

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/postgres"
)

// Postgres returns a pool on a database of the test's own, with the schema, dropped when the test ends.
func Postgres(t testing.TB) *pgxpool.Pool {
	t.Helper()
	_, pool := NewDatabase(t)
	return pool
}

// PostgresURL returns the URL of a database of the test's own, with the schema, dropped when the test ends.
func PostgresURL(t testing.TB) string {
	t.Helper()
	from, err := template()
	if err != nil {
		t.Fatalf("tests need PostgreSQL 14 or later, with our schema: %v", err)
	}
	return newURL(t, "TEMPLATE "+from)
}

// EmptyDatabaseURL is PostgresURL without a schema.
func EmptyDatabaseURL(t testing.TB) string {
	t.Helper()
	return newURL(t, "TEMPLATE template0")
}

func newURL(t testing.TB, options string) string {
	t.Helper()
	s, err := startOnce()
	if err != nil {
		t.Fatalf("tests need PostgreSQL 14 or later: %v", err)
	}
	name := fmt.Sprintf("%s%d_%s_%d", namePrefix, startedAt.Unix(), processName, databases.Add(1))
	createDatabase(t, s, name, options)
	url, err := s.databaseURL(name)
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// CopyDatabase returns the URL of a copy of the database as it is now, dropped when the test ends: what a dump would bring
// back. Whoever is connected to the original is cut off.
func CopyDatabase(t testing.TB, from string) string {
	t.Helper()
	s, err := startOnce()
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(from)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	// Nobody may be connected while it is copied.
	for _, sql := range []string{"ALTER DATABASE " + name + " WITH ALLOW_CONNECTIONS false",
		"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '" + name + "'"} {
		if err := s.execute(sql); err != nil {
			t.Fatal(err)
		}
	}
	defer func() {
		if err := s.execute("ALTER DATABASE " + name + " WITH ALLOW_CONNECTIONS true"); err != nil {
			t.Error(err)
		}
	}()
	return newURL(t, "TEMPLATE "+name)
}

// NewDatabase returns the URL of a database of the test's own, with the schema, and a pool on it.
func NewDatabase(t testing.TB) (string, *pgxpool.Pool) {
	t.Helper()
	url := PostgresURL(t)
	pool, err := postgres.Open(context.Background(), url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closePool(t, pool) })
	return url, pool
}

// closePool gives away a connection that was never released, instead of waiting for it for ever.
func closePool(t testing.TB, pool *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Errorf("%d connections were not released: rows not closed, or a goroutine still running", pool.Stat().AcquiredConns())
	}
}

var (
	databases   atomic.Int64
	processName = strings.ToLower(rand.Text()[:8])
	// startedAt is in the names of the databases, so that later runs know how old a forgotten one is.
	startedAt = time.Now()
)

const namePrefix = "handover_test_"

func createDatabase(t testing.TB, s *server, name, options string) {
	t.Helper()
	if err := s.execute("CREATE DATABASE " + name + " " + options); err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := s.execute("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
			t.Logf("the database of the test is left behind: %v", err)
		}
	})
}

// server is the one that the databases are on, as somebody who may create them.
type server struct {
	url   string
	admin *pgxpool.Pool // lives as long as the process
}

func (s *server) databaseURL(name string) (string, error) {
	u, err := url.Parse(s.url)
	if err != nil {
		return "", err
	}
	u.Path = "/" + name
	return u.String(), nil
}

func (s *server) execute(statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, sql := range statements {
		if _, err := s.admin.Exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

var startOnce = sync.OnceValues(func() (*server, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	url := os.Getenv("HANDOVER_TEST_DATABASE_URL")
	if url == "" {
		private, err := postgres.StartServer(ctx, postgres.ServerOptions{
			Dir:      filepath.Join(os.TempDir(), "handover-test-postgres-"+strconv.Itoa(os.Getuid())),
			Detached: true,
			Settings: map[string]string{
				"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
				"shared_buffers": "256MB", "max_connections": "300",
			},
		})
		if err != nil {
			return nil, err
		}
		url = private.URL()
	}
	admin, err := postgres.Open(ctx, url, postgres.Options{MaxConns: 2})
	if err != nil {
		return nil, err
	}
	s := &server{url: url, admin: admin}
	return s, s.sweep(ctx)
})

// forgotten is how old a database must be for its test to be over, whatever became of it.
const forgotten = 2 * time.Hour

// sweep drops what killed test processes have left on the server.
func (s *server) sweep(ctx context.Context) error {
	rows, err := s.admin.Query(ctx, `SELECT datname FROM pg_database WHERE starts_with(datname, $1)`, namePrefix)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		seconds, _, _ := strings.Cut(strings.TrimPrefix(name, namePrefix), "_")
		started, err := strconv.ParseInt(seconds, 10, 64)
		if err != nil || startedAt.Sub(time.Unix(started, 0)) < forgotten {
			continue
		}
		if err := s.execute("DROP DATABASE IF EXISTS " + name + " WITH (FORCE)"); err != nil {
			return err
		}
	}
	return nil
}

// template is the name of a database with the present schema, which nobody connects to.
var template = sync.OnceValues(func() (string, error) {
	s, err := startOnce()
	if err != nil {
		return "", err
	}
	hash, err := hashMigrations()
	if err != nil {
		return "", err
	}
	name := "handover_template_" + hash
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// The lock is the session's, so it takes a connection of its own, and ends with it.
	conn, err := pgx.Connect(ctx, s.url)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, templateLock); err != nil {
		return "", err
	}
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&exists); err != nil || exists {
		return name, err
	}
	// It gets its name last, so that one of that name is always complete.
	making := name + "_making"
	if err := s.execute("DROP DATABASE IF EXISTS "+making+" WITH (FORCE)", "CREATE DATABASE "+making+" TEMPLATE template0"); err != nil {
		return "", err
	}
	url, err := s.databaseURL(making)
	if err != nil {
		return "", err
	}
	if err := postgres.Migrate(ctx, url); err != nil {
		return "", err
	}
	return name, s.execute("ALTER DATABASE "+making+" WITH ALLOW_CONNECTIONS false", "ALTER DATABASE "+making+" RENAME TO "+name)
})

// templateLock is held by the process that makes a template, so that the others find it made.
const templateLock = 7461923

func hashMigrations() (string, error) {
	h := sha256.New()
	files := postgres.Migrations()
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(text), text)
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)[:6]), err
}
