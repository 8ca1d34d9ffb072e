package operation

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// Filter stands in for roster.Filter until that is there.
type Filter struct{ All bool }

func matchAccounts(ctx context.Context, tx pgx.Tx, tenant string, f Filter, after string, limit int) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT account_id FROM accounts WHERE tenant_id = $1 AND account_id > $2 ORDER BY account_id LIMIT $3`, tenant, after, limit)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
