package operation

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/pkg/event"
)

const knownRoles = `
SELECT coalesce(bool_or(role = $2), false), coalesce(string_agg(role, ', ' ORDER BY role), 'none') FROM roles WHERE tenant_id = $1`

// checkRole refuses a role that the tenant doesn't have.
func checkRole(ctx context.Context, tx pgx.Tx, tenant, role string) error {
	var known bool
	var roles string
	if wrong := event.CheckID(role); wrong != "" {
		return invalid("role", "%s", wrong)
	}
	if err := tx.QueryRow(ctx, knownRoles, tenant, role).Scan(&known, &roles); err != nil {
		return fmt.Errorf("look up role: %w", err)
	}
	if !known {
		return invalid("role", "there is no role %q; the roles are: %s", role, roles)
	}
	return nil
}

// The share lock keeps who receives from leaving before the transaction ends.
const lockReceiver = `
SELECT u.left_at, coalesce(u.successor_id, '') FROM users u WHERE u.tenant_id = $1 AND u.user_id = $2 FOR SHARE`

// checkReceiver refuses a user who can't receive now; nobody always can.
func checkReceiver(ctx context.Context, tx pgx.Tx, tenant, field string, user *string) error {
	if user == nil {
		return nil
	}
	if wrong := event.CheckID(*user); wrong != "" {
		return invalid(field, "%s", wrong)
	}
	var leftAt *time.Time
	var successor string
	err := tx.QueryRow(ctx, lockReceiver, tenant, *user).Scan(&leftAt, &successor)
	switch {
	case err == pgx.ErrNoRows:
		return invalid(field, "there is no user %q; sync them first, or name somebody else", *user)
	case err != nil:
		return fmt.Errorf("lock who receives: %w", err)
	case leftAt == nil:
		return nil
	case successor == "":
		return invalid(field, "%q left on %s; name somebody who is here", *user, leftAt.UTC().Format(time.DateOnly))
	}
	return invalid(field, "%q left on %s; their successor is %q", *user, leftAt.UTC().Format(time.DateOnly), successor)
}

const policyAt = `
SELECT policy FROM policy_history WHERE tenant_id = $1 AND effective_from <= $2 ORDER BY effective_from DESC LIMIT 1`

// policy is the policy that a change of the operation will be judged by.
func (r order) policy(ctx context.Context, tx pgx.Tx) (handover.Policy, error) {
	if r.Request.Tasks {
		return handover.MoveAllTasks, nil
	}
	policy := handover.KeepTasks
	err := tx.QueryRow(ctx, policyAt, r.TenantID, r.AcceptedAt).Scan(&policy)
	if err != nil && err != pgx.ErrNoRows {
		return "", fmt.Errorf("look up the policy: %w", err)
	}
	return policy, nil
}
