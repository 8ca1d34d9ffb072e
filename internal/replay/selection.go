package replay

import (
	"context"
	"slices"
	"time"

	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Selection says which role changes a replay is about: those that fit everything it names. The zero value is all.
type Selection struct {
	// When they arrived on the stream; of what the database has, when they were recorded. Since is included, Until is not.
	Since time.Time `json:"since,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// When they occurred.
	OccurredSince time.Time `json:"occurred_since,omitzero"`
	OccurredUntil time.Time `json:"occurred_until,omitzero"`
	// Where they are on the stream, both included; 0 is open.
	FromSeq uint64 `json:"from_seq,omitempty"`
	ToSeq   uint64 `json:"to_seq,omitempty"`

	Tenants    []string `json:"tenants,omitempty"`
	Accounts   []string `json:"accounts,omitempty"`
	Roles      []string `json:"roles,omitempty"`
	Operations []string `json:"operations,omitempty"`
}

// Range is a part of a stream, as [Read] takes it.
type Range struct {
	Subjects       []string
	FromSeq, ToSeq uint64
	Since, Until   time.Time
	Batch          int
}

// Read gives a part of the stream of role changes to handle, in order, and returns how far it has read.
type Read func(ctx context.Context, r Range, handle func(ctx context.Context, batch []event.Message, pending uint64) error) (uint64, error)

// part is what of the stream must be read, after a sequence.
func (s Selection) part(after uint64, batch int) Range {
	r := Range{FromSeq: max(s.FromSeq, after+1), ToSeq: s.ToSeq, Since: s.Since, Until: s.Until, Batch: batch}
	if after == 0 {
		r.FromSeq = s.FromSeq
	}
	for _, tenant := range s.Tenants {
		r.Subjects = append(r.Subjects, event.SubjectRoleChanged(tenant), event.SubjectRoleBulk(tenant))
	}
	return r
}

// byContent tells whether one must read an event to know whether it is meant.
func (s Selection) byContent() bool {
	return len(s.Accounts)+len(s.Roles)+len(s.Operations) > 0 || !s.OccurredSince.IsZero() || !s.OccurredUntil.IsZero()
}

// has tells whether a message of the part is meant. What can't be read is meant only where nothing is asked of it.
func (s Selection) has(j roster.Judged) bool {
	c := j.Change
	if c.ID == "" {
		return !s.byContent()
	}
	return among(s.Accounts, c.AccountID) && among(s.Roles, c.Role) && among(s.Operations, c.OperationID) &&
		!c.OccurredAt.Before(s.OccurredSince) && (s.OccurredUntil.IsZero() || c.OccurredAt.Before(s.OccurredUntil))
}

func among(wanted []string, value string) bool {
	return len(wanted) == 0 || slices.Contains(wanted, value)
}
