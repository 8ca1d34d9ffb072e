package web_test

import (
	"net/http"
	"strings"
	"testing"
)

func TestProbes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	anybody := header("Authorization", "")
	w.send("GET", "/livez", nil, anybody).want(t, http.StatusOK)
	w.send("GET", "/readyz", nil, anybody).want(t, http.StatusOK)
	w.mu.Lock()
	w.away["broker"] = errAway
	w.mu.Unlock()
	w.send("GET", "/livez", nil, anybody).want(t, http.StatusOK)
	p := w.send("GET", "/readyz", nil, anybody).problem(t, http.StatusServiceUnavailable)
	if !strings.Contains(p.Detail, "broker") || strings.Contains(p.Detail, "database") || strings.Contains(p.Detail, "10.1.2.3") {
		t.Errorf("%+v", p)
	}
	w.send("GET", "/v1/users", nil).want(t, http.StatusOK)
	w.send("GET", "/v1/nothing", nil)
	metrics := string(w.send("GET", "/metrics", nil, anybody).want(t, http.StatusOK).body)
	for _, want := range []string{`handover_http_request_seconds_count{route="GET /v1/users",status="200"} 1`, `route="unmatched",status="404"`, `route="GET /readyz",status="503"`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestEveryAnswerHasARequestID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.send("GET", "/v1/users", nil, header("X-Request-Id", "mine.1")).header.Get("X-Request-Id"); got != "mine.1" {
		t.Errorf("%q", got)
	}
	got := w.send("GET", "/v1/nothing", nil, header("X-Request-Id", "a b")).header
	if id := got.Get("X-Request-Id"); len(id) != 36 {
		t.Errorf("%q", id)
	}
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'"} {
		if got.Get(name) != want {
			t.Errorf("%s: %q", name, got.Get(name))
		}
	}
}

// TestWithoutTheDatabase has every route answer 503, and none hang or tell where the database is.
func TestWithoutTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := routes(t, w)
	w.pool.Close()
	for _, r := range all {
		var body any
		if r.method != http.MethodGet {
			body = "{}"
		}
		a := w.send(r.method, r.at("x"), body, header("X-Request-Id", "r-1"))
		p := a.problem(t, http.StatusServiceUnavailable)
		if p.RequestID != "r-1" || a.header.Get("Retry-After") == "" || strings.Contains(p.Detail, "pool") {
			t.Errorf("%s: %s", r, a.body)
		}
	}
}
