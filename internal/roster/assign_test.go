package roster_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

func TestAssignTask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts(`{"id": "a", "name": "A", "roles": {"success_manager": "ann"}}`)
	w.tasks(`{"id": "t", "account_id": "a", "title": "Call", "assignee_id": "ann"}`)
	ahead := event.Micro(time.Now().Add(time.Minute))
	w.change("a", sales, "", "dee", ahead)
	bob, ann := "bob", "ann"

	dry, err := w.AssignTask(w.ctx, tenant, "root", "t", &bob, true)
	w.must(err)
	want := roster.AssignResult{TaskID: "t", AccountID: "a", FromID: &ann, ToID: &bob, Revision: 1, Moved: true}
	if diff := cmp.Diff(want, dry); diff != "" {
		t.Fatal(diff)
	}
	w.assignee("ann", "t")
	w.wants("0", `SELECT count(*) FROM operations`)

	w.offered = nil
	got, err := w.AssignTask(w.ctx, tenant, "root", "t", &bob, false)
	w.must(err)
	want.OperationID = got.OperationID
	if diff := cmp.Diff(want, got); diff != "" || got.OperationID == "" {
		t.Fatal(diff)
	}
	w.assignee("bob", "t")
	w.wants("(task_assigned,root,done,1,0,1)", `SELECT (kind, initiated_by, state, accounts, unchanged, tasks_moved) FROM operations WHERE operation_id = $1`, got.OperationID)
	if len(w.offered) != 1 {
		t.Fatalf("offered: %+v", w.offered)
	}
	told, err := event.DecodeTaskReassigned(w.offered[0].Message)
	w.must(err)
	if told.Reason != event.ByAssigned || told.InitiatedBy != "root" || told.FromID != "ann" || told.ToID != "bob" || told.RoleChange != nil || told.Correction || told.Tasks[0].Revision != 1 {
		t.Fatalf("told: %+v", told)
	}
	// Past everything the account has seen: a change before has no say, one after has.
	w.wants("true", `SELECT effective_at > $1 FROM tasks`, ahead)
	w.change("a", success, "bob", "cyd", ahead)
	w.assignee("bob", "t")
	w.change("a", success, "bob", "cyd", ahead.Add(time.Millisecond))
	w.assignee("cyd", "t")

	// To whom has it: the base is renewed, nobody is told.
	w.offered = nil
	cyd := "cyd"
	got, err = w.AssignTask(w.ctx, tenant, "root", "t", &cyd, false)
	w.must(err)
	if got.Moved || got.Revision != 2 || len(w.offered) != 0 {
		t.Fatalf("%+v, offered %v", got, w.offered)
	}
	w.wants("cyd", `SELECT base_assignee FROM tasks`)
	got, err = w.AssignTask(w.ctx, tenant, "root", "t", nil, false)
	w.must(err)
	if !got.Moved || got.ToID != nil {
		t.Fatalf("%+v", got)
	}
	w.assignee("null", "t")
}

func TestWhoCanNotBeAssigned(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts(`{"id": "a", "name": "A"}`)
	w.tasks(`{"id": "t", "account_id": "a", "title": "Call"}`)
	w.leaves("bob", "cyd", ago(time.Hour))
	for _, who := range []string{"", "eve", "bob", "a\x00"} {
		_, err := w.AssignTask(w.ctx, tenant, "root", "t", &who, false)
		var invalid *roster.Invalid
		if !errors.As(err, &invalid) || invalid.Field != "assignee_id" {
			t.Errorf("%q: %v", who, err)
		}
	}
	if _, err := w.AssignTask(w.ctx, "globex", "root", "t", nil, false); !errors.Is(err, roster.ErrNotFound) {
		t.Errorf("of another tenant: %v", err)
	}
	w.wants("0", `SELECT count(*) FROM operations WHERE kind = 'task_assigned'`)
}
