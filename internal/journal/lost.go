package journal

import (
	"context"
	"fmt"
	"math"
	"slices"

	"handover.io/pkg/event"
)

const (
	// owePlaces is about how many places one transaction takes back.
	owePlaces = 10_000
	// comparePlaces is about how many are compared with the stream together.
	comparePlaces = 10_000
	// spots is how many messages between the last look and now are looked at each time.
	spots = 6
)

// Rows of outbox_published whose places are on a stream that is gone, or past its end, are taken back, and the messages are
// owed again: so nothing has to remember how far it is, and a look that was cut off goes on. What is older than the stream
// keeps messages goes for good. The parts are the rows and the places in them (k, s).
const takeBack = `
WITH part AS (
  SELECT key, sum(cardinality(keys)) OVER (ORDER BY key) - cardinality(keys) AS before FROM (
    SELECT key, keys FROM outbox_published WHERE stream = $1 AND key <= $5 AND %s LIMIT 1000 FOR UPDATE SKIP LOCKED) s
), gone AS (
  DELETE FROM outbox_published WHERE key = ANY (ARRAY(SELECT key FROM part WHERE before < $3))
  RETURNING key, stream, stream_created, keys, sequences, published_at
), places AS (
  SELECT g.key AS of, g.stream, g.stream_created, g.published_at, p.k, p.s, %s AS lost FROM gone g, unnest(g.keys, g.sequences) AS p (k, s)
), kept AS (
  INSERT INTO outbox_published (stream, stream_created, last_sequence, keys, sequences, published_at)
  SELECT stream, stream_created, max(s), array_agg(k ORDER BY s), array_agg(s ORDER BY s), published_at FROM places
  WHERE NOT lost GROUP BY of, stream, stream_created, published_at
), owed AS (
  INSERT INTO outbox_owed (key)
  SELECT DISTINCT o.key FROM places p JOIN outbox o ON o.key = p.k WHERE p.lost AND p.published_at > clock_timestamp() - $2::interval
  ON CONFLICT DO NOTHING RETURNING key
), old AS (
  DELETE FROM outbox o USING places p WHERE o.key = p.k AND p.lost AND p.published_at <= clock_timestamp() - $2::interval
    AND NOT EXISTS (SELECT FROM outbox_owed w WHERE w.key = o.key)
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM owed)`

var (
	takeEarlier = fmt.Sprintf(takeBack, `stream_created < $4`, `true`)
	takeLater   = fmt.Sprintf(takeBack, `stream_created > $4`, `true`)
	takePast    = fmt.Sprintf(takeBack, `stream_created = $4 AND last_sequence > $6`, `p.s > $6`)
	takeDamaged = fmt.Sprintf(takeBack, `stream_created = $4 AND last_sequence >= $6 AND sequences && $7::bigint[]`, `p.s = ANY($7)`)
	takeOthers  = fmt.Sprintf(takeBack, `stream_created = $4 AND key = ANY($6)`, `p.k = ANY($7)`)
)

// takeAll takes back what the statement finds, a part after the other, each in a transaction of its own.
func (l looking) takeAll(ctx context.Context, sql string, more ...any) (rows, owed int64, err error) {
	args := append([]any{l.stream, l.state.MaxAge, owePlaces, l.state.Created, l.bound}, more...)
	for {
		var r, o int64
		if err := l.pool.QueryRow(ctx, sql, args...).Scan(&r, &o); err != nil {
			return rows, owed, fmt.Errorf("take back what is lost: %w", err)
		}
		rows, owed = rows+r, owed+o
		if r == 0 {
			return rows, owed, nil
		}
	}
}

// lost finds what the stream was given and doesn't have, and owes it again. What is before its first message was purged, or
// is too old, and isn't lost.
func (l looking) lost(ctx context.Context, report func(Finding)) error {
	var rows, owed int64
	for _, sql := range []string{takeEarlier, takeLater} {
		r, o, err := l.takeAll(ctx, sql)
		if rows, owed = rows+r, owed+o; err != nil {
			return err
		}
	}
	if rows > 0 {
		report(Finding{What: Recreated, Owed: owed})
	}
	rows, owed, err := l.takeAll(ctx, takePast, int64(l.state.LastSeq))
	if err != nil {
		return err
	}
	truncated := rows > 0 || l.mark.sequence > l.state.LastSeq
	if truncated {
		report(Finding{What: Truncated, Owed: owed})
	}
	if n := len(l.state.Lost); n > 0 {
		lost := make([]int64, n)
		for i, s := range l.state.Lost {
			lost[i] = int64(s)
		}
		if rows, owed, err = l.takeAll(ctx, takeDamaged, slices.Min(lost), lost); err != nil {
			return err
		}
		if rows > 0 {
			report(Finding{What: Damaged, Owed: owed})
		}
	}
	same, err := l.same(ctx)
	if err != nil || same && !truncated {
		return err
	}
	if rows, owed, err = l.compare(ctx); err != nil {
		return err
	}
	if rows > 0 || !same {
		report(Finding{What: Regrown, Owed: owed})
	}
	return nil
}

const (
	// Two messages can't stand in one place: one of them was acknowledged by a stream that has lost its end since.
	doubtfulPlaces = `
SELECT EXISTS (
  SELECT FROM outbox_published, unnest(keys, sequences) AS p (k, s) WHERE stream = $1 AND stream_created = $2 AND last_sequence > $3
  GROUP BY s HAVING min(k) <> max(k))`
	spotPlaces = `
SELECT o.message_id, f.last_sequence FROM (
  SELECT last_sequence, keys[array_position(sequences, last_sequence)] AS k, row_number() OVER (ORDER BY last_sequence DESC) - 1 AS n, count(*) OVER () AS total
  FROM outbox_published WHERE stream = $1 AND stream_created = $2 AND last_sequence > $3
) f JOIN outbox o ON o.key = f.k WHERE f.n % greatest(1, f.total / $4) = 0`
)

// same tells whether the stream still is what it was at the last look, and what was put on it since: by the message at the
// last look, the newest, and some between.
func (l looking) same(ctx context.Context) (bool, error) {
	if l.mark.id != nil {
		if same, err := l.holds(ctx, int64(l.mark.sequence), *l.mark.id); err != nil || !same {
			return same, err
		}
	}
	since := int64(l.mark.sequence)
	if l.mark.created.IsZero() {
		var err error
		if since, err = l.lookback(ctx); err != nil {
			return false, err
		}
	}
	var doubtful bool
	if err := l.pool.QueryRow(ctx, doubtfulPlaces, l.stream, l.state.Created, since).Scan(&doubtful); err != nil || doubtful {
		return !doubtful, err
	}
	// The newest that we know of may be from before the last look.
	places, err := l.places(ctx, spotPlaces, l.stream, l.state.Created, since, spots)
	if err == nil && len(places) == 0 {
		places, err = l.places(ctx, newestPlace, l.stream, l.state.Created)
	}
	if err != nil {
		return false, err
	}
	for _, p := range places {
		if same, err := l.holds(ctx, p.sequence, p.id); err != nil || !same {
			return same, err
		}
	}
	return true, nil
}

const newestPlace = `
SELECT o.message_id, f.last_sequence FROM (
  SELECT last_sequence, keys[array_position(sequences, last_sequence)] AS k FROM outbox_published
  WHERE stream = $1 AND stream_created = $2 ORDER BY last_sequence DESC LIMIT 1
) f JOIN outbox o ON o.key = f.k`

// holds tells whether the message at a sequence has that id. Where none is, one was purged, is too old, or was deleted by
// somebody: nothing speaks for another stream.
func (l looking) holds(ctx context.Context, sequence int64, id string) (bool, error) {
	there, found, err := l.Streams.IDAt(ctx, l.stream, uint64(sequence))
	return err == nil && (!found || there == id), err
}

// place is where a message of ours was put.
type place struct {
	id       string
	sequence int64
}

func (l looking) places(ctx context.Context, sql string, args ...any) (places []place, err error) {
	rows, err := l.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p place
		if err := rows.Scan(&p.id, &p.sequence); err != nil {
			return nil, err
		}
		places = append(places, p)
	}
	return places, rows.Err()
}

const knownPlaces = `
SELECT p.key, p.last_sequence, m.k, m.s, o.message_id FROM (
  SELECT * FROM outbox_published WHERE stream = $1 AND stream_created = $2 AND last_sequence >= $3 AND (last_sequence, key) > ($4, $5)
  ORDER BY last_sequence, key LIMIT 500
) p, unnest(p.keys, p.sequences) AS m (k, s), outbox o WHERE o.key = m.k ORDER BY p.last_sequence, p.key`

// compare reads what the stream holds and takes back every place where another message stands.
func (l looking) compare(ctx context.Context) (rows, owed int64, err error) {
	var last, lastKey int64
	for {
		var keys, sequences, of []int64
		var ids []string
		found, err := l.pool.Query(ctx, knownPlaces, l.stream, l.state.Created, int64(l.state.FirstSeq), last, lastKey)
		if err != nil {
			return rows, owed, err
		}
		for found.Next() {
			var row, end, key, sequence int64
			var id string
			if err := found.Scan(&row, &end, &key, &sequence, &id); err != nil {
				found.Close()
				return rows, owed, err
			}
			if len(keys) > comparePlaces && row != of[len(of)-1] {
				break
			}
			keys, sequences, ids, of, last, lastKey = append(keys, key), append(sequences, sequence), append(ids, id), append(of, row), end, row
		}
		found.Close()
		if err := found.Err(); err != nil || len(keys) == 0 {
			return rows, owed, err
		}
		there, err := l.read(ctx, sequences)
		if err != nil {
			return rows, owed, err
		}
		var wrong, in []int64
		for i, s := range sequences {
			if id, found := there[s]; found && id != ids[i] {
				wrong, in = append(wrong, keys[i]), append(in, of[i])
			}
		}
		if len(wrong) == 0 {
			continue
		}
		r, o, err := l.takeOthers(ctx, in, wrong)
		if rows, owed = rows+r, owed+o; err != nil {
			return rows, owed, err
		}
	}
}

// takeOthers takes messages back from some rows, whenever those were written.
func (l looking) takeOthers(ctx context.Context, rows, keys []int64) (taken, owed int64, err error) {
	slices.Sort(rows)
	rows = slices.Compact(rows)
	l.bound = math.MaxInt64
	return l.takeAll(ctx, takeOthers, rows, keys)
}

// read is the ids of the messages at these sequences. Sequences that are close are read together.
func (l looking) read(ctx context.Context, sequences []int64) (map[int64]string, error) {
	const near = 5000
	sorted := slices.Sorted(slices.Values(sequences))
	there := make(map[int64]string, len(sorted))
	for start := 0; start < len(sorted); {
		end := start
		for end+1 < len(sorted) && sorted[end+1]-sorted[end] <= near {
			end++
		}
		err := l.Streams.Read(ctx, l.stream, uint64(sorted[start]), uint64(sorted[end]), func(_ context.Context, batch []event.Message) error {
			for _, m := range batch {
				there[int64(m.Sequence)] = m.ID
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		start = end + 1
	}
	return there, nil
}
