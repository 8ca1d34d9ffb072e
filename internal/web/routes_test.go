package web_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
)

// operation is a route as the OpenAPI document tells it, which is where these tests know the routes from: a new one is in
// them as soon as it exists.
type apiRoute struct {
	method, path string
	right        string
	once         bool
	query        []string
	media        []string // of the body
}

func (r apiRoute) String() string { return r.method + " " + r.path }

// at is the path with the ids in it.
func (r apiRoute) at(id string) string {
	path := strings.NewReplacer("{role}", "success_manager", "{id}", id).Replace(r.path)
	return path
}

func routes(t *testing.T, w *world) []apiRoute {
	t.Helper()
	var doc struct {
		Paths map[string]map[string]struct {
			Right      string `json:"x-right"`
			Once       bool   `json:"x-idempotent"`
			Parameters []struct{ Name, In string }
			Body       struct {
				Content map[string]json.RawMessage
			} `json:"requestBody"`
		}
	}
	w.send("GET", "/openapi.json", nil).want(t, http.StatusOK, &doc)
	var out []apiRoute
	for path, methods := range doc.Paths {
		for method, op := range methods {
			r := apiRoute{method: strings.ToUpper(method), path: path, right: op.Right, once: op.Once, media: slices.Collect(maps.Keys(op.Body.Content))}
			for _, p := range op.Parameters {
				if p.In == "query" {
					r.query = append(r.query, p.Name)
				}
			}
			out = append(out, r)
		}
	}
	if len(out) < 30 {
		t.Fatalf("only %d routes", len(out))
	}
	slices.SortFunc(out, func(a, b apiRoute) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func TestEveryRouteNeedsItsRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	revoked := w.tokens[w.token("acme", "gone", "admin")]
	w.exec(`UPDATE tokens SET revoked_at = now() WHERE user_id = 'gone'`)
	for _, r := range routes(t, w) {
		var body any
		if r.method != http.MethodGet {
			body = "{}"
		}
		for _, bad := range []string{"", "Bearer", "Bearer ", "Basic YTpi", "Bearer nobody", "bearer " + revoked, "Bearer " + w.tokens["acme-u-1-admin"] + " x"} {
			a := w.send(r.method, r.at("x"), body, header("Authorization", bad))
			if p := a.problem(t, http.StatusUnauthorized); a.header.Get("WWW-Authenticate") == "" {
				t.Errorf("%s with %q: no WWW-Authenticate: %+v", r, bad, p)
			}
		}
		for _, right := range []string{"admin", "policy", "assign", "sync", "read"} {
			a := w.send(r.method, r.at("x"), body, as(right))
			allowed := right == "admin" || right == r.right || r.right == "read"
			if refused := a.status == http.StatusForbidden; refused == allowed {
				t.Errorf("%s with the right %s: status %d", r, right, a.status)
			}
			if a.status == http.StatusForbidden && !strings.Contains(a.problem(t, a.status).Detail, `"`+r.right+`"`) {
				t.Errorf("%s: the missing right isn't named: %s", r, a.body)
			}
			if a.status >= 500 {
				t.Errorf("%s: %s", r, a.body)
			}
		}
	}
}

func TestTheRightsAreThoseOfTheContract(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	reads := map[string]string{"/v1/policy": "policy", "/v1/policy/history": "policy", "/v1/settings": "policy"}
	for _, r := range routes(t, w) {
		want := "assign"
		switch {
		case reads[r.path] != "":
			want = reads[r.path]
		case r.method == http.MethodGet, strings.HasPrefix(r.path, "/v1/notifications"):
			want = "read"
		case strings.HasPrefix(r.path, "/v1/imports/"), r.path == "/v1/roles":
			want = "sync"
		case r.method == http.MethodPut && strings.Count(r.path, "/") == 3:
			want = "sync"
		}
		if r.right != want {
			t.Errorf("%s needs %q, want %q", r, r.right, want)
		}
		if once := r.method == http.MethodPost && !strings.HasPrefix(r.path, "/v1/imports/") || strings.HasSuffix(r.path, "/roles/{role}") ||
			r.method == http.MethodPut && r.path == "/v1/policy"; r.once != once {
			t.Errorf("%s takes an Idempotency-Key: %v", r, r.once)
		}
	}
}

// TestBadInputIsRefused sends what no route may take; whatever else is wrong, the answer is a 4xx problem.
func TestBadInputIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, r := range routes(t, w) {
		body := func() any {
			if r.method == http.MethodGet {
				return nil
			}
			return "{}"
		}
		for _, id := range []string{"%00", "a%0Ab", "%2e", "%2E%2e", strings.Repeat("x", 129), "%FF", "%C2%80"} {
			if strings.Contains(r.path, "{") {
				wantLocation(t, r, w.send(r.method, r.at(id), body()), 422, "path.id")
			}
		}
		wantLocation(t, r, w.send(r.method, r.at("x")+"?surprise=1", body()), 422, "query.surprise")
		wantLocation(t, r, w.send(r.method, r.at("x")+"?a=1;b=2", body()), 422, "query")
		for _, name := range r.query {
			wantLocation(t, r, w.send(r.method, r.at("x")+"?"+name+"=", body()), 422, "query."+name)
			wantLocation(t, r, w.send(r.method, r.at("x")+"?"+name+"=1&"+name+"=1", body()), 422, "query."+name)
			wantLocation(t, r, w.send(r.method, r.at("x")+"?"+name+"=a%00b", body()), 422, "query."+name)
		}
		if slices.Contains(r.query, "limit") {
			for _, limit := range []string{"0", "-1", "1001", "x", "1e3", "99999999999999999999"} {
				wantLocation(t, r, w.send(r.method, r.at("x")+"?limit="+limit, body()), 422, "query.limit")
			}
			for _, cursor := range []string{"x", "!!!", "e30", "-1", "0", strings.Repeat("a", 3000), "99999999999999999999"} {
				wantLocation(t, r, w.send(r.method, r.at("x")+"?cursor="+cursor, body()), 422, "query.cursor")
			}
		}
		if slices.Contains(r.query, "dry_run") {
			wantLocation(t, r, w.send(r.method, r.at("x")+"?dry_run=maybe", body()), 422, "query.dry_run")
		}
		if slices.Contains(r.media, "application/json") && len(r.media) == 1 {
			badJSON(t, w, r)
		}
	}
}

func badJSON(t *testing.T, w *world, r apiRoute) {
	t.Helper()
	for _, body := range []string{"", "{", `{"a":1}}`, `{} {}`, "nul", "\xff", `[]`, `"x"`, `null`, `7`, `{"surprise":1}`,
		strings.Repeat(`[`, 100_000), `{"surprise":` + strings.Repeat(`{"a":`, 50_000)} {
		if a := w.send(r.method, r.at("x"), body); a.status < 400 || a.status > 499 || a.status == 404 {
			t.Errorf("%s with %.40q: %d %s", r, body, a.status, a.body)
		} else {
			a.problem(t, a.status)
		}
	}
	w.send(r.method, r.at("x"), "{}", header("Content-Type", "text/plain")).problem(t, http.StatusUnsupportedMediaType)
	w.send(r.method, r.at("x"), `{"surprise":"`+strings.Repeat("x", 17<<20)+`"}`).problem(t, http.StatusRequestEntityTooLarge)
}

func wantLocation(t *testing.T, r apiRoute, a answer, status int, location string) {
	t.Helper()
	if a.status != status {
		t.Errorf("%s: status %d, and nothing about %s", r, a.status, location)
		return
	}
	p := a.problem(t, status)
	for _, e := range p.Errors {
		if e.Location == location && e.Message != "" {
			return
		}
	}
	t.Errorf("%s: nothing about %s: %s", r, location, a.body)
}

func TestWhatIsNoRoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, path := range []string{"/", "/v1", "/v2/users", "/v1/users/", "/v1/users//disable", "/v1/../readyz", "/v1/users/%00", "/v1/nothing"} {
		status := http.StatusNotFound
		if path == "/v1/users/%00" {
			status = http.StatusUnprocessableEntity
		}
		w.send("GET", path, nil).problem(t, status)
	}
	a := w.send("DELETE", "/v1/users/u-1", nil)
	a.problem(t, http.StatusMethodNotAllowed)
	if allow := a.header.Get("Allow"); !strings.Contains(allow, "PUT") {
		t.Errorf("Allow: %q", allow)
	}
	if a := w.send("HEAD", "/v1/users", nil); a.status != http.StatusOK || len(a.body) != 0 {
		t.Errorf("HEAD: %d", a.status)
	}
}
