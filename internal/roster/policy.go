package roster

import (
	"context"
	"time"

	"handover.io/internal/handover"
)

// PolicyEntry is a tenant's policy from one time on.
type PolicyEntry struct {
	Tasks         handover.Policy `json:"tasks"`
	EffectiveFrom *time.Time      `json:"effective_from"` // nil: since ever, because none was ever set
	ChangedBy     *string         `json:"changed_by"`
	ChangedAt     *time.Time      `json:"changed_at"`
}

// Policy is the tenant's policy in force at a time. It fails with [ErrNotFound] without the tenant.
func (r *Roster) Policy(ctx context.Context, tenant string, at time.Time) (PolicyEntry, error) {
	panic("not yet")
}

// SetPolicy sets the policy for everything that occurs from now on, and returns it with the time from which it counts.
// The policy that is in force already is left as it is. A value that is no policy is an [*Invalid].
func (r *Roster) SetPolicy(ctx context.Context, tenant, by string, policy handover.Policy, dryRun bool) (PolicyEntry, error) {
	panic("not yet")
}

// PolicyHistory lists the tenant's policies, the newest first.
func (r *Roster) PolicyHistory(ctx context.Context, tenant string, q PageQuery) (Page[PolicyEntry], error) {
	panic("not yet")
}
