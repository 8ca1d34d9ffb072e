package roster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

// SyncAccounts takes what upstream says of accounts, as [Roster.SyncUsers] does of users. An owner that differs from what
// upstream said before becomes a role change: a single row's on the live lane, those of many on the bulk lane.
func (r *Roster) SyncAccounts(ctx context.Context, tenant, by string, rows []AccountSaid, dryRun bool) ([]RowResult, error) {
	results, rounds, err := prepare(rows, MaxSyncRows, func(a *AccountSaid) string { return a.ID })
	if err != nil {
		return nil, err
	}
	subject := event.SubjectRoleBulk(tenant)
	if len(rows) == 1 {
		subject = event.SubjectRoleChanged(tenant)
	}
	err = r.takeRounds(ctx, dryRun, results, rounds, func(ctx context.Context, tx pgx.Tx) (round, error) {
		s := accountSync{tx: tx, tenant: tenant, by: by, subject: subject, dryRun: dryRun, rows: rows, results: results}
		return s.take, s.lock(ctx, slices.Concat(rounds...))
	})
	if err != nil {
		return nil, fmt.Errorf("sync accounts: %w", err)
	}
	return results, nil
}

type accountSync struct {
	tx                  pgx.Tx
	tenant, by, subject string
	dryRun              bool
	rows                []AccountSaid
	results             []RowResult

	heads  Heads
	people map[string]person
	roles  map[string]bool

	// Of one round.
	at   map[string]int // accounts to their rows
	told map[holdingRole]toldRole
	news []roleNews
}

// holdingRole is a role of an account of the tenant.
type holdingRole struct{ account, role string }

// toldRole is what is known of it: whom upstream named last, and the latest owner issued.
type toldRole struct {
	synced      bool
	syncedOwner string
	latest      string
}

// roleNews is what a round writes about a role; issued is nil when no change is made of it.
type roleNews struct {
	holdingRole
	owner  string // as upstream said
	latest string // as issued
	issued *time.Time
}

// lock locks the people named and those who follow them, then the heads: the order in which a reassigner locks.
func (s *accountSync) lock(ctx context.Context, indexes []int) (err error) {
	accounts, named := map[string]bool{}, map[string]bool{}
	for _, i := range indexes {
		accounts[s.rows[i].ID] = true
		for _, owner := range s.rows[i].Roles {
			named[owner] = true
		}
	}
	s.people = map[string]person{}
	for len(named) > 0 {
		found, err := readPeople(ctx, s.tx, s.tenant, named)
		if err != nil {
			return err
		}
		maps.Copy(s.people, found)
		named = map[string]bool{}
		for _, p := range found {
			if _, known := s.people[p.successor]; !known && p.successor != "" {
				named[p.successor] = true
			}
		}
	}
	if s.roles, err = readRoles(ctx, s.tx, s.tenant); err != nil {
		return err
	}
	s.heads, err = LockHeads(ctx, s.tx, accountsOf(s.tenant, accounts))
	return err
}

func (s *accountSync) take(ctx context.Context, indexes []int) ([]journal.Entry, error) {
	ids := column(indexes, func(i int) string { return s.rows[i].ID })
	known, err := knownAccounts(ctx, s.tx, s.tenant, ids)
	if err != nil {
		return nil, err
	}
	if err := s.readRoles(ctx, ids); err != nil {
		return nil, err
	}
	s.news = nil
	var fresh, present []AccountSaid
	s.at = make(map[string]int, len(indexes))
	for _, i := range indexes {
		row := s.rows[i]
		s.at[row.ID] = i
		news := len(s.news)
		s.results[i].Problem = s.judge(row, known[row.ID])
		switch {
		case s.results[i].Problem != nil:
			s.news = s.news[:news]
		case known[row.ID]:
			s.results[i].Outcome = Unchanged
			if len(s.news) > news {
				s.results[i].Outcome = Updated
			}
			present = append(present, row)
		default:
			s.results[i].Outcome = Created
			fresh = append(fresh, row)
		}
	}
	changed, err := s.writeAccounts(ctx, fresh, present)
	if err != nil {
		return nil, err
	}
	for _, id := range changed {
		s.results[s.at[id]].Outcome = Updated
	}
	return s.writeRoles(ctx)
}

// judge says why the row can't be taken, or notes its news of roles: a three-way merge, by which only a value that
// differs from the one upstream said before counts.
func (s *accountSync) judge(row AccountSaid, known bool) *Invalid {
	if !known && !row.Name.Given {
		return invalid("name", "is required for an account that isn't known yet")
	}
	for _, role := range slices.Sorted(maps.Keys(row.Roles)) {
		owner, field := row.Roles[role], "roles."+role
		if !s.roles[role] {
			return invalid(field, "there is no such role; add it to the tenant's roles first")
		}
		if _, known := s.people[owner]; !known && owner != "" {
			return invalid(field, "there is no user %q; sync the user first", owner)
		}
		told := s.told[holdingRole{row.ID, role}]
		news := roleNews{holdingRole: holdingRole{row.ID, role}, owner: owner}
		if told.synced && told.syncedOwner == owner {
			continue
		}
		if told.synced {
			var problem *Invalid
			if news.latest, problem = s.receiver(field, owner); problem != nil {
				return problem
			}
			if news.latest != told.latest {
				at := s.heads.Now(Account{s.tenant, row.ID})
				news.issued = &at
			}
		}
		s.news = append(s.news, news)
	}
	return nil
}

// receiver is who gets a role that upstream gives to owner: the last of their successors, if they have left.
func (s *accountSync) receiver(field, owner string) (string, *Invalid) {
	if owner == "" {
		return "", nil
	}
	for id, steps := owner, 0; steps <= len(s.people); steps++ {
		p := s.people[id]
		if p.leftAt == nil {
			return id, nil
		}
		if p.successor == "" {
			return "", invalid(field, "%q has left, and nobody takes over from them; name somebody who is here, or a successor", id)
		}
		id = p.successor
	}
	return "", invalid(field, "%q has left, and so have all their successors; name somebody who is here", owner)
}

const toldRoles = `
SELECT r.account_id, r.role, r.synced, coalesce(r.synced_owner, ''), coalesce(r.latest_owner, '')
FROM unnest($2::text[]) AS i(account_id)
CROSS JOIN LATERAL (SELECT * FROM account_roles r WHERE r.tenant_id = $1 AND r.account_id = i.account_id OFFSET 0) r`

func (s *accountSync) readRoles(ctx context.Context, ids []string) error {
	rows, err := s.tx.Query(ctx, toldRoles, s.tenant, ids)
	if err != nil {
		return err
	}
	s.told = map[holdingRole]toldRole{}
	var key holdingRole
	var told toldRole
	_, err = pgx.ForEachRow(rows, []any{&key.account, &key.role, &told.synced, &told.syncedOwner, &told.latest}, func() error {
		s.told[key] = told
		return nil
	})
	return err
}

const (
	insertAccounts = `
INSERT INTO accounts (tenant_id, account_id, name, attributes)
SELECT $1, account_id, name, coalesce(attributes, '{}') FROM unnest($2::text[], $3::text[], $4::jsonb[]) AS a(account_id, name, attributes)`
	updateAccounts = `
UPDATE accounts a SET name = coalesce(w.name, a.name), attributes = coalesce(w.attributes, a.attributes), updated_at = now()
FROM unnest($2::text[], $3::text[], $4::jsonb[]) AS w(account_id, name, attributes)
WHERE a.tenant_id = $1 AND a.account_id = w.account_id
  AND (a.name, a.attributes) IS DISTINCT FROM (coalesce(w.name, a.name), coalesce(w.attributes, a.attributes))
RETURNING a.account_id`
)

// writeAccounts writes what isn't about roles, and returns which of the present accounts differ by it.
func (s *accountSync) writeAccounts(ctx context.Context, fresh, present []AccountSaid) (changed []string, err error) {
	if len(fresh) > 0 {
		if _, err := s.tx.Exec(ctx, insertAccounts, s.columns(fresh)...); err != nil {
			return nil, err
		}
	}
	if len(present) > 0 {
		changed, err = readTexts(ctx, s.tx, updateAccounts, s.columns(present)...)
	}
	return changed, err
}

func (s *accountSync) columns(rows []AccountSaid) []any {
	return []any{s.tenant,
		column(rows, func(a AccountSaid) string { return a.ID }),
		column(rows, func(a AccountSaid) *string {
			if !a.Name.Given {
				return nil
			}
			return &a.Name.Value
		}),
		column(rows, func(a AccountSaid) json.RawMessage { return a.Attributes.Value }),
	}
}

const (
	tellRoles = `
INSERT INTO account_roles AS r (tenant_id, account_id, role, synced, synced_owner, first_owner, latest_owner, latest_at)
SELECT $1, account_id, role, true, owner_id, owner_id, latest_owner, coalesce(latest_at, '-infinity')
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) AS n(account_id, role, owner_id, latest_owner, latest_at)
ON CONFLICT (tenant_id, account_id, role) DO UPDATE SET
  synced = true, synced_owner = excluded.synced_owner,
  first_owner = CASE WHEN r.synced THEN r.first_owner ELSE excluded.first_owner END,
  latest_owner = CASE WHEN excluded.latest_at > '-infinity' THEN excluded.latest_owner ELSE r.latest_owner END,
  latest_at = greatest(r.latest_at, excluded.latest_at)`
	noteIssued = `
UPDATE account_heads h SET issued_at = i.at FROM unnest($2::text[], $3::timestamptz[]) AS i(account_id, at)
WHERE h.tenant_id = $1 AND h.account_id = i.account_id AND h.issued_at < i.at`
)

// writeRoles writes the news of roles down, makes changes of them, and folds the accounts where a first owner has become
// known: what had no previous owner before may have one now.
func (s *accountSync) writeRoles(ctx context.Context) ([]journal.Entry, error) {
	if len(s.news) == 0 {
		return nil, nil
	}
	account, role := func(n roleNews) string { return n.account }, func(n roleNews) string { return n.role }
	_, err := s.tx.Exec(ctx, tellRoles, s.tenant, column(s.news, account), column(s.news, role),
		column(s.news, func(n roleNews) *string { return orNull(n.owner) }), column(s.news, func(n roleNews) *string { return orNull(n.latest) }),
		column(s.news, func(n roleNews) *time.Time { return n.issued }))
	if err != nil {
		return nil, err
	}
	issued := slices.DeleteFunc(slices.Clone(s.news), func(n roleNews) bool { return n.issued == nil })
	entries, err := s.issue(ctx, issued)
	if err != nil {
		return nil, err
	}
	var foreseen map[int64]bool
	if s.dryRun {
		if foreseen, err = s.foresee(ctx, issued); err != nil {
			return nil, err
		}
	}
	again := map[string]bool{}
	for _, n := range s.news {
		if n.issued != nil {
			s.results[s.at[n.account]].Roles++
		}
		if !s.told[n.holdingRole].synced || (s.dryRun && n.issued != nil) {
			again[n.account] = true
		}
	}
	moves, announced, err := Refold(ctx, s.tx, accountsOf(s.tenant, again), foreseen)
	for _, m := range moves {
		s.results[s.at[m.AccountID]].TasksMoved += len(m.Tasks)
	}
	return append(entries, announced...), err
}

// issue makes role changes of the news that differ from the latest owner. Who held the role before is left to the fold.
func (s *accountSync) issue(ctx context.Context, issued []roleNews) ([]journal.Entry, error) {
	var entries []journal.Entry
	for _, n := range issued {
		message, err := event.AccountRoleChanged{
			ID: newID(), Source: event.SourceHandover, Time: *n.issued, TenantID: s.tenant, AccountID: n.account, Role: n.role,
			NewOwnerID: n.latest, Reason: event.ByAPI, InitiatedBy: s.by, Traceparent: traceparent(ctx),
		}.Message(s.subject)
		if err != nil {
			return nil, fmt.Errorf("change %s of account %s: %w", n.role, n.account, err)
		}
		entries = append(entries, journal.Entry{Stream: event.StreamRoleChanges, Message: message})
	}
	if len(issued) == 0 {
		return nil, nil
	}
	for _, n := range issued {
		s.heads.seen[Account{s.tenant, n.account}] = *n.issued
	}
	_, err := s.tx.Exec(ctx, noteIssued, s.tenant, column(issued, func(n roleNews) string { return n.account }),
		column(issued, func(n roleNews) time.Time { return *n.issued }))
	if err != nil {
		return nil, err
	}
	return entries, journal.Append(ctx, s.tx, entries)
}
