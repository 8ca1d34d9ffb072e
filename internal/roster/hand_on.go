package roster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

// Left is somebody with whom something has been left: a role of an account, or, without a role, tasks on it.
type Left struct {
	Account
	Role   string
	Person string
}

// ChangeID is the id of the one change that an operation makes to a role of an account; without a role, to a person's
// tasks on it. The same whoever issues it, so that it is issued once.
func ChangeID(operation string, account, role string) string {
	sum := sha256.Sum256([]byte(account + "\x00" + role))
	return operation + "." + hex.EncodeToString(sum[:12])
}

// Whoever is just leaving is waited for: their own operation looks for what they have before this transaction's result
// can be seen. Who isn't may not leave until the end of it.
const lockLeft = `
SELECT FROM unnest($1::text[], $2::text[]) AS p(tenant_id, user_id)
JOIN users u ON u.tenant_id = p.tenant_id AND u.user_id = p.user_id
ORDER BY u.tenant_id, u.user_id FOR SHARE OF u`

const departures = `
SELECT u.tenant_id, u.user_id, u.successor_id, u.departure_id, u.departure_tasks, o.accepted_at, o.kind, o.initiated_by
FROM unnest($1::text[], $2::text[]) AS p(tenant_id, user_id)
CROSS JOIN LATERAL (
  SELECT * FROM users u WHERE u.tenant_id = p.tenant_id AND u.user_id = p.user_id AND u.departure_id IS NOT NULL LIMIT 1) u
JOIN operations o ON o.operation_id = u.departure_id`

type departure struct {
	TenantID, UserID, SuccessorID, OperationID string
	Tasks                                      bool
	AcceptedAt                                 time.Time
	Kind, InitiatedBy                          string
}

// HandOn makes what a late change or a sync has left with somebody who is gone follow to their successor: by a change of
// that departure's own operation, as if it had been known when they left. Who is still here, or left without a
// successor, is passed over. It returns the outbox entries to offer after the commit.
func HandOn(ctx context.Context, tx pgx.Tx, left []Left) ([]journal.Entry, error) {
	if len(left) == 0 {
		return nil, nil
	}
	of, err := departuresOf(ctx, tx, left)
	if err != nil || len(of) == 0 {
		return nil, err
	}
	passing, err := givenAway(ctx, tx, left, of)
	if err != nil {
		return nil, err
	}
	var entries []journal.Entry
	var operations []string
	for _, l := range left {
		d, ok := of[Account{l.TenantID, l.Person}]
		if !ok || (l.Role == "" && !d.Tasks) || passing[l] {
			continue
		}
		e, err := d.change(l).Message(event.SubjectRoleBulk(l.TenantID))
		if err != nil {
			return nil, fmt.Errorf("hand on what is left with %s: %w", l.Person, err)
		}
		entries = append(entries, journal.Entry{Stream: event.StreamRoleChanges, Message: e})
		operations = append(operations, d.OperationID)
	}
	if err := journal.Append(ctx, tx, entries); err != nil {
		return nil, err
	}
	issued := map[string]int32{}
	for i, e := range entries {
		if e.Key != 0 { // not issued before
			issued[operations[i]]++
		}
	}
	if len(issued) == 0 {
		return nil, nil
	}
	ids := slices.Sorted(maps.Keys(issued))
	n := make([]int32, len(ids))
	for i, id := range ids {
		n[i] = issued[id]
	}
	_, err = tx.Exec(ctx, countIssued, ids, n)
	return entries, err
}

// departuresOf are the departures of those who left with a successor, by tenant and user; the shape is that of an account.
func departuresOf(ctx context.Context, tx pgx.Tx, left []Left) (map[Account]departure, error) {
	tenants, users := peopleOf(left)
	if _, err := tx.Exec(ctx, lockLeft, tenants, users); err != nil {
		return nil, fmt.Errorf("lock those with whom something is left: %w", err)
	}
	return readDepartures(ctx, tx, tenants, users)
}

func peopleOf(left []Left) (tenants, users []string) {
	people := map[Account]bool{}
	for _, l := range left {
		people[Account{l.TenantID, l.Person}] = true
	}
	return columns(slices.Collect(maps.Keys(people)))
}

func readDepartures(ctx context.Context, tx pgx.Tx, tenants, users []string) (map[Account]departure, error) {
	rows, err := tx.Query(ctx, departures, tenants, users)
	if err != nil {
		return nil, fmt.Errorf("look for departures: %w", err)
	}
	gone, err := pgx.CollectRows(rows, pgx.RowToStructByPos[departure])
	if err != nil || len(gone) == 0 {
		return nil, err
	}
	of := make(map[Account]departure, len(gone))
	for _, d := range gone {
		of[Account{d.TenantID, d.UserID}] = d
	}
	return of, nil
}

const latestOwners = `
SELECT r.tenant_id, r.account_id, r.role, l.person
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS l(tenant_id, account_id, role, person)
JOIN account_roles r ON r.tenant_id = l.tenant_id AND r.account_id = l.account_id AND r.role = l.role
WHERE r.latest_owner IS DISTINCT FROM l.person`

// givenAway are the roles that whoever is gone still holds by what is recorded, but that have been given to somebody else
// already: that change is under way, and must not be overtaken by the departure.
func givenAway(ctx context.Context, tx pgx.Tx, left []Left, of map[Account]departure) (map[Left]bool, error) {
	var tenants, accounts, roles, people []string
	for _, l := range left {
		if _, gone := of[Account{l.TenantID, l.Person}]; gone && l.Role != "" {
			tenants, accounts, roles, people = append(tenants, l.TenantID), append(accounts, l.AccountID), append(roles, l.Role), append(people, l.Person)
		}
	}
	rows, err := tx.Query(ctx, latestOwners, tenants, accounts, roles, people)
	if err != nil {
		return nil, fmt.Errorf("look for roles given away: %w", err)
	}
	passing := map[Left]bool{}
	var l Left
	_, err = pgx.ForEachRow(rows, []any{&l.TenantID, &l.AccountID, &l.Role, &l.Person}, func() error {
		passing[l] = true
		return nil
	})
	return passing, err
}

func (d departure) change(l Left) event.AccountRoleChanged {
	c := event.AccountRoleChanged{
		ID: ChangeID(d.OperationID, l.AccountID, l.Role), Source: event.SourceHandover, Time: d.AcceptedAt,
		TenantID: l.TenantID, AccountID: l.AccountID, Role: l.Role, PreviousOwnerID: l.Person, NewOwnerID: d.SuccessorID,
		Reason: d.Kind, InitiatedBy: d.InitiatedBy, OperationID: d.OperationID,
	}
	if d.Tasks {
		c.Tasks = string(handover.MoveAllTasks)
	}
	return c
}

const countIssued = `
UPDATE operations o SET changes = o.changes + i.n
FROM unnest($1::text[], $2::int[]) AS i(operation_id, n) WHERE o.operation_id = i.operation_id`
