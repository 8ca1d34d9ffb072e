package system_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

type body = map[string]any

// A company hands accounts over in each of the four ways; the tasks follow, the new owners are mailed, whoever did it is
// told.
func TestFourWays(t *testing.T) {
	t.Parallel()
	p := start(t, "HANDOVER_NOTICE_WINDOW=1s")
	p.want(http.StatusOK, "PUT", "/v1/policy", body{"tasks": "move_all_tasks"})
	for _, u := range []string{"ann", "bob", "cyd"} {
		p.want(http.StatusCreated, "PUT", "/v1/users/"+u, body{"name": strings.ToUpper(u), "email": u + "@example.com", "time_zone": "Europe/Paris"})
	}
	accounts := []string{"one", "two", "three", "four", "five/a b ü"}
	path := map[string]string{"five/a b ü": "five%2Fa%20b%20%C3%BC"}
	for _, a := range accounts {
		if path[a] == "" {
			path[a] = a
		}
		p.want(http.StatusCreated, "PUT", "/v1/accounts/"+path[a], body{"name": "Account " + a, "attributes": body{"tier": "gold"}, "roles": body{"success_manager": "ann"}})
		for _, source := range []string{"manual", "success_play"} {
			p.want(http.StatusCreated, "PUT", "/v1/tasks/"+path[a]+"-"+source, body{"account_id": a, "title": "Call <b>" + a + "</b>", "assignee_id": "ann", "source": source})
		}
	}

	for _, way := range []string{"api", "profile"} {
		account := map[string]string{"api": "one", "profile": "two"}[way]
		answer := p.want(http.StatusAccepted, "PUT", "/v1/accounts/"+account+"/roles/success_manager", body{"owner_id": "bob", "reason": way})
		if got := p.done(answer["operation_id"]); got["tasks_moved"] != 2.0 {
			t.Errorf("way %s: %v", way, got)
		}
	}
	answer := p.want(http.StatusAccepted, "POST", "/v1/assignments", body{
		"filter": body{"attributes": body{"tier": "gold"}, "role": "success_manager", "owner_id": "ann"}, "role": "success_manager", "owner_id": "cyd"})
	if got := p.done(answer["operation_id"]); got["accounts"] != 3.0 || got["tasks_moved"] != 6.0 {
		t.Errorf("bulk edit: %v", got)
	}
	p.want(http.StatusConflict, "POST", "/v1/users/cyd/disable", body{})
	answer = p.want(http.StatusAccepted, "POST", "/v1/users/cyd/disable", body{"successor_id": "bob", "tasks": true})
	if got := p.done(answer["operation_id"]); got["tasks_moved"] != 6.0 {
		t.Errorf("off-boarding: %v", got)
	}

	if got := p.items("/v1/tasks?assignee_id=bob"); len(got) != 10 {
		t.Errorf("bob has %d tasks, want all 10", len(got))
	}
	if got := p.items("/v1/notifications"); len(got) != 4 {
		t.Errorf("told of %d operations: %v", len(got), got)
	}
	testkit.Eventually(t, "a mail for each of the five accounts that came to bob", func() (bool, string) {
		told := map[string]bool{}
		for _, mail := range p.mails() {
			if strings.Contains(mail, "bob@example.com") {
				told[header(mail, "Subject")] = true
			}
		}
		return len(told) == 5, fmt.Sprint(told)
	})
	testkit.CheckFold(t, p.database())
}

func header(mail, name string) string {
	for line := range strings.SplitSeq(mail, "\r\n") {
		if rest, ok := strings.CutPrefix(line, name+": "); ok {
			return rest
		}
	}
	return ""
}

// An upstream service publishes the event itself, over HTTP, before its user is known here.
func TestUpstreamPublishesAndSyncsInAnyOrder(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.want(http.StatusOK, "PUT", "/v1/policy", body{"tasks": "move_all_tasks"})
	changed := func(id, to string, ago time.Duration) event.Message {
		m, err := event.AccountRoleChanged{
			ID: id, Source: "//crm.example", Time: time.Now().Add(-ago), TenantID: "demo", AccountID: "new", Role: "success_manager",
			PreviousOwnerID: "ann", NewOwnerID: to, Reason: event.ByAPI, InitiatedBy: "ann",
		}.Message("")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	// The policy must have been in force when the change occurred.
	first := changed("1", "zoe", 0)
	if status, answer := p.send("POST", "/v1/events", "application/cloudevents+json", bytes.NewReader(first.Body)); status != http.StatusAccepted {
		t.Fatalf("%d: %s", status, answer)
	}
	database := p.database()
	testkit.Eventually(t, "waiting for zoe", func() (bool, string) {
		var reason string
		err := database.QueryRow(t.Context(), `SELECT reason FROM dead_letters`).Scan(&reason)
		return reason == event.ReasonOwnerUnknown, fmt.Sprint(reason, err)
	})
	for _, u := range []string{"ann", "zoe"} {
		p.want(http.StatusCreated, "PUT", "/v1/users/"+u, body{"name": u})
	}
	p.want(http.StatusCreated, "PUT", "/v1/accounts/new", body{"name": "New"})
	p.want(http.StatusCreated, "PUT", "/v1/tasks/t", body{"account_id": "new", "title": "Call", "assignee_id": "ann", "created_at": time.Now().Add(-time.Hour)})
	testkit.Eventually(t, "the task is zoe's", func() (bool, string) {
		task := p.want(http.StatusOK, "GET", "/v1/tasks/t", nil)
		return task["assignee_id"] == "zoe", fmt.Sprint(task)
	})
}

// Killed in the middle of a bulk edit of 20,000 accounts, and again while it catches up, it finishes at the next start.
func TestKilledInTheMiddleOfABulkEdit(t *testing.T) {
	t.Parallel()
	const accounts = 20_000
	p := start(t, "HANDOVER_NOTICE_WINDOW=2s")
	p.want(http.StatusOK, "PUT", "/v1/policy", body{"tasks": "move_all_tasks"})
	for _, u := range []string{"ann", "bob"} {
		p.want(http.StatusCreated, "PUT", "/v1/users/"+u, body{"name": u, "email": u + "@example.com"})
	}
	load := func(what string, row func(n int) body) {
		var rows bytes.Buffer
		for n := range accounts {
			b, _ := json.Marshal(row(n))
			rows.Write(append(b, '\n'))
		}
		began := time.Now()
		status, answer := p.send("POST", "/v1/imports/"+what, "application/x-ndjson", &rows)
		if want := fmt.Sprintf(`"created":%d`, accounts); status != http.StatusOK || !strings.Contains(string(answer), want) {
			t.Fatalf("import %s: %d %s", what, status, answer[max(0, len(answer)-300):])
		}
		p.within(fmt.Sprintf("import of %d %s", accounts, what), began)
	}
	load("accounts", func(n int) body {
		return body{"id": fmt.Sprintf("a%05d", n), "name": fmt.Sprint("Account ", n), "attributes": body{"segment": "s"}, "roles": body{"success_manager": "ann"}}
	})
	load("tasks", func(n int) body {
		return body{"id": fmt.Sprintf("t%05d", n), "account_id": fmt.Sprintf("a%05d", n), "title": "Call", "assignee_id": "ann"}
	})

	began := time.Now()
	answer := p.want(http.StatusAccepted, "POST", "/v1/assignments", body{"filter": body{"attributes": body{"segment": "s"}}, "role": "success_manager", "owner_id": "bob"})
	p.within("accepted", began)
	operation := fmt.Sprintf("/v1/operations/%v", answer["operation_id"])
	for _, mark := range []float64{accounts / 5, accounts / 2} {
		testkit.Eventually(t, "some of it applied", func() (bool, string) {
			o := p.want(http.StatusOK, "GET", operation, nil)
			return o["applied"].(float64) >= mark, fmt.Sprint(o)
		})
		p.kill()
		p.start()
	}
	got := p.done(answer["operation_id"])
	if got["accounts"] != float64(accounts) || got["applied"] != float64(accounts) || got["tasks_moved"] != float64(accounts) || got["refused"] != 0.0 {
		t.Errorf("in the end: %v", got)
	}
	testkit.CheckFold(t, p.database())
	p.checkNoMailTwice()
}

// checkNoMailTwice waits until all windows have ended, and counts what was told.
func (p *program) checkNoMailTwice() {
	p.Helper()
	database := p.database()
	testkit.Eventually(p, "no window under way", func() (bool, string) {
		var n int
		err := database.QueryRow(p.Context(), `SELECT count(*) FROM notices WHERE state IN ('open', 'closed', 'sending')`).Scan(&n)
		return n == 0 && err == nil, fmt.Sprint(n, err)
	})
	var untold int
	if err := database.QueryRow(p.Context(), `
		SELECT count(*) FROM moves, unnest(task_ids) AS moved(id)
		WHERE reason <> 'synced' AND tenant_id = 'demo' AND NOT EXISTS (SELECT FROM notice_items i WHERE i.tenant_id = 'demo' AND i.task_id = moved.id AND i.kind = 'received')`).Scan(&untold); err != nil {
		p.Fatal(err)
	}
	if untold > 0 {
		p.Errorf("%d moved tasks are in no window", untold)
	}
	ids := map[string]string{}
	for file, mail := range p.mails() {
		id := header(mail, "Message-ID") + header(mail, "Message-Id")
		if id == "" {
			p.Errorf("%s has no Message-ID", file)
		}
		if other, twice := ids[id]; twice {
			p.Errorf("%s and %s are the same mail", file, other)
		}
		ids[id] = file
	}
	if len(ids) == 0 {
		p.Error("nobody was mailed")
	}
}
