package web_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/web"
)

// hostileIDs are ids that upstream systems may have.
var hostileIDs = []string{
	"a/b", "a//b", "/a/", "a b", "ä", "🙂", "%2F", "a%b", "a?b#c", "a+b", "..a", "...", "a;b=c", "'; DROP TABLE users; --",
	`"><script>alert(1)</script>`, "\u202e\u200b", strings.Repeat("🙂", 128), "history", "*", "a&b=c", "\\", "e\u0301", "\u00e9", "a.json",
}

func TestRowsOfAnyID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range hostileIDs {
		at := func(what string) string { return "/v1/" + what + "/" + url.PathEscape(id) }
		var u web.User
		w.send("PUT", at("users"), object{"name": id, "email": "x@example.com"}).want(t, http.StatusCreated, &u)
		var a web.Account
		w.send("PUT", at("accounts"), object{"name": id, "attributes": object{id: id}, "roles": object{"success_manager": id}}).want(t, http.StatusCreated, &a)
		var task web.Task
		w.send("PUT", at("tasks"), object{"account_id": id, "title": id, "assignee_id": id, "source": "success_play"}).want(t, http.StatusCreated, &task)
		if u.ID != id || a.ID != id || task.ID != id || task.Title != id || task.AssigneeID == nil || *task.AssigneeID != id {
			t.Errorf("%q came back as %+v %+v %+v", id, u, a, task)
		}
		w.send("GET", at("users"), nil).want(t, http.StatusOK, &u)
		w.send("GET", at("accounts"), nil).want(t, http.StatusOK, &a)
		w.send("GET", at("tasks"), nil).want(t, http.StatusOK, &task)
		w.send("GET", at("tasks")+"/history", nil).want(t, http.StatusOK)
		w.send("GET", at("accounts")+"/history", nil).want(t, http.StatusOK)
		w.send("PUT", at("accounts")+"/roles/success_manager", object{"owner_id": id}).want(t, http.StatusOK)
		w.send("POST", at("tasks")+"/assign", object{"assignee_id": nil}).want(t, http.StatusOK)
	}
	var page web.Page[web.User]
	got := map[string]bool{}
	for cursor := ""; ; {
		w.send("GET", "/v1/users?limit=5"+cursor, nil).want(t, http.StatusOK, &page)
		for _, u := range page.Items {
			got[u.ID] = true
		}
		if page.NextCursor == nil {
			break
		}
		cursor = "&cursor=" + url.QueryEscape(*page.NextCursor)
	}
	for _, id := range hostileIDs {
		if !got[id] {
			t.Errorf("%q is not listed", id)
		}
	}
	if len(got) != len(hostileIDs) {
		t.Errorf("%d users, want %d", len(got), len(hostileIDs))
	}
}

func TestPutAnswersTheRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var u web.User
	w.send("PUT", "/v1/users/u-1", object{"name": "Ann", "email": "ann@example.com", "time_zone": "Europe/Paris"}, as("sync")).want(t, http.StatusCreated, &u)
	email := "ann@example.com"
	want := web.User{ID: "u-1", Name: "Ann", Email: &email, TimeZone: "Europe/Paris", Status: "active", Notices: true}
	if diff := cmp.Diff(want, u); diff != "" {
		t.Error(diff)
	}
	w.send("PUT", "/v1/users/u-1", object{"email": nil}).want(t, http.StatusOK, &u)
	if u.Email != nil || u.Name != "Ann" {
		t.Errorf("%+v", u)
	}
	w.send("PUT", "/v1/users/u-1", object{"id": "u-1", "name": "Ann"}).want(t, http.StatusOK)
}

func TestRowsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1")
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme"}).want(t, http.StatusCreated)
	long := strings.Repeat("x", 2001)
	for _, c := range []struct {
		path     string
		body     object
		location string
	}{
		{"users/u-9", object{}, "body.name"},
		{"users/u-9", object{"name": "x", "status": "asleep"}, "body.status"},
		{"users/u-9", object{"name": "x", "time_zone": "Mars/Olympus"}, "body.time_zone"},
		{"users/u-9", object{"name": "x", "email": "no address"}, "body.email"},
		{"users/u-9", object{"name": 7}, "body.name"},
		{"users/u-9", object{"name": "x", "notices": "yes"}, "body.notices"},
		{"users/u-9", object{"name": "x", "surprise": 1}, "body.surprise"},
		{"users/u-9", object{"id": "u-8", "name": "x"}, "body.id"},
		{"users/u-9", object{"name": "x\x00y"}, "body.name"},
		{"accounts/a-9", object{}, "body.name"},
		{"accounts/a-9", object{"name": "x", "attributes": []int{1}}, "body.attributes"},
		{"accounts/a-9", object{"name": "x", "roles": object{"success_manager": "nobody"}}, "body.roles.success_manager"},
		{"accounts/a-9", object{"name": "x", "roles": object{"king": "u-1"}}, "body.roles.king"},
		{"tasks/t-9", object{"title": "x"}, "body.account_id"},
		{"tasks/t-9", object{"account_id": "a-1"}, "body.title"},
		{"tasks/t-9", object{"account_id": "nowhere", "title": "x"}, "body.account_id"},
		{"tasks/t-9", object{"account_id": "a-1", "title": "x", "assignee_id": "nobody"}, "body.assignee_id"},
		{"tasks/t-9", object{"account_id": "a-1", "title": strings.Repeat("x", 501)}, "body.title"},
		{"tasks/t-9", object{"account_id": "a-1", "title": "x", "url": "javascript:alert(1)"}, "body.url"},
		{"tasks/t-9", object{"account_id": "a-1", "title": "x", "url": "https://example.com/" + long}, "body.url"},
		{"tasks/t-9", object{"account_id": "a-1", "title": "x", "due_at": "tomorrow"}, "body.due_at"},
		{"tasks/t-9", object{"account_id": "a-1", "title": "x", "status": "late"}, "body.status"},
		{"tasks/t-9", object{"account_id": "a-1", "title": "x", "assignee_id": "u-1", "assigned_at": "2999-01-01T00:00:00Z"}, "body.assigned_at"},
	} {
		p := w.send("PUT", "/v1/"+c.path, c.body).problem(t, http.StatusUnprocessableEntity)
		if len(p.Errors) != 1 || p.Errors[0].Location != c.location || p.Errors[0].Message == "" {
			t.Errorf("%s %v: %+v", c.path, c.body, p)
		}
	}
	for _, path := range []string{"users/u-9", "accounts/a-9", "tasks/t-9"} {
		w.send("GET", "/v1/"+path, nil).problem(t, http.StatusNotFound)
	}
}

func TestCommandsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme", "roles": object{"success_manager": "u-1"}}).want(t, http.StatusCreated)
	w.send("PUT", "/v1/tasks/t-1", object{"account_id": "a-1", "title": "Call", "assignee_id": "u-1"}).want(t, http.StatusCreated)
	for _, c := range []struct {
		method, path string
		body         any
		status       int
		location     string
	}{
		{"PUT", roleOf, object{}, 422, "body.owner_id"},
		{"PUT", roleOf, object{"owner_id": ""}, 422, "body.owner_id"},
		{"PUT", roleOf, object{"owner_id": 7}, 422, "body.owner_id"},
		{"PUT", roleOf, object{"owner_id": "nobody"}, 422, "body.owner_id"},
		{"PUT", roleOf, object{"owner_id": "a\x00b"}, 422, "body.owner_id"},
		{"PUT", roleOf, object{"owner_id": "u-2", "reason": "user_deleted"}, 422, "body.reason"},
		{"PUT", "/v1/accounts/a-1/roles/king", object{"owner_id": "u-2"}, 422, "path.role"},
		{"PUT", "/v1/accounts/a-9/roles/success_manager", object{"owner_id": "u-2"}, 404, ""},
		{"POST", "/v1/assignments", object{"role": "success_manager", "owner_id": "u-2"}, 422, ""},
		{"POST", "/v1/assignments", object{"account_ids": []string{}, "role": "success_manager", "owner_id": "u-2"}, 422, "body.account_ids"},
		{"POST", "/v1/assignments", object{"account_ids": []string{"a-1", "a-9"}, "role": "success_manager", "owner_id": "u-2"}, 422, "body.account_ids"},
		{"POST", "/v1/assignments", object{"account_ids": []string{"a-1"}, "owner_id": "u-2"}, 422, "body.role"},
		{"POST", "/v1/assignments", object{"account_ids": []string{"a-1"}, "role": "success_manager", "owner_id": "nobody"}, 422, "body.owner_id"},
		{"POST", "/v1/assignments", object{"filter": object{"surprise": 1}, "role": "success_manager", "owner_id": "u-2"}, 422, "body.filter.surprise"},
		{"POST", "/v1/assignments", object{"filter": "all", "role": "success_manager", "owner_id": "u-2"}, 422, "body.filter"},
		{"POST", "/v1/users/u-9/disable", object{}, 404, ""},
		{"POST", "/v1/users/u-1/disable", object{"successor_id": "nobody"}, 422, "body.successor_id"},
		{"POST", "/v1/users/u-1/disable", object{"successor_id": "u-1"}, 422, "body.successor_id"},
		{"POST", "/v1/users/u-1/disable", object{"tasks": "all"}, 422, "body.tasks"},
		{"POST", "/v1/tasks/t-9/assign", object{"assignee_id": "u-1"}, 404, ""},
		{"POST", "/v1/tasks/t-1/assign", object{}, 422, "body.assignee_id"},
		{"POST", "/v1/tasks/t-1/assign", object{"assignee_id": "nobody"}, 422, "body.assignee_id"},
		{"PUT", "/v1/policy", object{"tasks": "move_some"}, 422, "body.tasks"},
		{"PUT", "/v1/policy", object{}, 422, "body.tasks"},
		{"PUT", "/v1/settings", object{"notice_mode": "loud"}, 422, "body.notice_mode"},
		{"PUT", "/v1/roles", object{"items": []object{{"role": "X!", "name": "x"}}}, 422, ""},
		{"GET", "/v1/accounts?filter=%7B", nil, 422, "query.filter"},
		{"GET", "/v1/accounts?filter=%7B%22surprise%22:1%7D", nil, 422, "query.filter.surprise"},
		{"GET", "/v1/accounts?filter=%7B%7D&name=x", nil, 422, "query.filter"},
		{"GET", "/v1/tasks?status=late", nil, 422, "query.status"},
		{"GET", "/v1/operations/nothing", nil, 404, ""},
		{"GET", "/v1/operations/nothing/events", nil, 404, ""},
		{"POST", "/v1/notifications/x/read", nil, 422, "path.id"},
	} {
		p := w.send(c.method, c.path, c.body).problem(t, c.status)
		if c.location != "" && (len(p.Errors) == 0 || !strings.HasPrefix(p.Errors[0].Location, c.location)) {
			t.Errorf("%s %s %v: %+v", c.method, c.path, c.body, p)
		}
	}
	var holds web.Problem
	w.send("POST", "/v1/users/u-1/disable", object{}).want(t, http.StatusConflict, &holds)
	if holds.Holds == nil || holds.Holds.Roles != 1 || holds.Holds.OpenTasks != 1 {
		t.Errorf("%+v", holds)
	}
	if n := w.count(`SELECT count(*) FROM operations`); n != 0 {
		t.Errorf("%d operations", n)
	}
}

func TestTakingAUserBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("POST", "/v1/users/u-2/delete", object{}).want(t, http.StatusAccepted)
	w.send("PUT", "/v1/users/u-2", object{"status": "active"}).want(t, http.StatusOK) // which upstream may have said all along
	w.send("POST", "/v1/users/u-2/reinstate", nil, as("sync")).problem(t, http.StatusForbidden)
	w.send("POST", "/v1/users/u-9/reinstate", nil).problem(t, http.StatusNotFound)
	for _, body := range []any{nil, object{}} {
		var u web.User
		w.send("POST", "/v1/users/u-2/reinstate", body).want(t, http.StatusOK, &u)
		if u.ID != "u-2" || u.Status != "active" || u.LeftAt != nil {
			t.Errorf("%+v", u)
		}
	}
}

func TestOnlyYourOwnNotificationsAreRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	read := func(user string) string {
		id := w.count(`INSERT INTO notifications (tenant_id, user_id, kind, title, data) VALUES ('acme', $1, 'x', 'x', '{}') RETURNING notification_id`, user)
		return fmt.Sprintf("/v1/notifications/%d/read", id)
	}
	mine, elses := read("u-1"), read("u-2")
	w.send("POST", "/v1/notifications/4711/read", nil).problem(t, http.StatusNotFound)
	w.send("POST", elses, nil).problem(t, http.StatusNotFound)
	for _, want := range []int{1, 0} {
		var got struct{ Marked int }
		if w.send("POST", mine, nil, as("read")).want(t, http.StatusOK, &got); got.Marked != want {
			t.Errorf("%d marked, want %d", got.Marked, want)
		}
	}
	if n := w.count(`SELECT count(*) FROM notifications WHERE read_at IS NOT NULL`); n != 1 {
		t.Errorf("%d are read", n)
	}
}
