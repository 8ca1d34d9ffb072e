package notify

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
)

// The truth is read for several mails at a time, by keys, one table after the other, not by a join: the planner can't know
// whether a notice has one move or a thousand, and a plan for the one takes minutes for the other.
const (
	mergedInto = `SELECT merged_into, notice_id FROM notices WHERE merged_into = ANY($1)`
	movesOf    = `
SELECT notice_id, kind, account_id, coalesce(from_id, ''), moved_by, reason, role, moved_at, task_ids, revisions
FROM notice_moves WHERE notice_id = ANY($1)`
	// Of each its own look-up, by its whole key: a list that is asked for as = ANY, or a join with the view of tasks, is,
	// planned while the tables were empty, a filter on all that the tenant has.
	tasksByID = `
SELECT t.task_id, t.title, t.priority, t.url, t.due_at, t.status IN ('open', 'in_progress'), coalesce(h.assignee_id, t.closed_assignee, '')
FROM unnest($2::text[]) AS k (task_id)
CROSS JOIN LATERAL (SELECT * FROM task_rows t WHERE t.tenant_id = $1 AND t.task_id = k.task_id LIMIT 1) t
LEFT JOIN LATERAL (
  SELECT assignee_id FROM holdings h WHERE h.tenant_id = t.tenant_id AND h.account_id = t.account_id AND h.key = t.holding LIMIT 1) h ON true`
	userNames = `
SELECT u.user_id, u.name FROM unnest($2::text[]) AS k (user_id)
CROSS JOIN LATERAL (SELECT user_id, name FROM users u WHERE u.tenant_id = $1 AND u.user_id = k.user_id LIMIT 1) u`
	accountNames = `
SELECT a.account_id, a.name FROM unnest($2::text[]) AS k (account_id)
CROSS JOIN LATERAL (SELECT account_id, name FROM accounts a WHERE a.tenant_id = $1 AND a.account_id = k.account_id LIMIT 1) a`
	roleNames = `
SELECT r.role, r.name FROM unnest($2::text[]) AS k (role)
CROSS JOIN LATERAL (SELECT role, name FROM roles r WHERE r.tenant_id = $1 AND r.role = k.role LIMIT 1) r`
	toldAsTheirs = `
SELECT k.n FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[]) WITH ORDINALITY AS k (tenant_id, recipient_id, task_id, revision, notice_id, n)
WHERE (
  SELECT p.kind = 'received' FROM notice_items p
  CROSS JOIN LATERAL (
    SELECT coalesce(merged_into, notice_id) AS notice_id FROM notices
    WHERE tenant_id = p.tenant_id AND recipient_id = p.recipient_id AND notice_id = p.notice_id LIMIT 1) w
  CROSS JOIN LATERAL (
    SELECT notice_id, state, mime FROM notices
    WHERE tenant_id = p.tenant_id AND recipient_id = p.recipient_id AND notice_id = w.notice_id LIMIT 1) m
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
	tenants := make(map[string]*lookups)
	for _, t := range all {
		of := tenants[t.tenant]
		if of == nil {
			of = &lookups{make(map[string][]*told), make(names), make(names), make(names)}
			tenants[t.tenant] = of
		}
		of.tasks[t.task] = append(of.tasks[t.task], t)
		of.users[t.from], of.users[t.movedBy], of.accounts[t.accountID], of.roles[t.role] = "", "", "", ""
	}
	var batch pgx.Batch
	for tenant, of := range tenants {
		of.queue(&batch, tenant)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	for _, t := range all {
		of := tenants[t.tenant]
		t.fromName, t.byName, t.accountName, t.roleName = of.users[t.from], of.users[t.movedBy], of.accounts[t.accountID], of.roles[t.role]
	}
	return nil
}

// lookups are what is asked for about one tenant.
type lookups struct {
	tasks                  map[string][]*told
	users, accounts, roles names
}

func (l *lookups) queue(batch *pgx.Batch, tenant string) {
	batch.Queue(tasksByID, tenant, slices.Collect(maps.Keys(l.tasks))).Query(func(rows pgx.Rows) error {
		var id string
		var read told
		_, err := pgx.ForEachRow(rows, []any{&id, &read.title, &read.priority, &read.url, &read.due, &read.open, &read.holder}, func() error {
			for _, t := range l.tasks[id] {
				t.title, t.priority, t.url, t.due, t.open, t.holder = read.title, read.priority, read.url, read.due, read.open, read.holder
			}
			return nil
		})
		return err
	})
	l.users.queue(batch, userNames, tenant)
	l.accounts.queue(batch, accountNames, tenant)
	l.roles.queue(batch, roleNames, tenant)
}

// names are those of ids, empty where an id is unknown.
type names map[string]string

// queue has the names filled in when the batch is read.
func (n names) queue(batch *pgx.Batch, query, tenant string) {
	batch.Queue(query, tenant, slices.Collect(maps.Keys(n))).Query(func(rows pgx.Rows) error {
		var id, name string
		_, err := pgx.ForEachRow(rows, []any{&id, &name}, func() error {
			n[id] = name
			return nil
		})
		return err
	})
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
	holders := make(map[string]names)
	for _, t := range back {
		tenants, recipients, tasks = append(tenants, t.tenant), append(recipients, t.recipient), append(tasks, t.task)
		revisions, notices = append(revisions, t.revision), append(notices, t.notice)
		if holders[t.tenant] == nil {
			holders[t.tenant] = make(names)
		}
		holders[t.tenant][t.holder] = ""
	}
	batch.Queue(toldAsTheirs, tenants, recipients, tasks, revisions, notices).Query(func(rows pgx.Rows) error {
		var n int
		_, err := pgx.ForEachRow(rows, []any{&n}, func() error {
			back[n-1].toldBefore = true
			return nil
		})
		return err
	})
	for tenant, of := range holders {
		of.queue(&batch, userNames, tenant)
	}
	if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
		return err
	}
	for _, t := range back {
		t.holderName = holders[t.tenant][t.holder]
	}
	return nil
}
