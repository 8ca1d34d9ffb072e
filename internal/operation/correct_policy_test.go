package operation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/internal/operation"
	"handover.io/internal/reassign"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// happened is a change from outside, recorded by a reassigner.
func (w *world) happened(id, account, from, to string, at time.Time) {
	w.Helper()
	if err := happened(w, id, account, success, from, to, at); err != nil {
		w.Fatal(err)
	}
}

func happened(w *world, id, account, role, from, to string, at time.Time) error {
	return happenedOn(w.ctx, w.pool, id, account, role, from, to, at)
}

func happenedOn(ctx context.Context, pool *pgxpool.Pool, id, account, role, from, to string, at time.Time) error {
	c := event.AccountRoleChanged{
		ID: id, Source: "//crm", Time: at, TenantID: "acme", AccountID: account, Role: role,
		PreviousOwnerID: from, NewOwnerID: to, Reason: event.ByAPI, InitiatedBy: "ann",
	}
	m, err := c.Message(event.SubjectRoleChanged("acme"))
	if err != nil {
		return err
	}
	m.Stream = event.StreamRoleChanges
	r := reassign.New(pool, reassign.Config{Consumer: event.ConsumerReassigner, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	return r.Handle(ctx, []event.Message{m})
}

func (w *world) correct(policy handover.Policy, from time.Time, takeBack, dryRun bool) operation.Corrected {
	w.Helper()
	return must[operation.Corrected](w.TB)(w.CorrectPolicy(w.ctx, "acme", "dee", operation.PolicyCorrection{Policy: policy, EffectiveFrom: from, TakeBack: takeBack}, dryRun))
}

// right sets the policy right, and checks the dry run before it: the same, and nothing done.
func (w *world) right(policy handover.Policy, from time.Time, takeBack bool) (operation.Corrected, operation.Operation) {
	w.Helper()
	before := w.dump()
	shown := w.correct(policy, from, takeBack, true)
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		w.Fatalf("a dry run did something: %s", diff)
	}
	done := w.correct(policy, from, takeBack, false)
	if diff := cmp.Diff(shown, done, cmpopts.IgnoreFields(operation.Corrected{}, "OperationID"), cmpopts.IgnoreFields(roster.PolicyEntry{}, "ChangedAt", "OperationID")); diff != "" {
		w.Fatalf("dry run and answer differ: %s", diff)
	}
	if shown.OperationID != "" || (done.OperationID == "") != done.Unchanged {
		w.Fatalf("shown %+v, done %+v", shown, done)
	}
	if done.Unchanged {
		return done, operation.Operation{}
	}
	w.expandAll()
	testkit.CheckFold(w, w.pool)
	testkit.CheckPolicies(w, w.pool)
	op := w.get(done.OperationID)
	p := done.Preview
	if op.State != "done" || op.Kind != "policy_corrected" || op.Accounts != p.Accounts || op.Changes != p.Changes || op.Applied != p.Changes || op.TasksMoved != p.TaskCount || op.TasksKept != p.Kept {
		w.Errorf("shown %+v\ndone %+v", p, op)
	}
	return done, op
}

func (w *world) has(want string, tasks ...string) {
	w.Helper()
	for _, id := range tasks {
		if got := one[string](w, `SELECT coalesce(assignee_id, '') FROM tasks WHERE tenant_id = 'acme' AND task_id = $1`, id); got != want {
			w.Errorf("%s is with %q, not %q", id, got, want)
		}
	}
}

// wrongForADay has an account of ann's with an automated and a manual task, that went to bob two hours ago.
func wrongForADay(t *testing.T, policy string) *world {
	w := newWorld(t)
	w.policy(policy)
	w.accounts("ann", "a", "b")
	long := w.clock().Add(-48 * time.Hour)
	for _, id := range []string{"auto", "manual"} {
		source := map[string]string{"auto": "success_play", "manual": "manual"}[id]
		testkit.PutTasks(w, w.pool, testkit.Task{Tenant: "acme", ID: id, Account: "a", Title: "Call " + id, Source: source, Assignee: "ann", Since: long},
			testkit.Task{Tenant: "acme", ID: id + " of b", Account: "b", Title: "Call", Source: source, Assignee: "ann", Since: long})
	}
	w.exec(`UPDATE users SET email = user_id || '@example.com'`)
	w.happened("before", "b", "", "bob", w.clock().Add(-24*time.Hour)) // that day was right
	w.happened("wrong", "a", "", "bob", w.clock().Add(-2*time.Hour))
	return w
}

func TestPolicyWrongForADay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		was, right                 string
		takeBack                   bool
		auto, manual               string // who has them in the end
		moved, takenBack, kept     int64
		mails                      []operation.Mailed
		title                      string
		tasks, keptTasks, revision string
	}{
		{was: "keep_tasks", right: "move_all_tasks", auto: "bob", manual: "bob", moved: 2,
			mails: []operation.Mailed{{ID: "bob", Name: "Bob", Received: 2}}, title: "1 role change judged anew, 2 open tasks moved", tasks: "auto ann→bob, manual ann→bob"},
		{was: "keep_tasks", right: "move_automated_tasks", takeBack: true, auto: "bob", manual: "ann", moved: 1,
			mails: []operation.Mailed{{ID: "bob", Name: "Bob", Received: 1}}, title: "1 role change judged anew, 1 open task moved", tasks: "auto ann→bob"},
		{was: "move_all_tasks", right: "move_automated_tasks", takeBack: true, auto: "bob", manual: "ann", moved: 1, takenBack: 1,
			mails: []operation.Mailed{{ID: "ann", Name: "Ann", Received: 1}}, title: "1 role change judged anew, 1 open task moved", tasks: "manual bob→ann back"},
		{was: "move_all_tasks", right: "move_automated_tasks", auto: "bob", manual: "bob", kept: 1,
			title: "1 role change judged anew, 0 open tasks moved, 1 open task stays where it is", keptTasks: "manual bob→ann back"},
		{was: "move_all_tasks", right: "keep_tasks", takeBack: true, auto: "ann", manual: "ann", moved: 2, takenBack: 2,
			mails: []operation.Mailed{{ID: "ann", Name: "Ann", Received: 2}}, title: "1 role change judged anew, 2 open tasks moved", tasks: "auto bob→ann back, manual bob→ann back"},
		{was: "move_all_tasks", right: "keep_tasks", auto: "bob", manual: "bob", kept: 2,
			title: "1 role change judged anew, 0 open tasks moved, 2 open tasks stay where they are", keptTasks: "auto bob→ann back, manual bob→ann back"},
	} {
		t.Run(fmt.Sprint(c.was, c.right, c.takeBack), func(t *testing.T) {
			t.Parallel()
			w := wrongForADay(t, c.was)
			ofB := one[string](w, `SELECT assignee_id FROM tasks WHERE task_id = 'manual of b'`)
			from := w.clock().Add(-3 * time.Hour)
			done, op := w.right(handover.Policy(c.right), from, c.takeBack)
			w.has(c.auto, "auto")
			w.has(c.manual, "manual")
			w.has(ofB, "manual of b")
			p := done.Preview
			if p.Accounts != 1 || p.Changes != 1 || p.TaskCount != c.moved || p.TakenBack != c.takenBack || p.Kept != c.kept || p.MailCount != int64(len(c.mails)) {
				t.Errorf("shown: %+v", p)
			}
			if diff := cmp.Diff(c.mails, p.Mails, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("mails: %s", diff)
			}
			if got := lines(p.Tasks); got != c.tasks {
				t.Errorf("tasks: %s", got)
			}
			if got := lines(p.KeptTasks); got != c.keptTasks {
				t.Errorf("kept: %s", got)
			}
			want := []string{"Policy set right since " + from.UTC().Format("2 Jan 2006 15:04 UTC") + ": " + c.title}
			if diff := cmp.Diff(want, w.titles("dee")); diff != "" {
				t.Error(diff)
			}
			// What moved by the correction was moved by who asked for it, and is announced.
			if got := all[string](w, `SELECT DISTINCT moved_by || correction FROM moves WHERE moved_at >= $1`, op.AcceptedAt); c.moved > 0 && (len(got) != 1 || got[0] != "dee"+fmt.Sprint(c.takenBack > 0)) {
				t.Errorf("moves: %v", got)
			}
			if n := one[int64](w, `SELECT coalesce(sum(jsonb_array_length(convert_from(body, 'UTF8')::jsonb -> 'data' -> 'tasks')), 0)::bigint FROM outbox
				WHERE stream = 'TASK_REASSIGNMENTS' AND created_at >= $1`, op.AcceptedAt); n != c.moved {
				t.Errorf("%d announced", n)
			}
			if again, _ := w.right(handover.Policy(c.right), from, c.takeBack); !again.Unchanged {
				t.Errorf("again: %+v", again)
			}
			// What was kept then isn't taken back later; who asks for that is told so.
			var keptBefore *operation.Kept
			if c.kept > 0 {
				keptBefore = &operation.Kept{OperationID: done.OperationID, Tasks: c.kept}
			}
			later, _ := w.right(handover.Policy(c.right), from, true)
			if diff := cmp.Diff(keptBefore, later.KeptBefore); diff != "" || !later.Unchanged {
				t.Errorf("taken back later: %+v %s", later, diff)
			}
			w.has(c.manual, "manual")
			w.titlesAre(1)
		})
	}
}

func (w *world) titlesAre(n int) {
	w.Helper()
	if got := w.titles("dee"); len(got) != n {
		w.Errorf("told: %q", got)
	}
}

func lines(tasks []operation.TaskCorrection) string {
	out := make([]string, len(tasks))
	for i, t := range tasks {
		out[i] = t.ID + " " + t.From + "→" + t.To
		if t.TakenBack {
			out[i] += " back"
		}
	}
	return strings.Join(out, ", ")
}

// What stayed goes on from there: late changes of before don't take it away, the next one takes it along, and what was
// closed comes back to who had it.
func TestWhatIsKeptGoesOnFromThere(t *testing.T) {
	t.Parallel()
	w := wrongForADay(t, "move_all_tasks")
	r := roster.New(w.pool, nil)
	sync := func(id, status string) {
		t.Helper()
		results, err := r.SyncTasks(w.ctx, "acme", "dee", []roster.TaskSaid{{ID: id, Status: roster.Maybe[string]{Given: true, Value: status}}}, false)
		if err != nil || results[0].Problem != nil {
			t.Fatal(err, results)
		}
	}
	sync("auto", "completed")
	from := w.clock().Add(-3 * time.Hour)
	if _, op := w.right(handover.KeepTasks, from, false); op.TasksKept != 1 {
		t.Errorf("%+v", op)
	}
	w.has("bob", "auto", "manual")
	sync("auto", "open")
	w.has("bob", "auto")
	w.happened("late", "a", "bob", "cyd", from.Add(time.Minute))
	w.has("bob", "auto", "manual")
	must[roster.PolicyEntry](t)(r.SetPolicy(w.ctx, "acme", "dee", handover.MoveAllTasks, false))
	w.happened("next", "a", "bob", "cyd", w.clock())
	w.has("cyd", "auto", "manual")
	testkit.CheckFold(t, w.pool)
	testkit.CheckPolicies(t, w.pool)

	// Taken back, what was closed goes back when it is reopened.
	w = wrongForADay(t, "move_all_tasks")
	r = roster.New(w.pool, nil)
	sync("auto", "completed")
	w.right(handover.KeepTasks, from, true)
	w.has("bob", "auto")
	sync("auto", "open")
	w.has("ann", "auto", "manual")
}

func TestCorrectionRefusals(t *testing.T) {
	t.Parallel()
	w := wrongForADay(t, "keep_tasks")
	ask := func(tenant string, policy handover.Policy, from time.Time, dryRun bool) error {
		_, err := w.CorrectPolicy(w.ctx, tenant, "dee", operation.PolicyCorrection{Policy: policy, EffectiveFrom: from}, dryRun)
		return err
	}
	for _, dryRun := range []bool{true, false} {
		var bad *roster.Invalid
		if err := ask("acme", handover.MoveAllTasks, w.clock().Add(time.Minute), dryRun); !errors.As(err, &bad) || bad.Field != "effective_from" {
			t.Errorf("ahead: %v", err)
		}
		if err := ask("acme", "move_some", w.clock().Add(-time.Minute), dryRun); !errors.As(err, &bad) || bad.Field != "tasks" {
			t.Errorf("no policy: %v", err)
		}
	}
	if err := ask("nobody", handover.MoveAllTasks, w.clock().Add(-time.Minute), false); !errors.Is(err, roster.ErrNotFound) {
		t.Errorf("no tenant: %v", err)
	}
	first := w.correct(handover.MoveAllTasks, w.clock().Add(-3*time.Hour), false, false)
	for _, dryRun := range []bool{true, false} {
		var underWay *operation.UnderWay
		if err := ask("acme", handover.KeepTasks, w.clock().Add(-time.Hour), dryRun); !errors.As(err, &underWay) || underWay.OperationID != first.OperationID {
			t.Errorf("a second one: %v", err)
		}
	}
	w.expandAll()
	w.right(handover.KeepTasks, w.clock().Add(-3*time.Hour), true)
	w.has("ann", "auto", "manual")
}

// The history shows what counts, and what was set before and by whom.
func TestCorrectionsAreAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := roster.New(w.pool, nil)
	for i, policy := range []string{"keep_tasks", "move_all_tasks", "move_automated_tasks"} {
		w.exec(`INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by) VALUES ('acme', $1, $2, 'ann')`, w.clock().Add(time.Duration(i-3)*time.Hour), policy)
	}
	first, _ := w.right(handover.KeepTasks, w.clock().Add(-150*time.Minute), false)
	from := w.clock().Add(-90 * time.Minute)
	second, _ := w.right(handover.MoveAllTasks, from, false)
	third, _ := w.right(handover.MoveAutomatedTasks, from, false)
	var got []string
	for q := (roster.PageQuery{Limit: 2}); ; {
		page := must[roster.Page[roster.PolicyEntry]](t)(r.PolicyHistory(w.ctx, "acme", q))
		for _, e := range page.Items {
			line := fmt.Sprintf("%s by %s", e.Tasks, *e.ChangedBy)
			if e.OperationID != nil {
				line += fmt.Sprintf(" in %d", 1+slices.Index([]string{first.OperationID, second.OperationID, third.OperationID}, *e.OperationID))
			}
			if e.SupersededAt != nil {
				line += ", superseded by " + *e.SupersededBy
			}
			got = append(got, line)
		}
		if page.NextCursor == nil {
			break
		}
		q.Cursor = *page.NextCursor
	}
	if diff := cmp.Diff([]string{
		"move_automated_tasks by ann, superseded by dee",
		"move_automated_tasks by dee in 3", "move_all_tasks by dee in 2, superseded by dee",
		"move_all_tasks by ann, superseded by dee",
		"keep_tasks by dee in 1",
		"keep_tasks by ann",
	}, got); diff != "" {
		t.Error(diff)
	}
	if now := must[roster.PolicyEntry](t)(r.Policy(w.ctx, "acme", w.clock())); now.Tasks != handover.MoveAutomatedTasks || *now.OperationID != third.OperationID {
		t.Errorf("in force: %+v", now)
	}
}

// A policy set for what is to come judges also what is recorded with a time ahead of the clock.
func TestPolicySetBelowAChangeAhead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	w.task("t", "a", "ann", "manual", "")
	w.happened("ahead", "a", "", "bob", w.clock().Add(time.Minute))
	w.has("ann", "t")
	set := must[roster.PolicyEntry](t)(roster.New(w.pool, nil).SetPolicy(w.ctx, "acme", "dee", handover.MoveAllTasks, false))
	if set.OperationID == nil {
		t.Fatalf("%+v", set)
	}
	w.expandAll()
	w.has("bob", "t")
	if op := w.get(*set.OperationID); op.State != "done" || op.Changes != 1 || op.TasksMoved != 1 {
		t.Errorf("%+v", op)
	}
	testkit.CheckPolicies(t, w.pool)
}

// Who has left by now passes on what comes to them: shown so, and done so.
func TestWhatComesToSomebodyWhoHasLeftGoesToTheirSuccessor(t *testing.T) {
	t.Parallel()
	w := wrongForADay(t, "keep_tasks")
	must[operation.Accepted](t)(w.Depart(w.ctx, "acme", "dee", "bob", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("cyd"), Tasks: true}, false))
	w.expandAll()
	w.deliver()
	done, _ := w.right(handover.MoveAllTasks, w.clock().Add(-3*time.Hour), false)
	w.deliver()
	w.has("cyd", "auto", "manual")
	if got := lines(done.Preview.Tasks); got != "auto ann→cyd, manual ann→cyd" {
		t.Errorf("shown: %s", got)
	}
	if diff := cmp.Diff([]operation.Mailed{{ID: "cyd", Name: "Cyd", Received: 2}}, done.Preview.Mails); diff != "" {
		t.Error(diff)
	}
	testkit.CheckFold(t, w.pool)
}

// What is taken back may come to somebody who has left meanwhile, where their departure left tasks with them: that is shown.
func TestTakingBackToSomebodyWhoHasLeft(t *testing.T) {
	t.Parallel()
	w := wrongForADay(t, "move_all_tasks")
	must[operation.Accepted](t)(w.Depart(w.ctx, "acme", "dee", "ann", operation.Departure{Kind: event.ByUserDisabled, SuccessorID: p("cyd")}, false))
	w.expandAll()
	w.deliver()
	done, _ := w.right(handover.KeepTasks, w.clock().Add(-3*time.Hour), true)
	w.has("ann", "auto", "manual")
	if p := done.Preview; p.LeftBehind != 2 || p.MailCount != 0 {
		t.Errorf("shown: %+v", p)
	}
}
