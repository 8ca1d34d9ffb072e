package operation

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/propagation"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Kinds of operations; those of departures are the reasons of their changes.
const (
	kindRoleChange = "role_change"
	kindBulkEdit   = "bulk_edit"
	kindCorrection = "policy_corrected"
)

const (
	stateExpanding = "expanding"
	stateApplying  = "applying"
)

// request is what was asked for, as it is kept.
type request struct {
	AccountID  string         `json:"account_id,omitempty"`
	Filter     *roster.Filter `json:"filter,omitempty"`
	AccountIDs []string       `json:"account_ids,omitempty"` // sorted, each once
	Role       string         `json:"role,omitempty"`
	UserID     string         `json:"user_id,omitempty"`  // who leaves
	OwnerID    *string        `json:"owner_id,omitempty"` // who receives: new owner or successor
	Reason     string         `json:"reason"`
	Tasks      bool           `json:"tasks,omitempty"` // every open task of who leaves
	// A policy set right with effect from the past.
	Policy        handover.Policy `json:"policy,omitempty"`
	EffectiveFrom *time.Time      `json:"effective_from,omitempty"`
	TakeBack      bool            `json:"take_back,omitempty"`
}

// order is an accepted request.
type order struct {
	ID, TenantID, Kind, InitiatedBy string
	AcceptedAt                      time.Time // of all its changes
	Request                         request
}

func newOrder(tenant, kind, by string, r request) order {
	return order{ID: uuid.Must(uuid.NewV7()).String(), TenantID: tenant, Kind: kind, InitiatedBy: by, Request: r}
}

const insertOperation = `
INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state, accounts, changes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)`

// record writes the operation down. Issued is the number of its accounts and changes that are issued already.
func (r order) record(ctx context.Context, tx pgx.Tx, state string, issued int) error {
	_, err := tx.Exec(ctx, insertOperation, r.ID, r.TenantID, r.Kind, r.InitiatedBy, r.AcceptedAt, r.Request, state, issued)
	if err != nil {
		return fmt.Errorf("record operation: %w", err)
	}
	return nil
}

// change is what an operation does to a role of an account; without a role, to the tasks of who leaves.
type change struct {
	AccountID, Role string
}

func (r order) event(c change, traceparent string) event.AccountRoleChanged {
	e := event.AccountRoleChanged{
		ID: roster.ChangeID(r.ID, c.AccountID, c.Role), Source: event.SourceHandover, Traceparent: traceparent, Time: r.AcceptedAt,
		TenantID: r.TenantID, AccountID: c.AccountID, Role: c.Role,
		// Only a departure says who was before: otherwise it is whoever held the role when the change occurred.
		PreviousOwnerID: r.Request.UserID,
		Reason:          r.Request.Reason, InitiatedBy: r.InitiatedBy, OperationID: r.ID,
	}
	if r.Request.OwnerID != nil {
		e.NewOwnerID = *r.Request.OwnerID
	}
	if r.Request.Tasks {
		e.Tasks = string(handover.MoveAllTasks)
	}
	return e
}

const (
	// A role may have got a later owner since the operation was accepted: that one stays the latest.
	issueRoles = `
INSERT INTO account_roles AS r (tenant_id, account_id, role, latest_owner, latest_at)
SELECT $1, c.account_id, c.role, $4, $5 FROM unnest($2::text[], $3::text[]) AS c(account_id, role) WHERE c.role <> ''
ON CONFLICT (tenant_id, account_id, role) DO UPDATE SET latest_owner = excluded.latest_owner, latest_at = excluded.latest_at
WHERE r.latest_at <= excluded.latest_at`
	issueHeads = `
UPDATE account_heads h SET issued_at = $3
FROM (SELECT DISTINCT account_id FROM unnest($2::text[]) AS c(account_id)) c
WHERE h.tenant_id = $1 AND h.account_id = c.account_id AND h.issued_at < $3`
)

// issue puts changes into the outbox and notes on heads and roles that they have been issued. The heads are locked. It
// returns the entries to offer after the commit, and how many of them weren't issued before.
func (r order) issue(ctx context.Context, tx pgx.Tx, subject string, changes []change) ([]journal.Entry, int, error) {
	if len(changes) == 0 {
		return nil, 0, nil
	}
	trace := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, trace)
	entries := make([]journal.Entry, len(changes))
	accounts, roles := make([]string, len(changes)), make([]string, len(changes))
	for i, c := range changes {
		message, err := r.event(c, trace.Get("traceparent")).Message(subject)
		if err != nil {
			return nil, 0, fmt.Errorf("issue the change of account %s: %w", c.AccountID, err)
		}
		entries[i] = journal.Entry{Stream: event.StreamRoleChanges, Message: message}
		accounts[i], roles[i] = c.AccountID, c.Role
	}
	if err := journal.Append(ctx, tx, entries); err != nil {
		return nil, 0, err
	}
	if _, err := tx.Exec(ctx, issueRoles, r.TenantID, accounts, roles, r.Request.OwnerID, r.AcceptedAt); err != nil {
		return nil, 0, fmt.Errorf("note issued owners: %w", err)
	}
	if _, err := tx.Exec(ctx, issueHeads, r.TenantID, accounts, r.AcceptedAt); err != nil {
		return nil, 0, fmt.Errorf("note issued times: %w", err)
	}
	fresh := 0
	for _, e := range entries {
		if e.Key != 0 {
			fresh++
		}
	}
	return entries, fresh, nil
}
