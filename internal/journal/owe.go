package journal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	// Where they were put isn't where they are: such places go, so that what is known of the others stays true.
	oweLost = `
WITH lost AS (SELECT unnest($1::bigint[]) AS k), of AS (
  DELETE FROM outbox_published WHERE keys && $1 RETURNING key, stream, stream_created, keys, sequences, published_at
), kept AS (
  INSERT INTO outbox_published (stream, stream_created, last_sequence, keys, sequences, published_at)
  SELECT f.stream, f.stream_created, max(p.s), array_agg(p.k ORDER BY p.s), array_agg(p.s ORDER BY p.s), f.published_at
  FROM of f CROSS JOIN LATERAL unnest(f.keys, f.sequences) AS p(k, s)
  WHERE p.k NOT IN (SELECT k FROM lost) GROUP BY f.key, f.stream, f.stream_created, f.published_at
)
INSERT INTO outbox_owed (key) SELECT o.key FROM outbox o WHERE o.key IN (SELECT k FROM lost) ON CONFLICT DO NOTHING`
	repeatEntries = `
WITH again AS (
  INSERT INTO outbox (message_id, tenant_id, stream, subject, header, body)
  SELECT message_id || '.' || gen_random_uuid(), tenant_id, stream, subject, header, body FROM outbox WHERE key = ANY($1) ORDER BY key
  RETURNING key)
INSERT INTO outbox_owed (key) SELECT key FROM again`
)

// OweAgain has messages published again that a stream has lost, under their own ids, as part of tx; where they were put is
// forgotten. Keys are those of the outbox; what is gone there is passed over. It returns how many weren't owed already.
func OweAgain(ctx context.Context, tx pgx.Tx, keys []int64) (int64, error) {
	tag, err := tx.Exec(ctx, oweLost, keys)
	if err != nil {
		return 0, fmt.Errorf("outbox: owe again: %w", err)
	}
	return tag.RowsAffected(), nil
}

// Repeat publishes messages once more that are on their stream, for a reader that has missed them: under new ids, since the
// broker silently drops one that it has seen, as part of tx.
func Repeat(ctx context.Context, tx pgx.Tx, keys []int64) (int64, error) {
	tag, err := tx.Exec(ctx, repeatEntries, keys)
	if err != nil {
		return 0, fmt.Errorf("outbox: repeat: %w", err)
	}
	return tag.RowsAffected(), nil
}
