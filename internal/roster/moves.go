package roster

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

// Change is a recorded role change with what an announcement tells of it.
type Change struct {
	handover.Change
	Account
	Reason, InitiatedBy, OperationID, Traceparent string
}

// Move is tasks of one account that went from one assignee to another in one transaction, for one cause.
type Move struct {
	Account
	Cause      *Change // the role change behind it; nil when somebody chose the assignee
	Reason     string  // of the change; else event.ByAssigned or bySync
	By         string  // the user who caused it
	From, To   string  // or handover.Nobody
	Correction bool
	Silent     bool // nobody is to be mailed about it
	At         time.Time
	Tasks      []event.ReassignedTask
}

// bySync is the reason of a move that an upstream system made and told us: recorded, but not announced.
const bySync = "synced"

// MovedBy is a move caused by a role change.
func MovedBy(c *Change, from, to string, correction bool, at time.Time) Move {
	return Move{Account: c.Account, Cause: c, Reason: c.Reason, By: c.InitiatedBy, From: from, To: to, Correction: correction, At: at}
}

// Announcements are the outbox entries that tell the world of moves; what upstream itself told is left out.
func Announcements(moves []Move) []journal.Entry {
	var entries []journal.Entry
	for _, m := range moves {
		if m.Reason == bySync {
			continue
		}
		for _, message := range m.event().Messages(newID) {
			entries = append(entries, journal.Entry{Stream: event.StreamTaskReassignments, Message: message})
		}
	}
	return entries
}

func (m Move) event() event.TaskReassigned {
	e := event.TaskReassigned{
		Source: event.SourceHandover, Time: m.At, TenantID: m.TenantID, AccountID: m.AccountID, FromID: m.From, ToID: m.To,
		Reason: m.Reason, InitiatedBy: m.By, Correction: m.Correction, Silent: m.Silent, Tasks: m.Tasks,
	}
	if c := m.Cause; c != nil {
		e.Policy, e.Traceparent = string(c.Policy), c.Traceparent
		e.RoleChange = &event.RoleChangeRef{Source: c.Source, ID: c.ID, Role: c.Role, OccurredAt: c.OccurredAt, OperationID: c.OperationID}
	}
	return e
}

// newID is time-ordered, which keeps the outbox's index of ids compact.
func newID() string { return uuid.Must(uuid.NewV7()).String() }

// The tasks of a move come as one text a move, since ids have no control characters: joining two lists in SQL would be
// quadratic in a plan without hashes.
const insertMoves = `
INSERT INTO moves (tenant_id, account_id, change_key, reason, moved_by, from_id, to_id, correction, moved_at, task_ids, revisions)
SELECT tenant_id, account_id, change_key, reason, moved_by, from_id, to_id, correction, moved_at,
       string_to_array(task_ids, E'\n'), string_to_array(revisions, E'\n')::bigint[]
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::boolean[], $9::timestamptz[], $10::text[], $11::text[])
  AS m(tenant_id, account_id, change_key, reason, moved_by, from_id, to_id, correction, moved_at, task_ids, revisions)`

// recordMoves writes the moves down, for the history of tasks and accounts.
func recordMoves(ctx context.Context, tx pgx.Tx, moves []Move) error {
	if len(moves) == 0 {
		return nil
	}
	_, err := tx.Exec(ctx, insertMoves,
		column(moves, func(m Move) string { return m.TenantID }), column(moves, func(m Move) string { return m.AccountID }),
		column(moves, func(m Move) *int64 {
			if m.Cause == nil {
				return nil
			}
			return &m.Cause.Key
		}),
		column(moves, func(m Move) string { return m.Reason }), column(moves, func(m Move) string { return m.By }),
		column(moves, func(m Move) *string { return orNull(m.From) }), column(moves, func(m Move) *string { return orNull(m.To) }),
		column(moves, func(m Move) bool { return m.Correction }), column(moves, func(m Move) time.Time { return m.At }),
		column(moves, func(m Move) string {
			return strings.Join(column(m.Tasks, func(t event.ReassignedTask) string { return t.ID }), "\n")
		}),
		column(moves, func(m Move) string {
			return strings.Join(column(m.Tasks, func(t event.ReassignedTask) string { return strconv.FormatInt(t.Revision, 10) }), "\n")
		}))
	if err != nil {
		return fmt.Errorf("record moves: %w", err)
	}
	return nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// maybeInfinite scans a time whose '-infinity' means never, as the zero time.
type maybeInfinite struct{ time.Time }

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (t *maybeInfinite) ScanTimestamptz(v pgtype.Timestamptz) error {
	t.Time = time.Time{}
	if v.Valid && v.InfinityModifier == pgtype.Finite {
		t.Time = v.Time.UTC()
	}
	return nil
}
