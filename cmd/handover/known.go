package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	knownTenant = `SELECT EXISTS (SELECT FROM tenants WHERE tenant_id = $1) OR $2 AND EXISTS (SELECT FROM dead_letters WHERE tenant_id = $1)`
	// Of all tenants when none is named.
	knownAccount = `
SELECT EXISTS (
  SELECT FROM tenants t
  WHERE (coalesce(cardinality($1::text[]), 0) = 0 OR t.tenant_id = ANY($1)) AND (
    EXISTS (SELECT FROM accounts a WHERE a.tenant_id = t.tenant_id AND a.account_id = $2)
    OR EXISTS (SELECT FROM account_heads h WHERE h.tenant_id = t.tenant_id AND h.account_id = $2)
    OR EXISTS (SELECT FROM role_changes c WHERE c.tenant_id = t.tenant_id AND c.account_id = $2)
    OR EXISTS (SELECT FROM tasks k WHERE k.tenant_id = t.tenant_id AND k.account_id = $2)))`
)

// naming is what a command line names by id: a typo there would look as if all were well.
type naming struct {
	tenants  []string
	accounts []string
	letters  bool // dead letters keep the name of a tenant that never was
}

func nameOf(tenant, account string) (n naming) {
	if tenant != "" {
		n.tenants = []string{tenant}
	}
	if account != "" {
		n.accounts = []string{account}
	}
	return n
}

// check refuses a tenant that there is not, and an account of which nothing is known: no account, no change, no task. The
// error is one of the command line. Unless is asked of such an account whether something else knows it; nil: nothing does.
func (n naming) check(ctx context.Context, pool *pgxpool.Pool, unless func(account string) (bool, error)) error {
	for _, tenant := range n.tenants {
		known := false
		if err := pool.QueryRow(ctx, knownTenant, tenant, n.letters).Scan(&known); err != nil {
			return failed(fmt.Errorf("database: %w", err))
		}
		if !known {
			return fmt.Errorf("--tenant: there is no tenant %q", tenant)
		}
	}
	for _, account := range n.accounts {
		known := false
		err := pool.QueryRow(ctx, knownAccount, n.tenants, account).Scan(&known)
		if err == nil && !known && unless != nil {
			known, err = unless(account)
		}
		if err != nil {
			return failed(fmt.Errorf("--account %q: %w", account, err))
		}
		if !known {
			return fmt.Errorf("--account: nothing is known of an account %q", account)
		}
	}
	return nil
}
