package publisher

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/pkg/event"
)

// Schema creates the table of [Publisher.EnqueueTx], for your migrations. It may run any number of times.
//
//go:embed outbox.sql
var Schema string

const (
	// relayBatch is how many rows one transaction of the relay takes.
	relayBatch = 500
	// deletePatience is for what was published to be deleted when the context has ended meanwhile.
	deletePatience = 5 * time.Second
	// A failing relay tries again after 250 ms, then twice as long each time, up to 10 s.
	firstRelayRetry, lastRelayRetry = 250 * time.Millisecond, 10 * time.Second

	// CREATE TABLE IF NOT EXISTS fails when two run it at once, so one waits for the other.
	schemaLock = `SELECT pg_advisory_xact_lock(hashtextextended('handover_outbox', 0));`

	enqueue = `
INSERT INTO handover_outbox (message_id, subject, body)
SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
ON CONFLICT (message_id) DO NOTHING`
	takeCommitted = `
SELECT key, message_id, subject, body FROM handover_outbox
ORDER BY key LIMIT $1 FOR UPDATE SKIP LOCKED`
	deletePublished = `DELETE FROM handover_outbox WHERE key = ANY($1)`
)

// Execer is a connection, a pool or a transaction of pgx.
type Execer interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
}

// EnsureTable creates the table handover_outbox in the first schema of the search path, if it isn't there.
func EnsureTable(ctx context.Context, db Execer) error {
	if _, err := db.Exec(ctx, schemaLock+Schema); err != nil {
		return fmt.Errorf("create the table handover_outbox: %w", err)
	}
	return nil
}

// EnqueueTx has the changes published if, and only if, tx commits; a [Publisher.Relay] must run somewhere. It fills in and
// validates like [Publisher.Publish], at once. A change that is waiting already is not added again.
func (p *Publisher) EnqueueTx(ctx context.Context, tx pgx.Tx, changes ...event.AccountRoleChanged) error {
	if len(changes) == 0 {
		return nil
	}
	_, messages, err := p.prepare(changes)
	if err != nil {
		return err
	}
	ids, subjects, bodies := make([]string, len(messages)), make([]string, len(messages)), make([][]byte, len(messages))
	for i, m := range messages {
		ids[i], subjects[i], bodies[i] = m.ID, m.Subject, m.Body
	}
	if _, err := tx.Exec(ctx, enqueue, ids, subjects, bodies); err != nil {
		return fmt.Errorf("enqueue role changes: %w", err)
	}
	return nil
}

// Relay publishes what was committed, until ctx is done, and returns nil then. A broker or a database that is away is
// waited for, and logged. Any number of relays may run on one table, whatever their source: they share the work.
func (p *Publisher) Relay(ctx context.Context, pool *pgxpool.Pool) error {
	wait := &backoff.ExponentialBackOff{InitialInterval: firstRelayRetry, MaxInterval: lastRelayRetry, Multiplier: 2, RandomizationFactor: 0.5}
	for {
		n, err := p.RelayOnce(ctx, pool)
		pause := p.poll
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			pause = wait.NextBackOff()
			p.log.WarnContext(ctx, "role changes are waiting to be published", "error", err, "retry_in", pause)
		default:
			wait.Reset()
			if n == relayBatch {
				continue
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

// RelayOnce publishes what was committed, up to 500 changes, each tried once, and returns how many the stream has taken.
// Those it hasn't stay in the table, and the error says why. Rows that another relay is at are left to it.
func (p *Publisher) RelayOnce(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	published, err := p.relayOnce(ctx, pool)
	if err != nil {
		err = fmt.Errorf("relay role changes: %w", err)
	}
	return published, err
}

func (p *Publisher) relayOnce(ctx context.Context, pool *pgxpool.Pool) (int, error) {
	tx, err := pool.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // does nothing after the commit
	keys, messages, err := take(ctx, tx)
	if err != nil || len(keys) == 0 {
		return 0, err
	}
	done := make([]int64, 0, len(keys))
	var failed error
	for i, err := range p.each(messages, func(m event.Message) error { return p.store(ctx, m) }) {
		if err == nil {
			done = append(done, keys[i])
		} else if failed == nil {
			failed = err
		}
	}
	// What is not deleted is published again, which does no harm but costs: so even when ctx has ended meanwhile.
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), deletePatience)
	defer cancel()
	if _, err := tx.Exec(after, deletePublished, done); err != nil {
		return 0, errors.Join(failed, err)
	}
	if err := tx.Commit(after); err != nil {
		return 0, errors.Join(failed, err)
	}
	return len(done), failed
}

func take(ctx context.Context, tx pgx.Tx) (keys []int64, messages []event.Message, err error) {
	rows, err := tx.Query(ctx, takeCommitted, relayBatch)
	if err != nil {
		return nil, nil, err
	}
	var key int64
	var m event.Message
	_, err = pgx.ForEachRow(rows, []any{&key, &m.ID, &m.Subject, &m.Body}, func() error {
		m.Header = map[string][]string{"Content-Type": {"application/cloudevents+json"}}
		keys, messages = append(keys, key), append(messages, m)
		return nil
	})
	return keys, messages, err
}
