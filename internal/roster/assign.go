package roster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

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
	to := handover.Nobody
	if assignee != nil {
		if to = *assignee; event.CheckID(to) != "" {
			return AssignResult{}, invalid("assignee_id", "%s; null means nobody", event.CheckID(to))
		}
	}
	var result AssignResult
	err := r.write(ctx, dryRun, func(ctx context.Context, tx pgx.Tx) ([]journal.Entry, error) {
		s := taskSync{tx: tx, tenant: tenant, by: by}
		c, err := s.assign(ctx, taskID, to)
		if err != nil {
			return nil, err
		}
		result = AssignResult{
			TaskID: taskID, AccountID: c.now.AccountID, FromID: orNull(c.was.Assignee), ToID: assignee,
			Revision: c.now.Revision, Moved: c.now.Revision != c.was.Revision,
		}
		if dryRun {
			return nil, nil
		}
		result.OperationID = newID()
		if err := s.recordOperation(ctx, result); err != nil {
			return nil, err
		}
		return s.write(ctx, []*taskChange{&c})
	})
	if err != nil {
		var problem *Invalid
		if errors.As(err, &problem) || errors.Is(err, ErrNotFound) {
			return AssignResult{}, err
		}
		return AssignResult{}, fmt.Errorf("assign task %s: %w", taskID, err)
	}
	return result, nil
}

// assign decides what assigning a task does, under the locks that it takes.
func (s *taskSync) assign(ctx context.Context, id, to string) (taskChange, error) {
	before, err := s.readTasks(ctx, []string{id})
	if err != nil {
		return taskChange{}, err
	}
	if _, known := before[id]; !known {
		return taskChange{}, fmt.Errorf("task %s: %w", id, ErrNotFound)
	}
	if s.people, err = readPeople(ctx, s.tx, s.tenant, map[string]bool{to: true}); err != nil {
		return taskChange{}, err
	}
	switch p, known := s.people[to]; {
	case to == handover.Nobody:
	case !known:
		return taskChange{}, invalid("assignee_id", "there is no user %q; sync the user first", to)
	case p.leftAt != nil:
		return taskChange{}, invalid("assignee_id", "%q had left by %s; name somebody who is here", to, p.leftAt.UTC().Format(time.RFC3339))
	}
	account := before[id].AccountID
	if err := s.lockHeads(ctx, map[string]bool{account: true}); err != nil {
		return taskChange{}, err
	}
	after, err := s.readTasks(ctx, []string{id})
	if err != nil {
		return taskChange{}, err
	}
	was := after[id]
	if was.AccountID != account {
		return taskChange{}, errChanged
	}
	c := taskChange{was: *was, now: *was, known: true, assigned: true, reason: event.ByAssigned}
	c.now.Base, c.now.Assignee = handover.AssignedNow(to, s.now(account)), to
	s.settle(&c)
	return c, nil
}

const recordAssignment = `
INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state, accounts, unchanged, tasks_moved, finished_at)
VALUES ($1, $2, 'task_assigned', $3, $4, $5, 'done', 1, $6, $7, clock_timestamp())`

func (s *taskSync) recordOperation(ctx context.Context, a AssignResult) error {
	moved := 0
	if a.Moved {
		moved = 1
	}
	request := map[string]any{"account_id": a.AccountID, "task_id": a.TaskID, "owner_id": a.ToID, "reason": event.ByAssigned}
	_, err := s.tx.Exec(ctx, recordAssignment, a.OperationID, s.tenant, s.by, s.clock, request, 1-moved, moved)
	return err
}
