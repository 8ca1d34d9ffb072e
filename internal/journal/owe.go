package journal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// OweAgain has rows of the outbox published again, under their own ids, as part of tx: messages that a stream has lost, or
// that a reader is to have once more. Rows that are gone are passed over. It returns how many weren't owed before.
func OweAgain(ctx context.Context, tx pgx.Tx, keys []int64) (int64, error) {
	tag, err := tx.Exec(ctx, `INSERT INTO outbox_owed (key) SELECT key FROM outbox WHERE key = ANY($1) ON CONFLICT DO NOTHING`, keys)
	if err != nil {
		return 0, fmt.Errorf("outbox: owe again: %w", err)
	}
	return tag.RowsAffected(), nil
}
