package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/pkg/event"
)

// Entry is a message that a transaction wants published.
type Entry struct {
	Stream string
	event.Message
	Key int64 // of the row, set by Append; 0 when the message was in the outbox already
}

const appendEntries = `
WITH fresh AS (
  INSERT INTO outbox (message_id, tenant_id, stream, subject, header, body)
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::jsonb[], $6::bytea[])
  ON CONFLICT (message_id) WHERE stream = 'ROLE_CHANGES' DO NOTHING
  RETURNING key, message_id
), owed AS (INSERT INTO outbox_owed (key) SELECT key FROM fresh)
SELECT key, message_id FROM fresh`

// Append puts the entries into the outbox, in order, as part of tx, and sets their keys. A role change whose message id is
// there already is left as it is. Offer what it returned to a [Relay] after the commit.
func Append(ctx context.Context, tx pgx.Tx, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	n := len(entries)
	ids, tenants, streams, subjects := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	headers, bodies := make([]*string, n), make([][]byte, n)
	at := make(map[string]int, n)
	for i, e := range entries {
		ids[i], tenants[i], streams[i], subjects[i], bodies[i] = e.ID, event.TenantOf(e.Subject), e.Stream, e.Subject, e.Body
		at[e.ID] = i
		if !structured(e.Header) {
			b, err := json.Marshal(e.Header)
			if err != nil {
				return fmt.Errorf("outbox: header of %s: %w", e.ID, err)
			}
			s := string(b)
			headers[i] = &s
		}
	}
	rows, err := tx.Query(ctx, appendEntries, ids, tenants, streams, subjects, headers, bodies)
	if err != nil {
		return fmt.Errorf("outbox: append: %w", err)
	}
	var key int64
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&key, &id}, func() error {
		entries[at[id]].Key = key
		return nil
	}); err != nil {
		return fmt.Errorf("outbox: append: %w", err)
	}
	return nil
}

const oweAgain = `
INSERT INTO outbox_owed (key)
SELECT key FROM outbox WHERE stream = 'ROLE_CHANGES' AND message_id = ANY($1)
ON CONFLICT DO NOTHING`

// Accept is [Append] for role changes from outside, which may come again: because an answer got lost, or because what was
// wrong about them has been mended. Those that are in the outbox already are published once more; the broker drops what
// it has had within two minutes, and the reassigner knows what it has recorded.
func Accept(ctx context.Context, tx pgx.Tx, entries []Entry) error {
	if err := Append(ctx, tx, entries); err != nil {
		return err
	}
	var again []string
	for _, e := range entries {
		if e.Key == 0 {
			again = append(again, e.ID)
		}
	}
	if len(again) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, oweAgain, again); err != nil {
		return fmt.Errorf("outbox: owe again: %w", err)
	}
	return nil
}

const structuredContentType = "application/cloudevents+json"

func structured(h map[string][]string) bool {
	return len(h) == 1 && len(h["Content-Type"]) == 1 && h["Content-Type"][0] == structuredContentType
}

type outboxRow struct {
	Key       int64
	MessageID string
	Stream    string
	Subject   string
	Header    map[string][]string
	Body      []byte
}

func (r outboxRow) entry() Entry {
	if r.Header == nil {
		r.Header = map[string][]string{"Content-Type": {structuredContentType}}
	}
	return Entry{Key: r.Key, Stream: r.Stream, Message: event.Message{ID: r.MessageID, Subject: r.Subject, Header: r.Header, Body: r.Body}}
}

type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// What somebody else has published too stands there twice: on the stream it may do so as well. What a sweep holds while it
// publishes is left to it, since a slow broker may keep it for long; should it fail, that is published once more.
// Their rows are never updated, so by ctid they are found again as they were locked, at half the cost of another look by key.
const markPublished = `
WITH published AS (DELETE FROM outbox_owed WHERE ctid = ANY(ARRAY(SELECT ctid FROM outbox_owed WHERE key = ANY($1) FOR UPDATE SKIP LOCKED)))
INSERT INTO outbox_published (stream, stream_created, last_sequence, keys, sequences)
VALUES ($2, $3, (SELECT max(s) FROM unnest($4::bigint[]) s), $1, $4)`

// mark records where the entries stand that the broker has acknowledged.
func mark(ctx context.Context, db execer, entries []Entry, stored []event.Stored) error {
	type place struct{ keys, sequences []int64 }
	type stream struct {
		name    string
		created time.Time
	}
	places := map[stream]*place{}
	for i, s := range stored {
		if s.Sequence == 0 {
			continue
		}
		on := stream{s.Stream, s.Created}
		if places[on] == nil {
			places[on] = &place{}
		}
		p := places[on]
		p.keys, p.sequences = append(p.keys, entries[i].Key), append(p.sequences, int64(s.Sequence))
	}
	for on, p := range places {
		if _, err := db.Exec(ctx, markPublished, p.keys, on.name, on.created, p.sequences); err != nil {
			return fmt.Errorf("outbox: mark published: %w", err)
		}
	}
	return nil
}

// Backlog is how much the outbox still owes.
type Backlog struct {
	Unpublished int64      `json:"unpublished"`
	OldestAt    *time.Time `json:"oldest_at"`
}

// Owed counts what is unpublished.
func Owed(ctx context.Context, pool *pgxpool.Pool) (Backlog, error) {
	var b Backlog
	err := pool.QueryRow(ctx, `SELECT count(*), min(o.created_at) FROM outbox_owed w JOIN outbox o USING (key)`).Scan(&b.Unpublished, &b.OldestAt)
	return b, err
}
