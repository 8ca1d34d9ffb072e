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

// item is one move of one task, for one recipient.
type item struct {
	scope
	task     string
	revision int64
	kind     string
	accountID, from, movedBy,
	reason, role string
	movedAt time.Time
}

func (i item) compare(o item) int {
	return cmp.Or(cmp.Compare(i.tenant, o.tenant), cmp.Compare(i.recipient, o.recipient), cmp.Compare(i.task, o.task),
		cmp.Compare(i.revision, o.revision))
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
	var done taken
	err := postgres.InTx(ctx, n.pool, func(ctx context.Context, tx pgx.Tx) error {
		var unusable []journal.DeadLetter
		var err error
		if done, unusable, err = n.take(ctx, tx, moves); err != nil {
			return err
		}
		if unusable = append(unusable, dead...); len(unusable) == 0 {
			return nil
		}
		done.refused = len(unusable)
		_, _, err = journal.Bury(ctx, tx, unusable)
		return err
	})
	if err != nil {
		return fmt.Errorf("take in %d messages: %w", len(batch), err)
	}
	n.metrics.moves.WithLabelValues("told").Add(float64(done.stored))
	n.metrics.moves.WithLabelValues("repeated").Add(float64(done.staged - done.stored))
	n.metrics.moves.WithLabelValues("own").Add(float64(done.own))
	n.metrics.moves.WithLabelValues("refused").Add(float64(done.refused))
	if done.closed {
		n.wake()
	}
	return nil
}

type incoming struct {
	event.TaskReassigned
	message event.Message
}

// taken counts what a batch did.
type taken struct {
	staged, stored, own, refused int
	closed                       bool // a window that was overdue
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
// for each other but never in a circle.
func (n *Notifier) take(ctx context.Context, tx pgx.Tx, moves []incoming) (taken, []journal.DeadLetter, error) {
	var done taken
	modes, err := noticeModes(ctx, tx, moves)
	if err != nil {
		return done, nil, err
	}
	items, unusable, own := stage(moves, modes)
	done.own = own
	if items, err = appendTakenBack(ctx, tx, items, moves, modes); err != nil {
		return done, nil, err
	}
	slices.SortFunc(items, item.compare)
	items = slices.CompactFunc(items, func(a, b item) bool { return a.compare(b) == 0 })
	done.staged = len(items)
	if items, err = unknown(ctx, tx, items); err != nil || len(items) == 0 {
		return done, unusable, err
	}
	windows, closed, err := n.openWindows(ctx, tx, items)
	if err != nil {
		return done, nil, err
	}
	done.closed = closed
	if done.stored, err = store(ctx, tx, items, windows); err != nil {
		return done, nil, err
	}
	if done.stored < len(items) {
		err = dropEmpty(ctx, tx, windows)
	}
	return done, unusable, err
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

// stage turns moves into items for those who received tasks. Who moved tasks to themself needs no mail about it.
func stage(moves []incoming, modes map[string]string) (items []item, unusable []journal.DeadLetter, own int) {
	for _, m := range moves {
		mode, known := modes[m.TenantID]
		switch {
		case !known:
			unusable = append(unusable, journal.DeadLetter{
				Consumer: event.ConsumerNotifier, Message: m.message, Reason: event.ReasonTenantUnknown,
				Detail: "there is no tenant " + m.TenantID,
			})
		case m.ToID == "":
		case m.ToID == m.InitiatedBy:
			own += len(m.Tasks)
		default:
			for _, t := range m.Tasks {
				items = append(items, m.item(t, m.ToID, received, mode))
			}
		}
	}
	return items, unusable, own
}

func (m incoming) item(t event.ReassignedTask, recipient, kind, mode string) item {
	i := item{
		scope: scope{m.TenantID, recipient, m.AccountID}, task: t.ID, revision: t.Revision, kind: kind,
		accountID: m.AccountID, from: m.FromID, movedBy: m.InitiatedBy, reason: m.Reason, movedAt: m.Time,
	}
	if m.RoleChange != nil {
		i.role = m.RoleChange.Role
	}
	if mode == "summary" {
		i.account = ""
	}
	return i
}

// A mail that is being sent counts as one that was: when its writing turns out to have left the task out, the
// taking-back is left out in its turn (see lines).
const mailedAbout = `
SELECT k.n FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k (tenant_id, recipient_id, task_id, revision, n)
WHERE EXISTS (
  SELECT FROM notice_items i
  JOIN notices w ON w.notice_id = i.notice_id
  JOIN notices m ON m.notice_id = coalesce(w.merged_into, w.notice_id)
  WHERE i.tenant_id = k.tenant_id AND i.recipient_id = k.recipient_id AND i.task_id = k.task_id AND i.revision < k.revision
    AND i.kind = 'received' AND (m.state IN ('sending', 'sent', 'ambiguous') OR m.mime IS NOT NULL))`

// appendTakenBack adds an item for each task that a correction takes from somebody who was told that it is theirs.
func appendTakenBack(ctx context.Context, tx pgx.Tx, items []item, moves []incoming, modes map[string]string) ([]item, error) {
	var candidates []item
	for _, m := range moves {
		if mode, known := modes[m.TenantID]; known && m.Correction && m.FromID != "" && m.FromID != m.InitiatedBy && m.FromID != m.ToID {
			for _, t := range m.Tasks {
				candidates = append(candidates, m.item(t, m.FromID, takenBack, mode))
			}
		}
	}
	if len(candidates) == 0 {
		return items, nil
	}
	tenants, recipients, tasks, revisions := keys(candidates)
	mailed, err := numbers(tx.Query(ctx, mailedAbout, tenants, recipients, tasks, revisions))
	if err != nil {
		return nil, fmt.Errorf("find what was mailed: %w", err)
	}
	for _, i := range mailed {
		items = append(items, candidates[i-1])
	}
	return items, nil
}

const unknownItems = `
SELECT k.n FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k (tenant_id, recipient_id, task_id, revision, n)
WHERE NOT EXISTS (
  SELECT FROM notice_items i
  WHERE i.tenant_id = k.tenant_id AND i.recipient_id = k.recipient_id AND i.task_id = k.task_id AND i.revision = k.revision)
ORDER BY k.n`

// unknown keeps the items that aren't stored yet, so that a redelivery opens no window.
func unknown(ctx context.Context, tx pgx.Tx, items []item) ([]item, error) {
	tenants, recipients, tasks, revisions := keys(items)
	fresh, err := numbers(tx.Query(ctx, unknownItems, tenants, recipients, tasks, revisions))
	if err != nil {
		return nil, fmt.Errorf("find new items: %w", err)
	}
	out := make([]item, len(fresh))
	for i, n := range fresh {
		out[i] = items[n-1]
	}
	return out, nil
}

func numbers(rows pgx.Rows, err error) ([]int64, error) {
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

func keys(items []item) (tenants, recipients, tasks []string, revisions []int64) {
	for _, i := range items {
		tenants, recipients, tasks, revisions = append(tenants, i.tenant), append(recipients, i.recipient), append(tasks, i.task), append(revisions, i.revision)
	}
	return tenants, recipients, tasks, revisions
}

const insertItems = `
INSERT INTO notice_items (tenant_id, recipient_id, task_id, revision, kind, notice_id, account_id, from_id, moved_by, reason, role, moved_at)
SELECT k.tenant_id, k.recipient_id, k.task_id, k.revision, k.kind, k.notice_id, k.account_id, nullif(k.from_id, ''), k.moved_by, k.reason, k.role, k.moved_at
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[])
     WITH ORDINALITY AS k (tenant_id, recipient_id, task_id, revision, kind, notice_id, account_id, from_id, moved_by, reason, role, moved_at, n)
ORDER BY k.n
ON CONFLICT DO NOTHING`

// store writes the items, in the order of their keys, and returns how many were new.
func store(ctx context.Context, tx pgx.Tx, items []item, windows map[scope]int64) (int, error) {
	tenants, recipients, tasks, revisions := keys(items)
	size := len(items)
	kinds, notices, accounts := make([]string, size), make([]int64, size), make([]string, size)
	from, by, reasons, roles, at := make([]string, size), make([]string, size), make([]string, size), make([]string, size), make([]time.Time, size)
	for n, i := range items {
		kinds[n], notices[n], accounts[n] = i.kind, windows[i.scope], i.accountID
		from[n], by[n], reasons[n], roles[n], at[n] = i.from, i.movedBy, i.reason, i.role, i.movedAt
	}
	tag, err := tx.Exec(ctx, insertItems, tenants, recipients, tasks, revisions, kinds, notices, accounts, from, by, reasons, roles, at)
	if err != nil {
		return 0, fmt.Errorf("store items: %w", err)
	}
	return int(tag.RowsAffected()), nil
}
