package roster

import (
	"time"

	"handover.io/internal/handover"
)

// task is a task as it is stored; absent texts are "".
type task struct {
	ID, AccountID, Title, Status, Source, Role, Priority, URL string
	DueAt, CreatedAt                                          *time.Time

	Assignee     string
	Revision     int64
	holding      int64 // while it is open
	ownRevision  int64 // without the moves of that
	Base         handover.Assignment
	BaseRevision int64
	Synced       string // assignee, as upstream said last
}

func (t task) open() bool { return t.Status == "open" || t.Status == "in_progress" }

// rebases tells whether the row takes the task to another account, or changes what decides which role changes move it.
func (said *TaskSaid) rebases(t *task) bool {
	return said.AccountID.or(t.AccountID) != t.AccountID || said.Role.or(t.Role) != t.Role || said.Source.or(t.Source) != t.Source
}

// with is the task with what upstream said of everything but its assignee.
func (t task) with(said *TaskSaid) task {
	t.AccountID, t.Title, t.Status, t.Source = said.AccountID.or(t.AccountID), said.Title.or(t.Title), said.Status.or(t.Status), said.Source.or(t.Source)
	t.Role, t.Priority, t.URL = said.Role.or(t.Role), said.Priority.or(t.Priority), said.URL.or(t.URL)
	if said.DueAt.Given && !sameTime(t.DueAt, said.DueAt.Value) {
		t.DueAt = said.DueAt.Value
	}
	if said.CreatedAt.Given && !sameTime(t.CreatedAt, said.CreatedAt.Value) {
		t.CreatedAt = said.CreatedAt.Value
	}
	return t
}

func sameTime(a, b *time.Time) bool {
	return a == b || (a != nil && b != nil && a.Equal(*b))
}

// taskChange is what a row does to a task.
type taskChange struct {
	was, now task
	known    bool
	// When the assignee differs by the fold: the change behind it, and whether that revises an earlier move.
	cause      *Change
	correction bool
	assigned   bool   // there is a new base
	reason     string // of a move without a cause
}

// differs tells whether there is anything to write. Times that are the same are the same pointers.
func (c *taskChange) differs() bool { return !c.known || c.assigned || c.now != c.was }

func (c *taskChange) outcome() Outcome {
	if !c.known {
		return Created
	}
	// What upstream said is a note of ours, which nobody sees.
	visible := *c
	visible.now.Synced, visible.was.Synced = "", ""
	if visible.differs() {
		return Updated
	}
	return Unchanged
}

// decideFirst decides about a task that isn't known yet.
func (s *taskSync) decideFirst(c *taskChange, row *TaskSaid) {
	t := task{ID: row.ID, Status: "open", Source: handover.SourceManual}.with(row)
	t.Synced = row.AssigneeID.Value
	now := s.now(t.AccountID)
	t.Base = s.beforeLeaving(handover.FirstSight(t.Synced, row.AssignedAt.Value, t.CreatedAt, now))
	c.was, c.now, c.assigned = task{ID: t.ID, Assignee: t.Base.Assignee}, t, true
	s.fold(c)
	s.settle(c)
}

// decide decides about a task that is known: first whom upstream assigns, then what else changes.
func (s *taskSync) decide(c *taskChange, row *TaskSaid) {
	t := c.was
	t.Status = row.Status.or(t.Status)
	if row.AssigneeID.Given {
		t.Base, c.assigned = t.Base.Merge(handover.Sync{
			Assignee: row.AssigneeID.Value, AssignedAt: row.AssignedAt.Value, Last: t.Synced, Said: true, Holders: s.holdersOf(t, row),
		}, s.now(t.AccountID))
		t.Synced = row.AssigneeID.Value
	}
	c.now = t
	if c.assigned {
		c.now.Base = s.beforeLeaving(t.Base)
		s.fold(c)
	}
	rebases := row.rebases(&c.was)
	c.now = c.now.with(row)
	switch {
	case rebases:
		// Past what either account has seen.
		now := handover.Next(s.now(c.now.AccountID), s.heads[c.was.AccountID].seen)
		c.now.Base, c.assigned = s.beforeLeaving(handover.AssignedNow(c.now.Assignee, now)), true
		s.fold(c)
	case c.now.open() && !c.was.open() && !c.assigned:
		s.fold(c)
	}
	s.settle(c)
}

// fold gives the task to whom the fold says; closed, it keeps what it had, or goes to whom upstream assigned it.
func (s *taskSync) fold(c *taskChange) {
	t := &c.now
	if c.assigned {
		t.Assignee = t.Base.Assignee
	}
	if !t.open() {
		return
	}
	t.Assignee = t.Base.Assignee
	if s.heads[t.AccountID].seen.Before(t.Base.EffectiveAt) {
		return // nothing has happened on the account since
	}
	k := s.histories[t.AccountID]
	if k == nil {
		s.wanting.histories[t.AccountID] = true
		return
	}
	of := handover.Task{Base: t.Base.Assignee, Since: t.Base.EffectiveAt, Source: t.Source, Role: t.Role}
	assignee, moved := k.history.Assignee(of)
	t.Assignee = assignee
	if len(moved) > 0 {
		c.cause = k.changes[moved[len(moved)-1].Key]
	} else if last, any := k.history.Last(); any && !c.assigned {
		c.cause = k.changes[last.Key]
	}
	c.correction = !c.assigned && handover.Corrects(c.was.Assignee, of, moved)
}

// settle counts the revision. A task that went to its new assignee at once was never with the base: one move, not two.
func (s *taskSync) settle(c *taskChange) {
	if c.now.Assignee != c.was.Assignee {
		c.now.Revision++
	}
	if c.assigned {
		c.now.BaseRevision = c.now.Revision
	}
}

// beforeLeaving takes an assignment back to before the assignee left, so that what hands their tasks on applies to it.
func (s *taskSync) beforeLeaving(a handover.Assignment) handover.Assignment {
	p, read := s.people[a.Assignee]
	if !read && a.Assignee != handover.Nobody {
		s.wanting.people[a.Assignee] = true
	}
	return a.BeforeLeaving(p.leftAt)
}

// holdersOf is who has had the task since its base. Only when more than one move lies between is that worth a look into
// the moves.
func (s *taskSync) holdersOf(t task, row *TaskSaid) []string {
	near := []string{t.Base.Assignee, t.Assignee}
	said := row.AssigneeID.Value
	if row.AssignedAt.Value != nil || said == t.Synced || said == near[0] || said == near[1] || t.Revision < t.BaseRevision+2 {
		return near
	}
	holders, read := s.holders[t.ID]
	if !read {
		s.wanting.holders = append(s.wanting.holders, t)
		return near
	}
	return holders
}
