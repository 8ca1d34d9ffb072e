package system_test

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// The policy was wrong for a day. It is set right with effect from yesterday: the dry run says what then happens, exactly
// the tasks of that day move, and exactly those to whom they go are mailed. Then it turns out that it was right after all,
// and what had moved is taken back: both sides are told.
func TestPolicyWrongForADay(t *testing.T) {
	t.Parallel()
	p := start(t, "HANDOVER_NOTICE_WINDOW=1s")
	p.want(http.StatusOK, "PUT", "/v1/settings", body{"allow_task_override": true})
	for _, u := range []string{"ann", "bob", "cyd", "eve"} {
		p.want(http.StatusCreated, "PUT", "/v1/users/"+u, body{"name": u, "email": u + "@example.com"})
	}
	lately := time.Now().Add(-72 * time.Hour)
	for _, a := range []string{"daybefore", "acme", "own", "idle"} {
		p.want(http.StatusCreated, "PUT", "/v1/accounts/"+a, body{"name": "Account " + a, "roles": body{"success_manager": "ann"}})
		for _, source := range []string{"manual", "success_play"} {
			if a != "idle" {
				p.want(http.StatusCreated, "PUT", "/v1/tasks/"+a+"-"+source, body{"account_id": a, "title": "Call " + a, "assignee_id": "ann", "source": source, "created_at": lately})
			}
		}
	}
	changed := func(account, to, tasks string, ago time.Duration) {
		t.Helper()
		m, err := event.AccountRoleChanged{
			ID: account, Source: "//crm.example", Time: time.Now().Add(-ago), TenantID: "demo", AccountID: account, Role: "success_manager",
			NewOwnerID: to, Reason: event.ByAPI, InitiatedBy: to, Tasks: tasks,
		}.Message("")
		if err != nil {
			t.Fatal(err)
		}
		if status, answer := p.send("POST", "/v1/events", "application/cloudevents+json", bytes.NewReader(m.Body)); status != http.StatusAccepted {
			t.Fatalf("%d: %s", status, answer)
		}
	}
	changed("daybefore", "cyd", "", 30*time.Hour) // before the day that was wrong
	changed("acme", "bob", "", 20*time.Hour)
	changed("own", "eve", "keep_tasks", 10*time.Hour) // the publisher said itself what becomes of the tasks
	changed("idle", "cyd", "", 5*time.Hour)           // there is nothing to move
	owner := func(account string) any {
		return p.want(http.StatusOK, "GET", "/v1/accounts/"+account, nil)["roles"].(map[string]any)["success_manager"]
	}
	testkit.Eventually(t, "the roles are theirs", func() (bool, string) {
		got := fmt.Sprintf("%v %v %v %v", owner("daybefore"), owner("acme"), owner("own"), owner("idle"))
		return got == "cyd bob eve cyd", got
	})

	yesterday := event.Micro(time.Now().Add(-24 * time.Hour)).UTC()
	p.want(http.StatusUnprocessableEntity, "PUT", "/v1/policy", body{"tasks": "move_automated_tasks", "effective_from": time.Now().Add(time.Hour)})
	p.want(http.StatusUnprocessableEntity, "PUT", "/v1/policy", body{"tasks": "move_automated_tasks", "take_back": true})
	setRight := func(choice body) map[string]any {
		t.Helper()
		shown := p.want(http.StatusOK, "PUT", "/v1/policy?dry_run=true", choice)
		done := p.want(http.StatusAccepted, "PUT", "/v1/policy", choice)
		if diff := cmp.Diff(shown["preview"], done["preview"]); diff != "" {
			t.Errorf("dry run and answer differ: %s", diff)
		}
		preview := done["preview"].(map[string]any)
		if got := p.done(done["operation_id"]); got["kind"] != "policy_corrected" || got["tasks_moved"] != preview["task_count"] || got["changes"] != preview["changes"] || got["accounts"] != preview["accounts"] {
			t.Errorf("shown %v\ndone %v", preview, got)
		}
		_, events := p.send("GET", fmt.Sprintf("/v1/operations/%v/events", done["operation_id"]), "", nil)
		if !strings.Contains(string(events), "event: done") {
			t.Errorf("events: %s", events)
		}
		return preview
	}
	mails := func() map[string]int {
		told := map[string]int{}
		for _, mail := range p.mails() {
			told[header(mail, "To")]++
		}
		return told
	}
	wantMails := func(want map[string]int) {
		t.Helper()
		database := p.database()
		testkit.Eventually(t, "every announcement taken in, and every window at its end", func() (bool, string) {
			var owed, untold, under int
			err := database.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM outbox_owed),
				(SELECT count(*) FROM moves, unnest(task_ids, revisions) AS m(id, revision) WHERE to_id <> moved_by
				 AND NOT EXISTS (SELECT FROM notice_items i WHERE i.task_id = m.id AND i.revision = m.revision AND i.kind = 'received')),
				(SELECT count(*) FROM notices WHERE state IN ('open', 'closed', 'sending'))`).Scan(&owed, &untold, &under)
			return err == nil && owed+untold+under == 0, fmt.Sprint(owed, untold, under, err)
		})
		if diff := cmp.Diff(want, mails()); diff != "" {
			t.Errorf("mails, by whom they are to: %s", diff)
		}
	}
	shownMails := func(preview map[string]any) []string {
		var out []string
		for _, m := range preview["mails"].([]any) {
			m := m.(map[string]any)
			out = append(out, fmt.Sprintf("%v: %v received, %v taken back", m["id"], m["received"], m["taken_back"]))
		}
		return out
	}

	preview := setRight(body{"tasks": "move_automated_tasks", "effective_from": yesterday})
	if diff := cmp.Diff([]string{"bob: 1 received, 0 taken back"}, shownMails(preview)); diff != "" || preview["task_count"] != 1.0 || preview["changes"] != 2.0 {
		t.Errorf("shown: %v %s", preview, diff)
	}
	if got := p.want(http.StatusOK, "GET", "/v1/tasks/acme-success_play", nil); got["assignee_id"] != "bob" {
		t.Errorf("%v", got)
	}
	wantMails(map[string]int{`"bob" <bob@example.com>`: 1})

	preview = setRight(body{"tasks": "keep_tasks", "effective_from": yesterday, "take_back": true})
	if diff := cmp.Diff([]string{"ann: 1 received, 0 taken back", "bob: 0 received, 1 taken back"}, shownMails(preview)); diff != "" || preview["taken_back"] != 1.0 {
		t.Errorf("shown: %v %s", preview, diff)
	}
	wantMails(map[string]int{`"bob" <bob@example.com>`: 2, `"ann" <ann@example.com>`: 1})
	if got := p.items("/v1/tasks?assignee_id=ann"); len(got) != 6 {
		t.Errorf("ann has %d tasks in the end: %v", len(got), got)
	}

	// Nobody asks twice for the same.
	if again := p.want(http.StatusOK, "PUT", "/v1/policy", body{"tasks": "keep_tasks", "effective_from": yesterday, "take_back": true}); again["unchanged"] != true {
		t.Errorf("again: %v", again)
	}
	var history []string
	for _, e := range p.items("/v1/policy/history") {
		history = append(history, fmt.Sprintf("%v %v %v", e["tasks"], e["superseded_at"] != nil, e["operation_id"] != nil))
	}
	// The demo company's own stays to be seen, too.
	if diff := cmp.Diff([]string{"move_automated_tasks true false", "keep_tasks false true", "move_automated_tasks true true"}, history); diff != "" {
		t.Error(diff)
	}
	var titles []string
	for _, n := range p.items("/v1/notifications") {
		titles = append(titles, n["title"].(string))
	}
	since := "Policy set right since " + yesterday.Format("2 Jan 2006 15:04 UTC")
	if diff := cmp.Diff([]string{since + ": 2 role changes judged anew, 1 open task moved", since + ": 2 role changes judged anew, 1 open task moved"}, titles); diff != "" {
		t.Error(diff)
	}
	testkit.CheckFold(t, p.database())
	testkit.CheckPolicies(t, p.database())
	t.Logf("mails: %v", slices.Sorted(maps.Keys(mails())))
}
