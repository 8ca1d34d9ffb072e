package operation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const recount = `
UPDATE operations o SET applied = r.recorded, refused = greatest(o.changes - r.recorded, 0)
FROM (SELECT i.id, (SELECT count(*) FROM role_changes c WHERE c.operation_id = i.id) AS recorded FROM unnest($1::text[]) AS i(id)) r
WHERE o.operation_id = r.id AND o.state = 'applying'`

// Recount counts again what became of the changes of operations that don't end though nothing of them is under way any
// more, by what is recorded, and ends them: what isn't recorded was refused. Their initiators are told.
func Recount(ctx context.Context, tx pgx.Tx, ids []string) error {
	if _, err := tx.Exec(ctx, lockOperations, ids); err != nil {
		return fmt.Errorf("lock operations: %w", err)
	}
	if _, err := tx.Exec(ctx, recount, ids); err != nil {
		return fmt.Errorf("count operations again: %w", err)
	}
	return finish(ctx, tx, ids)
}
