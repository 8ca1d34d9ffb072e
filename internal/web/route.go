package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"handover.io/internal/roster"
)

// middleware is one link of the chain.
type middleware func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc)

func (m middleware) huma() func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(ctx)
		m(w, r, func(w http.ResponseWriter, r *http.Request) { next(humago.NewContext(ctx.Operation(), r, w)) })
	}
}

// route is an operation of the API and how it is guarded.
type route struct {
	method, path string
	right        string
	id           string // of the operation in the OpenAPI document
	tag          string
	summary      string
	about        string
	status       int                       // of success; 200 if zero
	limit        int64                     // of the body; bodyLimit if zero
	stream       bool                      // neither read whole, nor timed, nor repeated under a key
	anyMedia     bool                      // the body isn't JSON, or not only
	once         bool                      // takes an Idempotency-Key though it is no POST
	body         *huma.RequestBody         // of a body that the handler decodes itself
	answers      map[string]*huma.Response // beside that of success
}

// register puts a route behind the chain and into the document.
func register[I, O any](s *server, rt route, handle func(context.Context, *I) (*O, error)) {
	chain := []middleware{s.authorize(rt.right), address(wildcards(rt.path))}
	repeatable := !rt.stream && (rt.method == http.MethodPost || rt.once)
	if !rt.stream {
		chain = append(chain, readBody(cmp.Or(rt.limit, bodyLimit)))
	}
	if !rt.stream && !rt.anyMedia && rt.method != http.MethodGet {
		chain = append(chain, onlyJSON)
	}
	if repeatable {
		chain = append(chain, s.once)
	}
	op := rt.operation(repeatable)
	for _, m := range chain {
		op.Middlewares = append(op.Middlewares, m.huma())
	}
	huma.Register(s.api, op, func(ctx context.Context, input *I) (*O, error) {
		out, err := handle(ctx, input)
		if err != nil {
			p := explain(ctx, err, rt.where)
			if errors.Is(err, roster.ErrNotFound) && rt.tag != "Operations" && rt.tag != "Notices" { // those have ids of ours
				p.Detail += " Ids are those of the upstream system, percent-encoded."
			}
			return nil, p
		}
		return out, nil
	})
	if rt.body != nil {
		// Only now: what huma knows of a body it reads and decodes, and this one the handler does.
		s.documented(rt).RequestBody = rt.body
	}
}

// where is the place of a field in a request of this route.
func (rt route) where(field string) string {
	switch {
	case slices.Contains(wildcards(rt.path), field):
		return "path." + field
	case rt.method == http.MethodGet:
		return "query." + field
	}
	return "body." + field
}

func wildcards(pattern string) []string {
	var names []string
	for segment := range strings.SplitSeq(pattern, "/") {
		if strings.HasPrefix(segment, "{") {
			names = append(names, strings.Trim(segment, "{}"))
		}
	}
	return names
}
