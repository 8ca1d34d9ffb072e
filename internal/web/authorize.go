package web

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"handover.io/internal/roster"
)

// callerOf is who sent the request; every route is behind authorize, so there is one.
func callerOf(ctx context.Context) roster.Identity { return requestOf(ctx).who }

const (
	challenge = `Bearer realm="handover"`
	// authTimeout is how long the database may take to say whose a token is: one look at an index.
	authTimeout = 10 * time.Second
)

// authorize lets through whose token has the right.
func (s *server) authorize(right string) middleware {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		token, ok := bearer(r.Header)
		if !ok {
			writeProblem(w, r, newProblem(http.StatusUnauthorized,
				"A token is needed: send it as Authorization: Bearer <token>.").with("WWW-Authenticate", challenge))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), authTimeout)
		who, err := s.Roster.Authenticate(ctx, token)
		cancel()
		if err != nil {
			writeProblem(w, r, explain(r.Context(), err, within("header")))
			return
		}
		requestOf(r.Context()).who = who
		if !slices.Contains(who.Rights, right) {
			writeProblem(w, r, newProblem(http.StatusForbidden,
				fmt.Sprintf("This needs the right %q; the token has %s. Ask an administrator for a token that has it.", right, strings.Join(who.Rights, ", "))).
				with("WWW-Authenticate", challenge+`, error="insufficient_scope", scope="`+right+`"`))
			return
		}
		next(w, r)
	}
}

// bearer is the token of a request that has exactly one.
func bearer(h http.Header) (string, bool) {
	values := h.Values("Authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, found := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	return token, found && token != "" && strings.EqualFold(scheme, "Bearer")
}
