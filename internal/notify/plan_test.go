package notify

import (
	"context"
	"regexp"
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
	// Tables that nobody has looked at yet are taken to have some rows, those of a restored dump to have none: then each way
	// costs nothing, and of two indexes either may be taken, also one that has the key last.
	for state, analyze := range map[string]bool{"new": false, "known to be empty": true} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			pool, err := postgres.Open(context.Background(), testkit.PostgresURL(t), postgres.Options{Writer: true, MaxConns: 1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(pool.Close)
			if analyze {
				testkit.Exec(t, pool, `ANALYZE`)
			}
			for name, sql := range map[string]string{
				"unknownItems": unknownItems, "mailedAbout": mailedAbout, "waitingOf": waitingOf, "mergeWindows": mergeWindows, "claimWindows": claimWindows,
				"lockClaimed": lockClaimed, "recordAttempts": recordAttempts, "markLeftOut": markLeftOut, "recordOutcomes": recordOutcomes,
				"mergedInto": mergedInto, "movesOf": movesOf, "tasksByID": tasksByID, "userNames": userNames, "accountNames": accountNames, "roleNames": roleNames,
				"toldAsTheirs": toldAsTheirs, "closeWindows": closeWindows, "dueFor": dueFor,
			} {
				for _, step := range scans(t, pool, name, sql, !analyze) {
					t.Errorf("%s: %s", name, step)
				}
			}
		})
	}
}

// scans are the steps of a statement's plan that read more of a table than was asked for by key; strictly, by the first
// columns of an index.
func scans(t *testing.T, pool *pgxpool.Pool, name, sql string, strictly bool) (out []string) {
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
	if err := tx.Rollback(ctx); err != nil { // the pool has one connection
		t.Fatal(err)
	}
	for i, line := range lines {
		cond := ""
		if i+1 < len(lines) {
			_, cond, _ = strings.Cut(lines[i+1], "Index Cond: ")
		}
		if strings.Contains(line, "Seq Scan") || inFilter.MatchString(line) || usesIndex.MatchString(line) && !byKey(t, pool, usesIndex.FindStringSubmatch(line)[1], cond, strictly) {
			out = append(out, strings.TrimSpace(line)+" in\n"+strings.Join(lines, "\n"))
		}
	}
	return out
}

var (
	usesIndex = regexp.MustCompile(`Index.* (?:using|Scan on) (\w+)`)
	// Ids of a list, compared with each row.
	inFilter = regexp.MustCompile(`Filter: .*_id = ANY \(\$`)
)

// byKey tells whether a condition narrows an index from its first column on, and by more than the tenant.
func byKey(t *testing.T, pool *pgxpool.Pool, index, cond string, strictly bool) bool {
	t.Helper()
	if !strictly {
		return cond != "" && (!strings.HasPrefix(cond, "(tenant_id = ") || strings.Contains(cond, " AND "))
	}
	first := testkit.One[string](t, pool, `SELECT pg_get_indexdef($1::text::regclass, 1, true)`, index)
	return strings.Contains(cond, "("+first+" ") && (first != "tenant_id" || strings.Contains(cond, " AND "))
}
