package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/postgres"
	"handover.io/pkg/event"
)

const (
	// sweepAfter is how old an unpublished row is before the sweep takes it: until then whoever committed it is about to
	// publish it.
	sweepAfter = 2 * time.Second
	sweepEvery = time.Second
	// batchLimit is the most one broker batch takes.
	batchLimit = 1000
	// keepFor is how long a published row is kept: a day longer than the streams keep messages (bus.Limits), so that what
	// a stream has lost can be published again. pruneEvery is how often older rows are removed.
	keepFor    = 31 * 24 * time.Hour
	pruneEvery = time.Minute
	// offers is how many committed batches may wait to be published; more are left to the sweep.
	offers = 64
)

// Publish sends messages and says where each stands. Where it fails for some, their Stored has no sequence and the
// error says why; the others are safe.
type Publish func(ctx context.Context, messages []event.Message) ([]event.Stored, error)

// Relay publishes what the outbox owes. Any number may run at once, in any process: a message published twice carries
// the same id twice.
type Relay struct {
	pool    *pgxpool.Pool
	publish Publish
	log     *zap.Logger
	offered chan []Entry
}

// NewRelay returns a relay that publishes with publish.
func NewRelay(pool *pgxpool.Pool, publish Publish, log *zap.Logger) *Relay {
	return &Relay{pool: pool, publish: publish, log: log, offered: make(chan []Entry, offers)}
}

// Offer hands over what a transaction has just committed, so that it needn't wait for the sweep. It never blocks; what
// doesn't fit is swept.
func (r *Relay) Offer(entries []Entry) {
	if len(entries) == 0 {
		return
	}
	select {
	case r.offered <- entries:
	default:
	}
}

// Run publishes until ctx is done: what is offered at once, and whatever else is unpublished within seconds.
func (r *Relay) Run(ctx context.Context) error {
	swept := make(chan struct{})
	go func() {
		defer close(swept)
		r.sweepLoop(ctx)
	}()
	for {
		select {
		case <-ctx.Done():
			<-swept
			return nil
		case entries := <-r.offered:
			if err := r.send(ctx, r.gather(entries)); err != nil && ctx.Err() == nil {
				r.log.Warn("not published yet; the sweep tries again", zap.String("part", "relay"), zap.Error(err))
			}
		}
	}
}

// gather takes what else has been offered by now, so that the broker syncs once for all of it.
func (r *Relay) gather(entries []Entry) []Entry {
	for len(entries) < batchLimit {
		select {
		case more := <-r.offered:
			entries = append(entries, more...)
		default:
			return entries
		}
	}
	return entries
}

func (r *Relay) send(ctx context.Context, entries []Entry) error {
	fresh := entries[:0:0]
	for _, e := range entries {
		if e.Key != 0 {
			fresh = append(fresh, e)
		}
	}
	stored, err := r.publish(ctx, messages(fresh))
	if markErr := mark(ctx, r.pool, fresh, stored); markErr != nil {
		return markErr
	}
	return err
}

func (r *Relay) sweepLoop(ctx context.Context) {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	pruned := time.Now()
	for {
		if time.Since(pruned) >= pruneEvery {
			pruned = time.Now()
			if err := r.Prune(ctx); err != nil && ctx.Err() == nil {
				r.log.Warn("old outbox rows not removed; trying again", zap.String("part", "relay"), zap.Error(err))
			}
		}
		for {
			n, err := r.Sweep(ctx, sweepAfter)
			if err != nil && ctx.Err() == nil {
				r.log.Warn("outbox sweep failed; trying again", zap.String("part", "relay"), zap.Error(err))
			}
			if n < batchLimit || err != nil {
				break
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

const unpublished = `
SELECT o.key, o.message_id, o.stream, o.subject, o.header, o.body FROM outbox_owed w JOIN outbox o USING (key)
WHERE o.created_at <= clock_timestamp() - $1::interval
ORDER BY key LIMIT 1000 FOR UPDATE OF w SKIP LOCKED`

// Sweep publishes up to one batch of what has been unpublished for at least age, and returns how many it found.
func (r *Relay) Sweep(ctx context.Context, age time.Duration) (int, error) {
	found := 0
	err := postgres.InTx(ctx, r.pool, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, unpublished, age)
		if err != nil {
			return err
		}
		owed, err := pgx.CollectRows(rows, pgx.RowToStructByPos[outboxRow])
		if err != nil || len(owed) == 0 {
			return err
		}
		entries := make([]Entry, len(owed))
		for i, row := range owed {
			entries[i] = row.entry()
		}
		found = len(entries)
		stored, err := r.publish(ctx, messages(entries))
		if markErr := mark(ctx, tx, entries, stored); markErr != nil {
			return markErr
		}
		if err != nil {
			// What was acknowledged is marked all the same; the rest stays owed.
			r.log.Warn("not all published; trying again", zap.String("part", "relay"), zap.Int("messages", len(entries)), zap.Error(err))
		}
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("sweep the outbox: %w", err)
	}
	return found, nil
}

// The oldest rows have the smallest keys, or nearly so: what a batch passes over, a later one takes.
const pruneOutbox = `
WITH old AS (
  DELETE FROM outbox_published WHERE key IN (SELECT key FROM outbox_published ORDER BY key LIMIT 100) AND published_at < clock_timestamp() - $1::interval
  RETURNING keys
), gone AS (
  DELETE FROM outbox o WHERE o.key IN (SELECT unnest(keys) FROM old) AND NOT EXISTS (SELECT FROM outbox_owed w WHERE w.key = o.key))
SELECT count(*) FROM old`

// Prune removes published rows that nobody can need any more: those published more than 31 days ago. Run does it.
func (r *Relay) Prune(ctx context.Context) error {
	for {
		var old int
		if err := r.pool.QueryRow(ctx, pruneOutbox, keepFor).Scan(&old); err != nil || old == 0 {
			return err
		}
	}
}

func messages(entries []Entry) []event.Message {
	out := make([]event.Message, len(entries))
	for i, e := range entries {
		out[i] = e.Message
	}
	return out
}
