package operation

import (
	"context"
	"encoding/json"
	"time"
)

// Operation is what was asked for and how far it is.
type Operation struct {
	ID          string     `json:"id"`
	Kind        string     `json:"kind"`
	State       string     `json:"state"`
	InitiatedBy string     `json:"initiated_by"`
	AcceptedAt  time.Time  `json:"accepted_at"`
	FinishedAt  *time.Time `json:"finished_at"`
	Accounts    int64      `json:"accounts"`  // expanded so far
	Unchanged   int64      `json:"unchanged"` // of these, as asked already
	Changes     int64      `json:"changes"`   // role changes issued
	Applied     int64      `json:"applied"`   // of these, recorded
	Refused     int64      `json:"refused"`   // of these, dead letters
	TasksMoved  int64      `json:"tasks_moved"`
	Problem     *string    `json:"problem"`
}

// Notification is what a person is told in the product.
type Notification struct {
	ID          int64           `json:"id"`
	OperationID *string         `json:"operation_id"`
	Kind        string          `json:"kind"`
	Title       string          `json:"title"`
	Data        json.RawMessage `json:"data"`
	CreatedAt   time.Time       `json:"created_at"`
	ReadAt      *time.Time      `json:"read_at"`
}

// Get returns an operation of the tenant, or [roster.ErrNotFound].
func (o *Operations) Get(ctx context.Context, tenant, id string) (Operation, error) {
	return Operation{}, nil
}

// List returns the tenant's operations, the newest first, and the cursor of the next page: empty on the last. A cursor
// that isn't one of ours is an [*roster.Invalid].
func (o *Operations) List(ctx context.Context, tenant, cursor string, limit int) ([]Operation, string, error) {
	return nil, "", nil
}

// Notifications returns what a user has been told, the newest first; with unread only what they haven't read.
func (o *Operations) Notifications(ctx context.Context, tenant, user, cursor string, limit int, unread bool) ([]Notification, string, error) {
	return nil, "", nil
}

// MarkRead marks notifications of the user as read, all of them when no ids are given, and returns how many weren't.
// What isn't theirs is passed over.
func (o *Operations) MarkRead(ctx context.Context, tenant, user string, ids ...int64) (int64, error) {
	return 0, nil
}
