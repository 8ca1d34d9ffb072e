package roster

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

// TaskRef names a task of a tenant.
type TaskRef struct{ TenantID, TaskID string }

const (
	accountsOfTasks = `
SELECT t.tenant_id, t.account_id FROM unnest($1::text[], $2::text[]) AS k(tenant_id, task_id)
CROSS JOIN LATERAL (SELECT * FROM task_rows t WHERE t.tenant_id = k.tenant_id AND t.task_id = k.task_id LIMIT 1) t`
	strangers = `
SELECT t.tenant_id, t.task_id
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT * FROM holdings h WHERE h.tenant_id = a.tenant_id AND h.account_id = a.account_id OFFSET 0) h
CROSS JOIN LATERAL (SELECT * FROM task_rows t WHERE t.holding = h.key OFFSET 0) t
WHERE (t.tenant_id, t.account_id, t.role, t.source = 'manual') IS DISTINCT FROM (h.tenant_id, h.account_id, h.role, h.manual)`
	// Its holding may be another account's: then it is with whom that one is. Without one it is where its base is, and its
	// revision is that of its latest move.
	misplaced = `
SELECT t.tenant_id, t.account_id, t.role, t.source = 'manual', coalesce(CASE WHEN h.key IS NULL THEN t.base_assignee ELSE h.assignee_id END, ''), t.task_id,
       CASE WHEN h.key IS NOT NULL THEN t.own_revision + h.moves ELSE greatest(t.own_revision, (
         SELECT max(r.revision) FROM moves m CROSS JOIN LATERAL unnest(m.task_ids, m.revisions) AS r(id, revision)
         WHERE m.tenant_id = t.tenant_id AND m.account_id = t.account_id AND r.id = t.task_id)) END
FROM unnest($1::text[], $2::text[]) AS k(tenant_id, task_id)
CROSS JOIN LATERAL (SELECT * FROM task_rows t WHERE t.tenant_id = k.tenant_id AND t.task_id = k.task_id AND t.holding IS NOT NULL LIMIT 1) t
LEFT JOIN LATERAL (SELECT * FROM holdings h WHERE h.key = t.holding LIMIT 1) h ON true
WHERE (t.tenant_id, t.account_id, t.role, t.source = 'manual') IS DISTINCT FROM (h.tenant_id, h.account_id, h.role, h.manual)`
	forgetOwners = `
UPDATE account_roles r SET owner_id = NULL, last_person = NULL, since = '-infinity'
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
WHERE r.tenant_id = a.tenant_id AND r.account_id = a.account_id AND NOT r.synced AND (r.owner_id IS NOT NULL OR r.last_person IS NOT NULL)
  AND NOT EXISTS (SELECT FROM role_changes c WHERE c.tenant_id = r.tenant_id AND c.account_id = r.account_id AND c.role = r.role)`
	dropEmpty = `
DELETE FROM holdings h USING unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
WHERE h.tenant_id = a.tenant_id AND h.account_id = a.account_id AND NOT EXISTS (SELECT FROM task_rows t WHERE t.holding = h.key)`
	recount = `
UPDATE holdings h SET n = c.n
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT key FROM holdings o WHERE o.tenant_id = a.tenant_id AND o.account_id = a.account_id OFFSET 0) o
CROSS JOIN LATERAL (SELECT count(*) AS n FROM task_rows t WHERE t.holding = o.key) c
WHERE h.tenant_id = a.tenant_id AND h.account_id = a.account_id AND h.key = o.key AND h.n <> c.n`
	raiseAssignedAt = `
UPDATE account_heads d SET assigned_at = l.latest
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (
  SELECT max(t.effective_at) AS latest
  FROM (SELECT key FROM holdings h WHERE h.tenant_id = a.tenant_id AND h.account_id = a.account_id OFFSET 0) h
  JOIN task_rows t ON t.holding = h.key) l
WHERE d.tenant_id = a.tenant_id AND d.account_id = a.account_id AND d.assigned_at < l.latest`
	raiseNewest = `
UPDATE account_heads d SET newest_at = greatest(d.newest_at, c.latest), issued_at = greatest(d.issued_at, r.latest)
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT max(occurred_at) AS latest FROM role_changes c WHERE c.tenant_id = a.tenant_id AND c.account_id = a.account_id) c
CROSS JOIN LATERAL (SELECT max(latest_at) AS latest FROM account_roles r WHERE r.tenant_id = a.tenant_id AND r.account_id = a.account_id) r
WHERE d.tenant_id = a.tenant_id AND d.account_id = a.account_id AND (d.newest_at < c.latest OR greatest(d.newest_at, d.issued_at) < r.latest)`
	// Upwards only: what subscribers have been told stays below what comes next.
	raiseRevisions = `
UPDATE task_rows t SET own_revision = t.own_revision + l.latest - v.revision
FROM unnest($1::text[], $2::text[]) AS k(tenant_id, task_id)
CROSS JOIN LATERAL (SELECT * FROM tasks v WHERE v.tenant_id = k.tenant_id AND v.task_id = k.task_id LIMIT 1) v
CROSS JOIN LATERAL (
  SELECT max(r.revision) AS latest
  FROM (SELECT v.account_id UNION SELECT account_id FROM former_accounts f WHERE f.tenant_id = k.tenant_id AND f.task_id = k.task_id) a
  JOIN moves m ON m.tenant_id = k.tenant_id AND m.account_id = a.account_id
  CROSS JOIN LATERAL unnest(m.task_ids, m.revisions) AS r(id, revision)
  WHERE r.id = k.task_id) l
WHERE t.tenant_id = k.tenant_id AND t.task_id = k.task_id AND l.latest > v.revision`
)

// Mended is what Mend did.
type Mended struct {
	Rehoused int64 // tasks that were in no holding, or in one of another kind
	Written  int64 // heads, counts, revisions and roles set right
	Moves    []Move
}

// Mend sets accounts right whose rows don't agree, and tasks that stand in no holding of theirs, whatever has damaged them:
// under the heads' locks it counts again and folds again, and records and announces the moves that this takes. It
// returns the outbox entries to offer after the commit. What is right stays as it is.
func Mend(ctx context.Context, tx pgx.Tx, accounts []Account, tasks []TaskRef) (Mended, []journal.Entry, error) {
	var done Mended
	fail := func(err error) (Mended, []journal.Entry, error) {
		return Mended{}, nil, fmt.Errorf("mend accounts: %w", err)
	}
	tenants, ids := columns(sorted(accounts))
	rows, err := tx.Query(ctx, strangers, tenants, ids)
	if err != nil {
		return fail(err)
	}
	stray, err := pgx.CollectRows(rows, pgx.RowToStructByPos[TaskRef])
	if err != nil {
		return fail(err)
	}
	tasks = append(stray, tasks...)
	ofTasks, tasksIDs := column(tasks, func(t TaskRef) string { return t.TenantID }), column(tasks, func(t TaskRef) string { return t.TaskID })
	if rows, err = tx.Query(ctx, accountsOfTasks, ofTasks, tasksIDs); err != nil {
		return fail(err)
	}
	theirs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Account])
	if err != nil {
		return fail(err)
	}
	accounts = sorted(append(theirs, accounts...))
	if _, err := LockHeads(ctx, tx, accounts); err != nil {
		return fail(err)
	}
	if done.Rehoused, err = rehouse(ctx, tx, ofTasks, tasksIDs); err != nil {
		return fail(err)
	}
	tenants, ids = columns(accounts)
	for _, sql := range []string{forgetOwners, dropEmpty, recount, raiseAssignedAt, raiseNewest} {
		tag, err := tx.Exec(ctx, sql, tenants, ids)
		if err != nil {
			return fail(err)
		}
		done.Written += tag.RowsAffected()
	}
	tag, err := tx.Exec(ctx, raiseRevisions, ofTasks, tasksIDs)
	if err != nil {
		return fail(err)
	}
	done.Written += tag.RowsAffected()
	moves, entries, err := Refold(ctx, tx, accounts, nil)
	done.Moves = moves
	return done, entries, err
}

// rehouse takes tasks into holdings of their kind, with whom they are.
func rehouse(ctx context.Context, tx pgx.Tx, tenants, tasks []string) (int64, error) {
	rows, err := tx.Query(ctx, misplaced, tenants, tasks)
	if err != nil {
		return 0, err
	}
	at := map[kind]int{}
	var joined []holding
	var of []int // which of joined a task is in
	var leave []TaskRef
	var revisions []int64
	var k kind
	var id string
	var revision int64
	seen := map[TaskRef]bool{}
	if _, err := pgx.ForEachRow(rows, []any{&k.TenantID, &k.AccountID, &k.role, &k.manual, &k.assignee, &id, &revision}, func() error {
		t := TaskRef{k.TenantID, id}
		if seen[t] {
			return nil
		}
		seen[t] = true
		i, there := at[k]
		if !there {
			i = len(joined)
			at[k], joined = i, append(joined, holding{kind: k})
		}
		joined[i].n++
		of, leave, revisions = append(of, i), append(leave, t), append(revisions, revision)
		return nil
	}); err != nil || len(leave) == 0 {
		return 0, err
	}
	if err := joinHoldings(ctx, tx, joined); err != nil {
		return 0, err
	}
	keys, own := make([]int64, len(leave)), make([]int64, len(leave))
	for i := range leave {
		keys[i] = joined[of[i]].key
		own[i] = revisions[i] - joined[of[i]].moves
	}
	tag, err := tx.Exec(ctx, rejoin, column(leave, func(t TaskRef) string { return t.TenantID }), column(leave, func(t TaskRef) string { return t.TaskID }), keys, own)
	return tag.RowsAffected(), err
}

const recordedMoves = `
SELECT m.tenant_id, m.account_id, m.reason, m.moved_by, coalesce(m.from_id, ''), coalesce(m.to_id, ''), m.correction, m.moved_at, m.task_ids, m.revisions,
       coalesce(c.key, 0), coalesce(c.occurred_at, 'epoch'), coalesce(c.sequence, ''), coalesce(c.source, ''), coalesce(c.id, ''), coalesce(c.role, ''),
       coalesce(c.policy, ''), coalesce(c.operation_id, ''), coalesce(c.traceparent, '')
FROM unnest($1::bigint[]) AS k(key)
CROSS JOIN LATERAL (SELECT * FROM moves m WHERE m.key = k.key LIMIT 1) m
LEFT JOIN LATERAL (SELECT * FROM role_changes c WHERE c.key = m.change_key LIMIT 1) c ON true`

// Announce puts the announcements of recorded moves into the outbox, as part of tx, with their tasks as they are now. For
// a move that was announced before it does so again, which subscribers see by the revisions.
func Announce(ctx context.Context, tx pgx.Tx, moves []int64) ([]journal.Entry, error) {
	rows, err := tx.Query(ctx, recordedMoves, moves)
	if err != nil {
		return nil, fmt.Errorf("announce moves: %w", err)
	}
	recorded, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Move, error) {
		var m Move
		var c Change
		var tasks []string
		var revisions []int64
		err := row.Scan(&m.TenantID, &m.AccountID, &m.Reason, &m.By, &m.From, &m.To, &m.Correction, &m.At, &tasks, &revisions,
			&c.Key, &c.OccurredAt, &c.Sequence, &c.Source, &c.ID, &c.Role, &c.Policy, &c.OperationID, &c.Traceparent)
		if c.Key != 0 {
			m.Cause = &c
		}
		for i, id := range tasks {
			m.Tasks = append(m.Tasks, event.ReassignedTask{ID: id, Title: id, Revision: revisions[i]})
		}
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("announce moves: %w", err)
	}
	if err := describe(ctx, tx, recorded); err != nil {
		return nil, fmt.Errorf("announce moves: %w", err)
	}
	entries := Announcements(recorded)
	return entries, journal.Append(ctx, tx, entries)
}

const describeTasks = `
SELECT t.tenant_id, t.task_id, t.title, t.due_at, t.priority, t.source, t.url FROM unnest($1::text[], $2::text[]) AS k(tenant_id, task_id)
CROSS JOIN LATERAL (SELECT * FROM task_rows t WHERE t.tenant_id = k.tenant_id AND t.task_id = k.task_id LIMIT 1) t`

func describe(ctx context.Context, tx pgx.Tx, moves []Move) error {
	of := map[TaskRef][]*event.ReassignedTask{}
	var tenants, ids []string
	for i := range moves {
		for j := range moves[i].Tasks {
			t := TaskRef{moves[i].TenantID, moves[i].Tasks[j].ID}
			if of[t] == nil {
				tenants, ids = append(tenants, t.TenantID), append(ids, t.TaskID)
			}
			of[t] = append(of[t], &moves[i].Tasks[j])
		}
	}
	rows, err := tx.Query(ctx, describeTasks, tenants, ids)
	if err != nil {
		return err
	}
	var t TaskRef
	var title, priority, source, url string
	var due *time.Time
	_, err = pgx.ForEachRow(rows, []any{&t.TenantID, &t.TaskID, &title, &due, &priority, &source, &url}, func() error {
		for _, task := range of[t] {
			task.Title, task.DueAt, task.Priority, task.Source, task.URL = title, due, priority, source, url
		}
		due = nil
		return nil
	})
	return err
}
