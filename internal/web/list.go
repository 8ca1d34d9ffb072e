package web

import "handover.io/internal/roster"

// Paging is how every list is asked for.
type Paging struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"How many items at most."`
	Cursor string `query:"cursor" maxLength:"2000" doc:"next_cursor of the page before."`
}

func (p Paging) query() roster.PageQuery { return roster.PageQuery{Limit: p.Limit, Cursor: p.Cursor} }

// Page is one page of a list.
type Page[T any] struct {
	Items      []T     `json:"items" nullable:"false"`
	NextCursor *string `json:"next_cursor" doc:"Where the next page begins; null on the last."`
}

// list and body are answers: a page, and anything else that is only a body.
type (
	list[T any] struct{ Body Page[T] }
	body[T any] struct{ Body T }
)

// listOf shows what was found; an empty cursor is that of the last page.
func listOf[F, T any](found []F, next string, show func(F) T) *list[T] {
	out := &list[T]{Body: Page[T]{Items: make([]T, len(found))}}
	for i, f := range found {
		out.Body.Items[i] = show(f)
	}
	if next != "" {
		out.Body.NextCursor = &next
	}
	return out
}

// pageOf shows a page of the roster.
func pageOf[F, T any](p roster.Page[F], show func(F) T) *list[T] {
	out := listOf(p.Items, "", show)
	out.Body.NextCursor = p.NextCursor
	return out
}

// asIs shows what needs no other shape.
func asIs[T any](v T) T { return v }
