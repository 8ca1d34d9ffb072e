package web

import (
	"encoding/json"
	"net/http"
	"reflect"
	"sync"

	"github.com/danielgtaylor/huma/v2"
)

const aboutAPI = `Handover moves a customer account's open tasks to the new owner when one of its roles changes hands, by the tenant's policy, once, and tells the new owner in one e-mail.

**Who asks.** Every request carries a token (` + "`Authorization: Bearer`" + `). The tenant and the user are those of the token; nothing in a request can name others. Each operation says which right it needs; ` + "`admin`" + ` has them all. What belongs to another tenant answers as if it didn't exist.

**Ids** are the upstream system's own: 1 to 128 characters, percent-encoded in paths (` + "`a/b`" + ` is ` + "`a%2Fb`" + `).

**Repeats.** A POST, and the PUTs of a role and of the policy, take an ` + "`Idempotency-Key`" + `: a repeat with the same key answers what the first one answered, with ` + "`Idempotent-Replayed: true`" + `. The same key with another request is a 409, and so is one whose first request is still under way. Keys are kept for at least a day. Other PUTs and imports are safe to repeat as they are.

**Dry runs.** Every write that moves tasks takes ` + "`dry_run=true`" + ` and answers what it would do.

**Lists** answer ` + "`{\"items\": […], \"next_cursor\": \"…\"}`" + `; pass ` + "`next_cursor`" + ` as ` + "`cursor`" + ` until it is absent.

**Errors** are problems (RFC 9457, ` + "`application/problem+json`" + `) that name each field and say what to do.`

// document is what the OpenAPI document says before the first operation.
func document() huma.Config {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info:    &huma.Info{Title: "Handover", Version: "1", Description: aboutAPI},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"token": {Type: "http", Scheme: "bearer", Description: "A token made by `handover token`. It belongs to one tenant and one user, and has rights."},
				},
			},
			Tags: []*huma.Tag{
				{Name: "Roster", Description: "Users, accounts, roles and tasks, as the upstream systems know them."},
				{Name: "Handing over", Description: "Everything that changes who owns or does something."},
				{Name: "Operations", Description: "What became of a request that works on after its answer."},
				{Name: "Policy", Description: "Which open tasks follow a role change."},
				{Name: "Notices", Description: "What people were told."},
			},
		},
		Formats:       map[string]huma.Format{"application/json": huma.DefaultJSONFormat, "json": huma.DefaultJSONFormat},
		DefaultFormat: "application/json",
		// A misspelled dry_run must not be a real run.
		RejectUnknownQueryParameters: true,
	}
}

// serveDocument serves the document, once every route is in it.
func (s *server) serveDocument() {
	document := sync.OnceValues(func() ([]byte, error) { return json.Marshal(s.api.OpenAPI()) })
	s.mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, r *http.Request) {
		b, err := document()
		if err != nil {
			writeProblem(w, r, explain(r.Context(), err, within("body")))
			return
		}
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(b)
	})
}

// operation is the route as huma takes it.
func (rt route) operation(repeatable bool) huma.Operation {
	op := huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.id, Summary: rt.summary,
		Description: rt.about + "\n\nNeeds the right `" + rt.right + "`.",
		Tags:        []string{rt.tag}, DefaultStatus: rt.status,
		Security:   []map[string][]string{{"token": {}}},
		Extensions: map[string]any{"x-right": rt.right},
		Responses:  rt.answers,
		Errors:     rt.errors(repeatable),
		// readBody has done both.
		MaxBodyBytes: -1, BodyReadTimeout: -1,
	}
	if repeatable {
		op.Extensions["x-idempotent"] = true
		op.Parameters = append(op.Parameters, &huma.Param{
			Name: headerKey, In: "header", Description: "Names this request, so that a repeat is recognised: 1 to 255 visible ASCII characters.",
			Schema: &huma.Schema{Type: "string", MaxLength: ptr(255)}, Example: "0198f0c2-7d5e-7c3a-9f43-5a8f6f1f2b11",
		})
	}
	return op
}

func (rt route) errors(repeatable bool) []int {
	codes := []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusUnprocessableEntity, http.StatusInternalServerError, http.StatusServiceUnavailable}
	if len(wildcards(rt.path)) > 0 {
		codes = append(codes, http.StatusNotFound)
	}
	if rt.method != http.MethodGet {
		codes = append(codes, http.StatusBadRequest)
		if !rt.stream {
			codes = append(codes, http.StatusRequestEntityTooLarge)
		}
		if !rt.anyMedia {
			codes = append(codes, http.StatusUnsupportedMediaType)
		}
	}
	if repeatable {
		codes = append(codes, http.StatusConflict)
	}
	return codes
}

// documented is the operation of a registered route in the document.
func (s *server) documented(rt route) *huma.Operation {
	item := s.api.OpenAPI().Paths[rt.path]
	switch rt.method {
	case http.MethodPut:
		return item.Put
	case http.MethodPost:
		return item.Post
	}
	return item.Get
}

// schemaOf is the schema of T, by reference.
func schemaOf[T any](s *server) *huma.Schema {
	return s.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[T](), true, "")
}

// example is a JSON text as a value.
func example(text string) any {
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		panic(err) // a constant of this package
	}
	delete(v, "id") // it stands in the path
	return v
}

func ptr[T any](v T) *T { return &v }
