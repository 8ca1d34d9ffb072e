package operation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
)

// The previews apply the fold's rule for one change that is the newest of its account: open tasks of who held the role
// last, which the policy covers and whose role agrees. Held last means the latest owner issued; while that change is under
// way the tasks are still with the one before, and pass through.
const (
	holders = `
SELECT latest_owner, coalesce(latest_owner, last_person), CASE WHEN latest_at > since THEN last_person END
FROM account_roles WHERE tenant_id = $1 AND account_id = $2 AND role = $3`
	tasksOfChange = `
SELECT count(*) OVER (), t.task_id, t.title, t.assignee_id, $5
FROM open_tasks t
WHERE t.tenant_id = $1 AND t.account_id = $2
  AND t.assignee_id = ANY($3) AND t.assignee_id <> $5 AND t.effective_at <= $7
  AND (t.role = '' OR t.role = $4)
  AND ($6 = 'move_all_tasks' OR ($6 = 'move_automated_tasks' AND t.source <> 'manual'))
ORDER BY t.task_id LIMIT 100`
)

// previewChange is what a single role change will do. The head of its account is locked.
func (r order) previewChange(ctx context.Context, tx pgx.Tx) (Preview, error) {
	p := Preview{Accounts: 1, Tasks: []TaskMove{}}
	var latest, last, before *string
	err := tx.QueryRow(ctx, holders, r.TenantID, r.Request.AccountID, r.Request.Role).Scan(&latest, &last, &before)
	if err != nil && err != pgx.ErrNoRows {
		return Preview{}, fmt.Errorf("look up the latest owner: %w", err)
	}
	to := r.Request.OwnerID
	if equal(latest, to) {
		p.Unchanged = 1
		return p, nil
	}
	p.Roles = 1
	policy, err := r.policy(ctx, tx)
	if err != nil || to == nil || policy == handover.KeepTasks {
		return p, err
	}
	rows, err := tx.Query(ctx, tasksOfChange, r.TenantID, r.Request.AccountID, []*string{last, before}, r.Request.Role, *to, string(policy), r.AcceptedAt)
	if err != nil {
		return Preview{}, fmt.Errorf("look up the tasks that move: %w", err)
	}
	var m TaskMove
	_, err = pgx.ForEachRow(rows, []any{&p.TaskCount, &m.ID, &m.Title, &m.From, &m.To}, func() error {
		p.Tasks = append(p.Tasks, m)
		return nil
	})
	return p, err
}

const previewChunk = `
SELECT count(*) FILTER (WHERE r.latest_owner IS NOT DISTINCT FROM $4::text), coalesce(sum(t.n), 0)::bigint
FROM unnest($2::text[]) AS a(account_id)
LEFT JOIN LATERAL (
  SELECT latest_owner, coalesce(latest_owner, last_person) AS last, CASE WHEN latest_at > since THEN last_person END AS before
  FROM account_roles r WHERE r.tenant_id = $1 AND r.account_id = a.account_id AND r.role = $3 LIMIT 1) r ON true
LEFT JOIN LATERAL (
  SELECT count(*) AS n FROM open_tasks t
  WHERE t.tenant_id = $1 AND t.account_id = a.account_id
    AND t.assignee_id IN (r.last, r.before) AND t.assignee_id <> $4 AND t.effective_at <= $6
    AND (t.role = '' OR t.role = $3)
    AND ($5 = 'move_all_tasks' OR ($5 = 'move_automated_tasks' AND t.source <> 'manual'))
  ) t ON r.latest_owner IS DISTINCT FROM $4`

// previewEdit is what a bulk edit would do, chunk by chunk.
func (r order) previewEdit(ctx context.Context, tx pgx.Tx) (Preview, error) {
	p := Preview{Tasks: []TaskMove{}}
	policy, err := r.policy(ctx, tx)
	if err != nil {
		return Preview{}, err
	}
	for from := (place{}); ; {
		accounts, err := r.accounts(ctx, tx, from, previewSize)
		if err != nil {
			return Preview{}, err
		}
		var unchanged, tasks int64
		if err := tx.QueryRow(ctx, previewChunk, r.TenantID, accounts, r.Request.Role, r.Request.OwnerID, string(policy), r.AcceptedAt).Scan(&unchanged, &tasks); err != nil {
			return Preview{}, fmt.Errorf("count the tasks that move: %w", err)
		}
		p.Accounts += int64(len(accounts))
		p.Unchanged += unchanged
		p.TaskCount += tasks
		if len(accounts) < previewSize {
			p.Roles = p.Accounts - p.Unchanged
			return p, nil
		}
		from = from.after(accounts)
	}
}

// previewSize is how many accounts one statement of a preview counts.
const previewSize = 10_000

const previewLeaving = `
WITH held AS (
  SELECT account_id, role FROM account_roles WHERE tenant_id = $1 AND latest_owner = $2
), busy AS (
  SELECT account_id, n FROM holdings WHERE tenant_id = $1 AND assignee_id = $2
)
SELECT (SELECT count(*) FROM (SELECT account_id FROM held UNION SELECT account_id FROM busy WHERE $4) a),
       (SELECT count(*) FROM held),
       CASE WHEN $4 THEN (SELECT coalesce(sum(n), 0) FROM busy)::bigint ELSE (
         SELECT count(*) FROM open_tasks t
         WHERE t.tenant_id = $1 AND t.assignee_id = $2 AND t.effective_at <= $5 AND ($3 = 'move_all_tasks' OR ($3 = 'move_automated_tasks' AND t.source <> 'manual'))
           AND EXISTS (SELECT FROM held h WHERE h.account_id = t.account_id AND (t.role = '' OR t.role = h.role))) END`

// previewDeparture is what a departure to a successor would do.
func (r order) previewDeparture(ctx context.Context, tx pgx.Tx) (Preview, error) {
	p := Preview{Tasks: []TaskMove{}}
	policy, err := r.policy(ctx, tx)
	if err != nil {
		return Preview{}, err
	}
	err = tx.QueryRow(ctx, previewLeaving, r.TenantID, r.Request.UserID, string(policy), r.Request.Tasks, r.AcceptedAt).Scan(&p.Accounts, &p.Roles, &p.TaskCount)
	if err != nil {
		return Preview{}, fmt.Errorf("count what is handed over: %w", err)
	}
	return p, nil
}

func equal(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
