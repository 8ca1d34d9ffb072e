package operation_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

func (w *world) depart(user string, req operation.Departure) operation.Operation {
	w.Helper()
	accepted := must[operation.Accepted](w.TB)(w.Depart(w.ctx, "acme", "dee", user, req, false))
	return w.get(accepted.OperationID)
}

// user is somebody's row, in short: status, successor, whether their tasks go too, whether an operation hands on.
func (w *world) user(id string) string {
	return one[string](w, `SELECT concat_ws(' ', status, successor_id, CASE WHEN departure_tasks THEN 'tasks' END,
		CASE WHEN departure_id IS NOT NULL THEN 'operation' END) FROM users WHERE tenant_id = 'acme' AND user_id = $1`, id)
}

// estate gives ann roles on a, b and c, and open tasks on a, b and on d, where she holds no role.
func (w *world) estate() {
	w.accounts("ann", "a", "b", "c")
	w.accounts("bob", "d", "e")
	w.holds("ann", sales, "b")
	w.task("t1", "a", "ann", "manual", "")
	w.task("t2", "b", "ann", "integration", "")
	w.task("t3", "d", "ann", "manual", "")
	w.task("t4", "a", "bob", "manual", "")
}

func TestDepartureHandsOverRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.estate()
	before := w.clock()
	op := w.depart("ann", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("cyd")})
	if op.State != "expanding" || op.Kind != "user_disabled" || op.AcceptedAt.Before(before) {
		t.Errorf("accepted: %+v", op)
	}
	if got := w.user("ann"); got != "disabled cyd operation" {
		t.Errorf("ann: %s", got)
	}
	if left := one[time.Time](w, `SELECT left_at FROM users WHERE user_id = 'ann'`); !left.Equal(op.AcceptedAt) {
		t.Errorf("left at %s, accepted at %s", left, op.AcceptedAt)
	}
	w.expandAll()
	want := []string{
		"a success_manager: ann→cyd user_disabled", "b sales_manager: ann→cyd user_disabled",
		"b success_manager: ann→cyd user_disabled", "c success_manager: ann→cyd user_disabled",
	}
	if diff := cmp.Diff(want, brief(w.issued())); diff != "" {
		t.Error(diff)
	}
	for _, c := range w.issued() {
		if c.ID != roster.ChangeID(op.ID, c.AccountID, c.Role) || !c.Time.Equal(op.AcceptedAt) || c.OperationID != op.ID {
			t.Errorf("%+v", c)
		}
	}
	if op := w.get(op.ID); op.State != "applying" || op.Accounts != 3 || op.Changes != 4 || op.Unchanged != 0 {
		t.Errorf("expanded: %+v", op)
	}
	if got := w.latest("b", sales) + w.latest("b", success); got != "cydcyd" {
		t.Errorf("latest owners: %s", got)
	}
}

func TestDepartureWithAllTasks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.estate()
	op := w.depart("ann", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("cyd"), Tasks: true})
	if got := w.user("ann"); got != "deleted cyd tasks operation" {
		t.Errorf("ann: %s", got)
	}
	w.expandAll()
	want := []string{
		"a : ann→cyd user_deleted move_all_tasks", "a success_manager: ann→cyd user_deleted move_all_tasks",
		"b : ann→cyd user_deleted move_all_tasks", "b sales_manager: ann→cyd user_deleted move_all_tasks",
		"b success_manager: ann→cyd user_deleted move_all_tasks", "c success_manager: ann→cyd user_deleted move_all_tasks",
		"d : ann→cyd user_deleted move_all_tasks",
	}
	if diff := cmp.Diff(want, brief(w.issued())); diff != "" {
		t.Error(diff)
	}
	if op := w.get(op.ID); op.Accounts != 4 || op.Changes != 7 {
		t.Errorf("expanded: %+v", op)
	}
}

func TestReassigningResourcesLetsThePersonStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.estate()
	w.depart("ann", operation.Departure{Kind: event.ByResourcesReassigned, SuccessorID: p("cyd"), Tasks: true})
	w.expandAll()
	if got := w.user("ann"); got != "active" {
		t.Errorf("ann: %s", got)
	}
	if got := w.issued(); len(got) != 7 || got[0].Reason != event.ByResourcesReassigned {
		t.Errorf("%v", brief(got))
	}
}

func TestLeavingWithFullHandsNeedsASuccessor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.estate()
	before := w.dump()
	for _, kind := range []string{event.ByUserDisabled, event.ByUserDeleted} {
		_, err := w.Depart(w.ctx, "acme", "dee", "ann", operation.Departure{Kind: kind, Tasks: true}, false)
		var conflict *operation.Conflict
		if !errors.As(err, &conflict) || conflict.Roles != 4 || conflict.OpenTasks != 3 || conflict.SuccessorID != "" {
			t.Errorf("%s: %#v", kind, err)
		}
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("it left something behind:\n%s", diff)
	}
}

func TestLeavingWithEmptyHands(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	op := w.depart("ann", operation.Departure{Kind: event.ByUserDisabled})
	if op.State != "done" || w.user("ann") != "disabled" {
		t.Errorf("%+v, %s", op, w.user("ann"))
	}
	again := must[operation.Accepted](t)(w.Depart(w.ctx, "acme", "dee", "ann", operation.Departure{Kind: event.ByUserDisabled}, false))
	if !again.Unchanged || again.OperationID != "" {
		t.Errorf("again: %+v", again)
	}
	left := one[time.Time](w, `SELECT left_at FROM users WHERE user_id = 'ann'`)
	w.depart("ann", operation.Departure{Kind: event.ByUserDeleted})
	if now := one[time.Time](w, `SELECT left_at FROM users WHERE user_id = 'ann'`); w.user("ann") != "deleted" || !now.Equal(left) {
		t.Errorf("%s, left at %s, then %s", w.user("ann"), left, now)
	}
	if diff := cmp.Diff([]string{"Ann left nothing behind", "Ann left nothing behind"}, w.titles("dee")); diff != "" {
		t.Error(diff)
	}
}

func TestWhoIsGoneWithoutASuccessorIsGivenOne(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{event.ByUserDisabled, event.ByUserDeleted, event.ByResourcesReassigned} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.estate()
			w.exec(`UPDATE users SET status = 'disabled', left_at = '2026-01-01' WHERE user_id = 'ann'`) // as an upstream sync does
			op := w.depart("ann", operation.Departure{Kind: kind, SuccessorID: p("cyd")})
			w.expandAll()
			want := "disabled cyd operation"
			if kind == event.ByUserDeleted {
				want = "deleted cyd operation"
			}
			if got := w.user("ann"); got != want {
				t.Errorf("ann: %s", got)
			}
			if left := one[time.Time](w, `SELECT left_at FROM users WHERE user_id = 'ann'`); left.Year() != 2026 || left.Month() != 1 {
				t.Errorf("left at %s: they left when they left", left)
			}
			if got := w.issued(); len(got) != 4 || !got[0].Time.Equal(op.AcceptedAt) {
				t.Errorf("%v", brief(got))
			}
		})
	}
}

func TestDepartureRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	w.exec(`UPDATE users SET status = 'disabled', left_at = now(), successor_id = 'dee', departure_id = 'x' WHERE user_id = 'bob'`)
	before := w.dump()
	for name, c := range map[string]struct {
		user string
		req  operation.Departure
		says string
	}{
		"unknown user":               {"nope", operation.Departure{Kind: event.ByUserDisabled}, "not found"},
		"unknown user, to somebody":  {"nope", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("ann")}, "not found"},
		"unknown kind":               {"ann", operation.Departure{Kind: "fired"}, "kind: must be"},
		"to themselves":              {"ann", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("ann")}, "successor_id: is the person"},
		"to an unknown user":         {"ann", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("nope")}, "successor_id: there is no user"},
		"to somebody who left":       {"ann", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("bob")}, `their successor is "dee"`},
		"nothing to reassign to":     {"ann", operation.Departure{Kind: event.ByResourcesReassigned}, "successor_id: is required"},
		"has a successor":            {"bob", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("cyd")}, `"dee" is their successor`},
		"has a successor, resources": {"bob", operation.Departure{Kind: event.ByResourcesReassigned, SuccessorID: p("cyd")}, `"dee" is their successor`},
	} {
		for _, dryRun := range []bool{false, true} {
			if _, err := w.Depart(w.ctx, "acme", "dee", c.user, c.req, dryRun); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	var conflict *operation.Conflict
	_, err := w.Depart(w.ctx, "acme", "dee", "bob", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("cyd")}, false)
	if !errors.As(err, &conflict) || conflict.SuccessorID != "dee" {
		t.Errorf("%#v", err)
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("refusals left something behind:\n%s", diff)
	}
}

func TestDepartureLiesPastWhateverThePersonsAccountsHaveSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.estate()
	ahead := w.clock().Add(3 * time.Minute).Truncate(time.Microsecond)
	for account, at := range map[string]time.Time{"d": ahead, "a": ahead.Add(-time.Second), "e": ahead.Add(time.Minute)} {
		w.exec(`INSERT INTO account_heads (tenant_id, account_id, newest_at) VALUES ('acme', $1, $2) ON CONFLICT (tenant_id, account_id) DO UPDATE SET newest_at = excluded.newest_at`, account, at)
	}
	op := w.depart("ann", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("cyd"), Tasks: true})
	if !op.AcceptedAt.Equal(ahead.Add(time.Microsecond)) { // by her task on d; e is none of hers
		t.Errorf("accepted at %s, d has seen %s", op.AcceptedAt, ahead)
	}
}

func TestDepartureCountsWhatIsIssuedButNotSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("bob", "given")
	w.accounts("ann", "taken", "kept")
	given := w.change("given", success, "ann")
	w.change("taken", success, "bob")
	op := w.depart("ann", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("cyd")})
	if !op.AcceptedAt.After(w.get(given.OperationID).AcceptedAt) {
		t.Error("she left before she was given the account")
	}
	w.expandAll()
	want := []string{"given success_manager: ann→cyd user_deleted", "kept success_manager: ann→cyd user_deleted"}
	if diff := cmp.Diff(want, brief(w.issued())[2:]); diff != "" {
		t.Error(diff)
	}
}

// What the reassigner hands on while the departure is still being expanded is the same change: issued and counted once.
func TestDepartureAndHandingOnIssueTheSameChange(t *testing.T) {
	t.Parallel()
	for _, tasks := range []bool{false, true} {
		w := newWorld(t)
		w.estate()
		op := w.depart("ann", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("cyd"), Tasks: tasks})
		left := []roster.Left{
			{Account: roster.Account{TenantID: "acme", AccountID: "b"}, Role: success, Person: "ann"},
			{Account: roster.Account{TenantID: "acme", AccountID: "d"}, Person: "ann"},
		}
		handOn := func() {
			if err := postgres.InTx(w.ctx, w.pool, func(ctx context.Context, tx pgx.Tx) error {
				_, err := roster.HandOn(ctx, tx, left)
				return err
			}); err != nil {
				t.Fatal(err)
			}
		}
		handOn()
		early := w.issued()
		w.expandAll()
		handOn()
		issued := w.issued()
		ids := map[string]bool{}
		for _, c := range issued {
			ids[c.ID] = true
		}
		if got := w.get(op.ID); len(ids) != len(issued) || got.Changes != int64(len(issued)) {
			t.Errorf("%d issued, %d different, %d counted", len(issued), len(ids), got.Changes)
		}
		w.exec(`DELETE FROM outbox; UPDATE account_roles SET latest_owner = 'ann', latest_at = since WHERE account_id = 'b'`)
		w.exec(`UPDATE operations SET state = 'expanding', cursor = NULL, finished_at = NULL`)
		w.expandAll()
		late := map[string]event.AccountRoleChanged{}
		for _, c := range w.issued() {
			late[c.ID] = c
		}
		for _, c := range early {
			if diff := cmp.Diff(c, late[c.ID]); diff != "" {
				t.Errorf("handed on and expanded differ:\n%s", diff)
			}
		}
	}
}

func TestTwoWhoLeaveToEachOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.estate()
	var group sync.WaitGroup
	errs := make([]error, 2)
	for i, pair := range [][2]string{{"ann", "bob"}, {"bob", "ann"}} {
		group.Go(func() {
			_, errs[i] = w.another().Depart(w.ctx, "acme", "dee", pair[0], operation.Departure{Kind: event.ByUserDeleted, SuccessorID: &pair[1]}, false)
		})
	}
	group.Wait()
	var refused *roster.Invalid
	if err := errors.Join(errs...); (errs[0] == nil) == (errs[1] == nil) || !errors.As(err, &refused) || refused.Field != "successor_id" {
		t.Errorf("one of them must stay: %v, %v", errs[0], errs[1])
	}
}

func TestDepartureIsExpandedInChunks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := many(2100)
	w.accounts("ann", ids...)
	w.holds("ann", sales, ids[:1500]...)
	for _, id := range []string{ids[3], ids[1700]} {
		w.task("t-"+id, id, "ann", "manual", "")
	}
	w.accounts("bob", "zz")
	w.task("t-zz", "zz", "ann", "manual", "")
	op := w.depart("ann", operation.Departure{Kind: event.ByUserDeleted, SuccessorID: p("cyd"), Tasks: true})
	if chunks := w.expandAll(); chunks != 3 {
		t.Errorf("%d chunks", chunks)
	}
	if got := w.get(op.ID); got.State != "applying" || got.Accounts != 2101 || got.Changes != 2100+1500+3 || got.Unchanged != 0 {
		t.Errorf("%+v", got)
	}
	if got := one[int](w, `SELECT count(*) FROM account_roles WHERE latest_owner = 'ann'`); got != 0 {
		t.Errorf("%d roles stay", got)
	}
}

// Publishers' clocks may run ahead, so a change may be known that gives the person something a moment after they leave.
func TestDepartureLiesPastChangesAheadOfTheClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.estate()
	ahead := w.clock().Add(time.Minute)
	w.exec(`INSERT INTO role_changes (digest, content, tenant_id, account_id, role, from_id, to_id, occurred_at, source, id, policy, reason, initiated_by)
		VALUES (gen_random_uuid(), gen_random_uuid(), 'acme', 'e', '', 'bob', 'ann', $1, '//crm', '1', 'move_all_tasks', 'user_disabled', 'dee')`, ahead)
	if op := w.depart("ann", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("cyd"), Tasks: true}); !op.AcceptedAt.After(ahead) {
		t.Errorf("left at %s, but is given something at %s", op.AcceptedAt, ahead)
	}
	later := w.change("c", success, "dee")
	if op := w.depart("dee", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("cyd")}); !op.AcceptedAt.After(w.get(later.OperationID).AcceptedAt) {
		t.Errorf("left at %s, before the operation that names them", op.AcceptedAt)
	}
}

// A task that a sync took from an account which had seen a change ahead of the clock counts as assigned after that; the
// account where it is now has seen nothing of the kind.
func TestWhoLeavesIsPastTheAssignmentsOfTheirTasks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.estate()
	ahead := w.clock().Add(time.Minute)
	w.exec(`UPDATE account_heads SET assigned_at = $1 WHERE account_id = 'd'`, ahead)
	if op := w.depart("ann", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("cyd"), Tasks: true}); !op.AcceptedAt.After(ahead) {
		t.Errorf("left at %s, but was assigned a task at %s", op.AcceptedAt, ahead)
	}
}

// Somebody is taken back while what they hold is still being handed on: that goes on to its end, and what comes after stays.
func TestReinstatedWhileTheDepartureIsUnderWay(t *testing.T) {
	t.Parallel()
	w := wrongForADay(t, "keep_tasks")
	accepted := must[operation.Accepted](t)(w.Depart(w.ctx, "acme", "dee", "ann", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("cyd"), Tasks: true}, false))
	r := roster.New(w.pool, nil)
	must[roster.UserDetails](t)(r.Reinstate(w.ctx, "acme", "ann"))
	w.expandAll()
	w.deliver()
	if op := w.get(accepted.OperationID); op.State != "done" || op.Refused != 0 {
		t.Errorf("%+v", op)
	}
	w.has("cyd", "auto", "manual")
	w.happened("back", "a", "", "ann", w.clock())
	if got := one[string](w, `SELECT owner_id FROM account_roles WHERE account_id = 'a' AND role = 'success_manager'`); got != "ann" {
		t.Errorf("the role is with %s", got)
	}
	testkit.CheckFold(t, w.pool)
}
