package web

import (
	"bytes"
	"context"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"handover.io/pkg/event"
)

const (
	// bodyLimit is for one row or one change; wideBodyLimit is for those that carry many: 100,000 account ids of 128
	// bytes, or a thousand events.
	bodyLimit     = 1 << 20
	wideBodyLimit = 16 << 20
	// bodyTimeout ends a client that dribbles: 16 MB in it is a slow mobile line.
	bodyTimeout = 60 * time.Second
	// handleTimeout is less than the minute after which a repeat takes the key of a request over (takeKey).
	handleTimeout = 45 * time.Second
)

// address refuses paths and query strings that no handler should have to think about.
func address(ids []string) middleware {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		var wrong []FieldProblem
		for _, name := range ids {
			if remedy := event.CheckID(r.PathValue(name)); remedy != "" {
				wrong = append(wrong, FieldProblem{"path." + name, remedy})
			}
		}
		query, err := url.ParseQuery(r.URL.RawQuery)
		if err != nil {
			wrong = append(wrong, FieldProblem{"query", "is not percent-encoded as it should be: " + err.Error()})
		}
		for name, values := range query {
			switch {
			case len(values) > 1:
				wrong = append(wrong, FieldProblem{"query." + name, "stands there more than once"})
			case values[0] == "":
				// Above all dry_run= must not be taken for no dry run.
				wrong = append(wrong, FieldProblem{"query." + name, "is empty; give it a value or leave it out"})
			case !utf8.ValidString(values[0]) || strings.ContainsRune(values[0], 0):
				wrong = append(wrong, FieldProblem{"query." + name, "is not text"})
			}
		}
		if len(wrong) > 0 {
			writeProblem(w, r, unprocessable(wrong...))
			return
		}
		next(w, r)
	}
}

// readBody reads the whole body before anything is decided by it, so that what comes after works on bytes.
func readBody(limit int64) middleware {
	return func(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
		conn := http.NewResponseController(w)
		_ = conn.SetReadDeadline(time.Now().Add(bodyTimeout))
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
		if err != nil {
			var tooLarge *http.MaxBytesError
			p := newProblem(http.StatusBadRequest, "The body ended before it was complete.")
			switch {
			case errors.As(err, &tooLarge):
				p = problem(err, within("body"))
			case errors.Is(err, os.ErrDeadlineExceeded):
				p = newProblem(http.StatusRequestTimeout, "The body took too long to arrive.")
			}
			writeProblem(w, r, p.with("Connection", "close"))
			return
		}
		// The deadline would otherwise end the request while it is being handled.
		_ = conn.SetReadDeadline(time.Time{})
		r.Body = io.NopCloser(bytes.NewReader(body))
		ctx, cancel := context.WithTimeout(r.Context(), handleTimeout)
		defer cancel()
		next(w, r.WithContext(context.WithValue(ctx, bodyKey{}, body)))
	}
}

type bodyKey struct{}

// bodyOf is the body that readBody read.
func bodyOf(ctx context.Context) []byte {
	b, _ := ctx.Value(bodyKey{}).([]byte)
	return b
}

// onlyJSON refuses a body that says it is something else.
func onlyJSON(w http.ResponseWriter, r *http.Request, next http.HandlerFunc) {
	if given := r.Header.Get("Content-Type"); given != "" {
		media, _, err := mime.ParseMediaType(given)
		if err != nil || (media != "application/json" && !strings.HasSuffix(media, "+json")) {
			writeProblem(w, r, newProblem(http.StatusUnsupportedMediaType, "The body must be JSON: send Content-Type: application/json.").
				with("Accept", "application/json"))
			return
		}
	}
	next(w, r)
}
