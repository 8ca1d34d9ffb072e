package roster

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
)

// Correction is a tenant's policy set right with effect from the past: in force from a time on, whatever was set for later.
type Correction struct {
	TenantID    string
	OperationID string
	By          string // the user who sets it right, and so causes the moves that come of it
	Policy      handover.Policy
	From        time.Time
	// TakeBack takes tasks from who should, by the policy set right, never have had them. Otherwise they stay with them, as
	// if they had been assigned to them now.
	TakeBack bool
}

const policiesInForce = `SELECT effective_from, policy FROM policy_history WHERE tenant_id = $1 ORDER BY effective_from`

// policies are the tenant's that are in force.
func (c Correction) policies(ctx context.Context, tx pgx.Tx) ([]handover.PolicyEntry, error) {
	rows, err := tx.Query(ctx, policiesInForce, c.TenantID)
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	var history []handover.PolicyEntry
	var from maybeInfinite
	var policy handover.Policy
	_, err = pgx.ForEachRow(rows, []any{&from, &policy}, func() error {
		history = append(history, handover.PolicyEntry{EffectiveFrom: from.Time, Policy: policy})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the policies: %w", err)
	}
	return history, nil
}

// SetRight are the tenant's policies as they will be in force, and whether they differ from now.
func (c Correction) SetRight(ctx context.Context, tx pgx.Tx) (right []handover.PolicyEntry, differs bool, err error) {
	history, err := c.policies(ctx, tx)
	if err != nil {
		return nil, false, err
	}
	right, superseded := handover.SetRight(history, c.From, c.Policy)
	return right, len(superseded) > 0 || len(right) != len(history), nil
}

const supersede = `
WITH gone AS (
  DELETE FROM policy_history WHERE tenant_id = $1 AND effective_from >= $2
  RETURNING effective_from, policy, changed_by, changed_at, operation_id)
INSERT INTO policies_superseded (tenant_id, effective_from, policy, changed_by, changed_at, operation_id, superseded_by, superseded_in)
SELECT $1, effective_from, policy, changed_by, changed_at, operation_id, $3, $4 FROM gone`

// Write puts the policy into force, and what it supersedes aside. What occurs from now on is judged by it; of what is
// recorded already [Rejudge] takes care. The policy is locked ([Correction.Lock]).
func (c Correction) Write(ctx context.Context, tx pgx.Tx) (PolicyEntry, error) {
	if _, err := tx.Exec(ctx, supersede, c.TenantID, c.From, c.By, c.OperationID); err != nil {
		return PolicyEntry{}, fmt.Errorf("supersede policies: %w", err)
	}
	rows, err := tx.Query(ctx, addPolicy, c.TenantID, c.From, c.Policy, c.By, c.OperationID)
	return one[PolicyEntry](rows, err, "tenant", c.TenantID)
}

// Lock lets tx alone set the tenant's policy; nobody judges by it meanwhile. It fails with [ErrNotFound] without the tenant.
func (c Correction) Lock(ctx context.Context, tx pgx.Tx) error {
	return lockPolicy(ctx, tx, c.TenantID)
}

// Accounts come in order, and a head knows its latest change. One that is judged right already is passed over.
const accountsToRejudge = `
SELECT h.account_id FROM account_heads h
WHERE h.tenant_id = $1 AND h.account_id > $2 AND h.newest_at >= $3
  AND EXISTS (SELECT FROM role_changes c WHERE c.tenant_id = $1 AND c.account_id = h.account_id AND c.occurred_at >= $3 AND NOT c.overridden AND c.policy <> $4)
ORDER BY h.account_id LIMIT $5`

// Accounts are the next ones with changes that are judged otherwise than the policy set right says, in order.
func (c Correction) Accounts(ctx context.Context, tx pgx.Tx, after string, limit int) ([]string, error) {
	return readTexts(ctx, tx, accountsToRejudge, c.TenantID, after, c.From, c.Policy, limit)
}
