package replay_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/replay"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// Without the stream there is the database's own record: whatever differs from what it says is set right and announced.
func TestReplayFromTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.live(w.changes(60))
	want := w.assignees()
	recorded := w.one(`SELECT max(key) FROM outbox`)
	w.exec(`UPDATE holdings SET assignee_id = 'dee' WHERE account_id IN ('a1', 'a2') AND assignee_id <> 'dee'`)
	w.exec(`UPDATE account_roles SET owner_id = 'dee' WHERE account_id = 'a3'`)
	before := w.assignees()
	some := replay.Selection{Accounts: []string{"a1", "a3", "a4"}}
	foreseen, err := w.replay(replay.Order{}, nil).ForeseeRecorded(w.ctx, some, roster.Account{}, silence)
	if err != nil {
		t.Fatal(err)
	}
	done, run := w.apply(replay.Order{From: replay.FromDatabase, Selection: some})
	if diff := cmp.Diff(foreseen.Counts, done); diff != "" {
		t.Errorf("foreseen, and done:\n%s", diff)
	}
	if done.TasksMoved == 0 || done.Differed != 2 || done.Accounts != 3 || done.Known == 0 || run.Cursor != `["acme","a4"]` {
		t.Errorf("came to %+v, kept %+v", done, run)
	}
	moved := 0
	for task, person := range w.assignees() {
		if strings.HasPrefix(task, "t2-") != (person == before[task]) && person != want[task] {
			t.Errorf("%s is with %s", task, person)
		}
		if person != before[task] {
			moved++
		}
	}
	if moved != done.TasksMoved {
		t.Errorf("%d tasks are with somebody else, %+v", moved, done)
	}
	w.apply(replay.Order{From: replay.FromDatabase, NoMail: true})
	if diff := cmp.Diff(want, w.assignees()); diff != "" {
		t.Error(diff)
	}
	announced, silent := 0, 0
	for _, body := range testkit.All[[]byte](t, w.pool, `SELECT body FROM outbox WHERE stream = 'TASK_REASSIGNMENTS' AND key > $1::bigint ORDER BY key`, recorded) {
		e, err := event.DecodeTaskReassigned(event.Message{Body: body})
		if err != nil {
			t.Fatal(err)
		}
		if e.Silent {
			silent += len(e.Tasks)
		} else {
			announced += len(e.Tasks)
		}
	}
	if announced != done.TasksMoved || silent == 0 {
		t.Errorf("%d and silently %d tasks announced, %+v", announced, silent, done)
	}
}
