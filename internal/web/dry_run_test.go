package web_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/web"
)

func TestADryRunOfRows(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("PUT", "/v1/policy", object{"tasks": "move_all_tasks"}).want(t, http.StatusOK)
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme", "roles": object{"success_manager": "u-1"}}).want(t, http.StatusCreated)
	w.send("PUT", "/v1/tasks/t-1", object{"account_id": "a-1", "title": "Call", "assignee_id": "u-1"}).want(t, http.StatusCreated)
	before := w.fingerprint("acme")
	for _, c := range []struct {
		path string
		body object
		want web.RowPreview
	}{
		{"users/u-3", object{"name": "Cyd"}, web.RowPreview{Outcome: "created"}},
		{"users/u-2", object{"name": "u-2"}, web.RowPreview{Outcome: "unchanged"}},
		{"accounts/a-2", object{"name": "Beta"}, web.RowPreview{Outcome: "created"}},
		{"accounts/a-1", object{"roles": object{"success_manager": "u-2"}}, web.RowPreview{Outcome: "updated", Roles: 1, TasksMoved: 1}},
		{"tasks/t-1", object{"assignee_id": "u-2"}, web.RowPreview{Outcome: "updated", TasksMoved: 1}},
		{"tasks/t-2", object{"account_id": "a-1", "title": "Write"}, web.RowPreview{Outcome: "created"}},
	} {
		var got web.RowPreview
		w.send("PUT", "/v1/"+c.path+"?dry_run=true", c.body, as("sync")).want(t, http.StatusOK, &got)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.path, diff)
		}
	}
	p := w.send("PUT", "/v1/tasks/t-1?dry_run=true", object{"assignee_id": "nobody"}).problem(t, http.StatusUnprocessableEntity)
	if len(p.Errors) != 1 || p.Errors[0].Location != "body.assignee_id" {
		t.Errorf("%+v", p)
	}
	for what, c := range map[string]struct {
		rows []string
		want web.ImportSummary
	}{
		"users":    {[]string{`{"id":"u-3","name":"Cyd"}`, `{"id":"u-4"}`}, web.ImportSummary{Rows: 2, Created: 1, Failed: 1}},
		"accounts": {[]string{`{"id":"a-1","roles":{"success_manager":"u-2"}}`, `{"id":"a-2","name":"Beta"}`}, web.ImportSummary{Rows: 2, Created: 1, Updated: 1, TasksMoved: ptr(1)}},
		"tasks":    {[]string{`{"id":"t-1","assignee_id":"u-2"}`, `{"id":"t-1","assignee_id":"u-2"}`}, web.ImportSummary{Rows: 2, Updated: 1, Unchanged: 1, TasksMoved: ptr(1)}},
	} {
		refused, last := w.importAll(what+"?dry_run=true", strings.Join(c.rows, "\n"))
		c.want.DryRun = true
		if c.want.TasksMoved == nil {
			c.want.TasksMoved = ptr(0)
		}
		if diff := cmp.Diff(&c.want, last.Summary); diff != "" || len(refused) != c.want.Failed {
			t.Errorf("%s: %v %s", what, refused, diff)
		}
	}
	if after := w.fingerprint("acme"); after != before {
		t.Errorf("a dry run did something:\n%s\n%s", before, after)
	}
}

func ptr[T any](v T) *T { return &v }
