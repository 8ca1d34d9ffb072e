package web

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"handover.io/internal/roster"
)

// stored answers a PUT of a row: with the row as it is now, or on a dry run with a RowPreview.
type stored struct {
	Status int
	Body   any
}

// RowPreview says what a dry run of a row would do.
type RowPreview struct {
	Outcome    roster.Outcome `json:"outcome" enum:"created,updated,unchanged" doc:"What would become of the row."`
	Roles      int            `json:"roles" doc:"Roles that would change hands."`
	TasksMoved int            `json:"tasks_moved" doc:"Tasks that would go to somebody else: at once, or with the roles by the policy in force. What is still under way isn't foreseen."`
}

// RowID is the id of a row in its path.
type RowID struct {
	ID string `path:"id" doc:"The upstream system's own id, percent-encoded." example:"u-1"`
}

// syncer takes rows, or on a dry run says what would become of them.
type syncer[S any] func(ctx context.Context, tenant, by string, rows []S, dryRun bool) ([]roster.RowResult, error)

// kind is one kind of rows that upstream systems know: what they say of it (S), how it is known (F), and how it is shown (T).
type kind[S interface{ At(string) (S, error) }, F, T any] struct {
	one, many string
	decode    func([]byte) (S, error)
	sync      syncer[S]
	chunkRows int // that an import takes at once
	read      func(ctx context.Context, tenant, id string) (F, error)
	show      func(F) T
	about     string       // of the PUT
	schema    *huma.Schema // of what is said
	example   string
}

// registerRows registers PUT and GET of one row, and the import of many.
func registerRows[S interface{ At(string) (S, error) }, F, T any](s *server, k kind[S, F, T]) {
	path := "/v1/" + k.many + "/{id}"
	a := "a "
	if strings.ContainsRune("aeio", rune(k.one[0])) { // a user has a consonant's sound
		a = "an "
	}
	ok := answers[T](s, http.StatusOK, "It was known already; or, on a dry run, what would be done", "application/json")
	schema := ok["200"].Content["application/json"]
	schema.Schema = &huma.Schema{OneOf: []*huma.Schema{schema.Schema, schemaOf[RowPreview](s)}}
	maps.Copy(ok, answers[T](s, http.StatusCreated, "It is new", "application/json"))
	type input struct {
		RowID
		DryRunParam
	}
	register(s, route{
		method: http.MethodPut, path: path, right: roster.RightSync, id: "put-" + k.one, tag: "Roster",
		summary: "Create or change " + a + k.one,
		about:   k.about + " An absent field is unchanged, null empties it. Answers the row as it is now: 201 when it is new.",
		answers: ok,
		body: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/json": {Schema: k.schema, Example: example(k.example)},
		}},
	}, func(ctx context.Context, in *input) (*stored, error) { return k.put(ctx, in.ID, in.DryRun) })
	register(s, route{
		method: http.MethodGet, path: path, right: roster.RightRead, id: "get-" + k.one, tag: "Roster",
		summary: "Get " + a + k.one, about: "The " + k.one + " as it is known.",
	}, func(ctx context.Context, in *RowID) (*body[T], error) {
		row, err := k.read(ctx, callerOf(ctx).TenantID, in.ID)
		if err != nil {
			return nil, err
		}
		return &body[T]{k.show(row)}, nil
	})
	registerImport(s, k.many, k.example, k.decode, k.sync, k.chunkRows)
}

func (k kind[S, F, T]) put(ctx context.Context, id string, dryRun bool) (*stored, error) {
	who := callerOf(ctx)
	said, err := k.decode(bodyOf(ctx))
	if err != nil {
		return nil, err
	}
	if said, err = said.At(id); err != nil {
		var invalid *roster.Invalid
		if errors.As(err, &invalid) { // the path is taken to be right
			err = unprocessable(FieldProblem{"body." + invalid.Field, invalid.Remedy})
		}
		return nil, err
	}
	results, err := k.sync(ctx, who.TenantID, who.UserID, []S{said}, dryRun)
	if err != nil {
		return nil, err
	}
	if p := results[0].Problem; p != nil {
		return nil, p
	}
	if dryRun {
		r := results[0]
		return &stored{Status: http.StatusOK, Body: RowPreview{Outcome: r.Outcome, Roles: r.Roles, TasksMoved: r.TasksMoved}}, nil
	}
	row, err := k.read(ctx, who.TenantID, id)
	if err != nil {
		return nil, err
	}
	out := &stored{Status: http.StatusOK, Body: k.show(row)}
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
