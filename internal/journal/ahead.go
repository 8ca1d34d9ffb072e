package journal

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

const (
	// lookBack is how far before the newest known message a first look begins: messages are marked as published in another
	// order than they are published, but none takes so long.
	lookBack = 30 * time.Second
	// aheadAtOnce is how many messages of a stream are looked up together.
	aheadAtOnce = 20_000
)

const lookBackTo = `
SELECT coalesce((
  SELECT last_sequence FROM outbox_published
  WHERE stream = $1 AND stream_created = $2 AND published_at < (
    SELECT published_at FROM outbox_published WHERE stream = $1 AND stream_created = $2 ORDER BY last_sequence DESC LIMIT 1) - $3::interval
  ORDER BY last_sequence DESC LIMIT 1), 0)`

// lookback is the sequence up to which the database surely knows the stream, when nobody looked before.
func (l looking) lookback(ctx context.Context) (to int64, err error) {
	err = l.pool.QueryRow(ctx, lookBackTo, l.stream, l.state.Created, lookBack).Scan(&to)
	return to, err
}

// ahead compares what the stream holds past what was compared before. What is still owed here is on the stream already, and
// is marked: a crash between the broker's acknowledgement and the mark is quite ordinary. What the database has never heard
// of says that the database was restored from an older dump.
func (l looking) ahead(ctx context.Context, report func(Finding)) error {
	since, err := l.lookback(ctx)
	if err != nil {
		return err
	}
	// What is long known, and what was looked at, needn't be again; unless the stream has lost its end since.
	from := max(uint64(since)+1, l.state.FirstSeq)
	if l.mark.sequence <= l.state.LastSeq {
		from = max(from, l.mark.sequence+1)
	}
	var older Finding
	if from <= l.state.LastSeq {
		if older, err = l.walk(ctx, from); err != nil {
			return err
		}
	}
	if older.Unknown > 0 {
		// Before it is written down that this was looked at: so an end in between only repeats it.
		if l.Older != nil {
			if err := l.Older(ctx, older.olderReason()); err != nil {
				return fmt.Errorf("tell that the database is older than the stream: %w", err)
			}
		}
		report(older)
	}
	id, _, err := l.Streams.IDAt(ctx, l.stream, l.state.LastSeq)
	if err != nil || !l.mark.created.IsZero() && l.mark.sequence == l.state.LastSeq && (l.mark.id != nil && *l.mark.id == id || l.mark.id == nil && id == "") {
		return err
	}
	_, err = l.pool.Exec(ctx, saveMark, l.stream, l.state.Created, int64(l.state.LastSeq), id)
	return err
}

// walk looks at the messages from a sequence on.
func (l looking) walk(ctx context.Context, from uint64) (Finding, error) {
	older := Finding{Stream: l.stream, What: Older}
	var batch []passed
	flush := func(ctx context.Context) error {
		unknown, err := l.settle(ctx, batch)
		for _, p := range unknown {
			if older.Unknown == 0 {
				older.From = p.sequence
			}
			older.Unknown++
			older.To = p.sequence
		}
		batch = batch[:0]
		return err
	}
	err := l.Streams.Read(ctx, l.stream, from, l.state.LastSeq, func(ctx context.Context, messages []event.Message) error {
		for _, m := range messages {
			if m.ID != "" {
				batch = append(batch, passed{m.ID, m.Sequence, l.stream != event.StreamDeadLetters && ours(m)})
			}
		}
		if len(batch) < aheadAtOnce {
			return nil
		}
		return flush(ctx)
	})
	if err == nil && len(batch) > 0 {
		err = flush(ctx)
	}
	return older, err
}

// passed is a message that was walked past.
type passed struct {
	id       string
	sequence uint64
	ours     bool
}

// ours tells whether we, and nobody else, can have published the message: others publish role changes too.
func ours(m event.Message) bool {
	for name, values := range m.Header {
		if strings.EqualFold(name, "ce-source") && len(values) > 0 {
			return values[0] == event.SourceHandover
		}
	}
	var e struct {
		Source string `json:"source"`
	}
	return json.Unmarshal(m.Body, &e) == nil && e.Source == event.SourceHandover
}

const (
	// One statement, so that what the relay marks meanwhile is in one of the two.
	markOwed = `
WITH there AS (SELECT * FROM unnest($3::text[], $4::bigint[]) AS t (id, s)),
owed AS (
  SELECT DISTINCT ON (w.key) w.key, t.s FROM outbox_owed w JOIN outbox o USING (key) JOIN there t ON t.id = o.message_id
  WHERE o.stream = $1 ORDER BY w.key, t.s
), taken AS (
  DELETE FROM outbox_owed w USING owed WHERE w.key = owed.key RETURNING owed.key, owed.s
)
INSERT INTO outbox_published (stream, stream_created, last_sequence, keys, sequences)
SELECT $1, $2, max(s), array_agg(key ORDER BY s), array_agg(s ORDER BY s) FROM taken HAVING count(*) > 0`
	// By place, which has an index; what is put there by two acknowledgements at once is found by its id after that.
	unplaced = `
SELECT t.n FROM unnest($3::bigint[]) WITH ORDINALITY AS t (s, n) WHERE t.s NOT IN (
  SELECT p.s FROM outbox_published, unnest(sequences) AS p (s)
  WHERE stream = $1 AND stream_created = $2 AND last_sequence BETWEEN $4 AND $5)`
	knownIDs = `SELECT DISTINCT message_id FROM outbox WHERE stream = $1 AND message_id = ANY($2)`
)

// settle marks those messages that are still owed, and returns those of ours that the database doesn't know.
func (l looking) settle(ctx context.Context, batch []passed) (unknown []passed, err error) {
	ids, sequences := make([]string, len(batch)), make([]int64, len(batch))
	for i, p := range batch {
		ids[i], sequences[i] = p.id, int64(p.sequence)
	}
	if _, err := l.pool.Exec(ctx, markOwed, l.stream, l.state.Created, ids, sequences); err != nil {
		return nil, fmt.Errorf("mark what is on the stream: %w", err)
	}
	rows, err := l.pool.Query(ctx, unplaced, l.stream, l.state.Created, sequences, sequences[0], sequences[len(sequences)-1]+batchLimit)
	if err != nil {
		return nil, err
	}
	numbers, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, err
	}
	var candidates []passed
	var named []string
	for _, n := range numbers {
		if p := batch[n-1]; p.ours {
			candidates, named = append(candidates, p), append(named, p.id)
		}
	}
	if len(candidates) == 0 {
		return nil, nil
	}
	if rows, err = l.pool.Query(ctx, knownIDs, l.stream, named); err != nil {
		return nil, err
	}
	known := make(map[string]bool)
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { known[id] = true; return nil }); err != nil {
		return nil, err
	}
	for _, p := range candidates {
		if !known[p.id] {
			unknown = append(unknown, p)
		}
	}
	return unknown, nil
}
