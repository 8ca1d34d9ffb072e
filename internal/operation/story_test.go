package operation_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/operation"
	"handover.io/internal/reassign"
	"handover.io/pkg/event"
)

// deliver brings what has been issued to a reassigner, in random order and batches, until nothing more comes.
func (w *world) deliver() {
	w.Helper()
	r := reassign.New(w.pool, reassign.Config{Consumer: event.ConsumerReassigner, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	seen := 0
	for {
		messages := w.messages()
		if len(messages) == seen {
			return
		}
		fresh := messages[seen:]
		seen = len(messages)
		rand.Shuffle(len(fresh), func(i, j int) { fresh[i], fresh[j] = fresh[j], fresh[i] })
		for len(fresh) > 0 {
			n := min(1+rand.IntN(128), len(fresh))
			for i := range fresh[:n] {
				fresh[i].ID = ""
			}
			if err := r.Handle(w.ctx, fresh[:n]); err != nil {
				w.Fatal(err)
			}
			fresh = fresh[n:]
		}
	}
}

// clutter puts tasks of many kinds on an account.
func (w *world) clutter(account string, n int) {
	w.Helper()
	for i := range n {
		w.task(fmt.Sprintf("%s-%03d", account, i), account, []string{"ann", "bob", "cyd"}[rand.IntN(3)],
			[]string{"manual", "success_play"}[rand.IntN(2)], []string{"", success, sales}[rand.IntN(3)])
	}
}

func TestWhatWasShownIsWhatMoves(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"keep_tasks", "move_automated_tasks", "move_all_tasks"} {
		w := newWorld(t)
		w.policy(policy)
		w.accounts("ann", "a", "b")
		w.holds("ann", sales, "a")
		w.clutter("a", 60)
		w.clutter("b", 20)
		for range 6 {
			to := p([]string{"ann", "bob", "cyd", "dee"}[rand.IntN(4)])
			if rand.IntN(5) == 0 {
				to = nil
			}
			accepted := must[operation.Accepted](t)(w.ChangeRole(w.ctx, "acme", "dee", "a", []string{success, sales}[rand.IntN(2)], to, event.ByAPI, false))
			w.deliver()
			if accepted.Unchanged {
				continue
			}
			op := w.get(accepted.OperationID)
			if op.State != "done" || op.TasksMoved != accepted.Preview.TaskCount {
				t.Errorf("%s: shown %d, %+v", policy, accepted.Preview.TaskCount, op)
			}
			for _, m := range accepted.Preview.Tasks {
				if got := one[string](w, `SELECT assignee_id FROM tasks WHERE task_id = $1`, m.ID); got != m.To {
					t.Errorf("%s: %s went to %s, not %s", policy, m.ID, got, m.To)
				}
			}
		}
		req := operation.Assignment{AccountIDs: []string{"a", "b"}, Role: success, OwnerID: p("bob")}
		shown := must[operation.Accepted](t)(w.Assign(w.ctx, "acme", "dee", req, true))
		edit := must[operation.Accepted](t)(w.Assign(w.ctx, "acme", "dee", req, false))
		w.expandAll()
		w.deliver()
		if op := w.get(edit.OperationID); op.State != "done" || op.TasksMoved != shown.Preview.TaskCount || op.Changes != shown.Preview.Roles {
			t.Errorf("%s: bulk edit: shown %+v, %+v", policy, shown.Preview, op)
		}
		for _, tasks := range []bool{false, true} {
			leave := operation.Departure{Kind: event.ByResourcesReassigned, SuccessorID: p("dee"), Tasks: tasks}
			shown := must[operation.Accepted](t)(w.Depart(w.ctx, "acme", "dee", "bob", leave, true))
			op := w.depart("bob", leave)
			w.expandAll()
			w.deliver()
			if op := w.get(op.ID); op.State != "done" || op.TasksMoved != shown.Preview.TaskCount || op.Accounts != shown.Preview.Accounts {
				t.Errorf("%s: departure with tasks %v: shown %+v, %+v", policy, tasks, shown.Preview, op)
			}
		}
	}
}

// Who was let go without their tasks is let go again with them, to the same successor or another.
func TestWhatWasLeftBehindIsHandedOnLater(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{event.ByUserDisabled, event.ByUserDeleted, event.ByResourcesReassigned} {
		w := newWorld(t)
		w.estate()
		leave := operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("cyd")}
		shown := must[operation.Accepted](t)(w.Depart(w.ctx, "acme", "dee", "ann", leave, true))
		if got := shown.Preview; got.TaskCount != 0 || got.LeftBehind != 3 {
			t.Errorf("shown first: %+v", got)
		}
		first := w.depart("ann", leave)
		w.expandAll()
		w.deliver()
		leave = operation.Departure{Kind: kind, SuccessorID: p("bob"), Tasks: true}
		shown = must[operation.Accepted](t)(w.Depart(w.ctx, "acme", "dee", "ann", leave, true))
		if got := shown.Preview; got.Roles != 0 || got.TaskCount != 3 || got.LeftBehind != 0 {
			t.Errorf("shown again: %+v", got)
		}
		second := w.depart("ann", leave)
		w.expandAll()
		w.deliver()
		if op := w.get(second.ID); op.State != "done" || op.TasksMoved != 3 || op.Refused != 0 {
			t.Errorf("%+v", op)
		}
		if got := one[time.Time](w, `SELECT left_at FROM users WHERE user_id = 'ann'`); !got.Equal(first.AcceptedAt) {
			t.Errorf("left at %s, then at %s", first.AcceptedAt, got)
		}
		if got := one[string](w, `SELECT departure_id FROM users WHERE user_id = 'ann' AND successor_id = 'bob' AND departure_tasks`); got != second.ID {
			t.Errorf("departure %s", got)
		}
		want := []string{"Ann's work went to Cyd: 3 accounts, 0 open tasks moved; 3 open tasks stay with them", "Ann's work went to Bob: 3 accounts, 3 open tasks moved"}
		if diff := cmp.Diff(want, w.titles("dee")); diff != "" {
			t.Error(diff)
		}
		var conflict *operation.Conflict
		if _, err := w.Depart(w.ctx, "acme", "dee", "ann", leave, false); !errors.As(err, &conflict) || conflict.OpenTasks != 0 || conflict.SuccessorID != "bob" {
			t.Errorf("with nothing left: %v", err)
		}
	}
}

// Whoever leaves is left with nothing, whatever was under way when they left, and in whatever order it arrives.
func TestNothingStaysWithWhoLeft(t *testing.T) {
	t.Parallel()
	for range 4 {
		w := newWorld(t)
		w.policy("move_automated_tasks")
		w.accounts("ann", "a", "b", "c")
		w.accounts("bob", "d", "e")
		w.exec(`INSERT INTO users (tenant_id, user_id, name) VALUES ('acme', 'eve', 'Eve')`)
		for _, account := range []string{"a", "b", "c", "d", "e"} {
			w.clutter(account, 6)
		}
		edit := w.assign("ann", "c", "d", "e")
		w.change("a", success, "cyd")
		w.change("b", success, "")
		w.change("b", success, "bob")
		ann := w.depart("ann", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("bob"), Tasks: true})
		must[bool](t)(w.ExpandOnce(w.ctx))
		bob := w.depart("bob", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("eve"), Tasks: true})
		w.expandAll()
		w.deliver()
		if got := all[string](w, `SELECT assignee_id || ' has tasks on ' || account_id FROM open_tasks WHERE assignee_id IN ('ann', 'bob')
			UNION ALL SELECT owner_id || ' holds ' || account_id FROM account_roles WHERE owner_id IN ('ann', 'bob') OR latest_owner IN ('ann', 'bob')`); len(got) > 0 {
			t.Errorf("%q", got)
		}
		owners := all[string](w, `SELECT account_id || ' ' || owner_id FROM account_roles WHERE role = 'success_manager' ORDER BY 1`)
		if diff := cmp.Diff([]string{"a cyd", "b eve", "c eve", "d eve", "e eve"}, owners); diff != "" {
			t.Error(diff)
		}
		for _, id := range []string{edit.ID, ann.ID, bob.ID} {
			if op := w.get(id); op.State != "done" || op.Applied != op.Changes || op.Refused != 0 {
				t.Errorf("%+v", op)
			}
		}
		if n := one[int](w, `SELECT count(*) FROM dead_letters`); n != 0 {
			t.Errorf("%d dead letters", n)
		}
	}
}
