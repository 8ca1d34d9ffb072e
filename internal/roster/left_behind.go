package roster

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Person names a user of a tenant.
type Person struct{ TenantID, UserID string }

// LeftBehind is a role or tasks of one account that are with somebody who left.
type LeftBehind struct {
	Left
	Tasks int64 // open ones; 0 for a role
	// SuccessorID is who takes over; empty when nobody is named.
	SuccessorID string
	// UnderWay: the departure is still being expanded, or its change has been issued and not recorded yet, or the role has
	// been given to somebody else meanwhile. Kept: the tasks stay by what was asked for when the person left.
	UnderWay, Kept bool
	// MessageID is that of the change that hands it on, where one has been issued.
	MessageID string
}

const (
	withThose = `
SELECT p.tenant_id, p.user_id, r.account_id, r.role, 0::bigint, r.latest_owner IS DISTINCT FROM p.user_id
FROM unnest($1::text[], $2::text[]) AS p(tenant_id, user_id)
CROSS JOIN LATERAL (SELECT * FROM account_roles r WHERE r.tenant_id = p.tenant_id AND r.owner_id = p.user_id OFFSET 0) r
UNION ALL
SELECT p.tenant_id, p.user_id, h.account_id, '', h.n, false
FROM unnest($1::text[], $2::text[]) AS p(tenant_id, user_id)
CROSS JOIN LATERAL (
  SELECT account_id, sum(n)::bigint AS n FROM holdings h WHERE h.tenant_id = p.tenant_id AND h.assignee_id = p.user_id GROUP BY account_id) h
ORDER BY 1, 2, 3, 4`
	departuresAt = `
SELECT u.tenant_id, u.user_id, u.successor_id, u.departure_id, u.departure_tasks, o.accepted_at, o.kind, o.initiated_by, o.state
FROM unnest($1::text[], $2::text[]) AS p(tenant_id, user_id)
CROSS JOIN LATERAL (
  SELECT * FROM users u WHERE u.tenant_id = p.tenant_id AND u.user_id = p.user_id AND u.departure_id IS NOT NULL LIMIT 1) u
CROSS JOIN LATERAL (SELECT * FROM operations o WHERE o.operation_id = u.departure_id LIMIT 1) o`
	issuedHandOns = `
SELECT m.message_id, (SELECT true FROM role_changes c WHERE c.digest = m.digest LIMIT 1) IS NULL
FROM unnest($1::text[], $2::uuid[]) AS m(message_id, digest)
WHERE (SELECT true FROM outbox o WHERE o.message_id = m.message_id AND o.stream = 'ROLE_CHANGES' LIMIT 1)`
)

// FindLeftBehind lists what is with these people, who left. It takes no lock: read it in a snapshot.
func FindLeftBehind(ctx context.Context, tx pgx.Tx, people []Person) ([]LeftBehind, error) {
	tenants, users := column(people, func(p Person) string { return p.TenantID }), column(people, func(p Person) string { return p.UserID })
	rows, err := tx.Query(ctx, departuresAt, tenants, users)
	if err != nil {
		return nil, fmt.Errorf("look for departures: %w", err)
	}
	of, expanding := map[Person]departure{}, map[Person]bool{}
	var d departure
	var state string
	if _, err := pgx.ForEachRow(rows, []any{&d.TenantID, &d.UserID, &d.SuccessorID, &d.OperationID, &d.Tasks, &d.AcceptedAt, &d.Kind, &d.InitiatedBy, &state}, func() error {
		p := Person{d.TenantID, d.UserID}
		of[p], expanding[p] = d, state == "expanding"
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for departures: %w", err)
	}
	if rows, err = tx.Query(ctx, withThose, tenants, users); err != nil {
		return nil, fmt.Errorf("look for what is left behind: %w", err)
	}
	var found []LeftBehind
	var b LeftBehind
	var givenAway bool
	if _, err := pgx.ForEachRow(rows, []any{&b.TenantID, &b.Person, &b.AccountID, &b.Role, &b.Tasks, &givenAway}, func() error {
		p := Person{b.TenantID, b.Person}
		d, succeeded := of[p]
		one := b
		one.SuccessorID, one.UnderWay = d.SuccessorID, givenAway || expanding[p]
		one.Kept = succeeded && b.Role == "" && !d.Tasks
		found = append(found, one)
		return nil
	}); err != nil {
		return nil, fmt.Errorf("look for what is left behind: %w", err)
	}
	return found, markIssued(ctx, tx, found, of)
}

// markIssued notes what a change of the departure hands on that has been issued.
func markIssued(ctx context.Context, tx pgx.Tx, found []LeftBehind, of map[Person]departure) error {
	at := map[string]*LeftBehind{}
	var ids []string
	var digests [][16]byte
	for i := range found {
		b := &found[i]
		d, succeeded := of[Person{b.TenantID, b.Person}]
		if !succeeded || b.UnderWay || b.Kept {
			continue
		}
		c := d.change(b.Left)
		id := c.MessageID()
		at[id] = b
		ids, digests = append(ids, id), append(digests, c.Digest())
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, issuedHandOns, ids, digests)
	if err != nil {
		return fmt.Errorf("look for changes that hand on: %w", err)
	}
	var id string
	var pending bool
	_, err = pgx.ForEachRow(rows, []any{&id, &pending}, func() error {
		at[id].MessageID, at[id].UnderWay = id, pending
		return nil
	})
	return err
}
