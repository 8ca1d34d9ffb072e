package testkit

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
)

const noAutovacuum = `
DO $$ DECLARE t text; BEGIN
  FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP EXECUTE format('ALTER TABLE %I SET (autovacuum_enabled = off)', t); END LOOP;
END $$`

// CountPages returns a function that tells how many pages of tables and indexes were touched since it was called before.
// The pool has one connection, so that all of it is counted, and plans are kept as they are: nobody counts the rows of
// tables from now on, and what would do so would be counted too.
func CountPages(t testing.TB, pool *pgxpool.Pool) func() float64 {
	t.Helper()
	if n := pool.Config().MaxConns; n != 1 {
		t.Fatalf("pages are counted on a pool of one connection, not %d", n)
	}
	Exec(t, pool, noAutovacuum)
	last := 0.0
	return func() float64 {
		t.Helper()
		Exec(t, pool, `SELECT pg_stat_force_next_flush()`)
		now := One[float64](t, pool, `
SELECT sum(heap_blks_read + heap_blks_hit + coalesce(idx_blks_read + idx_blks_hit, 0))::float8 FROM pg_statio_user_tables`)
		since := now - last
		last = now
		return since
	}
}
