package operation

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// ChangeRole gives a role of an account to ownerID, or to nobody, now: ways 1 (reason api) and 2 (reason profile). The
// change is issued in the same transaction; the tasks follow within moments. The previous owner is whoever held the role
// when the change occurred, which the fold finds out.
//
// It fails with [roster.ErrNotFound] for an unknown account and with [*roster.Invalid] for an unknown role or user, or
// for an owner who has left.
func (o *Operations) ChangeRole(ctx context.Context, tenant, by, account, role string, ownerID *string, reason string, dryRun bool) (Accepted, error) {
	if reason != event.ByAPI && reason != event.ByProfile {
		return Accepted{}, invalid("reason", "must be %s or %s", event.ByAPI, event.ByProfile)
	}
	if event.CheckID(account) != "" {
		return Accepted{}, fmt.Errorf("account: %w", roster.ErrNotFound)
	}
	r := newOrder(tenant, kindRoleChange, by, request{AccountID: account, Role: role, OwnerID: ownerID, Reason: reason})
	return o.accept(ctx, r.Kind, dryRun, r.changeRole)
}

func (r order) changeRole(ctx context.Context, tx pgx.Tx) (Accepted, []journal.Entry, error) {
	if err := r.checkChange(ctx, tx); err != nil {
		return Accepted{}, nil, err
	}
	account := roster.Account{TenantID: r.TenantID, AccountID: r.Request.AccountID}
	heads, err := roster.LockHeads(ctx, tx, []roster.Account{account})
	if err != nil {
		return Accepted{}, nil, err
	}
	r.AcceptedAt = heads.Now(account)
	preview, err := r.previewChange(ctx, tx)
	if err != nil || preview.Unchanged > 0 {
		return Accepted{Unchanged: preview.Unchanged > 0, Preview: &preview}, nil, err
	}
	entries, issued, err := r.issue(ctx, tx, event.SubjectRoleChanged(r.TenantID), []change{{r.Request.AccountID, r.Request.Role}})
	if err != nil {
		return Accepted{}, nil, err
	}
	return Accepted{OperationID: r.ID, Preview: &preview}, entries, r.record(ctx, tx, stateApplying, issued)
}

const accountKnown = `SELECT EXISTS (SELECT FROM accounts WHERE tenant_id = $1 AND account_id = $2)`

// checkChange refuses what can't be. It comes before the head is locked: users are locked before heads.
func (r order) checkChange(ctx context.Context, tx pgx.Tx) error {
	var known bool
	if err := tx.QueryRow(ctx, accountKnown, r.TenantID, r.Request.AccountID).Scan(&known); err != nil {
		return fmt.Errorf("look up account: %w", err)
	}
	if !known {
		return fmt.Errorf("account %s: %w", r.Request.AccountID, roster.ErrNotFound)
	}
	if err := checkRole(ctx, tx, r.TenantID, r.Request.Role); err != nil {
		return err
	}
	return checkReceiver(ctx, tx, r.TenantID, "owner_id", r.Request.OwnerID)
}
