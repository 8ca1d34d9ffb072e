package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

const (
	owedKeys = `SELECT key FROM outbox_owed`
	// Also what stands on another stream of that name only: it may have been lost before it was read.
	keysAfter = `
SELECT k FROM outbox_published p CROSS JOIN LATERAL unnest(p.keys, p.sequences) AS e(k, s)
WHERE p.stream = 'TASK_REASSIGNMENTS' AND p.stream_created = $2 AND p.last_sequence > $1 AND e.s > $1
UNION ALL
SELECT unnest(p.keys) FROM outbox_published p WHERE p.stream = 'TASK_REASSIGNMENTS' AND p.stream_created <> $2`
)

// notHandled finds the announcements that the notifier may not have had yet. What it has acknowledged by the time that the
// broker was asked is stored.
func (w *walk) notHandled(ctx context.Context) error {
	s, ok := w.streams[event.StreamTaskReassignments]
	c, runs := s.Consumers[event.ConsumerNotifier]
	if !ok || !runs {
		if w.wants(Untold) {
			w.unknown("whether recipients are told: there is no broker to ask, or no notifier was ever run")
		}
		return nil
	}
	w.untold, w.unhandled = true, map[int64]bool{}
	return w.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		for _, q := range []struct {
			sql  string
			args []any
		}{{owedKeys, nil}, {keysAfter, []any{int64(c.Handled), s.Created}}} {
			rows, err := tx.Query(ctx, q.sql, q.args...)
			if err != nil {
				return err
			}
			var key int64
			if _, err := pgx.ForEachRow(rows, []any{&key}, func() error { w.unhandled[key] = true; return nil }); err != nil {
				return err
			}
		}
		return nil
	})
}

const missingItems = `
SELECT k.n FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k(tenant_id, recipient_id, task_id, revision, n)
WHERE (
  SELECT true FROM notice_items i
  WHERE i.tenant_id = k.tenant_id AND i.recipient_id = k.recipient_id AND i.task_id = k.task_id AND i.revision = k.revision LIMIT 1) IS NULL`

// checkTold finds announcements, handled by the notifier, of which a task is no item of a notice.
func (w *walk) checkTold(ctx context.Context, told []*entry) error {
	if len(told) == 0 {
		return nil
	}
	var tenants, recipients, tasks []string
	var revisions []int64
	var of []*entry
	for _, e := range told {
		for _, t := range e.announced.Data.Tasks {
			tenants, recipients, tasks, revisions = append(tenants, e.tenant()), append(recipients, e.to()), append(tasks, t.ID), append(revisions, t.Revision)
			of = append(of, e)
		}
	}
	missing := map[*entry]int64{}
	if err := w.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		clear(missing)
		rows, err := tx.Query(ctx, missingItems, tenants, recipients, tasks, revisions)
		if err != nil {
			return err
		}
		var n int
		if _, err := pgx.ForEachRow(rows, []any{&n}, func() error { missing[of[n-1]]++; return nil }); err != nil {
			return err
		}
		letters := make([]letter, 0, len(missing))
		for e := range missing {
			letters = append(letters, letter{event.ConsumerNotifier, e.message})
		}
		dead, err := buried(ctx, tx, letters)
		for e := range missing {
			if dead[string(e.message.Body)] {
				delete(missing, e)
			}
		}
		if err != nil {
			return err
		}
		return nil
	}); err != nil {
		return err
	}
	for _, e := range told {
		n := missing[e]
		if n == 0 {
			continue
		}
		w.report.todo.untold = append(w.report.todo.untold, e.key)
		w.found(Finding{Kind: Untold, TenantID: e.tenant(), AccountID: e.account(), UserID: e.to(), MessageID: e.message.ID, Key: e.key,
			Says:   fmt.Sprintf("%s of account %s went to %s at %s: announced, but in no mail of theirs", count(n, "task"), e.account(), e.to(), e.at()),
			Remedy: w.fix(Untold)})
	}
	return nil
}

// letter is a message that may be a dead letter of a consumer.
type letter struct {
	consumer string
	message  event.Message
}

// buried are the bodies of those that are dead letters, for whatever reason, in whatever state.
func buried(ctx context.Context, tx pgx.Tx, of []letter) (map[string]bool, error) {
	bodies := map[[16]byte]string{}
	var digests [][16]byte
	for _, l := range of {
		for _, reason := range deadReasons {
			d := journal.DeadLetter{Consumer: l.consumer, Message: l.message, Reason: reason}.Digest()
			digests, bodies[d] = append(digests, d), string(l.message.Body)
		}
	}
	dead := map[string]bool{}
	if len(digests) == 0 {
		return dead, nil
	}
	rows, err := tx.Query(ctx, `
SELECT k.digest FROM unnest($1::uuid[]) AS k(digest) WHERE (SELECT true FROM dead_letters d WHERE d.digest = k.digest LIMIT 1)`, digests)
	if err != nil {
		return nil, err
	}
	var d [16]byte
	_, err = pgx.ForEachRow(rows, []any{&d}, func() error { dead[bodies[d]] = true; return nil })
	return dead, err
}

var deadReasons = []string{
	event.ReasonNotCloudEvent, event.ReasonUnknownType, event.ReasonInvalid, event.ReasonTenantMismatch, event.ReasonTenantUnknown, event.ReasonTimeAhead,
	event.ReasonIDReused, event.ReasonOwnerUnknown, event.ReasonOwnerUnavailable, event.ReasonOverrideRefused, event.ReasonRejected,
}
