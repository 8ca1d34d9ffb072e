package roster

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
)

// Limits of a page, in items.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
)

// Page is one page of a list. NextCursor is nil on the last one.
type Page[T any] struct {
	Items      []T     `json:"items"`
	NextCursor *string `json:"next_cursor"`
}

// PageQuery is which page of a list is wanted: at most Limit items (0: [DefaultLimit]) after Cursor (empty: from the
// start). A limit outside 1 to [MaxLimit] and a cursor that no page gave out are an [*Invalid].
type PageQuery struct {
	Limit  int
	Cursor string
}

// position is the key of the last item of the page before, as texts; all are empty at the start.
type position []string

// open reads the limit, and the cursor with its n parts. List is whose cursor it must be.
func (q PageQuery) open(list string, n int) (int, position, error) {
	limit := q.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	if limit < 0 || limit > MaxLimit {
		return 0, nil, invalid("limit", "must be 1 to %d", MaxLimit)
	}
	if q.Cursor == "" {
		return limit, make(position, n), nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	parts := strings.Split(string(raw), "\x00")
	if err != nil || len(parts) != n+1 || parts[0] != list || !utf8.Valid(raw) {
		return 0, nil, badCursor()
	}
	return limit, parts[1:], nil
}

func badCursor() error {
	return invalid("cursor", "is none of this list; give back a next_cursor as it was, or none to start again")
}

// endOfTime is later than every time that is kept.
var endOfTime = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)

// time reads a part as a time; at the start it is the end of time, as lists by time go backwards.
func (p position) time(i int) (time.Time, error) {
	if p[i] == "" {
		return endOfTime, nil
	}
	micros, err := strconv.ParseInt(p[i], 10, 64)
	t := time.UnixMicro(micros).UTC()
	if err != nil || t.Year() < -4000 || t.Year() > 10000 {
		return t, badCursor()
	}
	return t, nil
}

// number reads a part as a number; at the start it is the given one.
func (p position) number(i int, start int64) (int64, error) {
	if p[i] == "" {
		return start, nil
	}
	n, err := strconv.ParseInt(p[i], 10, 64)
	if err != nil {
		return n, badCursor()
	}
	return n, nil
}

func cursorTime(t time.Time) string { return strconv.FormatInt(t.UnixMicro(), 10) }
func cursorNumber(n int64) string   { return strconv.FormatInt(n, 10) }

// page makes a page of rows, of which one more than asked for was wanted. Key is what the cursor keeps of an item.
func page[T any](rows pgx.Rows, err error, limit int, list string, key func(T) []string) (Page[T], error) {
	return pageBy(rows, err, limit, list, pgx.RowToStructByPos[T], key)
}

// pageBy is page with a scan of its own.
func pageBy[T any](rows pgx.Rows, err error, limit int, list string, scan pgx.RowToFunc[T], key func(T) []string) (Page[T], error) {
	if err != nil {
		return Page[T]{}, fmt.Errorf("list %s: %w", list, err)
	}
	items, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return Page[T]{}, fmt.Errorf("list %s: %w", list, err)
	}
	p := Page[T]{Items: items}
	if len(items) > limit {
		p.Items = items[:limit]
		cursor := base64.RawURLEncoding.EncodeToString([]byte(strings.Join(append([]string{list}, key(items[limit-1])...), "\x00")))
		p.NextCursor = &cursor
	}
	return p, nil
}

// one is the only row, or [ErrNotFound] with what was looked for.
func one[T any](rows pgx.Rows, err error, what, id string) (T, error) {
	var none T
	if err != nil {
		return none, fmt.Errorf("%s %s: %w", what, id, err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[T])
	if err == pgx.ErrNoRows {
		err = ErrNotFound
	}
	if err != nil {
		return none, fmt.Errorf("%s %s: %w", what, id, err)
	}
	return found, nil
}
