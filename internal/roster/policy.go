package roster

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
)

// PolicyEntry is a tenant's policy from one time on.
type PolicyEntry struct {
	Tasks         handover.Policy `json:"tasks"`
	EffectiveFrom *time.Time      `json:"effective_from"` // nil: since ever, because none was ever set
	ChangedBy     *string         `json:"changed_by"`
	ChangedAt     *time.Time      `json:"changed_at"`
}

const policyAt = `
SELECT coalesce(p.policy, 'keep_tasks'), p.effective_from, p.changed_by, p.changed_at
FROM tenants t LEFT JOIN LATERAL (
  SELECT * FROM policy_history p WHERE p.tenant_id = t.tenant_id AND p.effective_from <= $2 ORDER BY p.effective_from DESC LIMIT 1) p ON true
WHERE t.tenant_id = $1`

// Policy is the tenant's policy in force at a time. It fails with [ErrNotFound] without the tenant.
func (r *Roster) Policy(ctx context.Context, tenant string, at time.Time) (PolicyEntry, error) {
	rows, err := r.pool.Query(ctx, policyAt, tenant, at)
	return one[PolicyEntry](rows, err, "tenant", tenant)
}

const (
	// Whoever sets the policy waits for whoever is setting it.
	lockTenant = `SELECT true FROM tenants WHERE tenant_id = $1 FOR NO KEY UPDATE`
	lastPolicy = `SELECT policy, effective_from, changed_by, changed_at FROM policy_history WHERE tenant_id = $1 ORDER BY effective_from DESC LIMIT 1`
	addPolicy  = `
INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by) VALUES ($1, $2, $3, $4)
RETURNING policy, effective_from, changed_by, changed_at`
)

// SetPolicy sets the policy for everything that occurs from now on, and returns it with the time from which it counts.
// The policy that is in force already is left as it is. A value that is no policy is an [*Invalid]; without the tenant it
// fails with [ErrNotFound].
func (r *Roster) SetPolicy(ctx context.Context, tenant, by string, policy handover.Policy, dryRun bool) (PolicyEntry, error) {
	if _, err := handover.ParsePolicy(string(policy)); err != nil {
		return PolicyEntry{}, invalid("tasks", "%v", err)
	}
	var set PolicyEntry
	err := r.write(ctx, dryRun, func(ctx context.Context, tx pgx.Tx) ([]journal.Entry, error) {
		if err := waitForTenant(ctx, tx, tenant); err != nil {
			return nil, err
		}
		rows, err := tx.Query(ctx, lastPolicy, tenant)
		if err != nil {
			return nil, err
		}
		entries, err := pgx.CollectRows(rows, pgx.RowToStructByPos[PolicyEntry])
		if err != nil {
			return nil, err
		}
		last := PolicyEntry{Tasks: handover.KeepTasks}
		if len(entries) == 1 {
			last = entries[0]
		}
		if set = last; last.Tasks == policy {
			return nil, nil
		}
		var now time.Time
		if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
			return nil, err
		}
		if last.EffectiveFrom != nil {
			now = handover.Next(now, *last.EffectiveFrom)
		}
		rows, err = tx.Query(ctx, addPolicy, tenant, now, policy, by)
		set, err = one[PolicyEntry](rows, err, "tenant", tenant)
		return nil, err
	})
	return set, err
}

// waitForTenant keeps the tenant's policy, roles and settings from being changed by others until the end of tx.
func waitForTenant(ctx context.Context, tx pgx.Tx, tenant string) error {
	var found bool
	err := tx.QueryRow(ctx, lockTenant, tenant).Scan(&found)
	if err == pgx.ErrNoRows {
		err = fmt.Errorf("tenant %s: %w", tenant, ErrNotFound)
	}
	return err
}

const policyHistory = `
SELECT policy, effective_from, changed_by, changed_at FROM policy_history
WHERE tenant_id = $1 AND effective_from < $2 ORDER BY effective_from DESC LIMIT $3`

// PolicyHistory lists the tenant's policies, the newest first.
func (r *Roster) PolicyHistory(ctx context.Context, tenant string, q PageQuery) (Page[PolicyEntry], error) {
	limit, after, err := q.open("policies", 1)
	if err != nil {
		return Page[PolicyEntry]{}, err
	}
	before, err := after.time(0)
	if err != nil {
		return Page[PolicyEntry]{}, err
	}
	rows, err := r.pool.Query(ctx, policyHistory, tenant, before, limit+1)
	return page(rows, err, limit, "policies", func(e PolicyEntry) []string { return []string{cursorTime(*e.EffectiveFrom)} })
}
