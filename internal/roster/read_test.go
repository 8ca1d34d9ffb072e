package roster_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/handover"
	"handover.io/internal/roster"
)

// through goes through all pages of a list, two items at a time.
func through[T any](w *world, id func(T) string, list func(roster.PageQuery) (roster.Page[T], error)) []string {
	w.Helper()
	ids := []string{}
	for q := (roster.PageQuery{Limit: 2}); ; {
		page, err := list(q)
		w.must(err)
		if len(page.Items) > 2 || (page.NextCursor != nil && len(page.Items) < 2) {
			w.Fatalf("a page of %d", len(page.Items))
		}
		for _, item := range page.Items {
			ids = append(ids, id(item))
		}
		if page.NextCursor == nil {
			return ids
		}
		q.Cursor = *page.NextCursor
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWhatIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.users(`{"id": "eve", "name": "Eve <b>", "email": "eve@example.com"}`)
	w.accounts(`{"id": "a", "name": "A", "attributes": {"x": 1}, "roles": {"success_manager": "ann", "sales_manager": null}}`, `{"id": "b", "name": "B"}`)
	w.tasks(`{"id": "t", "account_id": "a", "title": "Call", "assignee_id": "ann", "assigned_at": "2026-03-01T09:00:00.5Z", "due_at": "2026-06-01T09:00:00Z"}`)
	user, err := w.User(w.ctx, tenant, "eve")
	w.must(err)
	account, err := w.Account(w.ctx, tenant, "a")
	w.must(err)
	bare, err := w.Account(w.ctx, tenant, "b")
	w.must(err)
	task, err := w.Task(w.ctx, tenant, "t")
	w.must(err)
	task.AssignedAt = task.AssignedAt.UTC()
	due := task.DueAt.UTC()
	task.DueAt = &due
	for got, want := range map[string]string{
		asJSON(t, user):    `{"id":"eve","name":"Eve \u003cb\u003e","email":"eve@example.com","time_zone":"UTC","status":"active","notices":true,"left_at":null,"successor_id":null}`,
		asJSON(t, account): `{"id":"a","name":"A","attributes":{"x":1},"roles":{"sales_manager":null,"success_manager":"ann"}}`,
		asJSON(t, bare):    `{"id":"b","name":"B","attributes":{},"roles":{}}`,
		asJSON(t, task): `{"id":"t","account_id":"a","title":"Call","assignee_id":"ann","status":"open","source":"manual","role":null,"priority":null,"due_at":"2026-06-01T09:00:00Z",` +
			`"created_at":null,"assigned_at":"2026-03-01T09:00:00.5Z","url":null,"revision":0}`,
	} {
		if got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	for _, read := range []func(tenant, id string) error{
		func(tenant, id string) error { _, err := w.User(w.ctx, tenant, id); return err },
		func(tenant, id string) error { _, err := w.Account(w.ctx, tenant, id); return err },
		func(tenant, id string) error { _, err := w.Task(w.ctx, tenant, id); return err },
		func(tenant, id string) error {
			_, err := w.TaskHistory(w.ctx, tenant, id, roster.PageQuery{})
			return err
		},
		func(tenant, id string) error {
			_, err := w.AccountHistory(w.ctx, tenant, id, roster.PageQuery{})
			return err
		},
	} {
		if err := errors.Join(read(tenant, "none"), read("globex", "a"), read("globex", "t"), read("globex", "eve")); strings.Count(err.Error(), roster.ErrNotFound.Error()) != 4 {
			t.Error(err)
		}
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts(`{"id": "a", "name": "A", "roles": {"success_manager": "ann"}}`, `{"id": "b", "name": "B"}`)
	for i := range 5 {
		w.tasks(fmt.Sprintf(`{"id": "t%d", "account_id": %q, "title": "T", "assignee_id": "ann"}`, i, []string{"a", "b"}[i%2]))
	}
	w.tasks(`{"id": "t2", "status": "completed"}`, `{"id": "t5", "account_id": "a", "title": "T", "assignee_id": "bob"}`)
	users := through(w, func(u roster.UserDetails) string { return u.ID }, func(q roster.PageQuery) (roster.Page[roster.UserDetails], error) {
		return w.Users(w.ctx, tenant, roster.UserQuery{PageQuery: q})
	})
	if diff := cmp.Diff([]string{"ann", "bob", "cyd", "dee"}, users); diff != "" {
		t.Error(diff)
	}
	for _, c := range []struct {
		q    roster.TaskQuery
		want string
	}{
		{roster.TaskQuery{}, "t0 t1 t3 t4 t5"},
		{roster.TaskQuery{Status: "closed"}, "t2"},
		{roster.TaskQuery{Status: "all"}, "t0 t1 t2 t3 t4 t5"},
		{roster.TaskQuery{AssigneeID: "ann"}, "t0 t4 t1 t3"}, // by account,
		{roster.TaskQuery{AssigneeID: "ann", AccountID: "a"}, "t0 t4"},
		{roster.TaskQuery{AssigneeID: "ann", Status: "all"}, "t0 t1 t2 t3 t4"},
		{roster.TaskQuery{AssigneeID: "ann", AccountID: "a", Status: "closed"}, "t2"},
		{roster.TaskQuery{AccountID: "a"}, "t0 t4 t5"},
		{roster.TaskQuery{AssigneeID: "eve"}, ""},
	} {
		got := through(w, func(t roster.TaskDetails) string { return t.ID }, func(q roster.PageQuery) (roster.Page[roster.TaskDetails], error) {
			c.q.PageQuery = q
			return w.Tasks(w.ctx, tenant, c.q)
		})
		if strings.Join(got, " ") != c.want {
			t.Errorf("%+v: %v, want %s", c.q, got, c.want)
		}
	}
	_, err := w.Tasks(w.ctx, tenant, roster.TaskQuery{Status: "done"})
	refused(t, err, "status")
	_, err = w.Users(w.ctx, tenant, roster.UserQuery{Status: "done"})
	refused(t, err, "status")
	page, err := w.Users(w.ctx, tenant, roster.UserQuery{PageQuery: roster.PageQuery{Limit: 1}})
	w.must(err)
	for _, q := range []roster.PageQuery{{Limit: -1}, {Limit: 1001}, {Cursor: "!"}, {Cursor: "YWJj"}, {Cursor: *page.NextCursor}} {
		_, err := w.Tasks(w.ctx, tenant, roster.TaskQuery{PageQuery: q})
		refused(t, err, map[bool]string{true: "cursor", false: "limit"}[q.Cursor != ""])
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts(`{"id": "a", "name": "Größe AG", "attributes": {"region": "emea", "tags": ["x", "y"]}, "roles": {"success_manager": "ann", "sales_manager": "bob"}}`,
		`{"id": "b", "name": "100%_\\", "attributes": {"region": "emea"}, "roles": {"success_manager": "bob"}}`,
		`{"id": "c", "name": "Cobalt", "roles": {"sales_manager": "ann", "success_manager": null}}`, `{"id": "d", "name": "Delta"}`)
	for filter, want := range map[string]string{
		`{}`:                                             "a b c d",
		`{"attributes": {"region": "emea"}}`:             "a b",
		`{"attributes": {"tags": ["y"]}}`:                "a",
		`{"name": "GRÖSSE"}`:                             "",
		`{"name": "größe"}`:                              "a",
		`{"name": "%_\\"}`:                               "b",
		`{"name": "ALT"}`:                                "c",
		`{"role": "success_manager"}`:                    "a b",
		`{"role": "success_manager", "owner_id": "ann"}`: "a",
		`{"role": "success_manager", "owner_id": null}`:  "c d",
		`{"owner_id": "ann"}`:                            "a c",
		`{"owner_id": null}`:                             "d",
		`{"owner_id": "bob", "attributes": {"region": "emea"}, "name": "0", "role": null}`: "b",
	} {
		var f roster.Filter
		w.must(json.Unmarshal([]byte(filter), &f))
		var again roster.Filter
		w.must(json.Unmarshal([]byte(asJSON(t, f)), &again))
		if diff := cmp.Diff(f, again); diff != "" {
			t.Errorf("%s written and read: %s", filter, diff)
		}
		got := through(w, func(a roster.AccountDetails) string { return a.ID }, func(q roster.PageQuery) (roster.Page[roster.AccountDetails], error) {
			return w.Accounts(w.ctx, tenant, roster.AccountQuery{PageQuery: q, Filter: f})
		})
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", filter, got, want)
		}
	}
}

func TestHistories(t *testing.T) {
	t.Parallel()
	w, times := newWorld(t), newClock()
	w.accounts(`{"id": "a", "name": "A", "roles": {"success_manager": "ann"}}`, `{"id": "b", "name": "B"}`)
	w.tasks(times.expand(`{"id": "t", "account_id": "a", "title": "T", "assignee_id": "ann", "assigned_at": "@0"}`),
		times.expand(`{"id": "u", "account_id": "a", "title": "T", "assignee_id": "ann", "assigned_at": "@0"}`))
	w.change("a", success, "", "bob", times.at(5))
	w.tasks(`{"id": "t", "account_id": "b", "assignee_id": "cyd"}`)
	dee := "dee"
	_, err := w.AssignTask(w.ctx, tenant, "root", "t", &dee, false)
	w.must(err)
	var moves []roster.TaskMoved
	through(w, func(m roster.TaskMoved) string { moves = append(moves, m); return "" }, func(q roster.PageQuery) (roster.Page[roster.TaskMoved], error) {
		return w.TaskHistory(w.ctx, tenant, "t", q)
	})
	var told []string
	for _, m := range moves {
		told = append(told, fmt.Sprintf("%d %s: %s to %s, %s by %s", m.Revision, m.AccountID, *m.FromID, *m.ToID, m.Reason, m.By))
	}
	slices.Reverse(told)
	if diff := cmp.Diff([]string{"1 a: ann to bob, api by root", "2 b: bob to cyd, synced by root", "3 b: cyd to dee, assigned by root"}, told); diff != "" {
		t.Error(diff)
	}
	if c := moves[2].RoleChange; c == nil || c.FromID == nil || *c.FromID != "ann" || !c.Implied || *c.ToID != "bob" || !c.OccurredAt.Equal(times.at(5)) || c.Policy != handover.MoveAllTasks || moves[0].RoleChange != nil {
		t.Errorf("the change behind the first move: %+v", c)
	}
	events := through(w, func(e roster.AccountEvent) string {
		if e.Move != nil {
			return fmt.Sprint(e.Kind, " ", *e.Move.ToID, " ", len(e.Move.TaskIDs))
		}
		return fmt.Sprintf("%s %s to %s, implied %v", e.Kind, *e.RoleChange.FromID, *e.RoleChange.ToID, e.RoleChange.Implied)
	}, func(q roster.PageQuery) (roster.Page[roster.AccountEvent], error) {
		return w.AccountHistory(w.ctx, tenant, "a", q)
	})
	if diff := cmp.Diff([]string{"move bob 2", "role_change ann to bob, implied true"}, events); diff != "" {
		t.Error(diff)
	}
	_, err = w.AccountHistory(w.ctx, tenant, "a", roster.PageQuery{Cursor: "YWNjb3VudCBoaXN0b3J5AHgAeQB6"})
	refused(t, err, "cursor")
}
