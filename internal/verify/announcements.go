package verify

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

const (
	// announcedFor is how far back announcements are there to compare with: published rows of the outbox are removed a day
	// later. edge is left out at the far end, where a move and its announcement may lie on either side.
	announcedFor = 30 * 24 * time.Hour
	edge         = time.Hour
	// settleFor is how long the transactions that had begun may take until they are waited for no more.
	settleFor = time.Minute

	lastMove  = `SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('moves', 'key')), 0)`
	lastEntry = `SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('outbox', 'key')), 0)`
	// A number of its own, which is past those of all who write now: the end of a snapshot is only past those who have ended.
	writersNow = `SELECT pg_current_xact_id()::text::bigint`
	settled    = `SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= $1`
	moveAtKey  = `SELECT key, moved_at FROM moves WHERE key >= $1 ORDER BY key LIMIT 1`
	entryAtKey = `SELECT key, created_at FROM outbox WHERE key >= $1 ORDER BY key LIMIT 1`
	nextMoves  = `
SELECT key, tenant_id, account_id, coalesce(to_id, ''), moved_at, task_ids, revisions FROM moves
WHERE key > $1 AND key <= $2 AND reason <> 'synced' AND ($3 = '' OR tenant_id = $3) ORDER BY key LIMIT $4`
	nextEntries = `
SELECT key, message_id, subject, header, body, created_at FROM outbox
WHERE key > $1 AND key <= $2 AND stream = 'TASK_REASSIGNMENTS' AND ($3 = '' OR tenant_id = $3) ORDER BY key LIMIT $4`
)

// announcements compares moves with what the outbox has announced, and announcements with what their recipients are told.
//
// A move and its announcement are committed together, but the tables are read one after the other. So bounds are taken,
// and then every transaction that had begun by then is waited for: each row up to the bound is there by then or never
// will be. The strict bound of one table is that of before the wait, the loose one, up to which the other is read, of
// after it.
func (v *verifier) announcements(ctx context.Context) error {
	w := &walk{verifier: v, seed: maphash.MakeSeed(), open: map[uint64]int64{}, since: v.report.At.Add(-announcedFor)}
	if err := w.bound(ctx); err != nil {
		return err
	}
	if err := w.notHandled(ctx); err != nil {
		return err
	}
	var older bool
	if err := v.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM moves WHERE key < $1)`, w.firstMove).Scan(&older); err != nil {
		return err
	}
	if older {
		v.unknown("moves before %s: their announcements aren't kept so long", w.since.Add(edge).UTC().Format(time.RFC3339))
	}
	moves, entries := side{after: w.firstMove - 1}, side{after: w.firstEntry - 1}
	total := max(0, w.looseMove-moves.after) + max(0, w.looseEntry-entries.after)
	first := moves.after + entries.after
	for !moves.ended || !entries.ended {
		// In step by time, so that few wait for their counterparts.
		var err error
		if !moves.ended && (entries.ended || !moves.at.After(entries.at)) {
			err = w.readMoves(ctx, &moves)
		} else {
			err = w.readEntries(ctx, &entries)
		}
		if err != nil {
			return err
		}
		v.Progress("announcements", moves.after+entries.after-first, total)
	}
	return w.unmatched(ctx)
}

// side is how far one of the two tables is read.
type side struct {
	after int64
	at    time.Time
	ended bool
}

type walk struct {
	*verifier
	seed  maphash.Seed
	since time.Time

	firstMove, firstEntry   int64
	strictMove, strictEntry int64
	looseMove, looseEntry   int64

	// open are tasks of moves, by what a move and its announcement have in common, that have no counterpart yet: the key
	// of the move, or below zero that of the outbox row.
	open map[uint64]int64
	// repeated are outbox rows that announce what another one has.
	repeated []int64

	untold    bool           // whether the notifier's part can be told
	unhandled map[int64]bool // keys of the outbox that the notifier may not have had yet
}

func (w *walk) bound(ctx context.Context) (err error) {
	one := func(sql string, into *int64) {
		if err == nil {
			err = w.pool.QueryRow(ctx, sql).Scan(into)
		}
	}
	one(lastMove, &w.strictMove)
	one(lastEntry, &w.strictEntry)
	var writers int64
	one(writersNow, &writers)
	for began := time.Now(); err == nil; {
		var done bool
		if err = w.pool.QueryRow(ctx, settled, writers).Scan(&done); err != nil || done {
			break
		}
		if time.Since(began) > settleFor {
			return fmt.Errorf("a transaction has been writing for more than %s; end it (pg_stat_activity), and verify again", settleFor)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
	one(lastMove, &w.looseMove)
	one(lastEntry, &w.looseEntry)
	if err != nil {
		return err
	}
	if w.firstMove, err = w.firstSince(ctx, moveAtKey, w.looseMove); err != nil {
		return err
	}
	w.firstEntry, err = w.firstSince(ctx, entryAtKey, w.looseEntry)
	return err
}

// firstSince is about the first key whose row isn't older than since: keys follow time, but for a moment.
func (w *walk) firstSince(ctx context.Context, sql string, last int64) (int64, error) {
	from, to := int64(1), last+1
	for from < to {
		middle := from + (to-from)/2
		var key int64
		var at time.Time
		err := w.pool.QueryRow(ctx, sql, middle).Scan(&key, &at)
		switch {
		case err == pgx.ErrNoRows || (err == nil && (key > last || !at.Before(w.since))):
			to = middle
		case err != nil:
			return 0, err
		default:
			from = key + 1
		}
	}
	return from, nil
}

const walkLimit = 1000

// common is what a move and its announcement have in common of one task.
func (w *walk) common(tenant, account, to, task string, revision int64) uint64 {
	var h maphash.Hash
	h.SetSeed(w.seed)
	for _, s := range []string{tenant, account, to, task} {
		h.WriteString(s)
		h.WriteByte(0)
	}
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(revision)))
	return h.Sum64()
}

func (w *walk) readMoves(ctx context.Context, at *side) error {
	type move struct {
		key                 int64
		tenant, account, to string
		at                  time.Time
		tasks               []string
		revisions           []int64
	}
	var read []move
	if err := w.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, nextMoves, at.after, w.looseMove, w.Tenant, walkLimit)
		if err != nil {
			return err
		}
		read, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (m move, err error) {
			err = row.Scan(&m.key, &m.tenant, &m.account, &m.to, &m.at, &m.tasks, &m.revisions)
			return m, err
		})
		return err
	}); err != nil {
		return err
	}
	for _, m := range read {
		for i, task := range m.tasks {
			if c := w.common(m.tenant, m.account, m.to, task, m.revisions[i]); w.open[c] < 0 {
				delete(w.open, c)
			} else {
				w.open[c] = m.key
			}
		}
		at.after, at.at = m.key, m.at
	}
	w.report.Looked.Moves += int64(len(read))
	if at.ended = len(read) < walkLimit; at.ended {
		at.after = w.looseMove
	}
	return nil
}

// entry is an announcement as the outbox has it: of its body no more than is compared, since it may be one that its readers
// refuse.
type entry struct {
	key       int64
	message   event.Message
	created   time.Time
	announced struct {
		Time time.Time `json:"time"`
		Data struct {
			AccountID   string  `json:"account_id"`
			ToID        *string `json:"to_id"`
			InitiatedBy string  `json:"initiated_by"`
			Silent      bool    `json:"silent"`
			Tasks       []struct {
				ID       string `json:"id"`
				Revision int64  `json:"revision"`
			} `json:"tasks"`
		} `json:"data"`
	}
}

func (e *entry) tenant() string  { return event.TenantOf(e.message.Subject) }
func (e *entry) account() string { return e.announced.Data.AccountID }
func (e *entry) at() string      { return e.announced.Time.UTC().Format(time.RFC3339) }

func (e *entry) to() string {
	if to := e.announced.Data.ToID; to != nil {
		return *to
	}
	return ""
}

func (w *walk) readEntries(ctx context.Context, at *side) error {
	var read []entry
	if err := w.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, nextEntries, at.after, w.looseEntry, w.Tenant, walkLimit)
		if err != nil {
			return err
		}
		read, err = pgx.CollectRows(rows, scanEntry)
		return err
	}); err != nil {
		return err
	}
	var told []*entry
	for i := range read {
		e := &read[i]
		again := false
		for _, t := range e.announced.Data.Tasks {
			switch c := w.common(e.tenant(), e.account(), e.to(), t.ID, t.Revision); {
			case w.open[c] > 0:
				delete(w.open, c)
			case w.open[c] < 0:
				again = true
			default:
				w.open[c] = -e.key
			}
		}
		if again {
			w.repeated = append(w.repeated, e.key)
		}
		if w.untold && e.key <= w.strictEntry && !w.unhandled[e.key] && e.toBeTold() {
			told = append(told, e)
		}
		at.after, at.at = e.key, e.created
	}
	w.report.Looked.Announcements += int64(len(read))
	if at.ended = len(read) < walkLimit; at.ended {
		at.after = w.looseEntry
	}
	if !w.wants(Untold) {
		return nil
	}
	return w.checkTold(ctx, told)
}

func scanEntry(row pgx.CollectableRow) (e entry, err error) {
	if err = row.Scan(&e.key, &e.message.ID, &e.message.Subject, &e.message.Header, &e.message.Body, &e.created); err != nil {
		return e, err
	}
	if e.message.Header == nil {
		e.message.Header = map[string][]string{"Content-Type": {"application/cloudevents+json"}}
	}
	if err = json.Unmarshal(e.message.Body, &e.announced); err != nil {
		return e, fmt.Errorf("outbox row %d: %w", e.key, err)
	}
	return e, nil
}

// toBeTold tells whether somebody is to have an item: who moves tasks to themself needs none.
func (e *entry) toBeTold() bool {
	return e.to() != "" && e.to() != e.announced.Data.InitiatedBy && !e.announced.Data.Silent
}

const (
	movesByKey = `
SELECT key, tenant_id, account_id, coalesce(from_id, ''), coalesce(to_id, ''), moved_at, cardinality(task_ids) FROM moves
WHERE key = ANY($1) AND moved_at >= $2 ORDER BY key`
	entriesByKey = `SELECT key, message_id, subject, header, body, created_at FROM outbox WHERE key = ANY($1) AND created_at >= $2 ORDER BY key`
	moveExists   = `
SELECT EXISTS (
  SELECT FROM moves m CROSS JOIN LATERAL unnest(m.task_ids, m.revisions) AS r(id, revision)
  WHERE m.tenant_id = $1 AND m.account_id = $2 AND r.id = $3 AND r.revision = $4 AND coalesce(m.to_id, '') = $5)`
)

// unmatched are the findings: what still waits for its counterpart and lies within the strict bounds.
func (w *walk) unmatched(ctx context.Context) error {
	lone := map[int64]int64{}
	for _, key := range w.open {
		lone[key]++
	}
	var moves, entries []int64
	for key := range lone {
		switch {
		case key > 0 && key <= w.strictMove:
			moves = append(moves, key)
		case key < 0 && -key <= w.strictEntry:
			entries = append(entries, -key)
		}
	}
	entries = append(entries, w.repeated...)
	if err := w.unannounced(ctx, moves, lone); err != nil {
		return err
	}
	return w.unfounded(ctx, entries)
}

func (w *walk) unannounced(ctx context.Context, keys []int64, lone map[int64]int64) error {
	for batch := range chunks(keys, walkLimit) {
		var found []Finding
		if err := w.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
			found = nil
			rows, err := tx.Query(ctx, movesByKey, batch, w.since.Add(edge))
			if err != nil {
				return err
			}
			f := Finding{Kind: Unannounced, Remedy: w.fix(Unannounced)}
			var from, to string
			var at time.Time
			var n int64
			_, err = pgx.ForEachRow(rows, []any{&f.Key, &f.TenantID, &f.AccountID, &from, &to, &at, &n}, func() error {
				f.Says = fmt.Sprintf("move %d: %d of %s of account %s from %s to %s at %s", f.Key, lone[f.Key], count(n, "task"), f.AccountID, person(from), person(to), at.UTC().Format(time.RFC3339))
				found = append(found, f)
				return nil
			})
			return err
		}); err != nil {
			return err
		}
		for _, f := range found {
			if w.wants(Unannounced) {
				w.report.todo.moves = append(w.report.todo.moves, f.Key)
			}
			w.found(f)
		}
	}
	return nil
}

func (w *walk) unfounded(ctx context.Context, keys []int64) error {
	for batch := range chunks(keys, 100) {
		var found []Finding
		if err := w.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
			found = nil
			rows, err := tx.Query(ctx, entriesByKey, batch, w.since.Add(edge))
			if err != nil {
				return err
			}
			lone, err := pgx.CollectRows(rows, scanEntry)
			if err != nil {
				return err
			}
			for i := range lone {
				e := &lone[i]
				missing := int64(0)
				for _, t := range e.announced.Data.Tasks {
					var exists bool
					if err := tx.QueryRow(ctx, moveExists, e.tenant(), e.account(), t.ID, t.Revision, e.to()).Scan(&exists); err != nil {
						return err
					}
					if !exists {
						missing++
					}
				}
				f := Finding{Kind: AnnouncedTwice, TenantID: e.tenant(), AccountID: e.account(), MessageID: e.message.ID, Key: e.key, Remedy: "none is needed: subscribers keep the highest revision, and nobody is mailed twice"}
				f.Says = fmt.Sprintf("outbox row %d announces again what another one has: %s of account %s to %s", e.key, count(int64(len(e.announced.Data.Tasks)), "task"), e.account(), person(e.to()))
				if missing > 0 {
					f.Kind = Unfounded
					f.Says = fmt.Sprintf("outbox row %d announced that %s of account %s went to %s at %s; no such move is recorded", e.key, count(missing, "task"), e.account(), person(e.to()), e.at())
					f.Remedy = "nothing brings back the record of a move; " + w.fixAccount(account(e.tenant(), e.account())) + " sets right whom its tasks are with"
				}
				found = append(found, f)
			}
			return nil
		}); err != nil {
			return err
		}
		for _, f := range found {
			w.found(f)
		}
	}
	return nil
}

// chunks cuts a list into parts of at most n.
func chunks[T any](list []T, n int) func(func([]T) bool) {
	return func(yield func([]T) bool) {
		for len(list) > 0 {
			part := list[:min(n, len(list))]
			if list = list[len(part):]; !yield(part) {
				return
			}
		}
	}
}
