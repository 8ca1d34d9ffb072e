package handover

import (
	"cmp"
	"slices"
	"time"
)

// Nobody is the absent person: no owner, no assignee.
const Nobody = ""

// Change is one role change of one account, as it is recorded.
type Change struct {
	// OccurredAt, Sequence, Source and ID order the changes of an account; Source and ID identify one.
	OccurredAt           time.Time // microseconds, UTC
	Sequence, Source, ID string

	Role string // empty: no role changes hands, only the person's tasks do
	// From is the previous owner as the publisher gave it; empty means the last person who held the role before.
	From   string
	To     string // or Nobody
	Policy Policy // that judged it
	// Overridden tells that it carried its policy itself: the tenant's history has no say in it.
	Overridden bool

	// Key is the recorder's own handle on the change; the fold passes it through.
	Key int64
}

// Compare orders changes as they occurred: by time, then bytewise by sequence, source and id.
func (c Change) Compare(o Change) int {
	return cmp.Or(
		c.OccurredAt.Compare(o.OccurredAt),
		cmp.Compare(c.Sequence, o.Sequence),
		cmp.Compare(c.Source, o.Source),
		cmp.Compare(c.ID, o.ID),
	)
}

// Account is what is known of an account for the fold. Neither the order of Changes nor repeats in it matter.
type Account struct {
	// First is the first owner of each role since ever, where an upstream system has told it.
	First   map[string]string
	Changes []Change
}

// RoleState is a role after the fold.
type RoleState struct {
	Owner      string    // or Nobody
	LastPerson string    // the last who held it: whom the next change takes tasks from
	Since      time.Time // of the change that made it so; zero when none did
}

// History is a folded account: its changes in order, each once, with From resolved.
type History struct {
	changes []Change
	Roles   map[string]RoleState
}

// Fold puts the changes in order and resolves who each one takes tasks from.
func (a Account) Fold() History {
	h := History{
		changes: slices.Clone(a.Changes),
		Roles:   make(map[string]RoleState, len(a.First)+1),
	}
	slices.SortFunc(h.changes, Change.Compare)
	h.changes = slices.CompactFunc(h.changes, func(a, b Change) bool { return a.Compare(b) == 0 })
	for role, owner := range a.First {
		h.Roles[role] = RoleState{Owner: owner, LastPerson: owner}
	}
	for i := range h.changes {
		c := &h.changes[i]
		if c.Role == "" {
			continue
		}
		role := h.Roles[c.Role]
		if c.From == Nobody {
			c.From = role.LastPerson
		}
		h.Roles[c.Role] = RoleState{
			Owner: c.To,
			// A → nobody → B brings A's tasks to B; an explicit previous owner is evidence of who held it.
			LastPerson: cmp.Or(c.To, c.From, role.LastPerson),
			Since:      c.OccurredAt,
		}
	}
	return h
}

// Task is what the fold needs of an open task.
type Task struct {
	Base   string    // the last assignee that somebody chose on purpose, or Nobody
	Since  time.Time // changes from then on apply, those at that very time included
	Source string
	Role   string // or empty: it follows whatever role its assignee holds
}

// Assignee applies the account's changes since the task's base. It returns who has the task, and the changes that moved
// it, in order: the last of them is why.
func (h History) Assignee(t Task) (string, []Change) {
	assignee := t.Base
	var moved []Change
	for _, c := range h.since(t.Since) {
		if c.moves(t, assignee) {
			assignee = c.To
			moved = append(moved, c)
		}
	}
	return assignee, moved
}

// Changes are the changes in order, each with whom it takes tasks from; not to be changed.
func (h History) Changes() []Change { return h.changes }

// Last is the latest change, or false when there is none.
func (h History) Last() (Change, bool) {
	if len(h.changes) == 0 {
		return Change{}, false
	}
	return h.changes[len(h.changes)-1], true
}

func (h History) since(t time.Time) []Change {
	i, _ := slices.BinarySearchFunc(h.changes, t, func(c Change, t time.Time) int {
		if c.OccurredAt.Before(t) {
			return -1
		}
		return 1
	})
	return h.changes[i:]
}

func (c Change) moves(t Task, assignee string) bool {
	return assignee != Nobody && c.From == assignee && c.To != Nobody && c.To != assignee &&
		c.Policy.Covers(t.Source) &&
		(c.Role == "" || t.Role == "" || c.Role == t.Role)
}

// Corrects tells whether a move from the present assignee revises an earlier one: whether, by what is known now, the
// task should never have been with them. Moved is what [History.Assignee] returned.
func Corrects(present string, t Task, moved []Change) bool {
	if present == t.Base {
		return false
	}
	return !slices.ContainsFunc(moved, func(c Change) bool { return c.To == present })
}
