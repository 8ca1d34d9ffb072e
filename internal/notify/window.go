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

// openWindows finds or makes the open window of every item, and tells whether it closed an overdue one.
func (n *Notifier) openWindows(ctx context.Context, tx pgx.Tx, items []item) (map[scope]int64, bool, error) {
	var wanted []scope
	seen := make(map[scope]bool)
	for _, i := range items {
		if !seen[i.scope] {
			seen[i.scope] = true
			wanted = append(wanted, i.scope)
		}
	}
	slices.SortFunc(wanted, scope.compare)
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

// dropEmpty removes windows opened for items that, it turned out, another intake stored at the same time.
func dropEmpty(ctx context.Context, tx pgx.Tx, windows map[scope]int64) error {
	ids := make([]int64, 0, len(windows))
	for _, id := range windows {
		ids = append(ids, id)
	}
	_, err := tx.Exec(ctx, `DELETE FROM notices n WHERE notice_id = ANY($1) AND NOT EXISTS (SELECT FROM notice_items i WHERE i.notice_id = n.notice_id)`, ids)
	if err != nil {
		return fmt.Errorf("drop empty windows: %w", err)
	}
	return nil
}
