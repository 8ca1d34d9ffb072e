package roster

import "context"

// AssignResult is what assigning a task did, or would do.
type AssignResult struct {
	OperationID string  `json:"operation_id,omitempty"` // empty for a dry run
	TaskID      string  `json:"task_id"`
	AccountID   string  `json:"account_id"`
	FromID      *string `json:"from_id"`
	ToID        *string `json:"to_id"`
	Revision    int64   `json:"revision"` // of the task, afterwards
	Moved       bool    `json:"moved"`    // false when the task was with that person already
}

// AssignTask assigns one task to somebody who is here, or to nobody (nil), on purpose and now: role changes that occurred
// before have no say any more. A dry run tells what it would do. It fails with [ErrNotFound] without the task, and with
// an [*Invalid] for somebody who is unknown or has left.
func (r *Roster) AssignTask(ctx context.Context, tenant, by, taskID string, assignee *string, dryRun bool) (AssignResult, error) {
	panic("not yet")
}
