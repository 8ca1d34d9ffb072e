package notify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// The truth is read by keys, one table at a time, not by one join: the planner can't know whether a notice has one item
// or a hundred thousand, and a plan for the one takes minutes for the other.
const (
	mergedInto = `SELECT notice_id FROM notices WHERE merged_into = $1`
	itemsOf    = `
SELECT i.tenant_id, i.recipient_id, i.task_id, i.revision, i.kind, i.account_id, coalesce(i.from_id, ''), i.moved_by, i.reason, i.role, i.moved_at, i.left_out,
  CASE WHEN i.kind = 'taken_back' THEN coalesce((
    SELECT p.kind = 'received' FROM notice_items p
    JOIN notices pw ON pw.notice_id = p.notice_id
    JOIN notices pm ON pm.notice_id = coalesce(pw.merged_into, pw.notice_id)
    WHERE p.tenant_id = i.tenant_id AND p.recipient_id = i.recipient_id AND p.task_id = i.task_id AND p.revision < i.revision
      AND NOT p.left_out AND pm.notice_id <> $1
      AND (pm.state IN ('sent', 'ambiguous') OR pm.state IN ('closed', 'sending') AND pm.mime IS NOT NULL)
    ORDER BY p.revision DESC LIMIT 1), false) ELSE false END
FROM notice_items i WHERE i.notice_id = ANY($2)`
	tasksByID = `
SELECT task_id, title, priority, url, due_at, status IN ('open', 'in_progress'), coalesce(assignee_id, '')
FROM tasks WHERE tenant_id = $1 AND task_id = ANY($2)`
	userNames    = `SELECT user_id, name FROM users WHERE tenant_id = $1 AND user_id = ANY($2)`
	accountNames = `SELECT account_id, name FROM accounts WHERE tenant_id = $1 AND account_id = ANY($2)`
	roleNames    = `SELECT role, name FROM roles WHERE tenant_id = $1 AND role = ANY($2)`
)

// readTruth is everything the mail of a notice is about, as it is now.
func readTruth(ctx context.Context, tx pgx.Tx, c claim) ([]told, error) {
	notices := []int64{c.id}
	if c.summary {
		merged, err := numbers(tx.Query(ctx, mergedInto, c.id))
		if err != nil {
			return nil, fmt.Errorf("read merged windows: %w", err)
		}
		notices = append(notices, merged...)
	}
	items, err := readItems(ctx, tx, c.id, notices)
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	if err := readTasks(ctx, tx, c.tenant, items); err != nil {
		return nil, fmt.Errorf("read tasks: %w", err)
	}
	if err := readNames(ctx, tx, c.tenant, items); err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	return items, nil
}

func readItems(ctx context.Context, tx pgx.Tx, notice int64, notices []int64) ([]told, error) {
	rows, err := tx.Query(ctx, itemsOf, notice, notices)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t told, err error) {
		err = row.Scan(&t.tenant, &t.recipient, &t.task, &t.revision, &t.kind, &t.accountID, &t.from, &t.movedBy, &t.reason, &t.role, &t.movedAt,
			&t.leftOut, &t.toldBefore)
		return t, err
	})
}

func readTasks(ctx context.Context, tx pgx.Tx, tenant string, items []told) error {
	byTask := make(map[string][]int, len(items))
	for i, t := range items {
		byTask[t.task] = append(byTask[t.task], i)
	}
	rows, err := tx.Query(ctx, tasksByID, tenant, slices.Collect(maps.Keys(byTask)))
	if err != nil {
		return err
	}
	var id, title, priority, url, holder string
	var due *time.Time
	var open bool
	_, err = pgx.ForEachRow(rows, []any{&id, &title, &priority, &url, &due, &open, &holder}, func() error {
		for _, i := range byTask[id] {
			t := &items[i]
			t.title, t.priority, t.url, t.due, t.open, t.holder = title, priority, url, due, open, holder
		}
		return nil
	})
	return err
}

func readNames(ctx context.Context, tx pgx.Tx, tenant string, items []told) error {
	users, accounts, roles := make(map[string]string), make(map[string]string), make(map[string]string)
	for _, t := range items {
		users[t.from], users[t.movedBy], users[t.holder] = "", "", ""
		accounts[t.accountID], roles[t.role] = "", ""
	}
	for _, lookup := range []struct {
		sql   string
		names map[string]string
	}{{userNames, users}, {accountNames, accounts}, {roleNames, roles}} {
		rows, err := tx.Query(ctx, lookup.sql, tenant, slices.Collect(maps.Keys(lookup.names)))
		if err != nil {
			return err
		}
		var id, known string
		if _, err = pgx.ForEachRow(rows, []any{&id, &known}, func() error {
			lookup.names[id] = known
			return nil
		}); err != nil {
			return err
		}
	}
	for i := range items {
		t := &items[i]
		t.fromName, t.byName, t.holderName = users[t.from], users[t.movedBy], users[t.holder]
		t.accountName, t.roleName = accounts[t.accountID], roles[t.role]
	}
	return nil
}
