package notify

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
)

// A plan made while a table is empty is used until somebody counts its rows: one that goes through the table then does so
// for every few mails. So what is asked for by key must be looked up by key in plans for empty tables too.
func TestNoPlanGoesThroughATable(t *testing.T) {
	t.Parallel()
	pool, err := postgres.Open(context.Background(), testkit.PostgresURL(t), postgres.Options{Writer: true, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	testkit.Exec(t, pool, `ANALYZE`)
	for name, sql := range map[string]string{
		"unknownItems": unknownItems, "mailedAbout": mailedAbout, "waitingOf": waitingOf, "mergeWindows": mergeWindows, "claimWindows": claimWindows,
		"lockClaimed": lockClaimed, "recordAttempts": recordAttempts, "markLeftOut": markLeftOut, "recordOutcomes": recordOutcomes,
		"mergedInto": mergedInto, "movesOf": movesOf, "tasksByID": tasksByID, "userNames": userNames, "accountNames": accountNames, "roleNames": roleNames,
		"toldAsTheirs": toldAsTheirs,
	} {
		for _, step := range scans(t, pool, name, sql) {
			t.Errorf("%s: %s", name, step)
		}
	}
}

// scans are the steps of a statement's plan that read more of a table than was asked for by key.
func scans(t *testing.T, pool *pgxpool.Pool, name, sql string) (out []string) {
	t.Helper()
	ctx := context.Background()
	tx, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	described, err := tx.Prepare(ctx, name, sql)
	if err != nil {
		t.Fatal(err)
	}
	nulls := strings.TrimSuffix(strings.Repeat("NULL, ", len(described.ParamOIDs)), ", ")
	rows, err := tx.Query(ctx, `EXPLAIN (COSTS OFF) EXECUTE "`+name+`" (`+nulls+`)`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range lines {
		byKey := i+1 < len(lines) && strings.Contains(lines[i+1], "Index Cond:")
		if strings.Contains(line, "Seq Scan") || strings.Contains(line, "Index") && strings.Contains(line, " on ") && !byKey {
			out = append(out, strings.TrimSpace(line)+" in\n"+strings.Join(lines, "\n"))
		}
	}
	return out
}
