package testkit

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"handover.io/internal/postgres"
)

// OlderDatabase is [NewDatabase] with the schema of an older program: of the first so many migrations.
func OlderDatabase(t testing.TB, migrations int) (string, *pgxpool.Pool) {
	t.Helper()
	ctx, url := context.Background(), EmptyDatabaseURL(t)
	pool, err := postgres.Open(ctx, url, postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closePool(t, pool) })
	db := stdlib.OpenDBFromPool(pool)
	defer db.Close()
	p, err := goose.NewProvider(goose.DialectPostgres, db, postgres.Migrations(), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(ctx, int64(migrations)); err != nil {
		t.Fatal(err)
	}
	return url, pool
}
