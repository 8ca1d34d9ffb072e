package handover

import (
	"slices"
	"time"
)

const (
	// ClockGrace is how much later than ours an upstream clock may run without an assignment overtaking the role change
	// that it followed.
	ClockGrace = 2 * time.Second
	// MaxAhead is how far ahead of our clock a time may lie before it is refused.
	MaxAhead = 5 * time.Minute
)

// Assignment is a task's base: whom somebody chose on purpose, and since when.
type Assignment struct {
	Assignee string
	// AssignedAt is when, as it was told; a later assignment replaces an earlier one.
	AssignedAt time.Time
	// EffectiveAt is from when role changes apply to it.
	EffectiveAt time.Time
}

// AssignedNow is an assignment by our own clock, which is exact: now must lie past everything the account has seen.
func AssignedNow(assignee string, now time.Time) Assignment {
	return Assignment{Assignee: assignee, AssignedAt: now, EffectiveAt: now}
}

// AssignedUpstream is an assignment by an upstream clock, which gets its grace once, here.
func AssignedUpstream(assignee string, at time.Time) Assignment {
	return Assignment{Assignee: assignee, AssignedAt: at, EffectiveAt: at.Add(-ClockGrace)}
}

// FirstSight is the base of a task never seen before: since it was assigned, else since it was created, else now.
func FirstSight(assignee string, assignedAt, createdAt *time.Time, now time.Time) Assignment {
	switch {
	case assignedAt != nil:
		return AssignedUpstream(assignee, *assignedAt)
	case createdAt != nil:
		return AssignedUpstream(assignee, *createdAt)
	}
	return AssignedNow(assignee, now)
}

// BeforeLeaving takes the assignment back to leftAt when it names somebody who had left by then, so that the change that
// hands their tasks on applies to it too.
func (a Assignment) BeforeLeaving(leftAt *time.Time) Assignment {
	if leftAt != nil && a.EffectiveAt.After(*leftAt) {
		a.EffectiveAt = *leftAt
	}
	return a
}

// Sync is what an upstream system says of a task's assignee, beside what it said last.
type Sync struct {
	Assignee   string
	AssignedAt *time.Time
	// Last is what it said before; Said is false when it never said anything.
	Last string
	Said bool
	// Holders is everyone who has had the task since its base, the base and the present assignee included.
	Holders []string
}

// Merge is the three-way merge of a sync into the base: only a value different from what upstream said last is news, and
// a name that has held the task since its base is the echo of our own move. It returns the new base, and whether there is one.
//
// With a time, the later assignment wins, whoever told it first; at equal times the greater id.
func (a Assignment) Merge(s Sync, now time.Time) (Assignment, bool) {
	if s.AssignedAt != nil {
		later := s.AssignedAt.After(a.AssignedAt) || (s.AssignedAt.Equal(a.AssignedAt) && s.Assignee > a.Assignee)
		if !later {
			return a, false
		}
		return AssignedUpstream(s.Assignee, *s.AssignedAt), true
	}
	if (s.Said && s.Assignee == s.Last) || slices.Contains(s.Holders, s.Assignee) {
		return a, false
	}
	return AssignedNow(s.Assignee, now), true
}

// Person is what must be known of somebody before they can receive.
type Person struct {
	Known  bool
	LeftAt *time.Time // nil while they are here
}

// CanReceive tells whether a change that occurred at t may name this person as new owner.
func (p Person) CanReceive(t time.Time) bool {
	return p.Known && (p.LeftAt == nil || t.Before(*p.LeftAt))
}

// Next is the time of something that happens now on an account: the clock, or one microsecond past the latest time the
// account has seen or been issued, whichever is later.
func Next(clock time.Time, seen ...time.Time) time.Time {
	next := clock.UTC().Truncate(time.Microsecond)
	for _, t := range seen {
		if !next.After(t) {
			next = t.Add(time.Microsecond)
		}
	}
	return next
}
