package roster

import (
	"context"
	"errors"
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
	OperationID   *string         `json:"operation_id"` // that set it with effect from the past
	// Who has put it out of force, and when, because the policy was set right with effect from before it; nil: nobody has.
	SupersededBy *string    `json:"superseded_by"`
	SupersededAt *time.Time `json:"superseded_at"`
}

const policyAt = `
SELECT coalesce(p.policy, 'keep_tasks'), p.effective_from, p.changed_by, p.changed_at, p.operation_id, NULL::text, NULL::timestamptz
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
	lastPolicy = `
SELECT policy, effective_from, changed_by, changed_at, operation_id, NULL::text, NULL::timestamptz
FROM policy_history WHERE tenant_id = $1 ORDER BY effective_from DESC LIMIT 1`
	addPolicy = `
INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by, operation_id) VALUES ($1, $2, $3, $4, $5)
RETURNING policy, effective_from, changed_by, changed_at, operation_id, NULL::text, NULL::timestamptz`
)

// SetPolicy sets the policy for everything that occurs from now on, and returns it with the time from which it counts.
// Changes that are recorded already though they lie ahead of that are judged anew, by an operation, which it names then.
// The policy that is in force already is left as it is. A value that is no policy is an [*Invalid]; without the tenant it
// fails with [ErrNotFound].
func (r *Roster) SetPolicy(ctx context.Context, tenant, by string, policy handover.Policy, dryRun bool) (PolicyEntry, error) {
	if _, err := handover.ParsePolicy(string(policy)); err != nil {
		return PolicyEntry{}, invalid("tasks", "%v", err)
	}
	var set PolicyEntry
	err := r.write(ctx, dryRun, func(ctx context.Context, tx pgx.Tx) ([]journal.Entry, error) {
		if err := lockPolicy(ctx, tx, tenant); err != nil {
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
		ahead, err := r.judgeAhead(ctx, tx, Correction{TenantID: tenant, OperationID: newID(), By: by, Policy: policy, From: now, TakeBack: true})
		if err != nil {
			return nil, err
		}
		rows, err = tx.Query(ctx, addPolicy, tenant, now, policy, by, ahead)
		set, err = one[PolicyEntry](rows, err, "tenant", tenant)
		return nil, err
	})
	return set, err
}

const recordJudgingAhead = `
INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state)
VALUES ($1, $2, 'policy_corrected', $3, $4, $5, 'expanding')`

// judgeAhead has changes judged anew that are recorded already though they lie ahead of the clock, and so of the policy
// that is being set: by an operation like that of a policy set right with effect from the past, whose id it returns. There
// are hardly ever any, so that nil is the rule.
func (r *Roster) judgeAhead(ctx context.Context, tx pgx.Tx, c Correction) (*string, error) {
	ahead, err := c.Accounts(ctx, tx, "", 1)
	if err != nil || len(ahead) == 0 {
		return nil, err
	}
	request := map[string]any{"policy": c.Policy, "effective_from": c.From, "take_back": c.TakeBack, "reason": "policy_corrected"}
	_, err = tx.Exec(ctx, recordJudgingAhead, c.OperationID, c.TenantID, c.By, c.From, request)
	return &c.OperationID, err
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

const (
	// HoldPolicies keeps policies of tenants from being set until the end of the transaction. Whoever judges changes, and
	// records that, holds them first: in a statement of its own, since only the next one sees what was waited for.
	HoldPolicies = `SELECT pg_advisory_xact_lock_shared(hashtextextended('handover.policy.' || tenant_id, 0)) FROM unnest($1::text[]) AS t(tenant_id)`
	takePolicy   = `SELECT pg_advisory_xact_lock(hashtextextended('handover.policy.' || $1, 0))`
)

// lockPolicy lets tx alone set the tenant's policy: it waits for whoever sets it, and for whoever judges by it. So each
// change is either recorded, and can be found, before the policy is set, or judged by what is set.
func lockPolicy(ctx context.Context, tx pgx.Tx, tenant string) error {
	if err := waitForTenant(ctx, tx, tenant); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, takePolicy, tenant)
	return err
}

const policyHistory = `
SELECT * FROM (
  (SELECT policy, effective_from, changed_by, changed_at, operation_id, NULL::text AS superseded_by, NULL::timestamptz AS superseded_at
   FROM policy_history WHERE tenant_id = $1 AND (effective_from, changed_at) < ($2, $3) ORDER BY effective_from DESC, changed_at DESC LIMIT $4)
  UNION ALL
  (SELECT policy, effective_from, changed_by, changed_at, operation_id, superseded_by, superseded_at
   FROM policies_superseded WHERE tenant_id = $1 AND (effective_from, changed_at) < ($2, $3) ORDER BY effective_from DESC, changed_at DESC LIMIT $4)
) h ORDER BY effective_from DESC, changed_at DESC LIMIT $4`

// PolicyHistory lists the tenant's policies by when they are or were to count from, the newest first; also those that are
// out of force because the policy was set right.
func (r *Roster) PolicyHistory(ctx context.Context, tenant string, q PageQuery) (Page[PolicyEntry], error) {
	limit, after, err := q.open("policies", 2)
	if err != nil {
		return Page[PolicyEntry]{}, err
	}
	before, err := after.time(0)
	changed, changedErr := after.time(1)
	if err := errors.Join(err, changedErr); err != nil {
		return Page[PolicyEntry]{}, err
	}
	rows, err := r.pool.Query(ctx, policyHistory, tenant, before, changed, limit+1)
	return page(rows, err, limit, "policies", func(e PolicyEntry) []string {
		return []string{cursorTime(*e.EffectiveFrom), cursorTime(*e.ChangedAt)}
	})
}
