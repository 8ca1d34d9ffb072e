package roster

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

// What the reassigner will record of the changes, judged by the policy in force. Nothing looks for them by their digests
// before they are rolled back.
const recordIssued = `
INSERT INTO role_changes (digest, content, tenant_id, account_id, role, to_id, occurred_at, source, id, policy, reason, initiated_by)
SELECT gen_random_uuid(), gen_random_uuid(), $1, n.account_id, n.role, n.to_id, n.occurred_at, $2, n.id, coalesce(p.policy, 'keep_tasks'), $3, $4
FROM unnest($5::text[], $6::text[], $7::text[], $8::text[], $9::timestamptz[]) AS n(id, account_id, role, to_id, occurred_at)
LEFT JOIN LATERAL (
  SELECT policy FROM policy_history p WHERE p.tenant_id = $1 AND p.effective_from <= n.occurred_at
  ORDER BY p.effective_from DESC LIMIT 1) p ON true
RETURNING key`

// foresee records the changes that a dry run issues, so that folding their accounts tells which tasks they will move. It
// returns their keys.
func (s *accountSync) foresee(ctx context.Context, issued []roleNews) (map[int64]bool, error) {
	if len(issued) == 0 {
		return nil, nil
	}
	rows, err := s.tx.Query(ctx, recordIssued, s.tenant, event.SourceHandover, event.ByAPI, s.by,
		column(issued, func(roleNews) string { return newID() }),
		column(issued, func(n roleNews) string { return n.account }), column(issued, func(n roleNews) string { return n.role }),
		column(issued, func(n roleNews) *string { return orNull(n.latest) }), column(issued, func(n roleNews) time.Time { return *n.issued }))
	if err != nil {
		return nil, err
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	fresh := make(map[int64]bool, len(keys))
	for _, key := range keys {
		fresh[key] = true
	}
	return fresh, err
}
