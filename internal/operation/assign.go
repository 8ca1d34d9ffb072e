package operation

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Assignment is a bulk edit: one role of many accounts, named by a filter or by their ids, goes to one owner or to nobody.
type Assignment struct {
	Filter     *roster.Filter `json:"filter,omitempty"`
	AccountIDs []string       `json:"account_ids,omitempty"`
	Role       string         `json:"role"`
	OwnerID    *string        `json:"owner_id"`
}

// Assign accepts a bulk edit (way 3). It writes down the request and no more: the expander does the work, and all changes
// share the time of acceptance. A filter is evaluated by the expander, for each account once.
//
// It fails with [*roster.Invalid] when the request names no accounts, unknown ones, or an owner who can't receive.
func (o *Operations) Assign(ctx context.Context, tenant, by string, req Assignment, dryRun bool) (Accepted, error) {
	if (req.Filter == nil) == (len(req.AccountIDs) == 0) {
		return Accepted{}, invalid("", "name the accounts either by a filter or by account_ids")
	}
	ids := slices.Clone(req.AccountIDs)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	for _, id := range ids {
		if wrong := event.CheckID(id); wrong != "" {
			return Accepted{}, invalid("account_ids", "one of them %s", wrong)
		}
	}
	r := newOrder(tenant, kindBulkEdit, by, request{Filter: req.Filter, AccountIDs: ids, Role: req.Role, OwnerID: req.OwnerID, Reason: event.BySegment})
	return o.accept(ctx, r.Kind, dryRun, func(ctx context.Context, tx pgx.Tx) (Accepted, []journal.Entry, error) {
		accepted, err := r.assign(ctx, tx, dryRun)
		return accepted, nil, err
	})
}

func (r order) assign(ctx context.Context, tx pgx.Tx, dryRun bool) (Accepted, error) {
	if err := checkRole(ctx, tx, r.TenantID, r.Request.Role); err != nil {
		return Accepted{}, err
	}
	if err := checkReceiver(ctx, tx, r.TenantID, "owner_id", r.Request.OwnerID); err != nil {
		return Accepted{}, err
	}
	if err := r.checkAccounts(ctx, tx); err != nil {
		return Accepted{}, err
	}
	// After the receiver is locked: so the changes lie before any departure of theirs.
	if err := tx.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&r.AcceptedAt); err != nil {
		return Accepted{}, err
	}
	if err := r.record(ctx, tx, stateExpanding, 0); err != nil {
		return Accepted{}, err
	}
	accepted := Accepted{OperationID: r.ID}
	if dryRun {
		preview, err := r.previewEdit(ctx, tx)
		if err != nil {
			return Accepted{}, err
		}
		accepted.Unchanged = preview.Roles == 0
		accepted.Preview = &preview
	}
	return accepted, nil
}

const unknownAccounts = `
SELECT id FROM unnest($2::text[]) AS w(id)
WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.tenant_id = $1 AND a.account_id = w.id)
ORDER BY id LIMIT 6`

// checkAccounts refuses ids that the tenant doesn't have, and a filter that can't be evaluated.
func (r order) checkAccounts(ctx context.Context, tx pgx.Tx) error {
	if r.Request.Filter != nil {
		_, err := roster.MatchAccounts(ctx, tx, r.TenantID, *r.Request.Filter, "", 1)
		return err
	}
	rows, err := tx.Query(ctx, unknownAccounts, r.TenantID, r.Request.AccountIDs)
	if err != nil {
		return fmt.Errorf("look up accounts: %w", err)
	}
	unknown, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(unknown) == 0 {
		return err
	}
	more := ""
	if len(unknown) > 5 {
		unknown, more = unknown[:5], " and others"
	}
	return invalid("account_ids", "there are no accounts %s%s; sync them first, or leave them out", strings.Join(unknown, ", "), more)
}

// The ids are in order, so the number of those expanded is the place: reading on from there costs a fifth of looking for
// the last one. OFFSET 0 keeps the list from being unpacked for every id.
const listedAccounts = `
SELECT o.ids ->> i FROM (SELECT request -> 'account_ids' AS ids FROM operations WHERE operation_id = $1 OFFSET 0) o
CROSS JOIN generate_series($2::int, least($2 + $3, jsonb_array_length(o.ids)) - 1) AS i`

// accounts are the next ones of a bulk edit, in order.
func (r order) accounts(ctx context.Context, tx pgx.Tx, from place, limit int) ([]string, error) {
	if r.Request.Filter != nil {
		return roster.MatchAccounts(ctx, tx, r.TenantID, *r.Request.Filter, from.Last, limit)
	}
	rows, err := tx.Query(ctx, listedAccounts, r.ID, from.Accounts, limit)
	if err != nil {
		return nil, fmt.Errorf("accounts of operation %s: %w", r.ID, err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

const differing = `
SELECT a.account_id FROM unnest($2::text[]) WITH ORDINALITY AS a(account_id, n)
LEFT JOIN LATERAL (
  SELECT latest_owner FROM account_roles r WHERE r.tenant_id = $1 AND r.account_id = a.account_id AND r.role = $3 LIMIT 1) r ON true
WHERE r.latest_owner IS DISTINCT FROM $4::text ORDER BY a.n`

// edits are the changes to a chunk of accounts, whose heads are locked: none where the latest owner is the one asked for.
func (r order) edits(ctx context.Context, tx pgx.Tx, accounts []string) ([]change, error) {
	rows, err := tx.Query(ctx, differing, r.TenantID, accounts, r.Request.Role, r.Request.OwnerID)
	if err != nil {
		return nil, fmt.Errorf("latest owners: %w", err)
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (change, error) {
		c := change{Role: r.Request.Role}
		return c, row.Scan(&c.AccountID)
	})
}
