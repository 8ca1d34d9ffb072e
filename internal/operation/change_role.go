package operation

import (
	"context"
)

// ChangeRole gives a role of an account to ownerID, or to nobody, now: ways 1 (reason api) and 2 (reason profile). The
// change is issued in the same transaction; the tasks follow within moments. The previous owner is whoever held the role
// when the change occurred, which the fold finds out.
//
// It fails with [roster.ErrNotFound] for an unknown account and with [*roster.Invalid] for an unknown role or user, or
// for an owner who has left.
func (o *Operations) ChangeRole(ctx context.Context, tenant, by, account, role string, ownerID *string, reason string, dryRun bool) (Accepted, error) {
	return Accepted{}, nil
}
