package testkit

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// These work in cleanups too, where the test's context has ended.

// Exec runs a statement.
func Exec(t testing.TB, pool *pgxpool.Pool, sql string, args ...any) {
	t.Helper()
	if _, err := pool.Exec(context.Background(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// One is the value of a query of one row and one column.
func One[V any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) V {
	t.Helper()
	all := All[V](t, pool, sql, args...)
	if len(all) != 1 {
		t.Fatalf("%s: %d rows", sql, len(all))
	}
	return all[0]
}

// All is the values of a query of one column.
func All[V any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) []V {
	t.Helper()
	rows, _ := pool.Query(context.Background(), sql, args...) // its error is that of the rows
	all, err := pgx.CollectRows(rows, pgx.RowTo[V])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return all
}
