package web_test

import (
	"net/http"
	"strings"
	"testing"
)

// TestEveryRefusalSaysWhere checks refusals whose place in the request isn't where the command that refuses has its name from.
func TestEveryRefusalSaysWhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1")
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme", "roles": object{"success_manager": "u-1"}}).want(t, http.StatusCreated)
	for name, c := range map[string]struct {
		method, path string
		body         any
		location     string
	}{
		"no roles":                      {"PUT", "/v1/roles", object{"items": []object{}}, "body.items"},
		"a role's name":                 {"PUT", "/v1/roles", object{"items": []object{{"role": "success_manager", "name": ""}}}, "body.items[0].name"},
		"another id":                    {"PUT", "/v1/accounts/a-1", object{"id": "a-2"}, "body.id"},
		"a row that isn't UTF-8":        {"PUT", "/v1/accounts/a-1", "{\"name\":\"\xff\"}", "body"},
		"neither filter nor ids":        {"POST", "/v1/assignments", object{"role": "success_manager", "owner_id": "u-1"}, "body"},
		"both filter and ids":           {"POST", "/v1/assignments", object{"role": "success_manager", "owner_id": "u-1", "filter": object{}, "account_ids": []string{"a-1"}}, "body"},
		"assignments that aren't UTF-8": {"POST", "/v1/assignments", "{\"role\":\"\xff\",\"owner_id\":null,\"filter\":{}}", "body.role"},
	} {
		p := w.send(c.method, c.path, c.body).problem(t, http.StatusUnprocessableEntity)
		if len(p.Errors) != 1 || p.Errors[0].Location != c.location {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for _, path := range []string{"/v1/operations/nope", "/v1/users/nope"} {
		if p := w.send("GET", path, nil).problem(t, http.StatusNotFound); strings.Contains(p.Detail, "upstream") != strings.Contains(path, "users") {
			t.Errorf("%s: %s", path, p.Detail)
		}
	}
}
