package operation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// Random histories, set right over and over: what is shown is what happens, task by task and mail by mail, and everything is
// as if it had been judged so from the start.
func TestForeseenIsWhatHappens(t *testing.T) {
	t.Parallel()
	people := []string{"ann", "bob", "cyd"}
	pick := func(of ...string) string { return of[rand.IntN(len(of))] }
	var moved, kept, back int64
	// Three histories, and more where chance has left something out.
	for n := 0; n < 3 || n < 20 && (moved == 0 || kept == 0 || back == 0); n++ {
		w := newWorld(t)
		ids := many(30)
		w.accounts("ann", ids...)
		w.exec(`UPDATE users SET email = user_id || '@example.com' WHERE user_id <> 'cyd'`)
		start := w.clock()
		past := func() time.Time { return event.Micro(start.Add(-time.Duration(rand.IntN(600)) * time.Minute)) }
		for i, a := range ids {
			for n := range 4 {
				testkit.PutTasks(w, w.pool, testkit.Task{Tenant: "acme", ID: fmt.Sprintf("%s-%d", a, n), Account: a, Title: "Call", Source: pick("manual", "success_play"),
					Role: pick("", success, sales), Assignee: pick(people...), Since: past()})
			}
			for n := range rand.IntN(5) {
				if err := happened(w, fmt.Sprintf("%d-%d", i, n), a, pick(success, success, sales), pick("", "", people[0], people[1], people[2]), pick(people...), past()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 6 {
			before := one[int64](w, `SELECT coalesce(max(key), 0) FROM moves`)
			done, op := w.right(handover.Policy(pick(event.Policies...)), past(), rand.IntN(2) == 0)
			if done.Unchanged {
				continue
			}
			moved, kept, back = moved+op.TasksMoved, kept+op.TasksKept, back+done.Preview.TakenBack
			var shown []string
			for _, s := range done.Preview.Tasks {
				shown = append(shown, fmt.Sprintf("%s %s %s %s %v", s.AccountID, s.ID, s.From, s.To, s.TakenBack))
			}
			did := all[string](w, `SELECT account_id || ' ' || t.id || ' ' || from_id || ' ' || to_id || ' ' || correction::text FROM moves, unnest(task_ids) AS t(id)
				WHERE key > $1 ORDER BY account_id, t.id LIMIT 100`, before)
			if diff := cmp.Diff(shown, did, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("shown, and moved: %s", diff)
			}
			var mails []string
			for _, m := range done.Preview.Mails {
				mails = append(mails, fmt.Sprint(m.ID, " ", m.Received))
			}
			if diff := cmp.Diff(mails, all[string](w, `SELECT to_id || ' ' || sum(cardinality(task_ids)) FROM moves
				WHERE key > $1 AND to_id NOT IN ('cyd', moved_by) GROUP BY to_id ORDER BY 1`, before), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("mails: %s", diff)
			}
		}
	}
	if moved == 0 || kept == 0 || back == 0 {
		t.Errorf("nothing was tested: %d moved, %d kept, %d taken back", moved, kept, back)
	}
}

// gate holds a transaction back at its commit.
type gate struct{ reached, open chan struct{} }

func (g gate) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if q.SQL == "commit" {
		close(g.reached)
		<-g.open
	}
	return ctx
}

func (gate) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A reassigner has judged by the policy of before, and not yet committed, when the policy is set right: the correction
// waits for it, and finds what it has recorded. So does a policy that is set below a change ahead of the clock.
func TestACorrectionWaitsForWhoHasJudgedAlready(t *testing.T) {
	t.Parallel()
	for _, ahead := range []bool{false, true} {
		w := wrongForADay(t, "keep_tasks")
		g := gate{make(chan struct{}), make(chan struct{})}
		pool := must[*pgxpool.Pool](t)(postgres.Open(w.ctx, w.url, postgres.Options{Writer: true, Tracer: g}))
		at := w.clock().Add(-time.Minute)
		if ahead {
			at = w.clock().Add(time.Minute)
			w.exec(`UPDATE policy_history SET effective_from = '2000-01-01'`)
		}
		ended := make(chan error)
		go func() { ended <- happenedOn(w.ctx, pool, "slow", "b", success, "ann", "cyd", at) }()
		<-g.reached
		go func() {
			if ahead {
				_, err := roster.New(w.pool, nil).SetPolicy(w.ctx, "acme", "dee", handover.MoveAllTasks, false)
				ended <- err
				return
			}
			_, err := w.another().CorrectPolicy(w.ctx, "acme", "dee", operation.PolicyCorrection{Policy: handover.MoveAllTasks, EffectiveFrom: w.clock().Add(-3 * time.Hour)}, false)
			ended <- err
		}()
		testkit.Eventually(t, "the correction waits", func() (bool, string) {
			return one[bool](w, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`), "for nobody"
		})
		close(g.open)
		for range 2 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		pool.Close()
		w.expandAll()
		w.has("cyd", "auto of b", "manual of b")
		testkit.CheckPolicies(t, w.pool)
		testkit.CheckFold(t, w.pool)
	}
}

// Changes are recorded while the policy is being set right, over and over: none keeps a policy that doesn't count.
func TestNoChangeSlipsBetweenThePolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := many(40)
	w.accounts("ann", ids...)
	start := w.clock()
	for i, a := range ids {
		w.task(fmt.Sprint("t", i), a, "ann", "success_play", "")
	}
	var group sync.WaitGroup
	over := make(chan struct{})
	var recorded [4]int
	for n := range recorded {
		group.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-over:
					return
				default:
				}
				// Now and then a little ahead of the clock.
				at := event.Micro(start.Add(time.Duration(rand.IntN(90)-60) * time.Second))
				if err := happened(w, fmt.Sprintf("%d-%d", n, i), ids[rand.IntN(len(ids))], success, "", []string{"ann", "bob", "cyd"}[rand.IntN(3)], at); err != nil {
					t.Error(err)
					return
				}
				recorded[n]++
			}
		})
	}
	group.Go(func() {
		defer close(over)
		expander := w.another()
		for i := range 40 {
			policy := handover.AllPolicies[i%3]
			if i%4 == 3 {
				if _, err := roster.New(w.pool, nil).SetPolicy(w.ctx, "acme", "dee", policy, false); err != nil {
					t.Error(err)
				}
			} else if _, err := expander.CorrectPolicy(w.ctx, "acme", "dee", operation.PolicyCorrection{Policy: policy, EffectiveFrom: start.Add(-time.Duration(i) * time.Second), TakeBack: i%2 == 0}, false); err != nil {
				t.Error(err)
			}
			for worked := true; worked; {
				var err error
				if worked, err = expander.ExpandOnce(w.ctx); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	group.Wait()
	w.expandAll()
	testkit.CheckPolicies(t, w.pool)
	testkit.CheckFold(t, w.pool)
	t.Logf("recorded: %v", recorded)
	if one[int](w, `SELECT count(*) FROM operations WHERE kind = 'policy_corrected' AND changes > 0`) < 5 {
		t.Error("hardly anything was judged anew")
	}
}

// Whatever statement it dies at, a correction ends as if it hadn't.
func TestCorrectionResumesAfterAKillAnywhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("keep_tasks")
	ids := many(450)
	w.accounts("ann", ids...)
	for i, a := range ids {
		w.task(fmt.Sprint("t", i), a, "ann", "success_play", "")
		w.happened(fmt.Sprint("c", i), a, "", "bob", w.clock().Add(-time.Minute))
	}
	op := w.correct(handover.MoveAllTasks, w.clock().Add(-time.Hour), false, false)
	kill := &killer{}
	pool := must[*pgxpool.Pool](t)(postgres.Open(w.ctx, w.url, postgres.Options{Tracer: kill}))
	defer pool.Close()
	doomed := operation.New(pool, func([]journal.Entry) {}, zap.NewNop(), nil)
	n := int64(0)
	for w.get(op.OperationID).State == "expanding" {
		var ctx context.Context
		ctx, kill.cancel = context.WithCancel(w.ctx)
		n++
		kill.left.Store(n)
		for ctx.Err() == nil && w.get(op.OperationID).State == "expanding" {
			if _, err := doomed.ExpandOnce(ctx); err != nil && ctx.Err() == nil {
				t.Fatal(err)
			}
		}
		kill.cancel()
	}
	if n < 10 {
		t.Errorf("killed only %d times", n)
	}
	if got := w.get(op.OperationID); got.State != "done" || got.Accounts != 450 || got.Changes != 450 || got.TasksMoved != 450 {
		t.Errorf("%+v", got)
	}
	w.titlesAre(1)
	testkit.CheckFold(t, w.pool)
	testkit.CheckPolicies(t, w.pool)
}
