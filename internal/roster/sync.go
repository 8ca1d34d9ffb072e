package roster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/propagation"

	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

// Outcome is what became of a row.
type Outcome string

// The outcomes of a row that was taken.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Unchanged Outcome = "unchanged"
)

// RowResult is what became of one row: an outcome, or a problem for which nothing of the row was taken.
type RowResult struct {
	ID      string
	Outcome Outcome  // empty when there is a problem
	Problem *Invalid // nil when the row was taken

	Roles int // that change hands by it
	// Tasks that go to somebody else at once; a dry run counts also those that follow the roles, by the policy in force.
	TasksMoved int
}

// MaxSyncRows and MaxSyncTasks are how many rows one call of a sync takes; more are an error of the caller.
const (
	MaxSyncRows  = 2000
	MaxSyncTasks = 4000
)

// prepare makes a result for every row, and puts the rows into rounds: an id that comes again goes into the next round,
// so that its rows take effect in order while each round is one set. A round holds indexes of rows.
func prepare[T any](rows []T, most int, id func(*T) string) (results []RowResult, rounds [][]int, err error) {
	if len(rows) > most {
		return nil, nil, fmt.Errorf("roster: %d rows in one sync; at most %d", len(rows), most)
	}
	results = make([]RowResult, len(rows))
	seen := make(map[string]int, len(rows))
	for i := range rows {
		results[i].ID = id(&rows[i])
		if wrong := event.CheckID(results[i].ID); wrong != "" {
			results[i].Problem = invalid("id", "%s", wrong)
			continue
		}
		round := seen[results[i].ID]
		seen[results[i].ID]++
		if round == len(rounds) {
			rounds = append(rounds, nil)
		}
		rounds[round] = append(rounds[round], i)
	}
	return results, rounds, nil
}

// takeRounds takes the rows of a sync in one transaction: it locks what all of them need, then takes them round by round.
// Either is done again from the start when the transaction is. A dry run has the same results and takes nothing.
func (r *Roster) takeRounds(ctx context.Context, dryRun bool, results []RowResult, rounds [][]int, lock func(context.Context, pgx.Tx) (round, error)) error {
	return r.write(ctx, dryRun, func(ctx context.Context, tx pgx.Tx) ([]journal.Entry, error) {
		take, err := lock(ctx, tx)
		if err != nil {
			return nil, err
		}
		var entries []journal.Entry
		for _, rows := range rounds {
			for _, i := range rows {
				results[i] = RowResult{ID: results[i].ID}
			}
			more, err := take(ctx, rows)
			if err != nil {
				return nil, err
			}
			entries = append(entries, more...)
		}
		return entries, nil
	})
}

// round takes the rows with these indexes; it returns the outbox entries to offer after the commit.
type round func(ctx context.Context, rows []int) ([]journal.Entry, error)

// person is a user as far as receiving goes.
type person struct {
	leftAt    *time.Time
	successor string
}

const lockPeople = `
SELECT u.user_id, u.left_at, coalesce(u.successor_id, '')
FROM unnest($2::text[]) AS p(user_id) JOIN users u ON u.tenant_id = $1 AND u.user_id = p.user_id
ORDER BY u.user_id FOR SHARE OF u`

// readPeople reads those of the users who are known, and keeps them from leaving, or coming back, until the end of tx.
func readPeople(ctx context.Context, tx pgx.Tx, tenant string, users map[string]bool) (map[string]person, error) {
	delete(users, "")
	people := make(map[string]person, len(users))
	if len(users) == 0 {
		return people, nil
	}
	rows, err := tx.Query(ctx, lockPeople, tenant, slices.Sorted(maps.Keys(users)))
	if err != nil {
		return nil, fmt.Errorf("lock users: %w", err)
	}
	var id string
	var p person
	if _, err := pgx.ForEachRow(rows, []any{&id, &p.leftAt, &p.successor}, func() error {
		people[id] = p
		return nil
	}); err != nil {
		return nil, fmt.Errorf("lock users: %w", err)
	}
	return people, nil
}

// lockRoles reads the tenant's roles, and keeps them from being removed until the end of tx.
const lockRoles = `SELECT role FROM roles WHERE tenant_id = $1 ORDER BY role FOR KEY SHARE`

func readRoles(ctx context.Context, tx pgx.Tx, tenant string) (map[string]bool, error) {
	ids, err := readTexts(ctx, tx, lockRoles, tenant)
	if err != nil {
		return nil, fmt.Errorf("read roles: %w", err)
	}
	roles := make(map[string]bool, len(ids))
	for _, id := range ids {
		roles[id] = true
	}
	return roles, nil
}

const findAccounts = `
SELECT i.account_id FROM unnest($2::text[]) AS i(account_id)
CROSS JOIN LATERAL (SELECT FROM accounts a WHERE a.tenant_id = $1 AND a.account_id = i.account_id LIMIT 1) a`

// knownAccounts tells which of the accounts are known.
func knownAccounts(ctx context.Context, tx pgx.Tx, tenant string, accounts []string) (map[string]bool, error) {
	ids, err := readTexts(ctx, tx, findAccounts, tenant, accounts)
	if err != nil {
		return nil, fmt.Errorf("look for accounts: %w", err)
	}
	known := make(map[string]bool, len(ids))
	for _, id := range ids {
		known[id] = true
	}
	return known, nil
}

func readTexts(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]string, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// column is one column of the rows, for unnest.
func column[R, T any](rows []R, of func(R) T) []T {
	out := make([]T, len(rows))
	for i, row := range rows {
		out[i] = of(row)
	}
	return out
}

// traceparent is the W3C trace context of the caller, or "".
func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier.Get("traceparent")
}

func keys(set map[string]bool) []string { return slices.Collect(maps.Keys(set)) }

// accountsOf makes accounts of a tenant of their ids.
func accountsOf(tenant string, ids map[string]bool) []Account {
	accounts := make([]Account, 0, len(ids))
	for id := range ids {
		accounts = append(accounts, Account{tenant, id})
	}
	return accounts
}
