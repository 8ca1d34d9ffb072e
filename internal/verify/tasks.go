package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/roster"
)

const (
	taskPages = `SELECT pg_relation_size('task_rows') / current_setting('block_size')::bigint`
	// By pages, in the order of the disk.
	homelessTasks = `
SELECT t.tenant_id, t.account_id, t.task_id, t.holding
FROM task_rows t LEFT JOIN holdings h ON h.tenant_id = t.tenant_id AND h.account_id = t.account_id AND h.key = t.holding
WHERE t.ctid >= $1::text::tid AND t.ctid < $2::text::tid AND t.holding IS NOT NULL AND h.key IS NULL AND ($3 = '' OR t.tenant_id = $3)`
	// Closed tasks that say that they have moved, and whose accounts know of no move of theirs.
	movelessTasks = `
SELECT t.tenant_id, t.account_id, t.task_id, t.own_revision
FROM task_rows t
WHERE t.ctid >= $1::text::tid AND t.ctid < $2::text::tid AND t.holding IS NULL AND t.own_revision <> 0 AND ($3 = '' OR t.tenant_id = $3)
  AND NOT EXISTS (
    SELECT FROM (SELECT t.account_id UNION ALL SELECT account_id FROM former_accounts f WHERE f.tenant_id = t.tenant_id AND f.task_id = t.task_id) a
    JOIN moves m ON m.tenant_id = t.tenant_id AND m.account_id = a.account_id WHERE m.task_ids @> ARRAY[t.task_id])`
	headlessHoldings = `
SELECT DISTINCT h.tenant_id, h.account_id FROM holdings h
WHERE ($1 = '' OR h.tenant_id = $1)
  AND NOT EXISTS (SELECT FROM account_heads d WHERE d.tenant_id = h.tenant_id AND d.account_id = h.account_id)`
)

// tasks finds open tasks whose holding isn't there, or is another account's, and closed ones that moved without a trace. A task that moves to another page between
// two snapshots may be passed over or seen twice; each time it is seen as it is.
func (v *verifier) tasks(ctx context.Context) error {
	var pages int64
	if err := v.pool.QueryRow(ctx, taskPages).Scan(&pages); err != nil {
		return err
	}
	size := chunk{size: 500, least: 100, most: 5000}
	for from := int64(0); from < pages; {
		to := from + int64(size.size)
		began := time.Now()
		var took time.Duration
		var found []Finding
		if err := v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
			found = nil
			rows, err := tx.Query(ctx, homelessTasks, fmt.Sprintf("(%d,0)", from), fmt.Sprintf("(%d,0)", to), v.Tenant)
			if err != nil {
				return err
			}
			f := Finding{Kind: Holding}
			_, err = pgx.ForEachRow(rows, []any{&f.TenantID, &f.AccountID, &f.TaskID, &f.Key}, func() error {
				f.Says = fmt.Sprintf("task %s of account %s is in holding %d, which that account doesn't have: it is with nobody", f.TaskID, f.AccountID, f.Key)
				f.Remedy = v.fixAccount(account(f.TenantID, f.AccountID))
				found = append(found, f)
				return nil
			})
			if err != nil {
				return err
			}
			if rows, err = tx.Query(ctx, movelessTasks, fmt.Sprintf("(%d,0)", from), fmt.Sprintf("(%d,0)", to), v.Tenant); err != nil {
				return err
			}
			f = Finding{Kind: Revision, Remedy: recordIsGone}
			var n int64
			_, err = pgx.ForEachRow(rows, []any{&f.TenantID, &f.AccountID, &f.TaskID, &n}, func() error {
				f.Says = fmt.Sprintf("task %s of account %s, which is closed, has revision %d, and no moves", f.TaskID, f.AccountID, n)
				found = append(found, f)
				return nil
			})
			took = time.Since(began)
			return err
		}); err != nil {
			return err
		}
		for _, f := range found {
			if f.Kind != Holding || !v.wants(Holding) {
				v.found(f)
				continue
			}
			v.report.todo.accounts[account(f.TenantID, f.AccountID)] = true
			v.report.todo.tasks = append(v.report.todo.tasks, roster.TaskRef{TenantID: f.TenantID, TaskID: f.TaskID})
			v.found(f)
		}
		from = to
		v.Progress("tasks", min(from, pages), pages)
		size.took(took)
	}
	return nil
}

// headless finds accounts that have tasks and no head, which the pass over the accounts doesn't see.
func (v *verifier) headless(ctx context.Context) error {
	var of []roster.Account
	if err := v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, headlessHoldings, v.Tenant)
		if err != nil {
			return err
		}
		of, err = pgx.CollectRows(rows, pgx.RowToStructByPos[roster.Account])
		return err
	}); err != nil {
		return err
	}
	for _, a := range of {
		v.report.todo.accounts[a] = true
		v.found(Finding{Kind: Head, TenantID: a.TenantID, AccountID: a.AccountID, Remedy: v.fixAccount(a), Says: "account " + a.AccountID + " has open tasks and no head"})
	}
	return nil
}
