package notify

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// The truth is read for several mails at a time, by keys, and each key is looked up by itself: the planner can't know
// whether a notice has one move or a thousand, and a join planned for the one takes minutes for the other.
const (
	mergedInto = `SELECT merged_into, notice_id FROM notices WHERE merged_into = ANY($1)`
	movesOf    = `
SELECT notice_id, kind, account_id, coalesce(from_id, ''), moved_by, reason, role, moved_at, task_ids, revisions
FROM notice_moves WHERE notice_id = ANY($1)`
	tasksByID = `
SELECT k.n, t.title, t.priority, t.url, t.due_at, t.open, t.assignee_id
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (tenant_id, task_id, n)
CROSS JOIN LATERAL (
  SELECT title, priority, url, due_at, status IN ('open', 'in_progress') AS open, coalesce(assignee_id, '') AS assignee_id
  FROM tasks t WHERE t.tenant_id = k.tenant_id AND t.task_id = k.task_id LIMIT 1) t`
	userNames = `
SELECT k.n, u.name FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (tenant_id, user_id, n)
CROSS JOIN LATERAL (SELECT name FROM users u WHERE u.tenant_id = k.tenant_id AND u.user_id = k.user_id LIMIT 1) u`
	accountNames = `
SELECT k.n, a.name FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (tenant_id, account_id, n)
CROSS JOIN LATERAL (SELECT name FROM accounts a WHERE a.tenant_id = k.tenant_id AND a.account_id = k.account_id LIMIT 1) a`
	roleNames = `
SELECT k.n, r.name FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (tenant_id, role, n)
CROSS JOIN LATERAL (SELECT name FROM roles r WHERE r.tenant_id = k.tenant_id AND r.role = k.role LIMIT 1) r`
	toldAsTheirs = `
SELECT k.n FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) WITH ORDINALITY AS k (tenant_id, recipient_id, task_id, revision, notice_id, n)
WHERE (
  SELECT p.kind = 'received' FROM notice_items p
  CROSS JOIN LATERAL (SELECT coalesce(merged_into, notice_id) AS notice_id FROM notices WHERE notice_id = p.notice_id LIMIT 1) w
  CROSS JOIN LATERAL (SELECT notice_id, state, mime FROM notices WHERE notice_id = w.notice_id LIMIT 1) m
  WHERE p.tenant_id = k.tenant_id AND p.recipient_id = k.recipient_id AND p.task_id = k.task_id AND p.revision < k.revision
    AND NOT p.left_out AND m.notice_id <> k.notice_id
    AND (m.state IN ('sent', 'ambiguous') OR m.state IN ('closed', 'sending') AND m.mime IS NOT NULL)
  ORDER BY p.revision DESC LIMIT 1)`
)

// readTruth is, for each claim, everything that its mail is about, as it is now.
func readTruth(ctx context.Context, tx pgx.Tx, claims []claim) ([][]told, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	moves, err := readMoves(ctx, tx, claims)
	if err != nil {
		return nil, fmt.Errorf("read moves: %w", err)
	}
	var all []*told
	var back []lost
	for i, of := range moves {
		for j := range of {
			all = append(all, &of[j])
			if of[j].kind == takenBack {
				back = append(back, lost{&of[j], claims[i].id})
			}
		}
	}
	if err := readTasks(ctx, tx, all); err != nil {
		return nil, fmt.Errorf("read tasks: %w", err)
	}
	if err := readPast(ctx, tx, back); err != nil {
		return nil, fmt.Errorf("read what was told before: %w", err)
	}
	return moves, nil
}

// readMoves is, for each claim, an entry for each task of its window and of those that were merged into it.
func readMoves(ctx context.Context, tx pgx.Tx, claims []claim) ([][]told, error) {
	windows, of := make([]int64, len(claims)), make(map[int64]int, len(claims))
	var summaries []int64
	for i, c := range claims {
		windows[i], of[c.id] = c.id, i
		if c.summary {
			summaries = append(summaries, c.id)
		}
	}
	if len(summaries) > 0 {
		rows, err := tx.Query(ctx, mergedInto, summaries)
		if err != nil {
			return nil, err
		}
		var head, merged int64
		if _, err = pgx.ForEachRow(rows, []any{&head, &merged}, func() error {
			windows, of[merged] = append(windows, merged), of[head]
			return nil
		}); err != nil {
			return nil, err
		}
	}
	rows, err := tx.Query(ctx, movesOf, windows)
	if err != nil {
		return nil, err
	}
	out := make([][]told, len(claims))
	var window int64
	var read move
	var tasks []string
	var revisions []int64
	_, err = pgx.ForEachRow(rows, []any{&window, &read.kind, &read.accountID, &read.from, &read.movedBy, &read.reason, &read.role, &read.movedAt, &tasks, &revisions}, func() error {
		i := of[window]
		m := read
		m.scope = claims[i].scope
		out[i] = slices.Grow(out[i], len(tasks))
		for j, task := range tasks {
			out[i] = append(out[i], told{move: &m, task: task, revision: revisions[j]})
		}
		return nil
	})
	return out, err
}

// readTasks completes what is told of tasks, all of them in one round trip.
func readTasks(ctx context.Context, tx pgx.Tx, all []*told) error {
	var batch pgx.Batch
	tenants, tasks := make([]string, len(all)), make([]string, len(all))
	users, accounts, roles := names{}, names{}, names{}
	for i, t := range all {
		tenants[i], tasks[i] = t.tenant, t.task
		users.want(t.tenant, t.from)
		users.want(t.tenant, t.movedBy)
		accounts.want(t.tenant, t.accountID)
		roles.want(t.tenant, t.role)
	}
	batch.Queue(tasksByID, tenants, tasks).Query(func(rows pgx.Rows) error {
		var n int
		var read told
		_, err := pgx.ForEachRow(rows, []any{&n, &read.title, &read.priority, &read.url, &read.due, &read.open, &read.holder}, func() error {
			t := all[n-1]
			t.title, t.priority, t.url, t.due, t.open, t.holder = read.title, read.priority, read.url, read.due, read.open, read.holder
			return nil
		})
		return err
	})
	users.queue(&batch, userNames)
	accounts.queue(&batch, accountNames)
	roles.queue(&batch, roleNames)
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	for _, t := range all {
		t.fromName, t.byName = users[key{t.tenant, t.from}], users[key{t.tenant, t.movedBy}]
		t.accountName, t.roleName = accounts[key{t.tenant, t.accountID}], roles[key{t.tenant, t.role}]
	}
	return nil
}

// lost is a task that was taken back, with the notice whose mail says so.
type lost struct {
	*told
	notice int64
}

// readPast completes tasks that were taken back: whether the recipient was told that they are theirs, and who has them.
func readPast(ctx context.Context, tx pgx.Tx, back []lost) error {
	if len(back) == 0 {
		return nil
	}
	var batch pgx.Batch
	var tenants, recipients, tasks []string
	var revisions, notices []int64
	holders := names{}
	for _, t := range back {
		tenants, recipients, tasks = append(tenants, t.tenant), append(recipients, t.recipient), append(tasks, t.task)
		revisions, notices = append(revisions, t.revision), append(notices, t.notice)
		holders.want(t.tenant, t.holder)
	}
	batch.Queue(toldAsTheirs, tenants, recipients, tasks, revisions, notices).Query(func(rows pgx.Rows) error {
		var n int
		_, err := pgx.ForEachRow(rows, []any{&n}, func() error {
			back[n-1].toldBefore = true
			return nil
		})
		return err
	})
	holders.queue(&batch, userNames)
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	for _, t := range back {
		t.holderName = holders[key{t.tenant, t.holder}]
	}
	return nil
}

// names are those of ids, empty where an id is unknown.
type names map[key]string

type key struct{ tenant, id string }

func (n names) want(tenant, id string) {
	if id != "" {
		n[key{tenant, id}] = ""
	}
}

// queue has the names filled in when the batch is read.
func (n names) queue(batch *pgx.Batch, query string) {
	if len(n) == 0 {
		return
	}
	var keys []key
	var tenants, ids []string
	for k := range n {
		keys, tenants, ids = append(keys, k), append(tenants, k.tenant), append(ids, k.id)
	}
	batch.Queue(query, tenants, ids).Query(func(rows pgx.Rows) error {
		var i int
		var name string
		_, err := pgx.ForEachRow(rows, []any{&i, &name}, func() error {
			n[keys[i-1]] = name
			return nil
		})
		return err
	})
}
