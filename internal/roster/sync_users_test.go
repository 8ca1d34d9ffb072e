package roster_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/roster"
)

func TestUserSync(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		rows []string // each a chunk of its own
		want []string
		then string // status, name, email, time zone and notices of "eve"
	}{
		{"new and active by default", []string{`{"id": "eve", "name": "Eve"}`}, []string{"created"}, "active Eve  UTC true"},
		{"all that can be said", []string{`{"id": "eve", "name": "Eve", "email": "eve@example.com", "time_zone": "Europe/Berlin", "status": "active", "notices": false}`},
			[]string{"created"}, "active Eve eve@example.com Europe/Berlin false"},
		{"absent is unchanged, null is emptied", []string{`{"id": "eve", "name": "Eve", "email": "eve@example.com", "time_zone": "Asia/Tokyo", "notices": false}`,
			`{"id": "eve"}`, `{"id": "eve", "email": null, "time_zone": null, "notices": null}`}, []string{"created", "unchanged", "updated"}, "active Eve  UTC true"},
		{"the same again", []string{`{"id": "eve", "name": "Eve"}`, `{"id": "eve", "name": "Eve", "status": "active"}`}, []string{"created", "unchanged"}, "active Eve  UTC true"},
		{"no name", []string{`{"id": "eve", "email": "eve@example.com"}`}, []string{"name: is required for a user who isn't known yet"}, "null"},
		{"known as gone", []string{`{"id": "eve", "name": "Eve", "status": "deleted"}`}, []string{"created"}, "deleted Eve  UTC true"},
		{"gone and back", []string{`{"id": "eve", "name": "Eve"}`, `{"id": "eve", "status": "disabled"}`, `{"id": "eve", "status": "active"}`},
			[]string{"created", "updated", "updated"}, "active Eve  UTC true"},
		{"hostile content is kept as it is", []string{`{"id": "eve", "name": "'); DROP TABLE users; --<script>\\\n\u202e😀"}`},
			[]string{"created"}, "active '); DROP TABLE users; --<script>\\\n\u202e😀  UTC true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var got []string
			for _, row := range c.rows {
				got = append(got, w.users(row)...)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatal(diff)
			}
			w.wants(c.then, `SELECT concat_ws(' ', status, name, email, time_zone, CASE WHEN notices THEN 'true' ELSE 'false' END) FROM users WHERE user_id = 'eve'`)
		})
	}
}

func TestABadRowDoesNotStopTheOthersAndRepeatsGoInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got := w.users(`{"id": "eve", "name": "Eve"}`, `{"name": "Nobody"}`, `{"id": "new"}`, `{"id": "eve", "name": "Eva"}`, `{"id": "fay", "name": "Fay"}`,
		`{"id": "eve", "email": "eve@example.com"}`, `{"id": "new", "name": "New"}`)
	want := []string{"created", "id: is empty; give the id of the upstream system, 1 to 128 characters", "name: is required for a user who isn't known yet",
		"updated", "created", "updated", "created"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	w.wants("Eva eve@example.com", `SELECT name || ' ' || email FROM users WHERE user_id = 'eve'`)
}

func TestTooManyRowsAreAMistakeOfTheCaller(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := w.SyncUsers(w.ctx, tenant, "root", make([]roster.UserSaid, roster.MaxSyncRows+1), false); err == nil {
		t.Fatal("taken")
	}
}

func TestUpstreamsStatusIsADepartureWithoutSuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts(`{"id": "a", "name": "A", "roles": {"success_manager": "ann"}}`)
	w.tasks(`{"id": "t", "account_id": "a", "title": "Call", "assignee_id": "ann"}`)
	w.users(`{"id": "ann", "status": "disabled"}`, `{"id": "bob", "status": "disabled"}`)
	w.wants("true", `SELECT left_at BETWEEN now() - interval '1 minute' AND now() FROM users WHERE user_id = 'ann'`)
	left, err := w.Users(w.ctx, tenant, roster.UserQuery{LeftBehind: true})
	w.must(err)
	if len(left.Items) != 1 || left.Items[0].ID != "ann" || left.Items[0].SuccessorID != nil {
		t.Fatalf("left behind: %+v; bob holds nothing", left.Items)
	}
	w.exec(`UPDATE users SET successor_id = 'cyd', departure_id = 'x' WHERE user_id = 'ann'`)
	if left, err = w.Users(w.ctx, tenant, roster.UserQuery{LeftBehind: true}); err != nil || len(left.Items) != 1 {
		t.Fatalf("left behind, with a successor: %+v, %v", left.Items, err)
	}
	before := w.get(`SELECT left_at FROM users WHERE user_id = 'ann'`)
	w.users(`{"id": "ann", "status": "deleted"}`)
	w.wants(before, `SELECT left_at FROM users WHERE user_id = 'ann'`)
	w.users(`{"id": "ann", "status": "active"}`)
	w.wants("null", `SELECT left_at FROM users WHERE user_id = 'ann'`)
	w.assignee("ann", "t")
}

func TestANightlySyncDoesNotUndoADepartureDecidedHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.leaves("ann", "bob", ago(time.Hour))
	if got := w.users(`{"id": "ann", "name": "Ann", "status": "active"}`); got[0] != "unchanged" {
		t.Fatal(got)
	}
	w.wants("disabled bob", `SELECT status || ' ' || successor_id FROM users WHERE user_id = 'ann'`)
	// Upstream comes to know of it, and then takes ann back.
	w.users(`{"id": "ann", "status": "disabled"}`)
	w.wants("disabled bob", `SELECT status || ' ' || successor_id FROM users WHERE user_id = 'ann'`)
	w.users(`{"id": "ann", "status": "active"}`)
	w.wants("(active,,,,f)", `SELECT (status, left_at, successor_id, departure_id, departure_tasks) FROM users WHERE user_id = 'ann'`)
}

// Who was let go by mistake is taken back whatever upstream says, and no sync that repeats itself changes that.
func TestReinstating(t *testing.T) {
	t.Parallel()
	for _, upstream := range []string{"", "active", "disabled", "deleted"} {
		t.Run("upstream says "+upstream, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			said := `{"id": "ann", "name": "Ann"}`
			if upstream != "" {
				said = fmt.Sprintf(`{"id": "ann", "name": "Ann", "status": %q}`, upstream)
			}
			w.users(said)
			w.leaves("ann", "bob", ago(time.Hour))
			for range 2 {
				u, err := w.Reinstate(w.ctx, tenant, "ann")
				w.must(err)
				if u.Status != "active" || u.LeftAt != nil || u.SuccessorID != nil {
					t.Errorf("%+v", u)
				}
				w.users(said)
				w.wants("(active,,,,f)", `SELECT (status, left_at, successor_id, departure_id, departure_tasks) FROM users WHERE user_id = 'ann'`)
			}
			// Another word is news as ever.
			w.users(`{"id": "ann", "status": "active"}`, `{"id": "ann", "status": "deleted"}`)
			w.wants("deleted", `SELECT status FROM users WHERE user_id = 'ann'`)
		})
	}
	w := newWorld(t)
	if _, err := w.Reinstate(w.ctx, tenant, "nobody"); !errors.Is(err, roster.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
}

func TestAChangeThatWaitedForAUserIsDeliveredWhenTheyAreSynced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts(`{"id": "a", "name": "A", "roles": {"success_manager": "ann"}}`)
	w.tasks(fmt.Sprintf(`{"id": "t", "account_id": "a", "title": "Call", "assignee_id": "ann", "created_at": %q}`, stamp(ago(time.Hour))))
	w.change("a", success, "", "eve", ago(time.Minute))
	w.wants("owner_unknown", `SELECT reason FROM dead_letters WHERE state = 'dead'`)
	w.assignee("ann", "t")
	w.offered = nil
	w.users(`{"id": "eve", "name": "Eve"}`)
	if len(w.offered) != 1 || !strings.HasPrefix(w.offered[0].ID, "retry-") || w.offered[0].Key == 0 {
		t.Fatalf("offered after the commit: %+v", w.offered)
	}
	w.deliver()
	w.assignee("eve", "t")
	w.owner("eve", "a", success)
}
