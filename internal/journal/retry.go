package journal

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/pkg/event"
)

// HeaderRetry is on a message that was sent again: the key of its dead letter. Anybody who publishes can write it, so it
// counts only on a message that is that letter, byte by byte.
const HeaderRetry = "Handover-Retry"

// IsRetry tells whether the message says that it is a dead letter sent again.
func IsRetry(m event.Message) bool { return retryOf(m) != 0 }

// retryOf is the key of the dead letter that the message says it is, or 0.
func retryOf(m event.Message) int64 {
	values := m.Header[HeaderRetry]
	if len(values) != 1 {
		return 0
	}
	key, err := strconv.ParseInt(values[0], 10, 64)
	if err != nil || key < 0 {
		return 0
	}
	return key
}

const claimed = `SELECT key, consumer, reason, digest FROM dead_letters WHERE key = ANY($1) ORDER BY key FOR UPDATE`

// genuine are the dead letters, locked, that the messages are retries of; 0 for a message that is none, or only says so.
func genuine(ctx context.Context, tx pgx.Tx, messages []event.Message) ([]int64, error) {
	claims := make([]int64, len(messages))
	var keys []int64
	for i, m := range messages {
		if claims[i] = retryOf(m); claims[i] != 0 {
			keys = append(keys, claims[i])
		}
	}
	if len(keys) == 0 {
		return claims, nil
	}
	rows, err := tx.Query(ctx, claimed, keys)
	if err != nil {
		return nil, fmt.Errorf("dead letters that were retried: %w", err)
	}
	type letter struct {
		DeadLetter
		digest [16]byte
	}
	letters := map[int64]letter{}
	var key int64
	var l letter
	if _, err := pgx.ForEachRow(rows, []any{&key, &l.Consumer, &l.Reason, &l.digest}, func() error {
		letters[key] = l
		return nil
	}); err != nil {
		return nil, fmt.Errorf("dead letters that were retried: %w", err)
	}
	for i, m := range messages {
		if claims[i] == 0 {
			continue
		}
		l := letters[claims[i]]
		if l.Message = m; l.DeadLetter.Digest() != l.digest {
			claims[i] = 0
		}
	}
	return claims, nil
}

// Done is a message that was handled, and what came of it.
type Done struct {
	Message    event.Message
	Outcome    string
	TasksMoved int
}

// What can come of a role change; a consumer of something else has words of its own.
const (
	Recorded = "recorded"
	Known    = "known already"
)

const resolve = `
UPDATE dead_letters d SET state = 'resolved', outcome = n.outcome, tasks_moved = n.tasks_moved, superseded_by = NULL, updated_at = clock_timestamp()
FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS n(key, outcome, tasks_moved)
WHERE d.key = n.key AND d.state IN ('dead', 'retried', 'dropped')
RETURNING coalesce(d.operation_id, '')`

// Resolve closes the dead letters whose retries were handled, as part of the transaction that handled them. Give it the
// messages that [IsRetry]; without any it does nothing. It returns how many changes of each of our operations are no
// longer dead letters, negative, as [Buried] counts them.
func Resolve(ctx context.Context, tx pgx.Tx, done []Done) (map[string]int, error) {
	if len(done) == 0 {
		return nil, nil
	}
	messages := make([]event.Message, len(done))
	for i, d := range done {
		messages[i] = d.Message
	}
	retried, err := genuine(ctx, tx, messages)
	if err != nil {
		return nil, err
	}
	var keys, moved []int64
	var outcomes []string
	for i, key := range retried {
		if key != 0 && !slices.Contains(keys, key) {
			keys, outcomes, moved = append(keys, key), append(outcomes, done[i].Outcome), append(moved, int64(done[i].TasksMoved))
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, resolve, keys, outcomes, moved)
	if err != nil {
		return nil, fmt.Errorf("resolve dead letters: %w", err)
	}
	refused := map[string]int{}
	var operation string
	_, err = pgx.ForEachRow(rows, []any{&operation}, func() error { refused[operation]--; return nil })
	if err != nil {
		return nil, fmt.Errorf("resolve dead letters: %w", err)
	}
	delete(refused, "")
	return refused, nil
}

const (
	takeAgain = `
UPDATE dead_letters d SET state = 'retried', retries = d.retries + 1, outcome = NULL, tasks_moved = NULL, updated_at = clock_timestamp()
FROM (SELECT key FROM dead_letters WHERE `
	takeThose   = `key = ANY($1) AND state IN ('dead', 'retried', 'dropped')`
	takeWaiting = `tenant_id = $1 AND user_id = ANY($2) AND state = 'dead' AND reason = 'owner_unknown'`
	takenAgain  = ` ORDER BY key FOR UPDATE) n WHERE d.key = n.key RETURNING d.key, d.retries, d.stream, d.subject, d.header, d.body`
)

// Retry delivers the dead letters of these keys again, as part of tx: the way of a first delivery, through the outbox, but
// under new message ids, since the broker silently drops one that it has seen. Those that are resolved or superseded it
// passes over. What comes of each its consumer writes down ([Resolve], [Bury]).
func Retry(ctx context.Context, tx pgx.Tx, keys []int64) ([]Entry, error) {
	return again(ctx, tx, takeThose, keys)
}

// RetryWaiting is [Retry] for what was waiting for these users.
func RetryWaiting(ctx context.Context, tx pgx.Tx, tenant string, users []string) ([]Entry, error) {
	return again(ctx, tx, takeWaiting, tenant, users)
}

func again(ctx context.Context, tx pgx.Tx, which string, args ...any) ([]Entry, error) {
	type retried struct {
		Entry
		letter int64
	}
	rows, err := tx.Query(ctx, takeAgain+which+takenAgain, args...)
	if err != nil {
		return nil, fmt.Errorf("retry dead letters: %w", err)
	}
	letters, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r retried, err error) {
		var retries int
		err = row.Scan(&r.letter, &retries, &r.Stream, &r.Subject, &r.Header, &r.Body)
		r.ID = fmt.Sprintf("retry-%d-%d", r.letter, retries)
		r.Header = original(r.Header)
		r.Header[HeaderRetry] = []string{strconv.FormatInt(r.letter, 10)}
		return r, err
	})
	if err != nil {
		return nil, fmt.Errorf("retry dead letters: %w", err)
	}
	slices.SortFunc(letters, func(a, b retried) int { return cmp.Compare(a.letter, b.letter) })
	entries := make([]Entry, len(letters))
	for i, l := range letters {
		entries[i] = l.Entry
	}
	return entries, Append(ctx, tx, entries)
}

const buriedFrom = `
SELECT n, (SELECT key FROM dead_letters d WHERE d.stream = m.stream AND d.stream_sequence = m.sequence AND d.state = 'dead' ORDER BY key LIMIT 1)
FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS m(stream, sequence, n)`

// AsRetries marks those of the messages, read from their stream again, that are dead letters from there: handled now, they
// are resolved. The others come back as they are, and so does what was dropped.
func AsRetries(ctx context.Context, pool *pgxpool.Pool, messages []event.Message) ([]event.Message, error) {
	streams, sequences := make([]string, len(messages)), make([]int64, len(messages))
	for i, m := range messages {
		streams[i], sequences[i] = m.Stream, int64(m.Sequence)
	}
	rows, err := pool.Query(ctx, buriedFrom, streams, sequences)
	if err != nil {
		return nil, fmt.Errorf("dead letters of a stream: %w", err)
	}
	out := slices.Clone(messages)
	var n int
	var key *int64
	if _, err := pgx.ForEachRow(rows, []any{&n, &key}, func() error {
		if key != nil {
			out[n-1].Header = original(out[n-1].Header)
			out[n-1].Header[HeaderRetry] = []string{strconv.FormatInt(*key, 10)}
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("dead letters of a stream: %w", err)
	}
	return out, nil
}
