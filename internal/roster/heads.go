package roster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
)

// Account names an account of a tenant.
type Account struct{ TenantID, AccountID string }

// Heads are the locked heads of some accounts, and the database clock after the locks were had.
type Heads struct {
	Clock time.Time
	seen  map[Account]time.Time
}

// Now is the time of something that happens now on the account: past everything it has seen or been issued.
func (h Heads) Now(a Account) time.Time { return handover.Next(h.Clock, h.seen[a]) }

const (
	// Both statements go through the accounts in one order, which is what keeps concurrent writers from deadlocking.
	createHeads = `
INSERT INTO account_heads (tenant_id, account_id)
SELECT tenant_id, account_id FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS a(tenant_id, account_id, n) ORDER BY n
ON CONFLICT DO NOTHING`
	lockHeads = `
SELECT h.tenant_id, h.account_id, greatest(h.newest_at, h.issued_at)
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
JOIN account_heads h ON h.tenant_id = a.tenant_id AND h.account_id = a.account_id
ORDER BY h.tenant_id, h.account_id
FOR UPDATE OF h`
)

// LockHeads locks the heads of the accounts until the end of tx, creating those that are absent. Repeats don't matter.
func LockHeads(ctx context.Context, tx pgx.Tx, accounts []Account) (Heads, error) {
	tenants, ids := columns(sorted(accounts))
	if _, err := tx.Exec(ctx, createHeads, tenants, ids); err != nil {
		return Heads{}, fmt.Errorf("create account heads: %w", err)
	}
	rows, err := tx.Query(ctx, lockHeads, tenants, ids)
	if err != nil {
		return Heads{}, fmt.Errorf("lock account heads: %w", err)
	}
	heads := Heads{seen: make(map[Account]time.Time, len(ids))}
	var a Account
	var seen maybeInfinite
	if _, err := pgx.ForEachRow(rows, []any{&a.TenantID, &a.AccountID, &seen}, func() error {
		heads.seen[a] = seen.Time
		return nil
	}); err != nil {
		return Heads{}, fmt.Errorf("lock account heads: %w", err)
	}
	heads.Clock, err = readClock(ctx, tx)
	return heads, err
}

func readClock(ctx context.Context, tx pgx.Tx) (now time.Time, err error) {
	err = tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now)
	return now, err
}

func sorted(accounts []Account) []Account {
	out := slices.Clone(accounts)
	slices.SortFunc(out, CompareAccounts)
	return slices.Compact(out)
}

// CompareAccounts orders accounts as their heads are locked: bytewise by tenant and id.
func CompareAccounts(a, b Account) int {
	return cmp.Or(cmp.Compare(a.TenantID, b.TenantID), cmp.Compare(a.AccountID, b.AccountID))
}

func columns(accounts []Account) (tenants, ids []string) {
	tenants, ids = make([]string, len(accounts)), make([]string, len(accounts))
	for i, a := range accounts {
		tenants[i], ids[i] = a.TenantID, a.AccountID
	}
	return tenants, ids
}
