package roster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// clock counts minutes from ten hours ago.
type clock struct{ start time.Time }

func newClock() clock { return clock{ago(10 * time.Hour)} }

func (c clock) at(minute int) time.Time { return c.start.Add(time.Duration(minute) * time.Minute) }

// expand replaces @5 in a row by the time of minute 5.
func (c clock) expand(row string) string {
	for m := 99; m >= 0; m-- {
		row = strings.ReplaceAll(row, fmt.Sprintf(`"@%d"`, m), fmt.Sprintf("%q", stamp(c.at(m))))
	}
	return row
}

func TestTaskRows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		rows []string
		want []string
		then string // status, source, role, priority, url, title
	}{
		{"defaults", []string{`{"id": "t", "account_id": "a", "title": "Call"}`}, []string{"created"}, "open manual    Call"},
		{"all that can be said", []string{`{"id": "t", "account_id": "a", "title": "Call", "assignee_id": "ann", "status": "in_progress", "source": "success_play", "role": "sales_manager",
			"priority": "high", "due_at": "2026-06-01T09:00:00+02:00", "created_at": "@1", "assigned_at": "@2", "url": "https://crm.example.com/t"}`},
			[]string{"created"}, "in_progress success_play sales_manager high https://crm.example.com/t Call"},
		{"absent is unchanged, null is emptied", []string{`{"id": "t", "account_id": "a", "title": "Call", "source": "success_play", "role": "sales_manager", "priority": "high", "url": "https://x.example/1"}`,
			`{"id": "t"}`, `{"id": "t", "source": null, "role": null, "priority": null, "url": null, "due_at": null}`}, []string{"created", "unchanged", "updated"}, "open manual    Call"},
		{"the same again", []string{`{"id": "t", "account_id": "a", "title": "Call", "assignee_id": "ann", "created_at": "@1", "due_at": "@9"}`,
			`{"id": "t", "account_id": "a", "title": "Call", "assignee_id": "ann", "created_at": "@1", "due_at": "@9"}`}, []string{"created", "unchanged"}, "open manual    Call"},
		{"no title", []string{`{"id": "t", "account_id": "a"}`}, []string{"title: is required for a task that isn't known yet"}, "null"},
		{"no account", []string{`{"id": "t", "title": "Call"}`}, []string{"account_id: is required for a task that isn't known yet"}, "null"},
		{"unknown account", []string{`{"id": "t", "title": "Call", "account_id": "z"}`}, []string{`account_id: there is no account "z"; sync the account first`}, "null"},
		{"unknown assignee", []string{`{"id": "t", "title": "Call", "account_id": "a", "assignee_id": "eve"}`}, []string{`assignee_id: there is no user "eve"; sync the user first`}, "null"},
		{"unknown role", []string{`{"id": "t", "title": "Call", "account_id": "a", "role": "boss"}`}, []string{`role: there is no role "boss"; add it to the tenant's roles first`}, "null"},
		{"assigned too far ahead", []string{`{"id": "t", "title": "Call", "account_id": "a", "assignee_id": "ann", "assigned_at": "9999-01-01T00:00:00Z"}`},
			[]string{"assigned_at: is more than 5m0s ahead of our clock; set the upstream system's clock right"}, "null"},
		{"created too far ahead", []string{`{"id": "t", "title": "Call", "account_id": "a", "created_at": "9999-01-01T00:00:00Z"}`},
			[]string{"created_at: is more than 5m0s ahead of our clock; set the upstream system's clock right"}, "null"},
		{"repeats in one chunk go in order", []string{`{"id": "t", "account_id": "a", "title": "Call"}` + "\n\n" + `{"id": "u", "title": "bad"}` + "\n\n" + `{"id": "t", "title": "Write"}` + "\n\n" + `{"id": "t", "status": "completed"}`},
			[]string{"created", "account_id: is required for a task that isn't known yet", "updated", "updated"}, "completed manual    Write"},
		{"hostile content is kept as it is", []string{`{"id": "t", "account_id": "a", "title": "'); DROP TABLE tasks; --<script>\\\n\u202e😀"}`}, []string{"created"}, "open manual    '); DROP TABLE tasks; --<script>\\\n\u202e😀"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, times := newWorld(t), newClock()
			w.accounts(`{"id": "a", "name": "A"}`)
			var got []string
			for _, chunk := range c.rows {
				got = append(got, w.tasks(strings.Split(times.expand(chunk), "\n\n")...)...)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatal(diff)
			}
			w.wants(c.then, `SELECT concat_ws(' ', status, source, role, priority, url, title) FROM tasks WHERE task_id = 't'`)
		})
	}
}

// Each history is about one task of account "a", or "b" later, whose success manager was ann since ever. A step is what
// upstream says of the task, "m: from>to" for a change of the role at minute m, "left m: who>successor", or "gone".
func TestAssignmentsOfTasks(t *testing.T) {
	t.Parallel()
	const first = `{"account_id": "a", "title": "Call", "assignee_id": "ann", "assigned_at": "@0"}`
	for _, c := range []struct {
		name      string
		steps     []string
		assignee  string
		revision  int
		announced int // moves
	}{
		{"first sight", []string{first}, "ann", 0, 0},
		{"first sight with nobody", []string{`{"account_id": "a", "title": "Call"}`}, "null", 0, 0},
		{"a change moves it", []string{first, "5: >bob"}, "bob", 1, 1},
		{"first sight after the change that moves it", []string{"5: >bob", first}, "bob", 1, 1},
		{"first sight, created before the change", []string{"5: >bob", `{"account_id": "a", "title": "Call", "assignee_id": "ann", "created_at": "@4"}`}, "bob", 1, 1},
		{"first sight, created after the change", []string{"5: >bob", `{"account_id": "a", "title": "Call", "assignee_id": "ann", "created_at": "@6"}`}, "ann", 0, 0},
		{"assigned_at goes before created_at", []string{"5: >bob", `{"account_id": "a", "title": "Call", "assignee_id": "ann", "created_at": "@4", "assigned_at": "@6"}`}, "ann", 0, 0},
		{"first sight without any time is now", []string{"5: >bob", `{"account_id": "a", "title": "Call", "assignee_id": "ann"}`}, "ann", 0, 0},
		{"first sight, closed, is not folded", []string{"5: >bob", `{"account_id": "a", "title": "Call", "assignee_id": "ann", "assigned_at": "@0", "status": "completed"}`}, "ann", 0, 0},

		{"a later assignment", []string{first, `{"assignee_id": "bob", "assigned_at": "@6"}`}, "bob", 1, 0},
		{"an earlier assignment", []string{first, `{"assignee_id": "bob", "assigned_at": "@6"}`, `{"assignee_id": "cyd", "assigned_at": "@5"}`}, "bob", 1, 0},
		{"the same time: the greater id", []string{first, `{"assignee_id": "cyd", "assigned_at": "@6"}`, `{"assignee_id": "bob", "assigned_at": "@6"}`, `{"assignee_id": "dee", "assigned_at": "@6"}`}, "dee", 2, 0},
		{"assigned to nobody", []string{first, `{"assignee_id": null, "assigned_at": "@6"}`}, "null", 1, 0},
		{"assigned after the change", []string{first, "5: >bob", `{"assignee_id": "cyd", "assigned_at": "@6"}`}, "cyd", 2, 1},
		{"assigned before the change, to whom it took from", []string{first, `{"assignee_id": "cyd", "assigned_at": "@1"}`, "5: >bob", `{"assignee_id": "ann", "assigned_at": "@4"}`}, "bob", 2, 1},
		{"assigned before the change that has moved it: nothing moves", []string{first, "5: >bob", `{"assignee_id": "ann", "assigned_at": "@4"}`}, "bob", 1, 1},
		{"assigned two seconds after the change by a clock that is ahead", []string{first, "5: >bob", `{"assignee_id": "ann", "assigned_at": "+5"}`}, "bob", 1, 1},

		{"echo: whom we moved it to", []string{first, "5: >bob", `{"assignee_id": "bob"}`, "6: >cyd"}, "cyd", 2, 2},
		{"echo: whom we took it from", []string{first, "5: >bob", `{"assignee_id": "bob"}`, `{"assignee_id": "ann"}`}, "bob", 1, 1},
		{"echo: somebody in between", []string{first, "5: >bob", "6: >cyd", "7: >dee", `{"assignee_id": "bob"}`, `{"assignee_id": "cyd"}`}, "dee", 3, 3},
		{"another name assigns now", []string{first, "5: >bob", `{"assignee_id": "cyd"}`, "6: >dee"}, "cyd", 2, 1},
		{"nobody assigns now", []string{first, "5: >bob", `{"assignee_id": null}`}, "null", 2, 1},
		{"a holder of before the base is news", []string{first, `{"assignee_id": "bob"}`, `{"assignee_id": "cyd"}`, `{"assignee_id": "ann"}`}, "ann", 3, 0},
		{"a nightly sync of the old assignee undoes nothing", []string{first, "5: >bob", `{"assignee_id": "ann"}`, `{"assignee_id": "ann"}`}, "bob", 1, 1},

		{"closed tasks stay", []string{first, `{"status": "completed"}`, "5: >bob"}, "ann", 0, 0},
		{"reopening folds", []string{first, `{"status": "completed"}`, "5: >bob", `{"status": "open"}`}, "bob", 1, 1},
		{"in progress is open", []string{first, `{"status": "in_progress"}`, "5: >bob"}, "bob", 1, 1},
		{"closing freezes what was folded", []string{first, "5: >bob", `{"status": "cancelled"}`, "6: >cyd"}, "bob", 1, 1},
		{"a closed task that upstream assigns", []string{first, `{"status": "completed"}`, "5: >bob", `{"assignee_id": "dee"}`}, "dee", 1, 0},
		{"a closed task that upstream assigned earlier", []string{first, `{"status": "completed"}`, "5: cyd>bob", `{"assignee_id": "cyd", "assigned_at": "@4"}`}, "cyd", 1, 0},
		{"and reopened", []string{first, `{"status": "completed"}`, "5: cyd>bob", `{"assignee_id": "cyd", "assigned_at": "@4"}`, `{"status": "open"}`}, "bob", 2, 1},
		{"reopened and assigned in one row", []string{first, `{"status": "completed"}`, "5: >bob", `{"status": "open", "assignee_id": "dee"}`}, "dee", 1, 0},

		{"to another account: the present assignee is the base, now", []string{first, "5: >bob", `{"account_id": "b"}`, "b6: bob>cyd"}, "bob", 1, 1},
		{"to another account, and on from there", []string{first, "5: >bob", `{"account_id": "b"}`, "bnow: bob>cyd"}, "cyd", 2, 2},
		{"to another account and back", []string{first, "5: >bob", `{"account_id": "b"}`, "bnow: bob>cyd", `{"account_id": "a"}`}, "cyd", 2, 2},
		{"to another account and assigned", []string{first, "5: >bob", `{"account_id": "b", "assignee_id": "dee"}`}, "dee", 2, 1},
		{"another source", []string{first, `{"source": "success_play"}`, "5: >bob"}, "ann", 0, 0},
		{"another role", []string{first, `{"role": "sales_manager"}`, "5: >bob"}, "ann", 0, 0},
		{"the same account, role and source are no new base", []string{first, `{"account_id": "a", "role": null, "source": "manual"}`, "5: >bob"}, "bob", 1, 1},
		{"to another account, closed", []string{first, `{"status": "completed"}`, "5: >bob", `{"account_id": "b"}`, `{"status": "open"}`}, "ann", 0, 0},

		{"of somebody who left it is handed on", []string{"left 3: ann>bob", first}, "bob", 1, 1},
		{"given to somebody who left, it is handed on", []string{"left 3: cyd>bob", first, `{"assignee_id": "cyd"}`}, "bob", 2, 1},
		{"given by time to somebody who left", []string{"left 3: cyd>bob", first, `{"assignee_id": "cyd", "assigned_at": "@6"}`}, "bob", 2, 1},
		{"on to the successor's successor", []string{"left 3: cyd>bob", "left 4: bob>dee", first, `{"assignee_id": "cyd"}`}, "dee", 3, 2},
		{"given to somebody who left without successor, it is listed", []string{"left 3: cyd>", first, `{"assignee_id": "cyd"}`}, "cyd", 1, 0},
		{"reopened with somebody who left", []string{first, `{"status": "completed"}`, "left 3: ann>bob", `{"status": "open"}`}, "bob", 1, 1},
		{"to another account with somebody who left", []string{first, "left 3: ann>bob", `{"account_id": "b"}`}, "bob", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, times := newWorld(t), newClock()
			w.accounts(`{"id": "a", "name": "A", "roles": {"success_manager": "ann"}}`, `{"id": "b", "name": "B", "roles": {"success_manager": "ann"}}`)
			for _, step := range c.steps {
				w.step(times, step)
				w.deliver()
			}
			w.wants(fmt.Sprintf("%s %d", c.assignee, c.revision), `SELECT coalesce(assignee_id, 'null') || ' ' || revision FROM tasks WHERE task_id = 't'`)
			w.wants(fmt.Sprint(c.announced), `SELECT count(*) FROM outbox WHERE stream = 'TASK_REASSIGNMENTS'`)
			w.wants(fmt.Sprint(c.revision-c.announced), `SELECT count(*) FROM moves WHERE reason = 'synced' AND moved_by = 'root'`)
		})
	}
}

func (w *world) step(times clock, step string) {
	w.Helper()
	var minute int
	var people string
	account, at := "a", time.Time{}
	switch {
	case step[0] == '{':
		row := strings.ReplaceAll(step, `"+5"`, fmt.Sprintf("%q", stamp(times.at(5).Add(1900*time.Millisecond))))
		if got := w.tasks(`{"id": "t", ` + times.expand(row)[1:])[0]; len(got) > 9 {
			w.Fatalf("%s: %s", step, got)
		}
		return
	case strings.HasPrefix(step, "left"):
		_, err := fmt.Sscanf(step, "left %d: %s", &minute, &people)
		w.must(err)
		who, successor, _ := strings.Cut(people, ">")
		w.leaves(who, successor, times.at(minute))
		return
	case strings.HasPrefix(step, "bnow"):
		account, at = "b", ago(0)
		_, err := fmt.Sscanf(step, "bnow: %s", &people)
		w.must(err)
	default:
		if step[0] == 'b' {
			account, step = "b", step[1:]
		}
		_, err := fmt.Sscanf(step, "%d: %s", &minute, &people)
		w.must(err)
		at = times.at(minute)
	}
	from, to, _ := strings.Cut(people, ">")
	w.change(account, success, from, to, at)
}
