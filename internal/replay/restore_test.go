package replay_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/replay"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// Subscribers keep what has the highest revision. A restored database has forgotten which revisions it gave away: what it
// moves and announces then must be past them, or they would pass it over.
func TestRevisionsGoOnPastWhatWasAnnouncedBeforeTheRestore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.live(w.changes(30))
	w.relay()
	yesterday := w.dump()
	for range 3 { // one by one, so that tasks move more often than a replay moves them
		w.live(w.changes(30))
	}
	w.relay()
	w.use(yesterday)
	foreseen, err := w.replay(replay.Order{NoMail: true}, nil).Foresee(w.ctx, replay.Selection{}, 0, silence)
	if err != nil {
		t.Fatal(err)
	}
	done, _ := w.apply(replay.Order{NoMail: true})
	if diff := cmp.Diff(foreseen.Counts, done); diff != "" {
		t.Errorf("foreseen, and done:\n%s", diff)
	}
	testkit.CheckFold(t, w.pool)
	again, _ := w.apply(replay.Order{NoMail: true})
	if done.Restored == 0 || again.Restored != 0 || again.TasksMoved != 0 {
		t.Errorf("restored: %+v, and again: %+v", done, again)
	}
	w.relay()
	w.live(w.changes(30))
	w.relay()
	testkit.CheckFold(t, w.pool)
	type seen struct {
		revision int64
		with     string
	}
	subscriber := map[string]seen{}
	for _, m := range w.stream(event.StreamTaskReassignments, 1) {
		e, err := event.DecodeTaskReassigned(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range e.Tasks {
			if task.Revision > subscriber[task.ID].revision {
				subscriber[task.ID] = seen{task.Revision, e.ToID}
			}
		}
	}
	with := w.assignees()
	for task, s := range subscriber {
		if s.with != with[task] {
			t.Errorf("%s: subscribers have it with %s since revision %d, it is with %s", task, s.with, s.revision, with[task])
		}
	}
}
