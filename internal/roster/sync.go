package roster

import "context"

// Outcome is what became of a row.
type Outcome string

// The outcomes of a row that was taken.
const (
	Created   Outcome = "created"
	Updated   Outcome = "updated"
	Unchanged Outcome = "unchanged"
)

// RowResult is what became of one row: an outcome, or a problem for which nothing of the row was taken.
type RowResult struct {
	ID      string
	Outcome Outcome  // empty when there is a problem
	Problem *Invalid // nil when the row was taken
}

// MaxSyncRows is how many rows one call of a sync takes; more are an error of the caller.
const MaxSyncRows = 2000

// SyncUsers takes what upstream says of users: all rows in one transaction, each with its own result, in the order of
// the rows. A row without its id, or with one that can't be, is a problem of that row. By is the user who sent them.
//
// A status of disabled or deleted that differs from what upstream said before is a departure without successor. Role
// changes that were waiting for a user who becomes known are delivered again.
func (r *Roster) SyncUsers(ctx context.Context, tenant, by string, rows []UserSaid) ([]RowResult, error) {
	panic("not yet")
}

// SyncAccounts takes what upstream says of accounts, as [Roster.SyncUsers] does of users. An owner that differs from what
// upstream said before becomes a role change: a single row's on the live lane, those of many on the bulk lane.
func (r *Roster) SyncAccounts(ctx context.Context, tenant, by string, rows []AccountSaid) ([]RowResult, error) {
	panic("not yet")
}

// SyncTasks takes what upstream says of tasks, as [Roster.SyncUsers] does of users. Their accounts and assignees must be
// known.
func (r *Roster) SyncTasks(ctx context.Context, tenant, by string, rows []TaskSaid) ([]RowResult, error) {
	panic("not yet")
}

// DecodeUser reads one user as JSON. The error is an [*Invalid] that names the field and the remedy.
func DecodeUser(row []byte) (UserSaid, error) { panic("not yet") }

// DecodeAccount reads one account as JSON. The error is an [*Invalid] that names the field and the remedy.
func DecodeAccount(row []byte) (AccountSaid, error) { panic("not yet") }

// DecodeTask reads one task as JSON. The error is an [*Invalid] that names the field and the remedy.
func DecodeTask(row []byte) (TaskSaid, error) { panic("not yet") }
