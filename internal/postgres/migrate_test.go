package postgres_test

import (
	"context"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"time"

	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
)

func versions(t *testing.T) []string {
	t.Helper()
	names, err := fs.Glob(postgres.Migrations(), "*.sql")
	if err != nil || len(names) < 2 {
		t.Fatalf("migrations: %v, %v", names, err)
	}
	return names
}

// What a migration after the first release may not do to a program that doesn't know it.
var breaks = regexp.MustCompile(`(?i)\b(DROP\s+(TABLE|VIEW|COLUMN)|RENAME|SET\s+NOT\s+NULL|TRUNCATE|ALTER\s+(COLUMN\s+)?\w+\s+(SET\s+DATA\s+)?TYPE|DROP\s+DEFAULT)\b`)

func TestMigrationsLeaveTheProgramOfBeforeAtWork(t *testing.T) {
	t.Parallel()
	for _, name := range versions(t) {
		if strings.HasSuffix(name, "_handover.sql") || strings.HasSuffix(name, "_notices.sql") {
			continue // the first release
		}
		text, err := fs.ReadFile(postgres.Migrations(), name)
		if err != nil {
			t.Fatal(err)
		}
		up, _, _ := strings.Cut(string(text), "-- +goose Down")
		for line := range strings.SplitSeq(up, "\n") {
			sql, _, _ := strings.Cut(line, "--")
			if found := breaks.FindString(sql); found != "" {
				t.Errorf("%s: %s takes away what an older program, which runs beside the newer one during an upgrade, works with", name, found)
			}
			adds := regexp.MustCompile(`(?i)\bADD\s+(COLUMN\s+)?\w+\s+\w+.*NOT NULL`).FindString(sql)
			if adds != "" && !strings.Contains(sql, "DEFAULT") && !strings.Contains(sql, "GENERATED") {
				t.Errorf("%s: %s without a DEFAULT: an older program doesn't fill it in", name, adds)
			}
		}
	}
}

func TestAnOlderProgramKnowsThatTheDatabaseIsNewer(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	url, pool := testkit.NewDatabase(t)
	if newer, err := postgres.Newer(ctx, url); err != nil || newer != 0 {
		t.Errorf("%d newer, %v", newer, err)
	}
	testkit.Exec(t, pool, `INSERT INTO goose_db_version (version_id, is_applied) SELECT $1 + n, true FROM generate_series(1, 2) n`, len(versions(t)))
	if newer, err := postgres.Newer(ctx, url); err != nil || newer != 2 {
		t.Errorf("%d newer, %v; want 2", newer, err)
	}
	if pending, err := postgres.Pending(ctx, url); err != nil || pending != 0 {
		t.Errorf("%d pending, %v", pending, err)
	}
	if err := postgres.Migrate(ctx, url); err != nil {
		t.Errorf("a newer schema isn't left alone: %v", err)
	}
	_, older := testkit.OlderDatabase(t, len(versions(t))-1)
	if newer, err := postgres.Newer(ctx, older.Config().ConnString()); err != nil || newer != 0 {
		t.Errorf("older: %d newer, %v", newer, err)
	}
}

// Whoever wants a table that a migration waits for waits behind it; so it doesn't wait long, and tries again.
func TestAMigrationGivesWay(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	url, pool := testkit.OlderDatabase(t, 6)
	long, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Rollback(ctx)
	if _, err := long.Exec(ctx, `SELECT count(*) FROM dead_letters`); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- postgres.Migrate(ctx, url) }()
	for testkit.One[int](t, pool, `SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'dead_letters'::regclass`) == 0 {
		if err := ctx.Err(); err != nil {
			t.Fatal("the migration doesn't wait for the table")
		}
	}
	// Behind it, while the other is still at it.
	if _, err := pool.Exec(ctx, `SELECT count(*) FROM dead_letters`); err != nil {
		t.Fatalf("others wait behind a migration for as long as it waits: %v", err)
	}
	if err := long.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("the migration gave up: %v", err)
	}
	if pending, err := postgres.Pending(ctx, url); err != nil || pending != 0 {
		t.Errorf("%d pending, %v", pending, err)
	}
}
