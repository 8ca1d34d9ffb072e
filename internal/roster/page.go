package roster

import (
	"encoding/base64"
	"strings"
)

// Limits of a page.
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

func (q PageQuery) limit() (int, error) {
	switch {
	case q.Limit == 0:
		return DefaultLimit, nil
	case q.Limit < 0 || q.Limit > MaxLimit:
		return 0, invalid("limit", "must be 1 to %d", MaxLimit)
	}
	return q.Limit, nil
}

// open reads the limit and the n parts of the cursor; at the start all parts are empty. List is whose cursor it must be.
func (q PageQuery) open(list string, n int) (int, []string, error) {
	limit, err := q.limit()
	if err != nil || q.Cursor == "" {
		return limit, make([]string, n), err
	}
	raw, err := base64.RawURLEncoding.DecodeString(q.Cursor)
	parts := strings.Split(string(raw), "\x00")
	if err != nil || len(parts) != n+1 || parts[0] != list {
		return 0, nil, badCursor()
	}
	return limit, parts[1:], nil
}

func badCursor() *Invalid {
	return invalid("cursor", "is none of this list; use a next_cursor as it was given, or leave it out to start again")
}

// page makes a page of what was read with a limit of one more than asked for. Key is what the cursor keeps of an item.
func page[T any](items []T, limit int, list string, key func(T) []string) Page[T] {
	p := Page[T]{Items: items}
	if p.Items == nil {
		p.Items = []T{}
	}
	if len(items) > limit {
		p.Items = items[:limit]
		text := strings.Join(append([]string{list}, key(items[limit-1])...), "\x00")
		cursor := base64.RawURLEncoding.EncodeToString([]byte(text))
		p.NextCursor = &cursor
	}
	return p
}
