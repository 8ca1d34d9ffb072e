package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"handover.io/internal/operation"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

func TestProblemOfEveryError(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err      error
		status   int
		location string
	}{
		"a field":             {&roster.Invalid{Field: "title", Remedy: "is empty"}, 422, "body.title"},
		"the id of the path":  {&roster.Invalid{Field: "id", Remedy: "is another"}, 422, "path.id"},
		"the whole":           {&roster.Invalid{Remedy: "is no object"}, 422, ""},
		"an event":            {&event.Invalid{Field: "data.role", Remedy: "is missing"}, 422, "body.data.role"},
		"nothing of that id":  {roster.ErrNotFound, 404, ""},
		"nobody's token":      {roster.ErrUnauthorized, 401, ""},
		"a conflict":          {&operation.Conflict{Roles: 1, OpenTasks: 2, Remedy: "name a successor"}, 409, ""},
		"too large":           {&http.MaxBytesError{Limit: 1}, 413, ""},
		"refused by the data": {&pgconn.PgError{Code: "22021", Message: "secret"}, 422, ""},
		"shutting down":       {&pgconn.PgError{Code: "57P01", Message: "secret"}, 503, ""},
		"out of time":         {context.DeadlineExceeded, 503, ""},
		"nobody there":        {context.Canceled, 499, ""},
		"anything else":       {errors.New("secret"), 500, ""},
		"a bug in the SQL":    {&pgconn.PgError{Code: "42601", Message: "secret"}, 500, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := problem(fmt.Errorf("deep down: %w", c.err), route{method: "PUT", path: "/v1/tasks/{id}"}.where)
			if p.Status != c.status || p.Title == "" || p.Detail == "" || strings.Contains(p.Detail, "secret") || strings.Contains(p.Detail, "deep down") {
				t.Fatalf("%+v", p)
			}
			if got := ""; c.location != "" {
				if len(p.Errors) == 1 {
					got = p.Errors[0].Location
				}
				if got != c.location {
					t.Errorf("%+v", p.Errors)
				}
			}
			if retry := p.header.Get("Retry-After") != ""; retry != (c.status == 503) {
				t.Errorf("Retry-After: %v", p.header)
			}
		})
	}
}

func TestNotBeingReadyIsNoError(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	s := &server{log: zap.New(core)}
	for _, route := range []string{"GET /readyz", "GET /v1/users"} {
		s.logRequest(httptest.NewRequest("GET", "/", nil), route, &request{}, &response{status: http.StatusServiceUnavailable}, 0)
	}
	if all := logs.All(); len(all) != 2 || all[0].Level != zap.InfoLevel || all[1].Level != zap.ErrorLevel {
		t.Errorf("%+v", all)
	}
}

// TestAPanicIsA500 checks that a bug is answered, counted and logged, once, with what names it to both sides.
func TestAPanicIsA500(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zap.InfoLevel)
	s := &server{log: zap.New(core), metrics: newMetrics(prometheus.NewRegistry())}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/v1/users", nil)
	r.Header.Set("X-Request-Id", "r-1")
	r.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	s.observe(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret") })).ServeHTTP(w, r)
	var p Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 500 || p.RequestID != "r-1" || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	lines := logs.All()
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	fields := lines[0].ContextMap()
	if fields["request_id"] != "r-1" || fields["trace_id"] != "0af7651916cd43dd8448eb211c80319c" || !strings.Contains(fmt.Sprint(fields["error"]), "panic: secret") {
		t.Errorf("%v", fields)
	}
}

// TestAPanicInMidAnswerCutsTheConnection checks that half an answer doesn't look like a whole one.
func TestAPanicInMidAnswerCutsTheConnection(t *testing.T) {
	t.Parallel()
	s := &server{log: zap.NewNop(), metrics: newMetrics(prometheus.NewRegistry())}
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("%v", p)
		}
	}()
	s.observe(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("{"))
		panic("secret")
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
}
