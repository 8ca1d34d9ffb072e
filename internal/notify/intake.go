package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/pkg/event"
)

// Kinds of items.
const (
	received  = "received"
	takenBack = "taken_back"
)

// Scope is what one window gathers: the moves to one recipient on one account, or, with no account, on all of them.
type scope struct{ tenant, recipient, account string }

func (s scope) compare(o scope) int {
	return cmp.Or(cmp.Compare(s.tenant, o.tenant), cmp.Compare(s.recipient, o.recipient), cmp.Compare(s.account, o.account))
}

// move is what one message tells one recipient: tasks of an account that they received, or that a correction took back.
type move struct {
	scope
	kind string
	accountID, from, movedBy,
	reason, role string
	movedAt time.Time
}

// entry is one task of a move.
type entry struct {
	*move
	task     string
	revision int64
}

func (e entry) compare(o entry) int {
	return cmp.Or(cmp.Compare(e.tenant, o.tenant), cmp.Compare(e.recipient, o.recipient), cmp.Compare(e.task, o.task),
		cmp.Compare(e.revision, o.revision))
}

// Handle takes moves in, all or none. Nil means that they are stored, or were before; after an error the same batch can
// come again. What can't be used becomes a dead letter, and the rest goes on. It sends nothing.
func (n *Notifier) Handle(ctx context.Context, batch []event.Message) error {
	var moves []incoming
	var dead []journal.DeadLetter
	for _, m := range batch {
		move, err := decode(m)
		if err != nil {
			dead = append(dead, deadLetter(m, err))
			continue
		}
		moves = append(moves, incoming{move, m})
	}
	done, err := n.takeAndBury(ctx, moves, dead, false)
	for postgres.UniqueViolation(err, itemsKey) {
		// Something was known after all, or has been stored by another intake meanwhile: now it is seen.
		done, err = n.takeAndBury(ctx, moves, dead, true)
	}
	if err != nil {
		return fmt.Errorf("take in %d messages: %w", len(batch), err)
	}
	n.metrics.moves.WithLabelValues("told").Add(float64(done.stored))
	n.metrics.moves.WithLabelValues("repeated").Add(float64(done.staged - done.stored))
	n.metrics.moves.WithLabelValues("own").Add(float64(done.own))
	n.metrics.moves.WithLabelValues("silent").Add(float64(done.silent))
	n.metrics.moves.WithLabelValues("refused").Add(float64(done.refused))
	if done.closed {
		n.wake()
	}
	return nil
}

func (n *Notifier) takeAndBury(ctx context.Context, moves []incoming, dead []journal.DeadLetter, careful bool) (done taken, err error) {
	err = postgres.InTx(ctx, n.pool, func(ctx context.Context, tx pgx.Tx) error {
		var unusable []journal.DeadLetter
		var err error
		if done, unusable, err = n.take(ctx, tx, moves, careful); err != nil {
			return err
		}
		if _, err = journal.Resolve(ctx, tx, retried(moves, unusable)); err != nil {
			return err
		}
		unusable = append(unusable, dead...)
		done.refused = len(unusable)
		_, err = journal.Bury(ctx, tx, unusable)
		return err
	})
	return done, err
}

// retried are the dead letters among the moves that are none any more.
func retried(moves []incoming, unusable []journal.DeadLetter) []journal.Done {
	var out []journal.Done
	for _, m := range moves {
		same := func(l journal.DeadLetter) bool { return l.Message.Sequence == m.message.Sequence }
		if journal.IsRetry(m.message) && !slices.ContainsFunc(unusable, same) {
			out = append(out, journal.Done{Message: m.message, Outcome: "taken in"})
		}
	}
	return out
}

type incoming struct {
	event.TaskReassigned
	message event.Message
}

// taken counts what a batch did.
type taken struct {
	staged, stored, own, silent, refused int
	closed                               bool // a window that was overdue
}

// decode is stricter than the contract: what reaches the tables must be text that they can hold.
func decode(m event.Message) (event.TaskReassigned, error) {
	r, err := event.DecodeTaskReassigned(m)
	if err != nil {
		return r, err
	}
	texts := map[string]string{"from_id": r.FromID, "to_id": r.ToID, "initiated_by": r.InitiatedBy, "reason": r.Reason}
	if r.RoleChange != nil {
		texts["role_change.role"] = r.RoleChange.Role
	}
	for field, text := range texts {
		if wrong := event.CheckID(text); text != "" && wrong != "" {
			return r, &event.Invalid{Reason: event.ReasonInvalid, Field: "data." + field, Remedy: wrong}
		}
	}
	return r, nil
}

func deadLetter(m event.Message, err error) journal.DeadLetter {
	letter := journal.DeadLetter{Consumer: event.ConsumerNotifier, Message: m, Reason: event.ReasonInvalid, Detail: err.Error()}
	var invalid *event.Invalid
	if errors.As(err, &invalid) {
		letter.Reason = invalid.Reason
	}
	return letter
}

// take is the transaction. Locks are taken in one order everywhere: windows by scope, then items by key; so intakes wait
// for each other but never in a circle. Careful is explained at fresh.
func (n *Notifier) take(ctx context.Context, tx pgx.Tx, moves []incoming, careful bool) (taken, []journal.DeadLetter, error) {
	var done taken
	modes, err := noticeModes(ctx, tx, moves)
	if err != nil {
		return done, nil, err
	}
	entries, unusable, own, silent := stage(moves, modes)
	done.own, done.silent = own, silent
	if entries, err = appendTakenBack(ctx, tx, entries, moves, modes); err != nil {
		return done, nil, err
	}
	slices.SortFunc(entries, entry.compare)
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.compare(b) == 0 })
	done.staged = len(entries)
	if entries, err = fresh(ctx, tx, entries, careful); err != nil || len(entries) == 0 {
		return done, unusable, err
	}
	done.stored = len(entries)
	windows, closed, err := n.openWindows(ctx, tx, entries)
	if err != nil {
		return done, nil, err
	}
	done.closed = closed
	return done, unusable, store(ctx, tx, entries, windows)
}

// noticeModes are the tenants' options; a tenant that is missing in them is unknown.
func noticeModes(ctx context.Context, tx pgx.Tx, moves []incoming) (map[string]string, error) {
	tenants := make([]string, 0, 1)
	for _, m := range moves {
		if !slices.Contains(tenants, m.TenantID) {
			tenants = append(tenants, m.TenantID)
		}
	}
	modes := make(map[string]string, len(tenants))
	rows, err := tx.Query(ctx, `SELECT tenant_id, notice_mode FROM tenants WHERE tenant_id = ANY($1)`, tenants)
	if err != nil {
		return nil, fmt.Errorf("tenants of moves: %w", err)
	}
	var tenant, mode string
	_, err = pgx.ForEachRow(rows, []any{&tenant, &mode}, func() error {
		modes[tenant] = mode
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("tenants of moves: %w", err)
	}
	return modes, nil
}

// stage turns messages into entries for those who received tasks. Who moved tasks to themself needs no mail about it, and
// what is silent tells nobody.
func stage(moves []incoming, modes map[string]string) (entries []entry, unusable []journal.DeadLetter, own, silent int) {
	for _, m := range moves {
		mode, known := modes[m.TenantID]
		switch {
		case !known:
			unusable = append(unusable, journal.DeadLetter{
				Consumer: event.ConsumerNotifier, Message: m.message, Reason: event.ReasonTenantUnknown,
				Detail: "there is no tenant " + m.TenantID,
			})
		case m.Silent:
			silent += len(m.Tasks)
		case m.ToID == "":
		case m.ToID == m.InitiatedBy:
			own += len(m.Tasks)
		default:
			entries = append(entries, m.entries(m.ToID, received, mode)...)
		}
	}
	return entries, unusable, own, silent
}

func (m incoming) entries(recipient, kind, mode string) []entry {
	of := &move{
		scope: scope{m.TenantID, recipient, m.AccountID}, kind: kind,
		accountID: m.AccountID, from: m.FromID, movedBy: m.InitiatedBy, reason: m.Reason, movedAt: m.Time,
	}
	if m.RoleChange != nil {
		of.role = m.RoleChange.Role
	}
	if mode == "summary" {
		of.account = ""
	}
	out := make([]entry, len(m.Tasks))
	for i, t := range m.Tasks {
		out[i] = entry{of, t.ID, t.Revision}
	}
	return out
}

// A mail that is being sent counts as one that was: when its writing turns out to have left the task out, the
// taking-back is left out in its turn (see collapse). Notices are named by tenant and recipient too, since their number alone
// also stands at the end of an index of those, and a plan for an empty table may go through all of that.
const mailedAbout = `
SELECT k.n FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k (tenant_id, recipient_id, task_id, revision, n)
WHERE (
  SELECT true FROM notice_items i
  CROSS JOIN LATERAL (
    SELECT coalesce(merged_into, notice_id) AS notice_id FROM notices
    WHERE tenant_id = i.tenant_id AND recipient_id = i.recipient_id AND notice_id = i.notice_id LIMIT 1) w
  CROSS JOIN LATERAL (
    SELECT state, mime FROM notices
    WHERE tenant_id = i.tenant_id AND recipient_id = i.recipient_id AND notice_id = w.notice_id LIMIT 1) m
  WHERE i.tenant_id = k.tenant_id AND i.recipient_id = k.recipient_id AND i.task_id = k.task_id AND i.revision < k.revision
    AND i.kind = 'received' AND (m.state IN ('sending', 'sent', 'ambiguous') OR m.mime IS NOT NULL)
  LIMIT 1)`

// appendTakenBack adds an entry for each task that a correction takes from somebody who was told that it is theirs.
func appendTakenBack(ctx context.Context, tx pgx.Tx, entries []entry, moves []incoming, modes map[string]string) ([]entry, error) {
	var candidates []entry
	for _, m := range moves {
		if mode, known := modes[m.TenantID]; known && m.Correction && !m.Silent && m.FromID != "" && m.FromID != m.InitiatedBy && m.FromID != m.ToID {
			candidates = append(candidates, m.entries(m.FromID, takenBack, mode)...)
		}
	}
	mailed, err := pick(ctx, tx, mailedAbout, candidates)
	if err != nil {
		return nil, fmt.Errorf("find what was mailed: %w", err)
	}
	return append(entries, mailed...), nil
}

// The subquery can't become a join, which, planned while the table was empty, would go through all of it for each entry.
const unknownItems = `
SELECT k.n FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k (tenant_id, recipient_id, task_id, revision, n)
WHERE (
  SELECT true FROM notice_items i
  WHERE i.tenant_id = k.tenant_id AND i.recipient_id = k.recipient_id AND i.task_id = k.task_id AND i.revision = k.revision
  LIMIT 1) IS NULL
ORDER BY k.n`

// fresh keeps the entries that aren't stored yet, so that a redelivery opens no window. The moves of a message are stored
// all or none: so where the first of each is new, the others are too, unless one move came in two messages, or comes just
// now to somebody else. Then storing them fails, and nothing remains; careful asks for every one.
func fresh(ctx context.Context, tx pgx.Tx, entries []entry, careful bool) ([]entry, error) {
	if !careful {
		firsts := firstOfEach(entries)
		unknown, err := pick(ctx, tx, unknownItems, firsts)
		if err != nil {
			return nil, fmt.Errorf("find new messages: %w", err)
		}
		if len(unknown) == len(firsts) {
			return entries, nil
		}
	}
	unknown, err := pick(ctx, tx, unknownItems, entries)
	if err != nil {
		return nil, fmt.Errorf("find new items: %w", err)
	}
	return unknown, nil
}

// firstOfEach is the first entry of each move.
func firstOfEach(entries []entry) []entry {
	var firsts []entry
	seen := make(map[*move]bool)
	for _, e := range entries {
		if !seen[e.move] {
			seen[e.move] = true
			firsts = append(firsts, e)
		}
	}
	return firsts
}

// pick keeps the entries whose numbers, from 1, the query returns, given their keys.
func pick(ctx context.Context, tx pgx.Tx, query string, entries []entry) ([]entry, error) {
	if len(entries) == 0 {
		return nil, nil
	}
	size := len(entries)
	tenants, recipients, tasks, revisions := make([]string, size), make([]string, size), make([]string, size), make([]int64, size)
	for i, e := range entries {
		tenants[i], recipients[i], tasks[i], revisions[i] = e.tenant, e.recipient, e.task, e.revision
	}
	picked, err := numbers(tx.Query(ctx, query, tenants, recipients, tasks, revisions))
	if err != nil {
		return nil, err
	}
	out := make([]entry, len(picked))
	for i, n := range picked {
		out[i] = entries[n-1]
	}
	return out, nil
}

func numbers(rows pgx.Rows, err error) ([]int64, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}
