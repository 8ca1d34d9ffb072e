package operation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Applied is what one transaction of the reassigner did for one operation.
type Applied struct {
	OperationID string
	Applied     int // changes recorded
	Refused     int // changes that are dead letters now; less those that no longer are, having been tried again
	TasksMoved  int
}

const (
	// A statement of its own, in one order: an UPDATE locks in whatever order its plan finds the rows.
	lockOperations = `SELECT FROM operations WHERE operation_id = ANY($1) ORDER BY operation_id FOR NO KEY UPDATE`
	raiseCounters  = `
UPDATE operations o SET applied = o.applied + d.applied, refused = o.refused + d.refused, tasks_moved = o.tasks_moved + d.tasks_moved
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[]) AS d(operation_id, applied, refused, tasks_moved)
WHERE o.operation_id = d.operation_id`
)

// Progress counts what tx did for operations, and ends those that this completes: their initiators are told in the same
// commit. Call it last: it locks operations, which come after users and heads. What a finished operation still hands on
// later only counts; ids that are none of ours are passed over.
func Progress(ctx context.Context, tx pgx.Tx, done []Applied) error {
	if len(done) == 0 {
		return nil
	}
	// An UPDATE takes one row of what it joins, so several entries of one operation are added up.
	at := make(map[string]int, len(done))
	var ids []string
	var applied, refused, moved []int64
	for _, d := range done {
		i, seen := at[d.OperationID]
		if !seen {
			i = len(ids)
			at[d.OperationID] = i
			ids, applied, refused, moved = append(ids, d.OperationID), append(applied, 0), append(refused, 0), append(moved, 0)
		}
		applied[i] += int64(d.Applied)
		refused[i] += int64(d.Refused)
		moved[i] += int64(d.TasksMoved)
	}
	if _, err := tx.Exec(ctx, lockOperations, ids); err != nil {
		return fmt.Errorf("lock operations: %w", err)
	}
	if _, err := tx.Exec(ctx, raiseCounters, ids, applied, refused, moved); err != nil {
		return fmt.Errorf("count what operations did: %w", err)
	}
	return finish(ctx, tx, ids)
}
