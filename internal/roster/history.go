package roster

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
)

// RoleChanged is a role change as the history tells it.
type RoleChanged struct {
	Source      string          `json:"source"`
	ID          string          `json:"id"`
	Role        *string         `json:"role"`    // nil: only a person's tasks moved
	FromID      *string         `json:"from_id"` // nil: nobody had held the role
	Implied     bool            `json:"implied"` // FromID wasn't told: it is the last person who held the role before
	ToID        *string         `json:"to_id"`
	OccurredAt  time.Time       `json:"occurred_at"`
	Policy      handover.Policy `json:"policy"`
	Reason      string          `json:"reason"`
	InitiatedBy string          `json:"initiated_by"`
	OperationID *string         `json:"operation_id"`
}

// TaskMoved is one move of a task.
type TaskMoved struct {
	At         time.Time    `json:"at"`
	Revision   int64        `json:"revision"`
	AccountID  string       `json:"account_id"` // on which it was then
	FromID     *string      `json:"from_id"`
	ToID       *string      `json:"to_id"`
	Reason     string       `json:"reason"` // of the role change; else assigned or synced
	By         string       `json:"by"`
	Correction bool         `json:"correction"`
	RoleChange *RoleChanged `json:"role_change"` // nil when somebody chose the assignee
}

// AccountEvent is one thing that happened on an account: a role change, or a move of tasks.
type AccountEvent struct {
	At         time.Time     `json:"at"`   // a role change: when it occurred; a move: when the tasks were moved
	Kind       string        `json:"kind"` // role_change or move
	RoleChange *RoleChanged  `json:"role_change,omitempty"`
	Move       *AccountMoved `json:"move,omitempty"`

	order int   // of kinds at one time
	key   int64 // of the row
}

// AccountMoved is tasks of an account that moved together.
type AccountMoved struct {
	FromID     *string  `json:"from_id"`
	ToID       *string  `json:"to_id"`
	Reason     string   `json:"reason"`
	By         string   `json:"by"`
	Correction bool     `json:"correction"`
	TaskIDs    []string `json:"task_ids"`
}

const (
	changeColumns = `
       c.source, c.id, nullif(c.role, ''), c.from_id, c.to_id, c.occurred_at, c.policy, c.reason, c.initiated_by, c.operation_id`
	// A task's moves are found through its account, and those it was on before.
	taskHistory = `
SELECT m.moved_at, m.revision, m.account_id, m.from_id, m.to_id, m.reason, m.moved_by, m.correction,` + changeColumns + `
FROM (
  SELECT account_id FROM tasks WHERE tenant_id = $1 AND task_id = $2
  UNION SELECT account_id FROM former_accounts WHERE tenant_id = $1 AND task_id = $2) a
CROSS JOIN LATERAL (
  SELECT m.*, m.revisions[array_position(m.task_ids, $2::text COLLATE "C")] AS revision FROM moves m
  WHERE m.tenant_id = $1 AND m.account_id = a.account_id AND m.task_ids @> ARRAY[$2::text COLLATE "C"]) m
LEFT JOIN role_changes c ON c.key = m.change_key
WHERE m.revision < $3
ORDER BY m.revision DESC LIMIT $4`
	taskExists = `SELECT EXISTS (SELECT FROM tasks WHERE tenant_id = $1 AND task_id = $2)`
)

// changed scans the columns of a role change that may be absent.
type changed struct {
	Source, ID, Role, From, To       *string
	OccurredAt                       *time.Time
	Policy                           *handover.Policy
	Reason, InitiatedBy, OperationID *string
}

func (c changed) tell() *RoleChanged {
	if c.Source == nil {
		return nil
	}
	return &RoleChanged{
		Source: *c.Source, ID: *c.ID, Role: c.Role, FromID: c.From, ToID: c.To, OccurredAt: *c.OccurredAt, Policy: *c.Policy,
		Reason: *c.Reason, InitiatedBy: *c.InitiatedBy, OperationID: c.OperationID,
	}
}

func (c *changed) columns() []any {
	return []any{&c.Source, &c.ID, &c.Role, &c.From, &c.To, &c.OccurredAt, &c.Policy, &c.Reason, &c.InitiatedBy, &c.OperationID}
}

// TaskHistory lists who had the task, when and why, the newest first. It fails with [ErrNotFound] without the task.
func (r *Roster) TaskHistory(ctx context.Context, tenant, task string, q PageQuery) (Page[TaskMoved], error) {
	limit, after, err := q.open("task history", 1)
	if err != nil {
		return Page[TaskMoved]{}, err
	}
	before, err := after.number(0, math.MaxInt64)
	if err != nil {
		return Page[TaskMoved]{}, err
	}
	if err := r.exists(ctx, taskExists, "task", tenant, task); err != nil {
		return Page[TaskMoved]{}, err
	}
	rows, err := r.pool.Query(ctx, taskHistory, tenant, task, before, limit+1)
	found, err := pageBy(rows, err, limit, "task history", func(row pgx.CollectableRow) (TaskMoved, error) {
		var m TaskMoved
		var c changed
		err := row.Scan(append([]any{&m.At, &m.Revision, &m.AccountID, &m.FromID, &m.ToID, &m.Reason, &m.By, &m.Correction}, c.columns()...)...)
		m.RoleChange = c.tell()
		return m, err
	}, func(m TaskMoved) []string { return []string{cursorNumber(m.Revision)} })
	if err != nil {
		return found, err
	}
	implied := map[Account][]*RoleChanged{}
	for _, m := range found.Items {
		if m.RoleChange != nil {
			a := Account{tenant, m.AccountID}
			implied[a] = append(implied[a], m.RoleChange)
		}
	}
	return found, r.resolve(ctx, implied)
}

const (
	// Role changes and moves of one time: the changes are the older ones.
	accountHistory = `
SELECT * FROM (
  (SELECT c.occurred_at AS at, 1 AS kind, c.key,` + changeColumns + `,
          NULL::text AS m_from, NULL::text AS m_to, NULL::text AS m_reason, NULL::text AS m_by, false AS correction, NULL::text[] AS task_ids
   FROM role_changes c WHERE c.tenant_id = $1 AND c.account_id = $2 AND (c.occurred_at, 1, c.key) < ($3, $4::int, $5::bigint)
   ORDER BY c.occurred_at DESC, c.key DESC LIMIT $6)
  UNION ALL
  (SELECT m.moved_at, 2, m.key, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
          m.from_id, m.to_id, m.reason, m.moved_by, m.correction, m.task_ids
   FROM moves m WHERE m.tenant_id = $1 AND m.account_id = $2 AND (m.moved_at, 2, m.key) < ($3, $4::int, $5::bigint)
   ORDER BY m.moved_at DESC, m.key DESC LIMIT $6)
) h ORDER BY at DESC, kind DESC, key DESC LIMIT $6`
	accountExists = `SELECT EXISTS (SELECT FROM accounts WHERE tenant_id = $1 AND account_id = $2)`
)

// AccountHistory lists the role changes and moves of an account, the newest first. It fails with [ErrNotFound] without
// the account.
func (r *Roster) AccountHistory(ctx context.Context, tenant, account string, q PageQuery) (Page[AccountEvent], error) {
	limit, after, err := q.open("account history", 3)
	if err != nil {
		return Page[AccountEvent]{}, err
	}
	at, err := after.time(0)
	kind, kindErr := after.number(1, 3)
	key, keyErr := after.number(2, 0)
	if err := errors.Join(err, kindErr, keyErr); err != nil || kind < 1 || kind > 3 {
		return Page[AccountEvent]{}, badCursor()
	}
	if err := r.exists(ctx, accountExists, "account", tenant, account); err != nil {
		return Page[AccountEvent]{}, err
	}
	rows, err := r.pool.Query(ctx, accountHistory, tenant, account, at, kind, key, limit+1)
	found, err := pageBy(rows, err, limit, "account history", scanAccountEvent, func(e AccountEvent) []string {
		return []string{cursorTime(e.At), cursorNumber(int64(e.order)), cursorNumber(e.key)}
	})
	if err != nil {
		return found, err
	}
	implied := map[Account][]*RoleChanged{}
	for _, e := range found.Items {
		if e.RoleChange != nil {
			a := Account{tenant, account}
			implied[a] = append(implied[a], e.RoleChange)
		}
	}
	return found, r.resolve(ctx, implied)
}

// resolve fills in who had the role where a change doesn't tell: as the fold finds it by what is known now, since a late
// change may still say otherwise.
func (r *Roster) resolve(ctx context.Context, told map[Account][]*RoleChanged) error {
	for a, changes := range told {
		changes = slices.DeleteFunc(changes, func(c *RoleChanged) bool { return c.FromID != nil || c.Role == nil })
		if len(changes) == 0 {
			continue
		}
		f := fold{tenants: []string{a.TenantID}, ids: []string{a.AccountID}, known: map[Account]*knownAccount{}}
		err := pgx.BeginFunc(ctx, r.pool, func(tx pgx.Tx) error {
			f.tx = tx
			return errors.Join(f.readChanges(ctx), f.readFirstOwners(ctx))
		})
		if err != nil {
			return fmt.Errorf("who had the roles of account %s: %w", a.AccountID, err)
		}
		from := map[[2]string]string{}
		for _, c := range f.account(a).Fold().Changes() {
			from[[2]string{c.Source, c.ID}] = c.From
		}
		for _, c := range changes {
			if who := from[[2]string{c.Source, c.ID}]; who != handover.Nobody {
				c.FromID, c.Implied = &who, true
			}
		}
	}
	return nil
}

func scanAccountEvent(row pgx.CollectableRow) (AccountEvent, error) {
	var e AccountEvent
	var c changed
	var from, to, reason, by *string
	var correction bool
	var tasks []string
	err := row.Scan(append(append([]any{&e.At, &e.order, &e.key}, c.columns()...), &from, &to, &reason, &by, &correction, &tasks)...)
	if err != nil {
		return e, err
	}
	if e.Kind, e.RoleChange = "role_change", c.tell(); e.RoleChange == nil {
		e.Kind, e.Move = "move", &AccountMoved{FromID: from, ToID: to, Reason: *reason, By: *by, Correction: correction, TaskIDs: tasks}
	}
	return e, nil
}

func (r *Roster) exists(ctx context.Context, sql, what, tenant, id string) error {
	var exists bool
	err := r.pool.QueryRow(ctx, sql, tenant, id).Scan(&exists)
	if err == nil && !exists {
		err = ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", what, id, err)
	}
	return nil
}
