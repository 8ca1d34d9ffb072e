package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
)

func open(t *testing.T, url string, o postgres.Options) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(context.Background(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func show(t *testing.T, pool *pgxpool.Pool, setting string) string {
	t.Helper()
	var value string
	if err := pool.QueryRow(context.Background(), "SHOW "+setting).Scan(&value); err != nil {
		t.Fatal(err)
	}
	return value
}

func TestConnectionsAreSetUp(t *testing.T) {
	t.Parallel()
	url := testkit.EmptyDatabaseURL(t)
	plain, writer := open(t, url, postgres.Options{}), open(t, url, postgres.Options{Writer: true, MaxConns: 3})
	for _, c := range []struct {
		pool          *pgxpool.Pool
		setting, want string
	}{
		{plain, "timezone", "UTC"},
		{plain, "application_name", "handover"},
		{plain, "plan_cache_mode", "auto"},
		{writer, "timezone", "UTC"},
		{writer, "plan_cache_mode", "force_generic_plan"},
		{writer, "jit", "off"},
	} {
		if got := show(t, c.pool, c.setting); got != c.want {
			t.Errorf("%s is %q, want %q", c.setting, got, c.want)
		}
	}
	if plain.Config().MaxConns != 8 || writer.Config().MaxConns != 3 {
		t.Errorf("got %d and %d connections", plain.Config().MaxConns, writer.Config().MaxConns)
	}
	if _, err := postgres.Open(context.Background(), "postgres://:not a port", postgres.Options{}); err == nil {
		t.Error("a broken url was accepted")
	}
}

func TestConcurrentMigrationsBringOneSchema(t *testing.T) {
	t.Parallel()
	ctx, url := context.Background(), testkit.EmptyDatabaseURL(t)
	pending, err := postgres.Pending(ctx, url)
	if err != nil || pending == 0 {
		t.Fatalf("got %d pending migrations on an empty database (%v)", pending, err)
	}
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			if err := postgres.Migrate(ctx, url); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	if pending, err := postgres.Pending(ctx, url); err != nil || pending != 0 {
		t.Errorf("got %d pending migrations (%v), want none", pending, err)
	}
}

// numbers is a pool on a database with a table of two rows.
func numbers(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool := open(t, testkit.EmptyDatabaseURL(t), postgres.Options{})
	if _, err := pool.Exec(context.Background(), `
		CREATE TABLE numbers (id int PRIMARY KEY, n int NOT NULL CONSTRAINT small CHECK (n < 100));
		INSERT INTO numbers VALUES (1, 0), (2, 0)`); err != nil {
		t.Fatal(err)
	}
	return pool
}

func sum(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(context.Background(), `SELECT sum(n) FROM numbers`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func add(ctx context.Context, tx pgx.Tx, id int) error {
	_, err := tx.Exec(ctx, `UPDATE numbers SET n = n + 1 WHERE id = $1`, id)
	return err
}

func TestADeadlockIsRunAgain(t *testing.T) {
	t.Parallel()
	pool := numbers(t)
	var runs, both sync.WaitGroup
	both.Add(2)
	for _, order := range [][2]int{{1, 2}, {2, 1}} {
		runs.Go(func() {
			first := true
			if err := postgres.InTx(context.Background(), pool, func(ctx context.Context, tx pgx.Tx) error {
				if err := add(ctx, tx, order[0]); err != nil {
					return err
				}
				if first {
					first = false
					both.Done()
					both.Wait() // now each holds what the other wants
				}
				return add(ctx, tx, order[1])
			}); err != nil {
				t.Error(err)
			}
		})
	}
	runs.Wait()
	if got := sum(t, pool); got != 4 {
		t.Errorf("got %d, want 4: each of two transactions adds 2, once", got)
	}
}

func TestNothingRemainsOfATransactionThatFailed(t *testing.T) {
	t.Parallel()
	pool, ctx, mine := numbers(t), context.Background(), errors.New("mine")
	if err := postgres.InTx(ctx, pool, func(ctx context.Context, tx pgx.Tx) error {
		return errors.Join(add(ctx, tx, 1), mine)
	}); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		_ = postgres.InTx(ctx, pool, func(ctx context.Context, tx pgx.Tx) error {
			if err := add(ctx, tx, 1); err != nil {
				t.Error(err)
			}
			panic("mine")
		})
	}()
	canceled, cancel := context.WithCancel(ctx)
	if err := postgres.InTx(canceled, pool, func(ctx context.Context, tx pgx.Tx) error {
		err := add(ctx, tx, 1)
		cancel()
		return err
	}); err == nil || postgres.Unavailable(err) {
		t.Errorf("got %v, want that it was canceled", err)
	}
	if got := sum(t, pool); got != 0 {
		t.Errorf("got %d, want nothing added", got)
	}
	if acquired := pool.Stat().AcquiredConns(); acquired != 0 {
		t.Errorf("%d connections are not back", acquired)
	}
}

func TestAHopelessTransactionIsGivenUp(t *testing.T) {
	t.Parallel()
	runs := 0
	err := postgres.InTx(context.Background(), numbers(t), func(context.Context, pgx.Tx) error {
		runs++
		return &pgconn.PgError{Code: "40001"}
	})
	if runs != 6 || !postgres.Retryable(err) {
		t.Errorf("got %d runs and %v, want 6 runs and its error", runs, err)
	}
}

// refusing is the URL of a server that begins no session, and says why. A full disk is XX000: could not write init file.
func refusing(t *testing.T, state string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b := pgproto3.NewBackend(conn, conn)
			if _, err := b.ReceiveStartupMessage(); err == nil {
				b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: state, Message: "no"})
				_ = b.Flush()
			}
			_ = conn.Close()
		}
	}()
	return "postgres://" + l.Addr().String() + "/none?sslmode=disable"
}

func TestErrorsHaveAClass(t *testing.T) {
	t.Parallel()
	pool, ctx := numbers(t), context.Background()
	exec := func(sql string) error {
		_, err := pool.Exec(ctx, sql)
		return fmt.Errorf("wrapped: %w", err)
	}
	closed := open(t, pool.Config().ConnString(), postgres.Options{})
	closed.Close()
	nobody := open(t, "postgres://127.0.0.1:1/none", postgres.Options{})
	missing := open(t, strings.Replace(pool.Config().ConnString(), "handover_test_", "no_", 1), postgres.Options{})
	canceled, cancel := context.WithCancel(ctx)
	cancel()

	duplicate := exec(`INSERT INTO numbers VALUES (1, 1)`)
	if !postgres.UniqueViolation(duplicate, "numbers_pkey") || postgres.UniqueViolation(duplicate, "small") {
		t.Errorf("unique violation: %v", duplicate)
	}
	for name, c := range map[string]struct {
		err                           error
		unavailable, badData, retried bool
	}{
		"none":                    {err: nil},
		"duplicate":               {err: duplicate, badData: true},
		"check":                   {err: exec(`UPDATE numbers SET n = 1000`), badData: true},
		"not a number":            {err: exec(`SELECT 'x'::int`), badData: true},
		"syntax":                  {err: exec(`SELEC`)},
		"terminated":              {err: exec(`SELECT pg_terminate_backend(pg_backend_pid())`), unavailable: true},
		"closed pool":             {err: closed.Ping(ctx), unavailable: true},
		"nobody listens":          {err: nobody.Ping(ctx), unavailable: true},
		"no such database":        {err: missing.Ping(ctx)},
		"no room for a session":   {err: open(t, refusing(t, "XX000"), postgres.Options{}).Ping(ctx), unavailable: true},
		"wrong password":          {err: open(t, refusing(t, "28P01"), postgres.Options{}).Ping(ctx)},
		"internal error":          {err: &pgconn.PgError{Code: "XX000"}},
		"canceled":                {err: pool.Ping(canceled)},
		"timeout":                 {err: context.DeadlineExceeded, unavailable: true},
		"connection cut":          {err: fmt.Errorf("read: %w", io.ErrUnexpectedEOF), unavailable: true},
		"too many connections":    {err: &pgconn.PgError{Code: "53300"}, unavailable: true},
		"connection failure":      {err: &pgconn.PgError{Code: "08006"}, unavailable: true},
		"read only after a crash": {err: &pgconn.PgError{Code: "25006"}, unavailable: true},
		"deadlock":                {err: &pgconn.PgError{Code: "40P01"}, retried: true},
	} {
		if got := postgres.Unavailable(c.err); got != c.unavailable {
			t.Errorf("%s: unavailable is %v: %v", name, got, c.err)
		}
		if got := postgres.BadData(c.err); got != c.badData {
			t.Errorf("%s: bad data is %v: %v", name, got, c.err)
		}
		if got := postgres.Retryable(c.err); got != c.retried {
			t.Errorf("%s: retryable is %v: %v", name, got, c.err)
		}
	}
}
