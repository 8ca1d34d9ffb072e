package web_test

import (
	"net/http"
	"strings"
	"testing"

	"handover.io/internal/web"
)

// TestAnotherTenantsIDsAreUnknownIDs sends every request with an id in it twice as somebody of zeta: with the ids of acme,
// and with ids of nobody. The answers must not differ in anything but the id.
func TestAnotherTenantsIDsAreUnknownIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme", "roles": object{"success_manager": "u-1"}}).want(t, http.StatusCreated)
	w.send("PUT", "/v1/tasks/t-1", object{"account_id": "a-1", "title": "Call", "assignee_id": "u-1"}).want(t, http.StatusCreated)
	var accepted web.AcceptedOperation
	w.send("PUT", roleOf, object{"owner_id": "u-2"}).want(t, http.StatusAccepted, &accepted)
	w.send("PUT", "/v1/users/z-1", object{"name": "Zoe"}, token("zeta-u-1-sync")).want(t, http.StatusCreated)

	known := map[string]string{"users": "u-1", "accounts": "a-1", "tasks": "t-1", "operations": accepted.OperationID, "notifications": "1"}
	bodies := map[string]func(user, account string) object{
		"PUT /v1/users/{id}":    func(user, _ string) object { return object{"status": "disabled"} },
		"PUT /v1/accounts/{id}": func(user, _ string) object { return object{"roles": object{"success_manager": user}} },
		"PUT /v1/tasks/{id}": func(user, account string) object {
			return object{"account_id": account, "title": "x", "assignee_id": user}
		},
		"PUT /v1/accounts/{id}/roles/{role}": func(_, _ string) object { return object{"owner_id": "z-1"} },
		"POST /v1/users/{id}/disable":        func(_, _ string) object { return object{"successor_id": "z-1"} },
		"POST /v1/users/{id}/delete":         func(_, _ string) object { return object{"successor_id": "z-1"} },
		"POST /v1/users/{id}/reinstate":      func(_, _ string) object { return nil },
		"POST /v1/users/{id}/reassign":       func(_, _ string) object { return object{"successor_id": "z-1"} },
		"POST /v1/tasks/{id}/assign":         func(_, _ string) object { return object{"assignee_id": "z-1"} },
		"POST /v1/notifications/{id}/read":   func(_, _ string) object { return nil },
	}
	before := w.fingerprint("acme")
	seen := 0
	for _, r := range routes(t, w) {
		if !strings.Contains(r.path, "{id}") {
			continue
		}
		seen++
		ask := func(id, user, account string) (int, string) {
			var body any
			if r.method != http.MethodGet {
				make, ok := bodies[r.String()]
				if !ok {
					t.Fatalf("%s: no body for it here", r)
				}
				body = make(user, account)
			}
			a := w.send(r.method, r.at(id), body, token("zeta-u-1-admin"))
			return a.status, strings.ReplaceAll(string(a.body), id, "ID")
		}
		what := strings.Split(r.path, "/")[2]
		unknown := "x-9"
		if what == "notifications" {
			unknown = "999"
		}
		theirs, theirBody := ask(known[what], "u-1", "a-1")
		nobodys, nobodysBody := ask(unknown, "x-8", "x-7")
		if theirs != nobodys || theirs >= 500 || strings.Contains(theirBody, "Acme") || theirs < 300 {
			t.Errorf("%s: %d %s, but of nobody %d %s", r, theirs, theirBody, nobodys, nobodysBody)
		}
	}
	if seen < 15 {
		t.Errorf("only %d routes with ids", seen)
	}
	for _, c := range []struct {
		path string
		body any
	}{
		{"/v1/assignments", object{"account_ids": []string{"a-1"}, "role": "success_manager", "owner_id": "z-1"}},
		{"/v1/assignments", object{"account_ids": []string{"x-9"}, "role": "success_manager", "owner_id": "u-1"}},
	} {
		w.send("POST", c.path, c.body, token("zeta-u-1-admin")).problem(t, http.StatusUnprocessableEntity)
	}
	for _, list := range []string{"users?", "accounts?", "tasks?status=all", "tasks?assignee_id=u-1", "operations?", "notices?", "notifications?", "accounts?owner_id=u-1"} {
		a := w.send("GET", "/v1/"+list, nil, token("zeta-u-1-read")).want(t, http.StatusOK)
		if strings.Contains(string(a.body), "Acme") || strings.Contains(string(a.body), `"u-1"`) || strings.Contains(string(a.body), accepted.OperationID) {
			t.Errorf("%s: %s", list, a.body)
		}
	}
	if after := w.fingerprint("acme"); after != before {
		t.Errorf("acme was changed:\n%s\n%s", before, after)
	}
}

// fingerprint is everything there is of a tenant.
func (w *world) fingerprint(tenant string) string {
	w.t.Helper()
	var out string
	if err := w.pool.QueryRow(w.t.Context(), `SELECT concat(
		(SELECT json_agg(u ORDER BY user_id) FROM users u WHERE tenant_id = $1), (SELECT json_agg(a) FROM accounts a WHERE tenant_id = $1),
		(SELECT json_agg(r) FROM account_roles r WHERE tenant_id = $1), (SELECT json_agg(k) FROM tasks k WHERE tenant_id = $1),
		(SELECT json_agg(o) FROM operations o WHERE tenant_id = $1), (SELECT count(*) FROM outbox WHERE tenant_id = $1))`, tenant).Scan(&out); err != nil {
		w.t.Fatal(err)
	}
	return out
}
