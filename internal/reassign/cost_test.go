package reassign_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/reassign"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// A statement that is planned while the tables are empty is run by that plan when they are full, until somebody counts
// their rows. One that goes through a table then, or joins two of its lists, costs a batch hundreds of times what it needs.
// So the pages of tables and indexes that a change touches must not depend on how many accounts there are.
func TestWhatAChangeTouchesDoesNotGrowWithTheTables(t *testing.T) {
	t.Parallel()
	small, large := touched(t, 60), touched(t, 6000)
	for what, of := range map[string][2]float64{"newest": {small.newest, large.newest}, "late": {small.late, large.late}} {
		t.Logf("a change that is %s touches %.0f pages with 60 accounts, %.0f with 6,000", what, of[0], of[1])
		if of[0] == 0 || of[1] > 2*of[0]+20 {
			t.Errorf("a change that is %s touches %.0f pages with 60 accounts, %.0f with 6,000", what, of[0], of[1])
		}
	}
}

type pages struct{ newest, late float64 }

// touched are the pages that a change touches, in batches of 50, where there are so many accounts with four tasks each.
func touched(t *testing.T, accounts int) pages {
	ctx := context.Background()
	url, admin := testkit.NewDatabase(t)
	pool, err := postgres.Open(ctx, url, postgres.Options{Writer: true, MaxConns: 1}) // one, so that it flushes all statistics
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	w := &world{T: t, ctx: ctx, pool: pool, now: event.Micro(testkit.One[time.Time](t, admin, `SELECT clock_timestamp()`))}
	w.r = reassign.New(pool, reassign.Config{Consumer: event.ConsumerReassigner, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	touched := testkit.CountPages(t, pool)
	testkit.Exec(t, admin, `INSERT INTO tenants (tenant_id) VALUES ('acme')`)
	testkit.Exec(t, admin, `INSERT INTO users (tenant_id, user_id, name) SELECT 'acme', u, u FROM unnest(ARRAY['ann', 'bob', 'cyd', 'dee']) u`)
	testkit.Exec(t, admin, `INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by) VALUES ('acme', '-infinity', 'move_all_tasks', 'ann')`)
	// Now the plans are made.
	w.deliver(w.change("first", "none", "ann", "bob", 1), w.change("late", "none", "ann", "cyd", 0))
	testkit.Exec(t, admin, `INSERT INTO account_heads (tenant_id, account_id, assigned_at) SELECT 'acme', 'a' || n, $2::timestamptz FROM generate_series(1, $1) n`, accounts, w.now.Add(-24*time.Hour))
	testkit.Exec(t, admin, `INSERT INTO account_roles (tenant_id, account_id, role, owner_id, last_person) SELECT 'acme', 'a' || n, 'success_manager', 'ann', 'ann' FROM generate_series(1, $1) n`, accounts)
	testkit.Exec(t, admin, `INSERT INTO holdings (tenant_id, account_id, role, manual, assignee_id, n) SELECT 'acme', 'a' || n, '', false, 'ann', 4 FROM generate_series(1, $1) n`, accounts)
	testkit.Exec(t, admin, `
INSERT INTO task_rows (tenant_id, task_id, account_id, title, source, holding, base_assignee, assigned_at, effective_at)
SELECT 'acme', h.account_id || '-' || i, h.account_id, 'Call', 'integration', h.key, 'ann', $1::timestamptz, $1 FROM holdings h, generate_series(1, 4) i`, w.now.Add(-24*time.Hour))

	batch := func(name string, minutes float64, to string) float64 {
		touched()
		var changes []event.AccountRoleChanged
		for n := 1; n <= 50; n++ {
			changes = append(changes, w.change(fmt.Sprint(name, n), fmt.Sprint("a", n), "ann", to, minutes))
		}
		w.deliver(changes...)
		return touched() / 50
	}
	p := pages{newest: batch("newest", -10, "bob")}
	p.late = batch("late", -20, "cyd")
	if n := testkit.One[int](t, admin, `SELECT count(*) FROM tasks WHERE assignee_id = 'cyd'`); n != 200 {
		t.Fatalf("%d tasks moved, want 200", n)
	}
	return p
}
