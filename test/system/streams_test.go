package system_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// jetStream is the program's broker, as an operator with other tools sees it.
func (p *program) jetStream() jetstream.JetStream {
	p.Helper()
	nc, err := nats.Connect(p.local.NATS)
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		p.Fatal(err)
	}
	return js
}

// Both streams are deleted while role changes pour in. Everything arrives: every move is announced on the stream that there
// is in the end, every announcement is an item once, and nobody is mailed twice.
func TestStreamsDeletedUnderLoad(t *testing.T) {
	t.Parallel()
	const accounts, rounds = 40, 12
	p := start(t, "HANDOVER_NOTICE_WINDOW=2s")
	p.want(http.StatusOK, "PUT", "/v1/policy", body{"tasks": "move_all_tasks"})
	for n := range rounds + 1 {
		p.want(http.StatusCreated, "PUT", fmt.Sprintf("/v1/users/u%02d", n), body{"name": fmt.Sprint("U", n), "email": fmt.Sprintf("u%d@example.com", n)})
	}
	for a := range accounts {
		p.want(http.StatusCreated, "PUT", fmt.Sprintf("/v1/accounts/x%d", a), body{"name": "X", "roles": body{"success_manager": "u00"}})
		p.want(http.StatusCreated, "PUT", fmt.Sprintf("/v1/tasks/x%d", a), body{"account_id": fmt.Sprintf("x%d", a), "title": "Call", "assignee_id": "u00"})
	}
	js := p.jetStream()
	created := map[string]time.Time{}
	streams := []string{event.StreamRoleChanges, event.StreamTaskReassignments}
	for _, name := range streams {
		s, err := js.Stream(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		created[name] = s.CachedInfo().Created
	}
	for n := 1; n <= rounds; n++ {
		for a := range accounts {
			p.want(http.StatusAccepted, "PUT", fmt.Sprintf("/v1/accounts/x%d/roles/success_manager", a), body{"owner_id": fmt.Sprintf("u%02d", n), "reason": "api"})
			if n == rounds/2 && a%20 == 10 {
				if err := js.DeleteStream(t.Context(), streams[a/20]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	database := p.database()
	testkit.Eventually(t, "everything applied and published", func() (bool, string) {
		got := testkit.One[string](t, database, `SELECT concat((SELECT count(*) FROM operations WHERE state = 'done'), ' ', (SELECT count(*) FROM outbox_owed))`)
		return got == fmt.Sprint(accounts*rounds, " 0"), got
	})
	for _, name := range streams {
		s, err := js.Stream(t.Context(), name)
		if err != nil || s.CachedInfo().Created.Equal(created[name]) {
			t.Fatalf("%s: %v; or it is the old one", name, err)
		}
	}
	testkit.Eventually(t, "everything that was decided has its place on a stream that is there", func() (bool, string) {
		lost := testkit.One[int](t, database, `
			SELECT count(*) FROM outbox o WHERE NOT EXISTS (
			  SELECT FROM outbox_published p JOIN stream_marks m USING (stream) WHERE o.key = ANY (p.keys) AND p.stream_created >= m.created)`)
		return lost == 0, fmt.Sprint(lost, " are on no stream")
	})
	testkit.Eventually(t, "every move is an item", func() (bool, string) {
		moved := testkit.One[int](t, database, `SELECT coalesce(sum(cardinality(task_ids)), 0)::int FROM moves WHERE account_id ~ '^x[0-9]+$' AND reason <> 'synced'`)
		items := testkit.One[int](t, database, `SELECT count(*) FROM notice_items WHERE task_id ~ '^x[0-9]+$' AND kind = 'received'`)
		return moved == items && moved >= accounts, fmt.Sprint(moved, " moves, ", items, " items")
	})
	testkit.CheckFold(t, database)
	p.checkNoMailTwice()
	if n := testkit.One[int](t, database, `SELECT count(*) FROM dead_letters`); n != 0 {
		t.Errorf("%d dead letters", n)
	}
	p.stop()
	p.start()
	if n := testkit.One[int](t, p.database(), `SELECT count(*) FROM mail_hold`); n != 0 {
		t.Error("mails are on hold")
	}
}
