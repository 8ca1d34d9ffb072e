package testkit

import (
	"context"
	"crypto/sha256"
	"errors"
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
	name := newDatabaseName()
	admin := server(t)
	createDatabase(t, admin, name, "TEMPLATE "+template(t, admin))
	return databaseURL(t, admin, name)
}

// EmptyDatabaseURL is PostgresURL without a schema.
func EmptyDatabaseURL(t testing.TB) string {
	t.Helper()
	name := newDatabaseName()
	admin := server(t)
	createDatabase(t, admin, name, "TEMPLATE template0")
	return databaseURL(t, admin, name)
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
	databases atomic.Int64
	// startedAt makes the names of this process its own, and tells later runs how old a forgotten database is.
	startedAt = time.Now()
)

const namePrefix = "handover_test_"

func newDatabaseName() string {
	return fmt.Sprintf("%s%d_%d_%d", namePrefix, startedAt.Unix(), os.Getpid(), databases.Add(1))
}

func createDatabase(t testing.TB, admin, name, options string) {
	t.Helper()
	if err := execute(admin, "CREATE DATABASE "+name+" "+options); err != nil {
		t.Fatalf("create a database for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := execute(admin, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			t.Logf("the database of the test is left behind: %v", err)
		}
	})
}

func databaseURL(t testing.TB, admin, name string) string {
	t.Helper()
	u, err := url.Parse(admin)
	if err != nil {
		t.Fatalf("HANDOVER_TEST_DATABASE_URL: %v", err)
	}
	u.Path = "/" + name
	return u.String()
}

func execute(url string, statements ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	for _, s := range statements {
		if _, err = conn.Exec(ctx, s); err != nil {
			break
		}
	}
	return errors.Join(err, conn.Close(ctx))
}

var startOnce = sync.OnceValues(func() (string, error) {
	if url := os.Getenv("HANDOVER_TEST_DATABASE_URL"); url != "" {
		return url, sweep(url)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	s, err := postgres.StartServer(ctx, postgres.ServerOptions{
		Dir:      filepath.Join(os.TempDir(), "handover-test-postgres-"+strconv.Itoa(os.Getuid())),
		Detached: true,
		Settings: map[string]string{
			"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
			"shared_buffers": "256MB", "max_connections": "300",
		},
	})
	if err != nil {
		return "", err
	}
	return s.URL(), sweep(s.URL())
})

// server is the URL of the server, as somebody who may create databases.
func server(t testing.TB) string {
	t.Helper()
	url, err := startOnce()
	if err != nil {
		t.Fatalf("tests need PostgreSQL 14 or later: %v", err)
	}
	return url
}

// forgotten is how old a database must be for its test to be over, whatever became of it.
const forgotten = 2 * time.Hour

// sweep drops what killed test processes have left on the server.
func sweep(admin string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT datname FROM pg_database WHERE starts_with(datname, $1)`, namePrefix)
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
		if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)"); err != nil {
			return err
		}
	}
	return nil
}

var (
	templateOnce sync.Once
	templateName string
	errTemplate  error
)

// template is the name of a database with the present schema, which nobody connects to.
func template(t testing.TB, admin string) string {
	t.Helper()
	templateOnce.Do(func() { templateName, errTemplate = makeTemplate(t, admin) })
	if errTemplate != nil {
		t.Fatalf("migrate the template database: %v", errTemplate)
	}
	return templateName
}

// templateLock is held by the process that makes a template, so that the others find it made.
const templateLock = 7461923

func makeTemplate(t testing.TB, admin string) (string, error) {
	hash, err := hashMigrations()
	if err != nil {
		return "", err
	}
	name := "handover_template_" + hash
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, admin)
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
	if err := execute(admin, "DROP DATABASE IF EXISTS "+making+" WITH (FORCE)", "CREATE DATABASE "+making+" TEMPLATE template0"); err != nil {
		return "", err
	}
	if err := postgres.Migrate(ctx, databaseURL(t, admin, making)); err != nil {
		return "", err
	}
	return name, execute(admin, "ALTER DATABASE "+making+" WITH ALLOW_CONNECTIONS false", "ALTER DATABASE "+making+" RENAME TO "+name)
}

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
