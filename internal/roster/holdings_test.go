package roster_test

import (
	"testing"
	"time"
)

// The assignee and the revision of a task don't tell whether it moved together with others or by itself. At its end the
// world checks that each revision is a move.
func TestTasksMoveTogetherAndApart(t *testing.T) {
	t.Parallel()
	w, times := newWorld(t), newClock()
	w.accounts(`{"id": "a", "name": "A"}`)
	for _, id := range []string{"t1", "t2", "t3"} {
		w.tasks(times.expand(`{"id": "` + id + `", "account_id": "a", "title": "Call", "assignee_id": "ann", "created_at": "@1"}`))
	}
	w.tasks(times.expand(`{"id": "late", "account_id": "a", "title": "Call", "assignee_id": "ann", "assigned_at": "@20"}`))
	are := func(holdings, tasks string) {
		t.Helper()
		w.wants(tasks, `SELECT string_agg(concat_ws(' ', task_id, assignee_id, revision), ', ' ORDER BY task_id) FROM tasks`)
		w.wants(holdings, `SELECT count(*) FROM holdings`)
	}
	are("1", "late ann 0, t1 ann 0, t2 ann 0, t3 ann 0")

	w.change("a", success, "ann", "bob", times.at(10)) // before the assignment of one of them
	are("2", "late ann 0, t1 bob 1, t2 bob 1, t3 bob 1")
	w.change("a", success, "bob", "cyd", times.at(30))
	are("2", "late ann 0, t1 cyd 2, t2 cyd 2, t3 cyd 2")

	w.tasks(`{"id": "t1", "status": "completed"}`)
	w.change("a", success, "cyd", "dee", times.at(40))
	are("2", "late ann 0, t1 cyd 2, t2 dee 3, t3 dee 3")
	w.tasks(`{"id": "t1", "status": "open"}`)
	are("2", "late ann 0, t1 dee 3, t2 dee 3, t3 dee 3")

	w.change("a", success, "ann", "dee", times.at(50)) // now they are with one person, in two holdings
	are("2", "late dee 1, t1 dee 3, t2 dee 3, t3 dee 3")
	ann := "ann"
	_, err := w.AssignTask(w.ctx, tenant, "root", "t2", &ann, false)
	w.must(err)
	w.tasks(`{"id": "t3", "source": "success_play"}`)
	are("4", "late dee 1, t1 dee 3, t2 ann 4, t3 dee 3")

	w.change("a", success, "dee", "bob", time.Now())
	are("4", "late bob 2, t1 bob 4, t2 ann 4, t3 bob 4")
	w.change("a", success, "dee", "cyd", times.at(45)) // t1 wasn't dee's to give any more
	are("4", "late bob 2, t1 cyd 5, t2 ann 4, t3 bob 4")
}
