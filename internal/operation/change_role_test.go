package operation_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/operation"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

func TestRoleChangeIsIssuedByItsAcceptance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	before := w.clock()
	accepted := must[operation.Accepted](t)(w.ChangeRole(w.ctx, "acme", "dee", "a", success, p("bob"), event.ByProfile, false))

	op := w.get(accepted.OperationID)
	if op.State != "applying" || op.Kind != "role_change" || op.Accounts != 1 || op.Changes != 1 || op.InitiatedBy != "dee" || op.AcceptedAt.Before(before) {
		t.Errorf("operation: %+v", op)
	}
	want := []event.AccountRoleChanged{{
		ID: roster.ChangeID(op.ID, "a", success), Source: event.SourceHandover, Time: op.AcceptedAt, TenantID: "acme", AccountID: "a", Role: success,
		NewOwnerID: "bob", Reason: event.ByProfile, InitiatedBy: "dee", OperationID: op.ID,
	}}
	if diff := cmp.Diff(want, w.issued()); diff != "" {
		t.Errorf("issued:\n%s", diff)
	}
	if m := w.messages()[0]; m.Subject != event.SubjectRoleChanged("acme") || len(w.offered) != 1 || w.offered[0].ID != m.ID {
		t.Errorf("on %s, offered %d", m.Subject, len(w.offered))
	}
	if got := one[time.Time](w, `SELECT issued_at FROM account_heads WHERE account_id = 'a'`); !got.Equal(op.AcceptedAt) {
		t.Errorf("head says issued at %s", got)
	}
	if got := one[time.Time](w, `SELECT latest_at FROM account_roles WHERE account_id = 'a'`); !got.Equal(op.AcceptedAt) || w.latest("a", success) != "bob" {
		t.Errorf("latest owner %s at %s", w.latest("a", success), got)
	}
}

func TestRoleChangeLiesPastWhateverTheAccountHasSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	ahead := w.clock().Add(3 * time.Minute).Truncate(time.Microsecond)
	w.exec(`INSERT INTO account_heads (tenant_id, account_id, newest_at) VALUES ('acme', 'a', $1)`, ahead)
	w.change("a", success, "bob")
	w.change("a", sales, "cyd")
	got := w.issued()
	if !got[0].Time.Equal(ahead.Add(time.Microsecond)) || !got[1].Time.Equal(ahead.Add(2*time.Microsecond)) {
		t.Errorf("at %s and %s, seen %s", got[0].Time, got[1].Time, ahead)
	}
}

func TestSameOwnerIsJudgedByTheLatestIssued(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	for i, step := range []struct {
		role, owner string
		unchanged   bool
	}{
		{success, "ann", true}, {success, "bob", false}, {success, "bob", true}, {success, "ann", false},
		{sales, "", true}, {sales, "cyd", false}, {sales, "", false}, {sales, "", true},
	} {
		accepted := w.change("a", step.role, step.owner)
		if accepted.Unchanged != step.unchanged || (accepted.OperationID == "") != step.unchanged {
			t.Errorf("step %d: %+v", i, accepted)
		}
	}
	want := []string{"a success_manager: →bob api", "a success_manager: →ann api", "a sales_manager: →cyd api", "a sales_manager: → api"}
	if diff := cmp.Diff(want, brief(w.issued())); diff != "" {
		t.Error(diff)
	}
	if n := one[int](w, `SELECT count(*) FROM operations`); n != 4 {
		t.Errorf("%d operations", n)
	}
}

func TestRoleChangeShowsTheTasksThatMove(t *testing.T) {
	t.Parallel()
	for policy, ids := range map[string]string{"": "", "keep_tasks": "", "move_automated_tasks": "play success", "move_all_tasks": "manual play success"} {
		t.Run("policy "+policy, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if policy != "" {
				w.policy(policy)
			}
			w.accounts("ann", "a", "b")
			w.task("play", "a", "ann", "success_play", "")
			w.task("manual", "a", "ann", "manual", "")
			w.task("success", "a", "ann", "integration", success)
			w.task("sales", "a", "ann", "integration", sales)
			w.task("cyds", "a", "cyd", "integration", "")
			w.task("elsewhere", "b", "ann", "integration", "")
			w.task("closed", "a", "ann", "integration", "")
			testkit.CloseTask(t, w.pool, "acme", "closed")
			accepted := w.change("a", success, "bob")
			var got []string
			for _, m := range accepted.Preview.Tasks {
				if got = append(got, m.ID); m.From != "ann" || m.To != "bob" || m.Title != "Call "+m.ID {
					t.Errorf("%+v", m)
				}
			}
			if strings.Join(got, " ") != ids || accepted.Preview.TaskCount != int64(len(got)) {
				t.Errorf("%v, %d", got, accepted.Preview.TaskCount)
			}
		})
	}
}

func TestPreviewSeesThroughAChangeUnderWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	w.accounts("ann", "a")
	w.task("anns", "a", "ann", "manual", "")
	w.task("bobs", "a", "bob", "manual", "")
	w.change("a", success, "bob") // ann's task is on its way to bob
	if got := w.change("a", success, "cyd").Preview; got.TaskCount != 2 {
		t.Errorf("to cyd: %+v", got)
	}
	w.change("a", success, "")
	if got := w.change("a", success, "dee").Preview; got.TaskCount != 1 || got.Tasks[0].ID != "anns" {
		t.Errorf("after nobody, to dee: %+v", got)
	}
}

func TestPreviewShowsTheFirstHundred(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	w.accounts("ann", "a")
	for i := range 250 {
		w.task(fmt.Sprintf("t-%03d", i+1), "a", "ann", "manual", "")
	}
	got := w.change("a", success, "bob").Preview
	if got.TaskCount != 250 || len(got.Tasks) != 100 || got.Tasks[99].ID != "t-100" {
		t.Errorf("%d tasks, %d shown", got.TaskCount, len(got.Tasks))
	}
}

func TestRoleChangeRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	w.exec(`INSERT INTO accounts (tenant_id, account_id, name) VALUES ('globex', 'theirs', 'Theirs')`)
	w.exec(`UPDATE users SET status = 'disabled', left_at = now() WHERE user_id = 'bob'`)
	w.exec(`UPDATE users SET status = 'disabled', left_at = now(), successor_id = 'dee', departure_id = 'x' WHERE user_id = 'cyd'`)
	before := w.dump()
	for name, c := range map[string]struct {
		account, role, owner, reason string
		field, says                  string
	}{
		"unknown account":             {"nope", success, "ann", event.ByAPI, "", ""},
		"another tenant's account":    {"theirs", success, "ann", event.ByAPI, "", ""},
		"unknown role":                {"a", "nope", "ann", event.ByAPI, "role", "sales_manager, success_manager"},
		"unknown user":                {"a", success, "nope", event.ByAPI, "owner_id", `no user "nope"`},
		"an owner who left":           {"a", success, "bob", event.ByAPI, "owner_id", "somebody who is here"},
		"an owner with a successor":   {"a", success, "cyd", event.ByAPI, "owner_id", `successor is "dee"`},
		"a reason of another kind":    {"a", success, "dee", event.ByUserDeleted, "reason", "api or profile"},
		"an owner who is an empty id": {"a", success, "", event.ByAPI, "owner_id", "is empty"},
		"an account no one can have":  {"a\x00", success, "dee", event.ByAPI, "", ""},
		"a role no one can have":      {"a", "\xff", "dee", event.ByAPI, "role", "UTF-8"},
		"an owner no one can be":      {"a", success, "\x00", event.ByAPI, "owner_id", "control"},
	} {
		for _, dryRun := range []bool{false, true} {
			_, err := w.ChangeRole(w.ctx, "acme", "dee", c.account, c.role, &c.owner, c.reason, dryRun)
			var refused *roster.Invalid
			switch {
			case c.field == "" && !errors.Is(err, roster.ErrNotFound):
				t.Errorf("%s: %v", name, err)
			case c.field != "" && (!errors.As(err, &refused) || refused.Field != c.field || !strings.Contains(refused.Remedy, c.says)):
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("refusals left something behind:\n%s", diff)
	}
}

func TestDryRunsChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	w.accounts("ann", "a", "b", "c")
	w.holds("ann", sales, "b")
	w.task("t1", "a", "ann", "manual", "")
	w.task("t2", "b", "ann", "manual", sales)
	w.task("t3", "c", "ann", "manual", "renewals")
	before := w.dump()
	check := func(name string, got operation.Accepted, err error, want operation.Preview) {
		t.Helper()
		if got.Preview == nil || err != nil || got.OperationID != "" {
			t.Fatalf("%s: %+v, %v", name, got, err)
		}
		if want.Tasks == nil {
			want.Tasks = []operation.TaskMove{}
		}
		if diff := cmp.Diff(want, *got.Preview); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
		if diff := cmp.Diff(before, w.dump()); diff != "" {
			t.Errorf("%s left something behind:\n%s", name, diff)
		}
	}
	got, err := w.ChangeRole(w.ctx, "acme", "dee", "a", success, p("bob"), event.ByAPI, true)
	check("role change", got, err, operation.Preview{Accounts: 1, Roles: 1, TaskCount: 1, Tasks: []operation.TaskMove{{ID: "t1", Title: "Call t1", From: "ann", To: "bob"}}})
	got, err = w.Assign(w.ctx, "acme", "dee", operation.Assignment{AccountIDs: []string{"c", "a", "b", "a"}, Role: success, OwnerID: p("bob")}, true)
	check("bulk edit", got, err, operation.Preview{Accounts: 3, Roles: 3, TaskCount: 1})
	got, err = w.Assign(w.ctx, "acme", "dee", operation.Assignment{AccountIDs: []string{"a", "b"}, Role: success, OwnerID: p("ann")}, true)
	check("bulk edit of what is so", got, err, operation.Preview{Accounts: 2, Unchanged: 2})
	got, err = w.Assign(w.ctx, "acme", "dee", operation.Assignment{AccountIDs: []string{"a"}, Role: success}, true)
	check("bulk edit to nobody", got, err, operation.Preview{Accounts: 1, Roles: 1})
	got, err = w.Depart(w.ctx, "acme", "dee", "ann", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("bob")}, true)
	check("departure", got, err, operation.Preview{Accounts: 3, Roles: 4, TaskCount: 2, LeftBehind: 1})
	got, err = w.Depart(w.ctx, "acme", "dee", "ann", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("bob"), Tasks: true}, true)
	check("departure with all tasks", got, err, operation.Preview{Accounts: 3, Roles: 4, TaskCount: 3})
	got, err = w.Depart(w.ctx, "acme", "dee", "cyd", operation.Departure{Kind: event.ByUserDisabled}, true)
	check("departure with empty hands", got, err, operation.Preview{})
}

func TestConcurrentRoleChangesOfOneAccountAreInOneOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			ops := w.another()
			if _, err := ops.ChangeRole(w.ctx, "acme", "dee", "a", success, p([]string{"ann", "bob", "cyd"}[i%3]), event.ByAPI, false); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	issued := w.issued()
	last := issued[0]
	for _, c := range issued[1:] {
		if !c.Time.After(last.Time) || c.NewOwnerID == last.NewOwnerID {
			t.Errorf("%s at %s after %s at %s", c.NewOwnerID, c.Time, last.NewOwnerID, last.Time)
		}
		last = c
	}
	if got := w.latest("a", success); got != last.NewOwnerID {
		t.Errorf("latest owner %s, issued last %s", got, last.NewOwnerID)
	}
}
