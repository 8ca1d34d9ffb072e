package web

import (
	"context"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"handover.io/internal/roster"
)

// stored answers a PUT of a row with the row as it is now.
type stored[T any] struct {
	Status int
	Body   T
}

// RowID is the id of a row in its path.
type RowID struct {
	ID string `path:"id" doc:"The upstream system's own id, percent-encoded." example:"u-1"`
}

// kind is one kind of rows that upstream systems know: what they say of it (S), how it is known (F), and how it is shown (T).
type kind[S interface{ At(string) (S, error) }, F, T any] struct {
	one, many string
	decode    func([]byte) (S, error)
	sync      func(ctx context.Context, tenant, by string, rows []S) ([]roster.RowResult, error)
	read      func(ctx context.Context, tenant, id string) (F, error)
	show      func(F) T
	about     string       // of the PUT
	schema    *huma.Schema // of what is said
	example   string
}

// registerRows registers PUT and GET of one row, and the import of many.
func registerRows[S interface{ At(string) (S, error) }, F, T any](s *server, k kind[S, F, T]) {
	path := "/v1/" + k.many + "/{id}"
	register(s, route{
		method: http.MethodPut, path: path, right: roster.RightSync, id: "put-" + k.one, tag: "Roster",
		summary: "Create or change a " + k.one,
		about:   k.about + " An absent field is unchanged, null empties it. Answers the row as it is now: 201 when it is new.",
		answers: answers[T](s, http.StatusCreated, "It is new", "application/json"),
		body: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: k.schema, Example: example(k.example)},
		}},
	}, func(ctx context.Context, in *RowID) (*stored[T], error) { return k.put(ctx, in.ID) })
	register(s, route{
		method: http.MethodGet, path: path, right: roster.RightRead, id: "get-" + k.one, tag: "Roster",
		summary: "Get a " + k.one, about: "The " + k.one + " as it is known.",
	}, func(ctx context.Context, in *RowID) (*body[T], error) {
		row, err := k.read(ctx, callerOf(ctx).TenantID, in.ID)
		if err != nil {
			return nil, err
		}
		return &body[T]{k.show(row)}, nil
	})
	registerImport(s, k.many, k.example, k.decode, k.sync)
}

func (k kind[S, F, T]) put(ctx context.Context, id string) (*stored[T], error) {
	who := callerOf(ctx)
	said, err := k.decode(bodyOf(ctx))
	if err != nil {
		return nil, err
	}
	if said, err = said.At(id); err != nil {
		return nil, err
	}
	results, err := k.sync(ctx, who.TenantID, who.UserID, []S{said})
	if err != nil {
		return nil, err
	}
	if p := results[0].Problem; p != nil {
		return nil, p
	}
	row, err := k.read(ctx, who.TenantID, id)
	if err != nil {
		return nil, err
	}
	out := &stored[T]{Status: http.StatusOK, Body: k.show(row)}
	if results[0].Outcome == roster.Created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// answers documents an answer beside the usual one.
func answers[T any](s *server, status int, about, media string) map[string]*huma.Response {
	return map[string]*huma.Response{strconv.Itoa(status): {
		Description: about,
		Content:     map[string]*huma.MediaType{media: {Schema: schemaOf[T](s)}},
	}}
}
