package journal

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/pkg/event"
)

// Letter is a dead letter as it is kept. Its texts may be a stranger's: whoever shows them makes them harmless.
type Letter struct {
	Key          int64     `json:"key"`
	State        string    `json:"state"`
	TenantID     string    `json:"tenant_id"` // empty when the subject has none
	Consumer     string    `json:"consumer"`
	Reason       string    `json:"reason"`
	Detail       string    `json:"detail"`
	UserID       string    `json:"user_id,omitempty"`      // whom it waits for
	OperationID  string    `json:"operation_id,omitempty"` // of ours that it belongs to
	Stream       string    `json:"stream"`
	Sequence     int64     `json:"sequence"`
	Subject      string    `json:"subject"`
	Tries        int       `json:"tries"`   // how often it died
	Retries      int       `json:"retries"` // how often it was sent again
	Outcome      string    `json:"outcome,omitempty"`
	TasksMoved   *int64    `json:"tasks_moved,omitempty"`
	SupersededBy *int64    `json:"superseded_by,omitempty"`
	Because      string    `json:"because,omitempty"` // why it was dropped
	CreatedAt    time.Time `json:"created_at"`
	UpdatedAt    time.Time `json:"updated_at"`

	Header map[string][]string `json:"-"` // both only where the original is asked for
	Body   []byte              `json:"-"`
}

// Message is the original, as it was delivered first.
func (l Letter) Message() event.Message {
	return event.Message{Subject: l.Subject, Header: l.Header, Body: l.Body, Stream: l.Stream, Sequence: uint64(l.Sequence)}
}

// LetterFilter chooses dead letters; what is zero does not choose.
type LetterFilter struct {
	Keys     []int64   `json:"keys,omitempty"`
	State    string    `json:"state,omitempty"`
	TenantID string    `json:"tenant_id,omitempty"`
	Consumer string    `json:"consumer,omitempty"`
	Reason   string    `json:"reason,omitempty"`
	Since    time.Time `json:"since,omitzero"` // when it was buried first: from since, before until
	Until    time.Time `json:"until,omitzero"`

	After int64 `json:"-"` // the key of the last one seen
	Limit int   `json:"-"` // 0: all
}

const (
	letterColumns = `key, state, tenant_id, consumer, reason, detail, coalesce(user_id, ''), coalesce(operation_id, ''), stream, stream_sequence, subject,
  tries, retries, coalesce(outcome, ''), tasks_moved, superseded_by, coalesce(because, ''), created_at, updated_at`
	chosenLetters = `
FROM dead_letters
WHERE ($1::bigint[] IS NULL OR key = ANY($1)) AND ($2 = '' OR state = $2) AND ($3 = '' OR tenant_id = $3) AND ($4 = '' OR consumer = $4)
  AND ($5 = '' OR reason = $5) AND ($6::timestamptz IS NULL OR created_at >= $6) AND ($7::timestamptz IS NULL OR created_at < $7)`
	onePage = ` AND key > $8 ORDER BY key LIMIT $9`
)

func (f LetterFilter) args() []any {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return []any{f.Keys, f.State, f.TenantID, f.Consumer, f.Reason, at(f.Since), at(f.Until)}
}

func (f LetterFilter) page() []any {
	var limit *int
	if f.Limit > 0 {
		limit = &f.Limit
	}
	return append(f.args(), f.After, limit)
}

// Letters are those that the filter chooses, the oldest first; with their originals, if asked.
func Letters(ctx context.Context, pool *pgxpool.Pool, f LetterFilter, originals bool) ([]Letter, error) {
	columns := letterColumns
	if originals {
		columns += `, header, body`
	}
	rows, err := pool.Query(ctx, `SELECT `+columns+chosenLetters+onePage, f.page()...)
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	letters, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l Letter, err error) {
		into := []any{&l.Key, &l.State, &l.TenantID, &l.Consumer, &l.Reason, &l.Detail, &l.UserID, &l.OperationID, &l.Stream, &l.Sequence, &l.Subject,
			&l.Tries, &l.Retries, &l.Outcome, &l.TasksMoved, &l.SupersededBy, &l.Because, &l.CreatedAt, &l.UpdatedAt}
		if originals {
			into = append(into, &l.Header, &l.Body)
		}
		return l, row.Scan(into...)
	})
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	return letters, nil
}

// ErrNoLetter says that there is no such dead letter.
var ErrNoLetter = errors.New("there is no such dead letter")

// FindLetter is the dead letter of that key with its original, or [ErrNoLetter].
func FindLetter(ctx context.Context, pool *pgxpool.Pool, key int64) (Letter, error) {
	letters, err := Letters(ctx, pool, LetterFilter{Keys: []int64{key}}, true)
	if err == nil && len(letters) == 0 {
		err = fmt.Errorf("%w: %d", ErrNoLetter, key)
	}
	if err != nil {
		return Letter{}, err
	}
	return letters[0], nil
}

// LetterGroup counts the dead letters of one tenant, consumer, reason and state.
type LetterGroup struct {
	TenantID string    `json:"tenant_id"`
	Consumer string    `json:"consumer"`
	Reason   string    `json:"reason"`
	State    string    `json:"state"`
	Count    int64     `json:"count"`
	OldestAt time.Time `json:"oldest_at"`
	NewestAt time.Time `json:"newest_at"`
}

// LetterGroups sums up what the filter chooses; its page doesn't matter.
func LetterGroups(ctx context.Context, pool *pgxpool.Pool, f LetterFilter) ([]LetterGroup, error) {
	rows, err := pool.Query(ctx, `SELECT tenant_id, consumer, reason, state, count(*), min(created_at), max(created_at)`+chosenLetters+
		` GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4`, f.args()...)
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	groups, err := pgx.CollectRows(rows, pgx.RowToStructByPos[LetterGroup])
	if err != nil {
		return nil, fmt.Errorf("dead letters: %w", err)
	}
	return groups, nil
}

const drop = `
UPDATE dead_letters SET state = 'dropped', because = $2, updated_at = clock_timestamp()
WHERE key = ANY($1) AND state IN ('dead', 'retried') RETURNING key`

// Drop marks dead letters as not needed, and keeps why; it deletes nothing, and the operations they belong to go on
// counting them as refused. It returns the keys of those that were dead or under way; others stay as they are.
func Drop(ctx context.Context, pool *pgxpool.Pool, keys []int64, because string) ([]int64, error) {
	rows, err := pool.Query(ctx, drop, keys, because)
	if err != nil {
		return nil, fmt.Errorf("drop dead letters: %w", err)
	}
	dropped, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("drop dead letters: %w", err)
	}
	return dropped, nil
}
