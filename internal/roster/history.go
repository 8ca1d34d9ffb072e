package roster

import (
	"context"
	"time"

	"handover.io/internal/handover"
)

// RoleChanged is a role change as the history tells it.
type RoleChanged struct {
	Source      string          `json:"source"`
	ID          string          `json:"id"`
	Role        *string         `json:"role"`    // nil: only a person's tasks moved
	FromID      *string         `json:"from_id"` // as it was told; nil: the last person who held the role
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

// TaskHistory lists who had the task, when and why, the newest first. It fails with [ErrNotFound] without the task.
func (r *Roster) TaskHistory(ctx context.Context, tenant, task string, q PageQuery) (Page[TaskMoved], error) {
	panic("not yet")
}

// AccountHistory lists the role changes and moves of an account, the newest first. It fails with [ErrNotFound] without
// the account.
func (r *Roster) AccountHistory(ctx context.Context, tenant, account string, q PageQuery) (Page[AccountEvent], error) {
	panic("not yet")
}
