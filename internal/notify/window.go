package notify

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

const (
	// The upsert locks the window that is there, or makes one. One that is past its close but that nobody closed yet takes
	// no more: it is closed here, and since its key stays locked by that, the insert after it meets no other.
	upsertWindows = `
INSERT INTO notices AS w (tenant_id, recipient_id, account_id, opened_at, close_at, next_try_at)
SELECT k.tenant_id, k.recipient_id, k.account_id, c.now, c.now + $4, c.now + $4
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k (tenant_id, recipient_id, account_id, n),
     (SELECT clock_timestamp() AS now OFFSET 0) c
ORDER BY k.n
ON CONFLICT (tenant_id, recipient_id, account_id) WHERE state = 'open'
DO UPDATE SET state = CASE WHEN w.close_at <= clock_timestamp() THEN 'closed' ELSE 'open' END
RETURNING w.notice_id, w.tenant_id, w.recipient_id, w.account_id, w.state`
	insertWindows = `
INSERT INTO notices AS w (tenant_id, recipient_id, account_id, opened_at, close_at, next_try_at)
SELECT k.tenant_id, k.recipient_id, k.account_id, c.now, c.now + $4, c.now + $4
FROM unnest($1::text[], $2::text[], $3::text[]) AS k (tenant_id, recipient_id, account_id),
     (SELECT clock_timestamp() AS now OFFSET 0) c
RETURNING w.notice_id, w.tenant_id, w.recipient_id, w.account_id, w.state`
)

// openWindows finds or makes the open window of every entry, and tells whether it closed an overdue one.
func (n *Notifier) openWindows(ctx context.Context, tx pgx.Tx, entries []entry) (map[scope]int64, bool, error) {
	var wanted []scope
	for _, e := range firstOfEach(entries) {
		wanted = append(wanted, e.scope)
	}
	slices.SortFunc(wanted, scope.compare)
	wanted = slices.Compact(wanted)
	windows := make(map[scope]int64, len(wanted))
	overdue, err := n.addWindows(ctx, tx, upsertWindows, wanted, windows)
	if err != nil {
		return nil, false, fmt.Errorf("open windows: %w", err)
	}
	if len(overdue) == 0 {
		return windows, false, nil
	}
	if _, err = n.addWindows(ctx, tx, insertWindows, overdue, windows); err != nil {
		return nil, false, fmt.Errorf("open windows after overdue ones: %w", err)
	}
	return windows, true, nil
}

func (n *Notifier) addWindows(ctx context.Context, tx pgx.Tx, sql string, wanted []scope, windows map[scope]int64) (overdue []scope, err error) {
	tenants, recipients, accounts := make([]string, len(wanted)), make([]string, len(wanted)), make([]string, len(wanted))
	for i, s := range wanted {
		tenants[i], recipients[i], accounts[i] = s.tenant, s.recipient, s.account
	}
	rows, err := tx.Query(ctx, sql, tenants, recipients, accounts, n.window)
	if err != nil {
		return nil, err
	}
	var id int64
	var s scope
	var state string
	_, err = pgx.ForEachRow(rows, []any{&id, &s.tenant, &s.recipient, &s.account, &state}, func() error {
		if state == Open {
			windows[s] = id
		} else {
			overdue = append(overdue, s)
		}
		return nil
	})
	return overdue, err
}

const itemsKey = "notice_items_pkey"

// store writes entries into their windows, items in the order of their keys. It fails with a violation of itemsKey when
// one of them is stored already.
func store(ctx context.Context, tx pgx.Tx, entries []entry, windows map[scope]int64) error {
	type tasks struct {
		ids       []string
		revisions []int64
	}
	of := make(map[*move]*tasks)
	for _, e := range entries {
		t := of[e.move]
		if t == nil {
			t = new(tasks)
			of[e.move] = t
		}
		t.ids, t.revisions = append(t.ids, e.task), append(t.revisions, e.revision)
	}
	// Rows copied cost a third of rows inserted unless they conflict.
	_, err := tx.CopyFrom(ctx, pgx.Identifier{"notice_items"}, []string{"tenant_id", "recipient_id", "task_id", "revision", "notice_id", "kind"},
		pgx.CopyFromSlice(len(entries), func(i int) ([]any, error) {
			e := entries[i]
			return []any{e.tenant, e.recipient, e.task, e.revision, windows[e.scope], e.kind}, nil
		}))
	if err != nil {
		return fmt.Errorf("store items: %w", err)
	}
	firsts := firstOfEach(entries)
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"notice_moves"},
		[]string{"notice_id", "kind", "account_id", "from_id", "moved_by", "reason", "role", "moved_at", "task_ids", "revisions"},
		pgx.CopyFromSlice(len(firsts), func(i int) ([]any, error) {
			m := firsts[i].move
			var from any
			if m.from != "" {
				from = m.from
			}
			return []any{windows[m.scope], m.kind, m.accountID, from, m.movedBy, m.reason, m.role, m.movedAt, of[m].ids, of[m].revisions}, nil
		}))
	if err != nil {
		return fmt.Errorf("store moves: %w", err)
	}
	return nil
}
