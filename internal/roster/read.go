package roster

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// UserDetails is a user as it is known.
type UserDetails struct {
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Email       *string    `json:"email"`
	TimeZone    string     `json:"time_zone"`
	Status      string     `json:"status"`
	Notices     bool       `json:"notices"`
	LeftAt      *time.Time `json:"left_at"`
	SuccessorID *string    `json:"successor_id"`
}

// AccountDetails is an account as it is known.
type AccountDetails struct {
	ID         string             `json:"id"`
	Name       string             `json:"name"`
	Attributes json.RawMessage    `json:"attributes"`
	Roles      map[string]*string `json:"roles"` // nil for nobody; a role that nobody ever held is absent
}

// TaskDetails is a task as it is known.
type TaskDetails struct {
	ID         string     `json:"id"`
	AccountID  string     `json:"account_id"`
	Title      string     `json:"title"`
	AssigneeID *string    `json:"assignee_id"`
	Status     string     `json:"status"`
	Source     string     `json:"source"`
	Role       *string    `json:"role"`
	Priority   *string    `json:"priority"`
	DueAt      *time.Time `json:"due_at"`
	CreatedAt  *time.Time `json:"created_at"`
	AssignedAt time.Time  `json:"assigned_at"` // of the last assignment on purpose
	URL        *string    `json:"url"`
	Revision   int64      `json:"revision"` // counts the changes of assignee
}

// UserQuery says which users are wanted.
type UserQuery struct {
	PageQuery
	Status string // active, disabled or deleted; "" for any
	// LeftBehind: those who have left and still hold roles or open tasks.
	LeftBehind bool
}

// AccountQuery says which accounts are wanted.
type AccountQuery struct {
	PageQuery
	Filter Filter
}

// TaskQuery says which tasks are wanted.
type TaskQuery struct {
	PageQuery
	AssigneeID string // "" for any
	AccountID  string // "" for any
	Status     string // open, closed or all; "" is open
}

const (
	userColumns = `
SELECT u.user_id, u.name, nullif(u.email, ''), u.time_zone, u.status, u.notices, u.left_at, u.successor_id
FROM users u WHERE u.tenant_id = $1`
	userByID  = userColumns + ` AND u.user_id = $2`
	usersByID = userColumns + `
  AND u.user_id > $2 AND ($3::text = '' OR u.status = $3)
  AND (NOT $4::boolean OR (u.left_at IS NOT NULL AND (
    EXISTS (SELECT FROM holdings h WHERE h.tenant_id = u.tenant_id AND h.assignee_id = u.user_id)
    OR EXISTS (SELECT FROM account_roles r WHERE r.tenant_id = u.tenant_id AND r.owner_id = u.user_id))))
ORDER BY u.user_id LIMIT $5`
)

// User returns one user, or [ErrNotFound].
func (r *Roster) User(ctx context.Context, tenant, id string) (UserDetails, error) {
	rows, err := r.pool.Query(ctx, userByID, tenant, id)
	return one[UserDetails](rows, err, "user", id)
}

// Users lists users by id.
func (r *Roster) Users(ctx context.Context, tenant string, q UserQuery) (Page[UserDetails], error) {
	limit, after, err := q.open("users", 1)
	if err != nil {
		return Page[UserDetails]{}, err
	}
	if q.Status != "" && !slices.Contains([]string{"active", "disabled", "deleted"}, q.Status) {
		return Page[UserDetails]{}, invalid("status", "must be one of active, disabled, deleted")
	}
	rows, err := r.pool.Query(ctx, usersByID, tenant, after[0], q.Status, q.LeftBehind, limit+1)
	return page(rows, err, limit, "users", func(u UserDetails) []string { return []string{u.ID} })
}

const (
	accountColumns = `
SELECT a.account_id, a.name, a.attributes, coalesce(r.roles, '{}')
FROM accounts a LEFT JOIN LATERAL (
  SELECT jsonb_object_agg(r.role, r.owner_id) AS roles FROM account_roles r WHERE r.tenant_id = a.tenant_id AND r.account_id = a.account_id) r ON true
WHERE a.tenant_id = $1`
	accountByID  = accountColumns + ` AND a.account_id = $2`
	accountsByID = accountColumns + ` AND a.account_id = ANY ($2) ORDER BY a.account_id`
)

// Account returns one account, or [ErrNotFound].
func (r *Roster) Account(ctx context.Context, tenant, id string) (AccountDetails, error) {
	rows, err := r.pool.Query(ctx, accountByID, tenant, id)
	return one[AccountDetails](rows, err, "account", id)
}

// Accounts lists accounts by id.
func (r *Roster) Accounts(ctx context.Context, tenant string, q AccountQuery) (Page[AccountDetails], error) {
	limit, after, err := q.open("accounts", 1)
	if err != nil {
		return Page[AccountDetails]{}, err
	}
	var found Page[AccountDetails]
	err = pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
		ids, err := MatchAccounts(ctx, tx, tenant, q.Filter, after[0], limit+1)
		if err != nil {
			return fmt.Errorf("list accounts: %w", err)
		}
		rows, err := tx.Query(ctx, accountsByID, tenant, ids)
		found, err = page(rows, err, limit, "accounts", func(a AccountDetails) []string { return []string{a.ID} })
		return err
	})
	return found, err
}

const (
	taskColumns = `
SELECT t.task_id, t.account_id, t.title, t.assignee_id, t.status, t.source, nullif(t.role, ''), nullif(t.priority, ''),
       t.due_at, t.created_at, t.assigned_at, nullif(t.url, ''), t.revision`
	taskByID = taskColumns + `
FROM tasks t WHERE t.tenant_id = $1 AND t.task_id = $2`
	// By account first: no holding is empty, so as many of them as a page has tasks are enough, and the others aren't read.
	tasksOfAssignee = taskColumns + `
FROM (
  (SELECT account_id, key FROM holdings WHERE tenant_id = $1 AND assignee_id = $2 AND account_id = $4 AND ($3::text = '' OR account_id = $3))
  UNION ALL
  (SELECT account_id, key FROM holdings WHERE tenant_id = $1 AND assignee_id = $2 AND account_id > $4 AND ($3 = '' OR account_id = $3)
   ORDER BY account_id FETCH FIRST $6 ROWS WITH TIES)) h
CROSS JOIN LATERAL (
  SELECT * FROM open_tasks t WHERE t.tenant_id = $1 AND t.account_id = h.account_id AND t.holding = h.key OFFSET 0) t
WHERE (t.account_id, t.task_id) > ($4, $5)
ORDER BY t.account_id, t.task_id LIMIT $6`
	tasksOfAccount = taskColumns + `
FROM (
  (SELECT * FROM open_tasks t WHERE t.tenant_id = $1 AND t.account_id = $3 AND $6::text <> 'closed'
     AND ($2::text = '' OR t.assignee_id = $2) AND t.task_id > $4 OFFSET 0)
  UNION ALL
  (SELECT * FROM tasks t WHERE t.tenant_id = $1 AND t.account_id = $3 AND t.status IN ('completed', 'cancelled') AND $6 <> 'open'
     AND ($2 = '' OR t.assignee_id = $2) AND t.task_id > $4 OFFSET 0)) t
ORDER BY t.task_id LIMIT $5`
	tasksByID = taskColumns + `
FROM tasks t
WHERE t.tenant_id = $1 AND ($2::text = '' OR t.assignee_id = $2) AND t.task_id > $3
  AND ($5::text = 'all' OR ($5 = 'open') = (t.status IN ('open', 'in_progress')))
ORDER BY t.task_id LIMIT $4`
)

// Task returns one task, or [ErrNotFound].
func (r *Roster) Task(ctx context.Context, tenant, id string) (TaskDetails, error) {
	rows, err := r.pool.Query(ctx, taskByID, tenant, id)
	return one[TaskDetails](rows, err, "task", id)
}

// Tasks lists tasks by id; somebody's open ones by account, then id. Those are found at once, however many there are;
// somebody's closed ones only by going through all those of the tenant, or of the account.
func (r *Roster) Tasks(ctx context.Context, tenant string, q TaskQuery) (Page[TaskDetails], error) {
	status := cmp.Or(q.Status, "open")
	if !slices.Contains([]string{"open", "closed", "all"}, status) {
		return Page[TaskDetails]{}, invalid("status", "must be one of open, closed, all")
	}
	if q.AssigneeID != "" && status == "open" {
		return r.openTasksOf(ctx, tenant, q)
	}
	limit, after, err := q.open("tasks", 1)
	if err != nil {
		return Page[TaskDetails]{}, err
	}
	sql, args := tasksByID, []any{tenant, q.AssigneeID, after[0], limit + 1, status}
	if q.AccountID != "" {
		sql, args = tasksOfAccount, []any{tenant, q.AssigneeID, q.AccountID, after[0], limit + 1, status}
	}
	rows, err := r.pool.Query(ctx, sql, args...)
	return page(rows, err, limit, "tasks", func(t TaskDetails) []string { return []string{t.ID} })
}

func (r *Roster) openTasksOf(ctx context.Context, tenant string, q TaskQuery) (Page[TaskDetails], error) {
	const list = "open tasks of a user"
	limit, after, err := q.open(list, 2)
	if err != nil {
		return Page[TaskDetails]{}, err
	}
	rows, err := r.pool.Query(ctx, tasksOfAssignee, tenant, q.AssigneeID, q.AccountID, after[0], after[1], limit+1)
	return page(rows, err, limit, list, func(t TaskDetails) []string { return []string{t.AccountID, t.ID} })
}
