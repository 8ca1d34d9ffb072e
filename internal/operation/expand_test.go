package operation_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

func (w *world) assign(owner string, ids ...string) operation.Operation {
	w.Helper()
	accepted := must[operation.Accepted](w.TB)(w.Assign(w.ctx, "acme", "dee", operation.Assignment{AccountIDs: ids, Role: success, OwnerID: &owner}, false))
	return w.get(accepted.OperationID)
}

func TestBulkEditIsExpandedChunkByChunk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := many(2500)
	w.accounts("ann", ids...)
	w.exec(`UPDATE account_roles SET owner_id = 'bob', latest_owner = 'bob' WHERE account_id < 'account-000500'`)
	op := w.assign("bob", append(ids[:10:10], ids...)...)
	if op.State != "expanding" || op.Kind != "bulk_edit" || len(w.issued()) != 0 {
		t.Errorf("accepted: %+v", op)
	}
	if chunks := w.expandAll(); chunks != 3 {
		t.Errorf("%d chunks", chunks)
	}
	op = w.get(op.ID)
	if op.State != "applying" || op.Accounts != 2500 || op.Unchanged != 500 || op.Changes != 2000 {
		t.Errorf("expanded: %+v", op)
	}
	issued := w.issued()
	if len(issued) != 2000 || len(w.offered) != 2000 {
		t.Fatalf("%d issued, %d offered", len(issued), len(w.offered))
	}
	want := event.AccountRoleChanged{
		ID: roster.ChangeID(op.ID, ids[500], success), Source: event.SourceHandover, Time: op.AcceptedAt, TenantID: "acme", AccountID: ids[500], Role: success,
		NewOwnerID: "bob", Reason: event.BySegment, InitiatedBy: "dee", OperationID: op.ID,
	}
	if diff := cmp.Diff(want, issued[0]); diff != "" {
		t.Error(diff)
	}
	if m := w.messages()[0]; m.Subject != event.SubjectRoleBulk("acme") {
		t.Errorf("on %s", m.Subject)
	}
	if n := one[int](w, `SELECT count(*) FROM account_roles r JOIN account_heads h USING (account_id)
		WHERE r.latest_owner = 'bob' AND r.latest_at = $1 AND h.issued_at = $1`, op.AcceptedAt); n != 2000 {
		t.Errorf("%d accounts know of it", n)
	}
}

func TestBulkEditByFilter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", many(1500)...)
	w.accounts("bob", "x", "y")
	w.exec(`UPDATE accounts SET attributes = '{"tier": "gold"}' WHERE account_id IN ('account-000003', 'x')`)
	assign := func(f roster.Filter) operation.Operation {
		req := operation.Assignment{Filter: &f, Role: success, OwnerID: p("cyd")}
		shown := must[operation.Accepted](t)(w.Assign(w.ctx, "acme", "dee", req, true))
		accepted := must[operation.Accepted](t)(w.Assign(w.ctx, "acme", "dee", req, false))
		w.expandAll()
		op := w.get(accepted.OperationID)
		if op.Accounts != shown.Preview.Accounts || op.Unchanged != shown.Preview.Unchanged {
			t.Errorf("shown %+v, came to %+v", shown.Preview, op)
		}
		return op
	}
	for _, c := range []struct {
		filter              roster.Filter
		accounts, unchanged int64
	}{
		{roster.Filter{Attributes: []byte(`{"tier": "gold"}`)}, 2, 0},
		{roster.Filter{Attributes: []byte(`{"tier": "lead"}`)}, 0, 0},
		{roster.Filter{Role: success, Owner: roster.Maybe[string]{Given: true, Value: "ann"}}, 1500, 1},
		{roster.Filter{}, 1502, 1501},
	} {
		if op := assign(c.filter); op.Accounts != c.accounts || op.Unchanged != c.unchanged || op.Changes != c.accounts-c.unchanged {
			t.Errorf("%+v: %+v", c.filter, op)
		}
	}
}

func TestBulkEditRefusals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	w.exec(`UPDATE users SET status = 'disabled', left_at = now() WHERE user_id = 'cyd'`)
	before := w.dump()
	for name, c := range map[string]struct {
		req  operation.Assignment
		says string
	}{
		"no accounts":      {operation.Assignment{Role: success, OwnerID: p("bob")}, "either"},
		"unknown accounts": {operation.Assignment{AccountIDs: []string{"a", "x3", "x1", "x2", "x6", "x5", "x4"}, Role: success, OwnerID: p("bob")}, "account_ids: there are no accounts x1, x2, x3, x4, x5 and others"},
		"one unknown":      {operation.Assignment{AccountIDs: []string{"a", "x3"}, Role: success, OwnerID: p("bob")}, "no accounts x3;"},
		"impossible":       {operation.Assignment{AccountIDs: []string{"a", "b\x00"}, Role: success}, "account_ids: one of them contains a control"},
		"unknown role":     {operation.Assignment{AccountIDs: []string{"a"}, Role: "nope", OwnerID: p("bob")}, "role: "},
		"unknown owner":    {operation.Assignment{AccountIDs: []string{"a"}, Role: success, OwnerID: p("nope")}, "owner_id: "},
		"owner who left":   {operation.Assignment{AccountIDs: []string{"a"}, Role: success, OwnerID: p("cyd")}, "owner_id: "},
	} {
		for _, dryRun := range []bool{false, true} {
			_, err := w.Assign(w.ctx, "acme", "dee", c.req, dryRun)
			var refused *roster.Invalid
			if !errors.As(err, &refused) || !strings.Contains(refused.Error(), c.says) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("refusals left something behind:\n%s", diff)
	}
}

func TestHundredThousandAccountsAreAcceptedByOneRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := many(100_000)
	w.accounts("ann", ids...)
	start := time.Now()
	op := w.assign("bob", ids...)
	took := time.Since(start)
	t.Logf("accepted in %v", took)
	if took > 10*time.Second { // a second is the goal, which the benchmark measures; this only sees a plan gone wrong
		t.Errorf("accepted in %v", took)
	}
	for _, table := range []string{"outbox", "account_heads"} {
		if n := one[int](w, `SELECT count(*) FROM `+table); n != 0 {
			t.Errorf("accepting it wrote %d rows of %s", n, table)
		}
	}
	for range 2 {
		must[bool](t)(w.ExpandOnce(w.ctx))
	}
	issued := w.issued()
	if got := w.get(op.ID); len(issued) != 2000 || issued[1999].AccountID != ids[1999] || got.Changes != 2000 {
		t.Errorf("%d issued, %+v", len(issued), got)
	}
}

// The goals: accepted within a second, expanded faster than a reassigner applies it (some 5,000 changes a second).
func BenchmarkHundredThousandAccounts(b *testing.B) {
	w := newWorld(b)
	ids := many(100_000)
	w.accounts("ann", ids...)
	w.holds("ann", sales, ids...)
	w.exec(`ANALYZE`)
	expand := func(id string) time.Duration {
		start := time.Now()
		for w.get(id).State == "expanding" {
			w.expandAll()
			w.exec(`TRUNCATE outbox, outbox_owed`) // as good as published: it would wait otherwise
			w.offered = nil
		}
		return time.Since(start)
	}
	for i := range b.N {
		start := time.Now()
		edit := w.assign([]string{"bob", "ann"}[i%2], ids...)
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-accept-edit")
		b.ReportMetric(100_000/expand(edit.ID).Seconds(), "accounts/s-edit")
		from := []string{"bob", "ann"}[i%2]
		start = time.Now()
		leave := w.depart(from, operation.Departure{Kind: event.ByResourcesReassigned, SuccessorID: p("cyd")})
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-accept-departure")
		b.ReportMetric(100_000/expand(leave.ID).Seconds(), "accounts/s-departure")
		start = time.Now()
		none := w.depart("dee", operation.Departure{Kind: event.ByResourcesReassigned, SuccessorID: p("cyd")})
		expand(none.ID)
		b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms-departure-of-nothing")
	}
}

// killer cancels a context before or after the nth statement of a pool.
type killer struct {
	after  bool
	left   atomic.Int64
	cancel context.CancelFunc
}

func (k *killer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	if !k.after && k.left.Add(-1) == 0 {
		k.cancel()
	}
	return ctx
}

func (k *killer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {
	if k.after && k.left.Add(-1) == 0 {
		k.cancel()
	}
}

// Whatever statement an expander dies at, what it had not committed is done again, and what it had is not.
func TestExpansionResumesAfterAKillAnywhere(t *testing.T) {
	t.Parallel()
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after the statement %v", after), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			ids := many(3500)
			w.accounts("ann", ids...)
			op := w.assign("bob", ids...)
			kill := &killer{after: after}
			pool := must[*pgxpool.Pool](t)(postgres.Open(w.ctx, w.url, postgres.Options{Tracer: kill}))
			defer pool.Close()
			doomed := operation.New(pool, func([]journal.Entry) {}, zap.NewNop(), nil)
			n := int64(0)
			for w.get(op.ID).State == "expanding" {
				var ctx context.Context
				ctx, kill.cancel = context.WithCancel(w.ctx)
				n++
				kill.left.Store(n)
				for ctx.Err() == nil && w.get(op.ID).State == "expanding" {
					if _, err := doomed.ExpandOnce(ctx); err != nil && ctx.Err() == nil {
						t.Fatal(err)
					}
				}
				kill.cancel()
			}
			if n < 10 {
				t.Errorf("killed only %d times", n)
			}
			w.onceEach(op.ID, ids)
		})
	}
}

func TestSeveralExpandersAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := many(6000)
	w.accounts("ann", ids...)
	ops := []operation.Operation{w.assign("bob", ids[:3000]...), w.assign("cyd", ids[3000:]...), w.assign("dee", ids[1000:4000]...)}
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			expander := w.another()
			for one[int](w, `SELECT count(*) FROM operations WHERE state = 'expanding'`) > 0 {
				if _, err := expander.ExpandOnce(w.ctx); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	w.onceEach(ops[0].ID, ids[:3000])
	w.onceEach(ops[1].ID, ids[3000:])
	w.onceEach(ops[2].ID, ids[1000:4000])
}

// onceEach checks that an operation has issued one change for each of the accounts, and counted them.
func (w *world) onceEach(operation string, accounts []string) {
	w.Helper()
	var got []string
	for _, c := range w.issued() {
		if c.OperationID == operation {
			got = append(got, c.AccountID)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, accounts) {
		w.Errorf("%d accounts got a change, not %d", len(got), len(accounts))
	}
	if op := w.get(operation); op.State != "applying" || op.Accounts != int64(len(accounts)) || op.Changes != int64(len(accounts)) || op.Unchanged != 0 {
		w.Errorf("counted: %+v", op)
	}
}

func TestSmallOperationIsNotStuckBehindAHugeOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ids := many(5000)
	w.accounts("ann", ids...)
	huge := w.assign("bob", ids...)
	for range 2 {
		must[bool](t)(w.ExpandOnce(w.ctx))
	}
	small := w.assign("cyd", ids[4990:]...)
	for range 2 {
		must[bool](t)(w.ExpandOnce(w.ctx))
	}
	if huge, small := w.get(huge.ID), w.get(small.ID); small.State != "applying" || huge.Accounts != 3000 {
		t.Errorf("small: %+v\nhuge: %+v", small, huge)
	}
}

func TestExpandingWaitsWhileTheOutboxOwesMuch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a")
	w.assign("bob", "a")
	w.exec(`INSERT INTO outbox_owed SELECT generate_series(1000, 21000)`)
	if must[bool](t)(w.ExpandOnce(w.ctx)) {
		t.Error("it did not wait")
	}
	w.exec(`DELETE FROM outbox_owed WHERE key = 1000`)
	if !must[bool](t)(w.ExpandOnce(w.ctx)) {
		t.Error("it waited for ever")
	}
}

func TestLaterOwnerStaysTheLatest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a", "b")
	w.assign("bob", "a", "b")
	w.change("a", success, "cyd")
	w.expandAll()
	if got := w.latest("a", success) + w.latest("b", success); got != "cydbob" {
		t.Errorf("latest owners: %s", got)
	}
	issued := w.issued()
	if len(issued) != 3 || !issued[1].Time.Before(issued[0].Time) {
		t.Errorf("the bulk edit is to have its own, earlier time: %v", brief(issued))
	}
}

func TestAccountsNobodyHasTouchedAreExpandedToo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO accounts (tenant_id, account_id, name) VALUES ('acme', 'a', 'A'), ('acme', 'b', 'B')`)
	accepted := must[operation.Accepted](t)(w.Assign(w.ctx, "acme", "dee", operation.Assignment{AccountIDs: []string{"a", "b"}, Role: success}, false))
	w.expandAll()
	if op := w.get(accepted.OperationID); op.State != "done" || op.Unchanged != 2 {
		t.Errorf("to nobody: %+v", op)
	}
	op := w.assign("bob", "a", "b")
	w.expandAll()
	w.onceEach(op.ID, []string{"a", "b"})
}

func TestOperationThatTheDataRefusesFailsAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a", "b")
	bad := w.assign("bob", "a")
	// No schema of an event takes such an initiator: the API never lets one through.
	w.exec(`UPDATE operations SET initiated_by = E'd\x01' WHERE operation_id = $1`, bad.ID)
	good := w.assign("bob", "b")
	w.expandAll()
	if got := w.get(bad.ID); got.State != "failed" || got.Problem == nil || !strings.Contains(*got.Problem, "initiated_by") || got.FinishedAt == nil {
		t.Errorf("bad: %+v", got)
	}
	w.onceEach(good.ID, []string{"b"})
	if got := w.titles("d\x01"); len(got) != 1 || !strings.HasPrefix(got[0], "Stopped after 0 role changes: ") {
		t.Errorf("told: %q", got)
	}
}

func TestRunExpandsWhatIsAcceptedHereAndElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts("ann", "a", "b")
	ctx, stop := context.WithCancel(w.ctx)
	ended := make(chan error)
	go func() { ended <- w.another().Run(ctx) }()
	here := w.another()
	go func() { ended <- here.Run(ctx) }()
	must[operation.Accepted](t)(here.Assign(w.ctx, "acme", "dee", operation.Assignment{AccountIDs: []string{"a"}, Role: success, OwnerID: p("bob")}, false))
	must[operation.Accepted](t)(w.Assign(w.ctx, "acme", "dee", operation.Assignment{AccountIDs: []string{"b"}, Role: success, OwnerID: p("bob")}, false))
	testkit.Eventually(t, "both are expanded", func() (bool, string) {
		states := all[string](w, `SELECT state FROM operations`)
		return !slices.Contains(states, "expanding"), fmt.Sprint(states)
	})
	stop()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
