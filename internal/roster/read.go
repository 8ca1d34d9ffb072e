package roster

import (
	"context"
	"encoding/json"
	"time"
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
	// LeftBehind: those who have left without a successor and still hold roles or open tasks.
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

// User returns one user, or [ErrNotFound].
func (r *Roster) User(ctx context.Context, tenant, id string) (UserDetails, error) {
	panic("not yet")
}

// Users lists users by id.
func (r *Roster) Users(ctx context.Context, tenant string, q UserQuery) (Page[UserDetails], error) {
	panic("not yet")
}

// Account returns one account, or [ErrNotFound].
func (r *Roster) Account(ctx context.Context, tenant, id string) (AccountDetails, error) {
	panic("not yet")
}

// Accounts lists accounts by id.
func (r *Roster) Accounts(ctx context.Context, tenant string, q AccountQuery) (Page[AccountDetails], error) {
	panic("not yet")
}

// Task returns one task, or [ErrNotFound].
func (r *Roster) Task(ctx context.Context, tenant, id string) (TaskDetails, error) {
	panic("not yet")
}

// Tasks lists tasks by id. Somebody's open tasks are found at once, however many tasks there are; somebody's closed ones
// only by going through all those of the tenant, or of the account.
func (r *Roster) Tasks(ctx context.Context, tenant string, q TaskQuery) (Page[TaskDetails], error) {
	panic("not yet")
}
