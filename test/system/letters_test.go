package system_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// After a bad day an operator gets back to right: an event that was wrong is mended and published, one whose owner wasn't
// known ends by itself, one that a setting refused is retried.
func TestDeadLettersAreMended(t *testing.T) {
	t.Parallel()
	p := start(t)
	p.want(http.StatusOK, "PUT", "/v1/policy", body{"tasks": "keep_tasks"})
	for _, u := range []string{"ann", "bob"} {
		p.want(http.StatusCreated, "PUT", "/v1/users/"+u, body{"name": u})
	}
	for _, account := range []string{"mended", "waiting", "refused"} {
		p.want(http.StatusCreated, "PUT", "/v1/accounts/"+account, body{"name": account, "roles": body{"success_manager": "ann"}})
		p.want(http.StatusCreated, "PUT", "/v1/tasks/"+account, body{"account_id": account, "title": "Call", "assignee_id": "ann", "created_at": time.Now().Add(-time.Hour)})
	}
	p.want(http.StatusOK, "PUT", "/v1/policy", body{"tasks": "move_all_tasks"})

	// An upstream service publishes by itself, past every check.
	broker, err := bus.Connect(t.Context(), bus.Options{URL: p.local.NATS, Name: "upstream"})
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	publish := func(account, owner, tasks string, spoil ...string) {
		m, err := event.AccountRoleChanged{
			ID: account, Source: "//crm.example", Time: time.Now(), TenantID: "demo", AccountID: account, Role: "success_manager",
			NewOwnerID: owner, Reason: event.ByAPI, InitiatedBy: "ann", Tasks: tasks,
		}.Message(event.SubjectRoleChanged("demo"))
		if err != nil {
			t.Fatal(err)
		}
		m.ID = "" // as those who know nothing of it publish
		m.Body = []byte(strings.NewReplacer(spoil...).Replace(string(m.Body)))
		if _, err := broker.Publish(t.Context(), []event.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	publish("mended", "bob", "", `"reason":"api"`, `"reason":"because"`)
	publish("waiting", "zoe", "")
	publish("refused", "bob", "move_all_tasks")
	database := p.database()
	key := map[string]string{}
	for _, reason := range []string{"invalid", "owner_unknown", "override_refused"} {
		testkit.Eventually(t, reason, func() (bool, string) {
			keys := testkit.All[string](t, database, `SELECT key::text FROM dead_letters WHERE reason = $1`, reason)
			if len(keys) == 1 {
				key[reason] = keys[0]
			}
			return len(keys) == 1, fmt.Sprint(keys)
		})
	}
	p.says(0, "override_refused", "dead-letters", "list", "--summary")
	p.says(0, `"reason": "because"`, "dead-letters", "show", key["invalid"])
	p.says(0, "sure to fail again", "dead-letters", "retry", key["invalid"])

	file := filepath.Join(p.dir, "mend.ndjson")
	p.says(0, "", "dead-letters", "export", key["invalid"], "--output", file)
	p.says(1, "reason", "publish", file)
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, bytes.Replace(text, []byte(`"reason":"because"`), []byte(`"reason":"api"`), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.says(0, "1 published", "publish", file)
	p.assigned("mended", "bob")
	p.says(0, "1 dropped", "dead-letters", "drop", key["invalid"], "--because", "mended and published", "--apply")

	p.want(http.StatusCreated, "PUT", "/v1/users/zoe", body{"name": "Zoe"})
	p.assigned("waiting", "zoe")
	testkit.Eventually(t, "it is resolved by itself", func() (bool, string) {
		said := p.says(0, "", "dead-letters", "list", "--state", "resolved")
		return strings.Contains(said, key["owner_unknown"]) && strings.Contains(said, "recorded, 1 task moved"), said
	})

	p.says(1, "dead again: override_refused", "dead-letters", "retry", key["override_refused"], "--apply")
	p.want(http.StatusOK, "PUT", "/v1/settings", body{"allow_task_override": true})
	p.says(0, "recorded, 1 task moved", "dead-letters", "retry", "--reason", "override_refused", "--apply")
	p.assigned("refused", "bob")

	p.says(0, "There are no such dead letters", "dead-letters", "list")
	if counts := testkit.All[string](t, database, `SELECT command || ' ' || state FROM operator_runs ORDER BY run_id`); len(counts) != 3 {
		t.Errorf("on record: %v", counts)
	}
	testkit.CheckFold(t, database)
}

func (p *program) assigned(task, to string) {
	p.Helper()
	testkit.Eventually(p, "the task is "+to+"'s", func() (bool, string) {
		got := p.want(http.StatusOK, "GET", "/v1/tasks/"+task, nil)
		return got["assignee_id"] == to, fmt.Sprint(got)
	})
}
