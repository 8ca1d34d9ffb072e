package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/roster"
)

const (
	nextAccounts = `
SELECT tenant_id, account_id FROM account_heads
WHERE (tenant_id, account_id) > ($1, $2) AND ($3 = '' OR tenant_id = $3) ORDER BY tenant_id, account_id LIMIT $4`
	nextAccountsOf = `
SELECT tenant_id, account_id FROM account_heads
WHERE tenant_id = $3 AND account_id > $2 AND $1::text IS NOT NULL ORDER BY account_id LIMIT $4`
)

// accounts folds all accounts, in chunks of about a quarter of a second, and compares holdings, heads and revisions.
func (v *verifier) accounts(ctx context.Context) error {
	var total int64
	if err := v.pool.QueryRow(ctx, `SELECT count(*) FROM account_heads WHERE $1 = '' OR tenant_id = $1`, v.Tenant).Scan(&total); err != nil {
		return err
	}
	next := nextAccounts
	if v.Tenant != "" {
		next = nextAccountsOf
	}
	var after roster.Account
	size := chunk{size: 100, least: 10, most: 2000}
	for {
		var of []roster.Account
		var found []Finding
		var open int64
		began := time.Now()
		var took time.Duration
		if err := v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
			if v.Account != "" {
				of = []roster.Account{account(v.Tenant, v.Account)}
			} else {
				rows, err := tx.Query(ctx, next, after.TenantID, after.AccountID, v.Tenant, size.size)
				if err != nil {
					return err
				}
				if of, err = pgx.CollectRows(rows, pgx.RowToStructByPos[roster.Account]); err != nil || len(of) == 0 {
					return err
				}
			}
			var err error
			found, open, err = v.checkAccounts(ctx, tx, of)
			took = time.Since(began)
			return err
		}); err != nil {
			return err
		}
		if len(of) == 0 {
			return nil
		}
		for _, f := range found {
			if v.wants(f.Kind) {
				v.report.todo.accounts[account(f.TenantID, f.AccountID)] = true
				if f.Kind == Revision {
					v.report.todo.tasks = append(v.report.todo.tasks, roster.TaskRef{TenantID: f.TenantID, TaskID: f.TaskID})
				}
			}
			v.found(f)
		}
		v.report.Looked.Accounts += int64(len(of))
		v.report.Looked.Tasks += open
		v.Progress("accounts", v.report.Looked.Accounts, total)
		if v.Account != "" {
			return nil
		}
		after = of[len(of)-1]
		size.took(took)
	}
}

func (v *verifier) checkAccounts(ctx context.Context, tx pgx.Tx, of []roster.Account) (found []Finding, open int64, err error) {
	if v.wants(Owner) || v.wants(Assignee) {
		differences, err := roster.Differences(ctx, tx, of, nil)
		if err != nil {
			return nil, 0, err
		}
		for _, d := range differences {
			found = append(found, v.difference(d))
		}
	}
	tenants, ids := make([]string, len(of)), make([]string, len(of))
	for i, a := range of {
		tenants[i], ids[i] = a.TenantID, a.AccountID
	}
	if v.wants(Holding) || v.wants(Head) {
		wrong, n, err := v.holdings(ctx, tx, tenants, ids)
		if err != nil {
			return nil, 0, err
		}
		found, open = append(found, wrong...), n
	}
	if v.wants(Revision) {
		wrong, err := v.revisions(ctx, tx, tenants, ids)
		if err != nil {
			return nil, 0, err
		}
		found = append(found, wrong...)
	}
	return found, open, nil
}

func (v *verifier) difference(d roster.Difference) Finding {
	f := Finding{Kind: Assignee, TenantID: d.TenantID, AccountID: d.AccountID, Role: d.Role, TaskID: d.TaskID, Remedy: v.fixAccount(d.Account)}
	because := "no change says otherwise than where it began"
	// One that has moved nothing is the account's latest, which a correction is announced with.
	if c := d.Cause; c != nil && c.To == d.Right {
		because = fmt.Sprintf("by the change %s of %s at %s", c.ID, c.Source, c.OccurredAt.UTC().Format(time.RFC3339))
	}
	switch {
	case d.Role == "":
		f.Says = fmt.Sprintf("task %s (%s) of account %s is with %s, should be with %s: %s", d.TaskID, d.Title, d.AccountID, person(d.Stored), person(d.Right), because)
	case d.Stored != d.Right:
		f.Kind, f.Says = Owner, fmt.Sprintf("%s of account %s is %s, should be %s: %s", d.Role, d.AccountID, person(d.Stored), person(d.Right), because)
	default:
		f.Kind, f.Says = Owner, fmt.Sprintf("%s of account %s is %s, but since when, or who held it before, isn't what the changes say", d.Role, d.AccountID, person(d.Stored))
	}
	return f
}

// Their tasks are found by their holdings: who is in none of these is found by the pass over all tasks.
const wrongHoldings = `
SELECT h.tenant_id, h.account_id, h.key, h.n, t.n, t.strangers, coalesce(d.assigned_at >= t.latest, t.latest IS NULL)
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT assigned_at FROM account_heads d WHERE d.tenant_id = a.tenant_id AND d.account_id = a.account_id LIMIT 1) d
CROSS JOIN LATERAL (SELECT * FROM holdings h WHERE h.tenant_id = a.tenant_id AND h.account_id = a.account_id OFFSET 0) h
CROSS JOIN LATERAL (
  SELECT count(*) AS n, max(t.effective_at) AS latest,
         count(*) FILTER (WHERE (t.tenant_id, t.account_id, t.role, t.source = 'manual') IS DISTINCT FROM (h.tenant_id, h.account_id, h.role, h.manual)) AS strangers
  FROM task_rows t WHERE t.holding = h.key) t`

const backwardHeads = `
SELECT d.tenant_id, d.account_id FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT * FROM account_heads d WHERE d.tenant_id = a.tenant_id AND d.account_id = a.account_id LIMIT 1) d
WHERE d.newest_at < (
  SELECT occurred_at FROM role_changes c WHERE c.tenant_id = a.tenant_id AND c.account_id = a.account_id ORDER BY occurred_at DESC LIMIT 1)`

func (v *verifier) holdings(ctx context.Context, tx pgx.Tx, tenants, ids []string) (wrong []Finding, open int64, err error) {
	rows, err := tx.Query(ctx, wrongHoldings, tenants, ids)
	if err != nil {
		return nil, 0, err
	}
	var a roster.Account
	var key, says, n, strangers int64
	var headKnows bool
	ignorant := map[roster.Account]bool{}
	if _, err = pgx.ForEachRow(rows, []any{&a.TenantID, &a.AccountID, &key, &says, &n, &strangers, &headKnows}, func() error {
		open += n
		f := Finding{Kind: Holding, TenantID: a.TenantID, AccountID: a.AccountID, Key: key, Remedy: v.fixAccount(a)}
		if says != n {
			f.Says = fmt.Sprintf("holding %d of account %s says %s, has %d", key, a.AccountID, count(says, "task"), n)
			wrong = append(wrong, f)
		}
		if strangers > 0 {
			f.Says = fmt.Sprintf("holding %d of account %s has %s of another kind, role or account", key, a.AccountID, count(strangers, "task"))
			wrong = append(wrong, f)
		}
		if !headKnows && !ignorant[a] {
			ignorant[a] = true
			f.Kind, f.Key = Head, 0
			f.Says = fmt.Sprintf("the head of account %s knows of no assignment as late as that of a task", a.AccountID)
			wrong = append(wrong, f)
		}
		return nil
	}); err != nil {
		return nil, 0, err
	}
	if rows, err = tx.Query(ctx, backwardHeads, tenants, ids); err != nil {
		return nil, 0, err
	}
	_, err = pgx.ForEachRow(rows, []any{&a.TenantID, &a.AccountID}, func() error {
		wrong = append(wrong, Finding{Kind: Head, TenantID: a.TenantID, AccountID: a.AccountID, Remedy: v.fixAccount(a),
			Says: fmt.Sprintf("the head of account %s knows of no change as late as the latest recorded: one that comes late would pass for the newest", a.AccountID)})
		return nil
	})
	return wrong, open, err
}

const (
	// Of the open tasks. A closed one that has moves is looked up by them; one that says so without any is found by the pass
	// over all tasks, which needs no look-up for those that never moved.
	movedTasks = `
SELECT a.tenant_id, a.account_id, t.task_id, t.revision
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (
  SELECT t.task_id, t.own_revision + h.moves AS revision
  FROM (SELECT key, moves FROM holdings h WHERE h.tenant_id = a.tenant_id AND h.account_id = a.account_id OFFSET 0) h
  CROSS JOIN LATERAL (SELECT task_id, own_revision FROM task_rows t WHERE t.holding = h.key OFFSET 0) t) t
WHERE t.revision <> 0`
	movesOfAccounts = `
SELECT a.tenant_id, m.task_ids, m.revisions
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT task_ids, revisions FROM moves m WHERE m.tenant_id = a.tenant_id AND m.account_id = a.account_id OFFSET 0) m`
	// Where else its moves may be, and what it has now.
	elsewhere = `
SELECT k.tenant_id, k.task_id, t.account_id, t.revision, ARRAY(SELECT account_id FROM former_accounts f WHERE f.tenant_id = k.tenant_id AND f.task_id = k.task_id)
FROM unnest($1::text[], $2::text[]) AS k(tenant_id, task_id)
CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.tenant_id = k.tenant_id AND t.task_id = k.task_id LIMIT 1) t`
)

const recordIsGone = "nothing brings back the record of a move; what comes next is numbered past it, so that subscribers are right"

type taskID struct{ tenant, id string }

// revisions finds tasks whose moves aren't numbered from one to their revision, each number once.
func (v *verifier) revisions(ctx context.Context, tx pgx.Tx, tenants, ids []string) ([]Finding, error) {
	revision := map[taskID]int64{}
	rows, err := tx.Query(ctx, movedTasks, tenants, ids)
	if err != nil {
		return nil, err
	}
	var t taskID
	var on string
	var n int64
	if _, err := pgx.ForEachRow(rows, []any{&t.tenant, &on, &t.id, &n}, func() error {
		revision[t] = n
		return nil
	}); err != nil {
		return nil, err
	}
	moves := map[taskID][]int64{}
	if err := readRevisions(ctx, tx, tenants, ids, moves, nil); err != nil {
		return nil, err
	}
	doubtful := map[taskID]bool{}
	for t, n := range revision {
		if !numbered(moves[t], n) {
			doubtful[t] = true
		}
	}
	for t := range moves {
		if _, moved := revision[t]; !moved {
			doubtful[t] = true
		}
	}
	if len(doubtful) == 0 {
		return nil, nil
	}
	return v.doubtful(ctx, tx, doubtful)
}

// doubtful looks for the moves of tasks on every account that they have been on.
func (v *verifier) doubtful(ctx context.Context, tx pgx.Tx, tasks map[taskID]bool) ([]Finding, error) {
	var tenants, ids []string
	for t := range tasks {
		tenants, ids = append(tenants, t.tenant), append(ids, t.id)
	}
	rows, err := tx.Query(ctx, elsewhere, tenants, ids)
	if err != nil {
		return nil, err
	}
	type now struct {
		taskID
		account  string
		revision int64
	}
	var at now
	var former []string
	var all []now
	accounts := map[roster.Account]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&at.tenant, &at.id, &at.account, &at.revision, &former}, func() error {
		all = append(all, at)
		for _, id := range append(former, at.account) {
			accounts[account(at.tenant, id)] = true
		}
		return nil
	}); err != nil {
		return nil, err
	}
	tenants, ids = nil, nil
	for a := range accounts {
		tenants, ids = append(tenants, a.TenantID), append(ids, a.AccountID)
	}
	moves := map[taskID][]int64{}
	if err := readRevisions(ctx, tx, tenants, ids, moves, tasks); err != nil {
		return nil, err
	}
	var wrong []Finding
	for _, t := range all {
		if got := moves[t.taskID]; !numbered(got, t.revision) {
			slices.Sort(got)
			f := Finding{Kind: Revision, TenantID: t.tenant, AccountID: t.account, TaskID: t.id, Remedy: v.fixAccount(account(t.tenant, t.account))}
			f.Says = fmt.Sprintf("task %s of account %s has revision %d, its moves have %s", t.id, t.account, t.revision, some(got))
			if t.revision >= int64(len(got)) && (len(got) == 0 || got[len(got)-1] <= t.revision) {
				f.Remedy = recordIsGone
			}
			wrong = append(wrong, f)
		}
	}
	return wrong, nil
}

// readRevisions adds the revisions of the moves of accounts, of these tasks, or of all when only is nil.
func readRevisions(ctx context.Context, tx pgx.Tx, tenants, ids []string, into map[taskID][]int64, only map[taskID]bool) error {
	rows, err := tx.Query(ctx, movesOfAccounts, tenants, ids)
	if err != nil {
		return err
	}
	var tenant string
	var tasks []string
	var revisions []int64
	_, err = pgx.ForEachRow(rows, []any{&tenant, &tasks, &revisions}, func() error {
		for i, id := range tasks {
			if t := (taskID{tenant, id}); only == nil || only[t] {
				into[t] = append(into[t], revisions[i])
			}
		}
		return nil
	})
	return err
}

// numbered tells whether the revisions are 1 to n, each once.
func numbered(revisions []int64, n int64) bool {
	if int64(len(revisions)) != n {
		return false
	}
	seen := make([]bool, n)
	for _, r := range revisions {
		if r < 1 || r > n || seen[r-1] {
			return false
		}
		seen[r-1] = true
	}
	return true
}

// some is the list, or the beginning of a long one.
func some(list []int64) string {
	if len(list) > 20 {
		return fmt.Sprintf("%v and %d more", list[:20], len(list)-20)
	}
	return fmt.Sprint(list)
}
