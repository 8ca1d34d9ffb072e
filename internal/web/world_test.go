package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/internal/operation"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/internal/web"
	"handover.io/pkg/event"
)

// world is the API over a database of its own, and what it hands to the outside.
type world struct {
	t      *testing.T
	pool   *pgxpool.Pool
	url    string
	server *http.Server
	ops    *operation.Operations

	roster *roster.Roster
	tokens map[string]string // by tenant-user-right

	mu        sync.Mutex
	published []event.Message
	refuse    error // what taking events fails with
	away      map[string]error
}

// newWorld has the tenants acme and zeta, and for the user u-1 of each a token of every right.
func newWorld(t *testing.T) *world {
	t.Helper()
	pool := testkit.Postgres(t)
	log := testkit.Logger(t).WithOptions(zap.IncreaseLevel(zap.ErrorLevel))
	registry := prometheus.NewRegistry()
	w := &world{t: t, pool: pool, away: map[string]error{}, roster: roster.New(pool, nil), tokens: map[string]string{}}
	w.ops = operation.New(pool, func([]journal.Entry) {}, log, nil)
	handler := web.New(web.Config{
		Roster: w.roster, Operations: w.ops, Notices: notify.New(pool, notify.Config{}), Pool: pool,
		Events: w.publish, Registry: registry, Logger: log, Version: "test",
		Ready: map[string]func(context.Context) error{"database": w.check("database"), "broker": w.check("broker")},
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.server = web.Server("", handler)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = w.server.Serve(listener)
	}()
	t.Cleanup(func() {
		_ = w.server.Close()
		<-ended
	})
	w.url = "http://" + listener.Addr().String()
	for _, tenant := range []string{"acme", "zeta"} {
		if err := w.roster.EnsureTenant(t.Context(), tenant); err != nil {
			t.Fatal(err)
		}
		for _, right := range []string{"admin", "policy", "assign", "sync", "read"} {
			w.token(tenant, "u-1", right)
		}
	}
	return w
}

func (w *world) check(name string) func(context.Context) error {
	return func(context.Context) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.away[name]
	}
}

func (w *world) publish(_ context.Context, messages []event.Message) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refuse != nil {
		return w.refuse
	}
	w.published = append(w.published, messages...)
	return nil
}

var errAway error = &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("10.1.2.3:5432: connection refused")}

// token makes a token of the tenant's user with these rights. It is known as tenant-user-rights.
func (w *world) token(tenant, user string, rights ...string) string {
	w.t.Helper()
	_, text, err := w.roster.CreateToken(w.t.Context(), tenant, user, "", rights)
	if err != nil {
		w.t.Fatal(err)
	}
	name := tenant + "-" + user + "-" + strings.Join(rights, "-")
	w.tokens[name] = text
	return name
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	testkit.Exec(w.t, w.pool, sql, args...)
}

// count is the number a query returns.
func (w *world) count(sql string, args ...any) int {
	w.t.Helper()
	return testkit.One[int](w.t, w.pool, sql, args...)
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// want fails the test unless the status is as wanted, and decodes the body into into, if there is one.
func (a answer) want(t *testing.T, status int, into ...any) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	for _, v := range into {
		if err := json.Unmarshal(a.body, v); err != nil {
			t.Fatalf("%v: %s", err, a.body)
		}
	}
	return a
}

// problem checks that the answer is a problem of that status, and returns it.
func (a answer) problem(t *testing.T, status int) web.Problem {
	t.Helper()
	var p web.Problem
	a.want(t, status, &p)
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("Content-Type %q of %s", got, a.body)
	}
	if p.Status != status || p.Title == "" || p.Detail == "" {
		t.Fatalf("not a whole problem: %s", a.body)
	}
	return p
}

type option func(*http.Request)

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// as sends the request with the token of acme's u-1 that has the right.
func as(right string) option { return token("acme-u-1-" + right) }

// token names a token that the world made; send puts its text in.
func token(name string) option { return header("Authorization", "Bearer "+name) }

// send sends a request; body is a string, bytes, a reader, or something to be sent as JSON.
func (w *world) send(method, path string, body any, options ...option) answer {
	w.t.Helper()
	var reader io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(b)
	case []byte:
		reader = bytes.NewReader(b)
	case io.Reader:
		reader = b
	default:
		encoded, err := json.Marshal(b)
		if err != nil {
			w.t.Fatal(err)
		}
		reader = bytes.NewReader(encoded)
	}
	r, err := http.NewRequestWithContext(w.t.Context(), method, w.url+path, reader)
	if err != nil {
		w.t.Fatal(err)
	}
	as("admin")(r)
	for _, o := range options {
		o(r)
	}
	if name, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok && w.tokens[name] != "" {
		r.Header.Set("Authorization", "Bearer "+w.tokens[name])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, content}
}

type object = map[string]any

// people are users of acme.
func (w *world) people(ids ...string) {
	w.t.Helper()
	for _, id := range ids {
		w.send("PUT", "/v1/users/"+id, object{"name": id, "email": id + "@example.com"}).want(w.t, http.StatusCreated)
	}
}
