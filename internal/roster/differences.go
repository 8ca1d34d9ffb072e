package roster

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
)

// Difference is an owner of a role, or an assignee of an open task, that isn't what the fold makes of what is known.
type Difference struct {
	Account
	Role                 string             // whose owner differs; "" where it is a task's assignee
	TaskID               string             // "" where it is a role's owner
	Title, Source        string             // of the task
	Stored, Right        string             // people, or handover.Nobody; equal where only since when a role is held, or who held it before, differs
	StoredRole, FoldRole handover.RoleState // of a role
	Correction           bool               // whether the task should never have been with Stored
	// Cause is the change that makes it so, one of extra itself where it is that; nil where no change says so: the task
	// belongs where somebody assigned it, the role to its first owner.
	Cause *Change
}

// Differences folds accounts without writing, and tells what differs from what is stored: in order of account, the roles
// first. Extra are changes that aren't recorded, folded as if they were; one that is recorded, by its source and id, is
// passed over.
//
// It takes no lock, so that it is right in a snapshot only (REPEATABLE READ): every commit leaves an account as it folds.
// Tasks are read only of holdings in which some differ.
func Differences(ctx context.Context, tx pgx.Tx, accounts []Account, extra []Change) ([]Difference, error) {
	if len(accounts) == 0 {
		return nil, nil
	}
	f := fold{tx: tx, fresh: map[int64]bool{}, known: map[Account]*knownAccount{}}
	f.tenants, f.ids = columns(sorted(accounts))
	d := differences{fold: &f}
	suppose := func(context.Context) error {
		f.suppose(extra)
		f.foldAll()
		return nil
	}
	for _, step := range []func(context.Context) error{f.readChanges, f.readFirstOwners, suppose, d.owners, f.decideAssignees, d.assignees} {
		if err := step(ctx); err != nil {
			return nil, fmt.Errorf("compare accounts with their fold: %w", err)
		}
	}
	slices.SortFunc(d.found, func(a, b Difference) int {
		return cmp.Or(CompareAccounts(a.Account, b.Account), cmp.Compare(a.TaskID, b.TaskID), cmp.Compare(a.Role, b.Role))
	})
	return d.found, nil
}

// suppose adds changes that aren't recorded. Their keys, which they lack, are below zero.
func (f *fold) suppose(extra []Change) {
	for i := range extra {
		c := &extra[i]
		k := f.account(c.Account)
		if slices.ContainsFunc(k.Changes, func(known handover.Change) bool { return known.Source == c.Source && known.ID == c.ID }) {
			continue
		}
		known := c.Change
		known.Key = int64(-1 - i)
		k.Changes, k.changes[known.Key], f.fresh[known.Key] = append(k.Changes, known), c, true
	}
}

type differences struct {
	*fold
	found []Difference
}

const storedOwners = `
SELECT r.tenant_id, r.account_id, r.role, coalesce(r.owner_id, ''), coalesce(r.last_person, ''), r.since
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT * FROM account_roles r WHERE r.tenant_id = a.tenant_id AND r.account_id = a.account_id OFFSET 0) r`

func (d *differences) owners(ctx context.Context) error {
	rows, err := d.tx.Query(ctx, storedOwners, d.tenants, d.ids)
	if err != nil {
		return err
	}
	stored := make(map[Account]map[string]handover.RoleState, len(d.ids))
	for i := range d.ids {
		stored[Account{d.tenants[i], d.ids[i]}] = map[string]handover.RoleState{}
	}
	var a Account
	var role string
	var s handover.RoleState
	var since maybeInfinite
	if _, err := pgx.ForEachRow(rows, []any{&a.TenantID, &a.AccountID, &role, &s.Owner, &s.LastPerson, &since}, func() error {
		s.Since = since.Time
		stored[a][role] = s
		return nil
	}); err != nil {
		return err
	}
	for a, roles := range stored {
		k := d.account(a)
		for role, want := range k.history.Roles {
			if _, has := roles[role]; !has {
				d.owner(k, a, role, handover.RoleState{}, want)
			}
		}
		for role, has := range roles {
			d.owner(k, a, role, has, k.history.Roles[role])
		}
	}
	return nil
}

func (d *differences) owner(k *knownAccount, a Account, role string, has, want handover.RoleState) {
	if has.Owner == want.Owner && has.LastPerson == want.LastPerson && has.Since.Equal(want.Since) {
		return
	}
	found := Difference{Account: a, Role: role, Stored: has.Owner, Right: want.Owner, StoredRole: has, FoldRole: want}
	for _, c := range k.history.Changes() {
		if c.Role == role {
			found.Cause = k.changes[c.Key]
		}
	}
	d.found = append(d.found, found)
}

func (d *differences) assignees(context.Context) error {
	for h, tasks := range d.moved {
		k := d.known[h.Account]
		for _, t := range tasks {
			found := Difference{Account: h.Account, TaskID: t.ID, Title: t.Title, Source: t.Source, Stored: h.assignee, Right: t.move.to, Correction: t.move.correction}
			if t.move.cause != 0 {
				found.Cause = k.changes[t.move.cause]
			}
			d.found = append(d.found, found)
		}
	}
	return nil
}
