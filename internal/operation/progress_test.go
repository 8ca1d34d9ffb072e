package operation_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/operation"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

func TestOperationIsDoneWhenEveryChangeIsAppliedOrRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a", "b", "c", "d")
	op := w.assign("bob", "a", "b", "c", "d")
	w.expandAll()
	w.progress(operation.Applied{OperationID: op.ID, Applied: 2, TasksMoved: 5}, operation.Applied{OperationID: "none of ours", Applied: 1})
	if got := w.get(op.ID); got.State != "applying" || got.Applied != 2 || got.TasksMoved != 5 || got.FinishedAt != nil {
		t.Errorf("half: %+v", got)
	}
	w.progress(operation.Applied{OperationID: op.ID, Applied: 1}, operation.Applied{OperationID: op.ID, Refused: 1, TasksMoved: 1500})
	got := w.get(op.ID)
	if got.State != "done" || got.Applied != 3 || got.Refused != 1 || got.TasksMoved != 1505 || got.FinishedAt == nil {
		t.Errorf("done: %+v", got)
	}
	w.progress(operation.Applied{OperationID: op.ID, Applied: 1, TasksMoved: 2})
	if later := w.get(op.ID); later.State != "done" || later.Applied != 4 || later.TasksMoved != 1507 || !later.FinishedAt.Equal(*got.FinishedAt) {
		t.Errorf("later: %+v", later)
	}
	if diff := cmp.Diff([]string{"4 accounts changed hands, 1,505 open tasks moved; 1 change refused"}, w.titles("dee")); diff != "" {
		t.Error(diff)
	}
	var data map[string]any
	if err := json.Unmarshal(one[[]byte](w, `SELECT data FROM notifications`), &data); err != nil || data["applied"] != 3.0 || data["owner_name"] != "Bob" {
		t.Errorf("%v, %v", data, err)
	}
}

func TestReassignerCanBeFasterThanTheExpansion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := many(1500)
	w.accounts("ann", ids...)
	op := w.assign("bob", ids...)
	must[bool](t)(w.ExpandOnce(w.ctx))
	w.progress(operation.Applied{OperationID: op.ID, Applied: 1000, TasksMoved: 1})
	if got := w.get(op.ID); got.State != "expanding" {
		t.Errorf("after the first chunk: %+v", got)
	}
	// The rest is as asked by now: the expansion is the last to know.
	w.exec(`UPDATE account_roles SET latest_owner = 'bob'`)
	must[bool](t)(w.ExpandOnce(w.ctx))
	if got := w.get(op.ID); got.State != "done" || got.Unchanged != 500 {
		t.Errorf("after the last: %+v", got)
	}
	if diff := cmp.Diff([]string{"1,000 accounts changed hands, 1 open task moved"}, w.titles("dee")); diff != "" {
		t.Error(diff)
	}
}

func TestInitiatorIsToldOnceWhoeverComesLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := many(40)
	w.accounts("ann", ids...)
	ops := []operation.Operation{w.assign("bob", ids[:20]...), w.assign("cyd", ids[20:]...)}
	w.expandAll()
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			done := []operation.Applied{{OperationID: ops[i%2].ID, Applied: 1, TasksMoved: 1}, {OperationID: ops[(i+1)%2].ID, Applied: 1}}
			if err := progress(w, done...); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, op := range ops {
		if got := w.get(op.ID); got.State != "done" || got.Applied != 20 || got.TasksMoved != 10 {
			t.Errorf("%+v", got)
		}
	}
	want := []string{"20 accounts changed hands, 10 open tasks moved", "20 accounts changed hands, 10 open tasks moved"}
	if diff := cmp.Diff(want, w.titles("dee")); diff != "" {
		t.Error(diff)
	}
}

func TestWhatTheInitiatorIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.estate()
	w.accounts("bob", "acme corp")
	end := func(op operation.Accepted, done operation.Applied) {
		done.OperationID = op.OperationID
		w.progress(done)
	}
	end(w.change("acme corp", success, "cyd"), operation.Applied{Applied: 1, TasksMoved: 14})
	end(w.change("acme corp", success, "ann"), operation.Applied{Applied: 1, TasksMoved: 1})
	end(w.change("acme corp", success, "bob"), operation.Applied{Applied: 1})
	end(w.change("acme corp", success, ""), operation.Applied{Applied: 1})
	end(w.change("acme corp", sales, "bob"), operation.Applied{Refused: 1})
	w.exec(`INSERT INTO users (tenant_id, user_id, name) VALUES ('acme', 'eve', 'Eve')`)
	w.depart("cyd", operation.Departure{Kind: event.ByResourcesReassigned, SuccessorID: p("eve")})
	w.assign("bob", "d", "e")
	w.expandAll()
	op := w.depart("ann", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("eve"), Tasks: true})
	w.expandAll()
	w.exec(`DELETE FROM holdings WHERE assignee_id = 'ann' AND account_id <> 'a'`) // as the reassigner does; one is refused
	w.progress(operation.Applied{OperationID: op.ID, Applied: 6, Refused: 1, TasksMoved: 2})
	want := []string{
		"Acme Corp: 14 open tasks moved to Cyd", "Acme Corp: 1 open task moved to Ann", "Acme Corp: Bob is success manager now, no open tasks moved",
		"Acme Corp: nobody is success manager now", "Acme Corp: the new sales manager was refused",
		"Cyd had nothing to hand over", "Nothing to change: 2 accounts already as asked", "Ann's work went to Eve: 4 accounts, 2 open tasks moved; 1 change refused; 1 open task stays with them",
	}
	if diff := cmp.Diff(want, w.titles("dee")); diff != "" {
		t.Error(diff)
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", many(7)...)
	var want []string
	for i, id := range many(7) {
		accepted := w.change(id, success, "bob")
		want = append([]string{accepted.OperationID}, want...)
		if i < 5 {
			w.progress(operation.Applied{OperationID: accepted.OperationID, Applied: 1})
		}
	}
	var got []string
	for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
		list, next, err := w.List(w.ctx, "acme", cursor, 3)
		if err != nil || len(list) > 3 {
			t.Fatal(len(list), err)
		}
		for _, op := range list {
			got = append(got, op.ID)
		}
		cursor = next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("operations:\n%s", diff)
	}
	first, next, err := w.Notifications(w.ctx, "acme", "dee", "", 3, false)
	if err != nil || len(first) != 3 || next == "" || *first[0].OperationID != want[2] {
		t.Fatalf("%v, %q, %v", first, next, err)
	}
	rest, next, err := w.Notifications(w.ctx, "acme", "dee", next, 3, false)
	if err != nil || len(rest) != 2 || next != "" {
		t.Fatalf("%v, %q, %v", rest, next, err)
	}
	for _, id := range []int64{first[0].ID, -1} {
		if _, err := w.MarkRead(w.ctx, "acme", "ann", id); !errors.Is(err, roster.ErrNotFound) {
			t.Errorf("what isn't theirs: %v", err)
		}
	}
	for i, step := range []struct {
		user   string
		ids    []int64
		marked int64
		unread int
	}{
		{"ann", nil, 0, 5}, {"dee", []int64{first[0].ID, rest[0].ID}, 2, 3}, {"dee", []int64{first[0].ID}, 0, 3}, {"dee", nil, 3, 0},
	} {
		marked := must[int64](t)(w.MarkRead(w.ctx, "acme", step.user, step.ids...))
		unread, _, err := w.Notifications(w.ctx, "acme", "dee", "", 10, true)
		if err != nil || marked != step.marked || len(unread) != step.unread {
			t.Errorf("step %d: %d marked, %d unread, %v", i, marked, len(unread), err)
		}
	}
}

func TestReadsRefuseOtherTenantsAndForeignCursors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	op := w.change("a", success, "bob")
	w.progress(operation.Applied{OperationID: op.OperationID, Applied: 1})
	if _, err := w.Get(w.ctx, "globex", op.OperationID); !errors.Is(err, roster.ErrNotFound) {
		t.Error(err)
	}
	if list, _, err := w.List(w.ctx, "globex", "", 10); len(list) != 0 || err != nil {
		t.Error(list, err)
	}
	if list, _, err := w.Notifications(w.ctx, "globex", "dee", "", 10, false); len(list) != 0 || err != nil {
		t.Error(list, err)
	}
	for _, cursor := range []string{"x", "12", "x.y", "9223372036854775807.y", "99999999999999999999.y", "1.a\x00b"} {
		var refused *roster.Invalid
		if _, _, err := w.List(w.ctx, "acme", cursor, 10); !errors.As(err, &refused) && err != nil {
			t.Errorf("operations, %q: %v", cursor, err)
		}
		if _, _, err := w.Notifications(w.ctx, "acme", "dee", "-"+cursor, 10, false); !errors.As(err, &refused) {
			t.Errorf("notifications, %q: %v", cursor, err)
		}
	}
}
