package roster_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/reassign"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

const (
	tenant  = "acme"
	success = "success_manager"
	sales   = "sales_manager"
)

// world is the tenant "acme" with the users ann, bob, cyd and dee, whose policy moves all tasks, and a reassigner that
// works when it is told. At its end every task must be where the fold says.
type world struct {
	testing.TB
	ctx  context.Context
	pool *pgxpool.Pool
	*roster.Roster
	reassigner *reassign.Reassigner

	mu        sync.Mutex
	delivered int64 // key of the outbox
	offered   []journal.Entry
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, ctx: context.Background(), pool: testkit.Postgres(t)}
	w.Roster = roster.New(w.pool, func(entries []journal.Entry) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.offered = append(w.offered, entries...)
	})
	w.reassigner = reassign.New(w.pool, reassign.Config{Consumer: event.ConsumerReassigner, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	w.must(w.EnsureTenant(w.ctx, tenant))
	w.exec(`INSERT INTO policy_history VALUES ($1, '2000-01-01', 'move_all_tasks', 'ann')`, tenant)
	w.users(`{"id": "ann", "name": "Ann"}`, `{"id": "bob", "name": "Bob"}`, `{"id": "cyd", "name": "Cyd"}`, `{"id": "dee", "name": "Dee"}`)
	t.Cleanup(func() {
		if !t.Failed() {
			testkit.CheckFold(t, w.pool)
		}
	})
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	testkit.Exec(w, w.pool, sql, args...)
}

// get is the one value of a query, as text; NULL is "null".
func (w *world) get(sql string, args ...any) string {
	w.Helper()
	return testkit.One[string](w, w.pool, `SELECT coalesce((`+sql+`)::text, 'null')`, args...)
}

// wants checks one value of a query.
func (w *world) wants(want, sql string, args ...any) {
	w.Helper()
	if got := w.get(sql, args...); got != want {
		w.Fatalf("%s %v: %s, want %s", sql, args, got, want)
	}
}

func (w *world) users(rows ...string) []string {
	w.Helper()
	return taken(w, rows, roster.DecodeUser, w.SyncUsers)
}

func (w *world) accounts(rows ...string) []string {
	w.Helper()
	return taken(w, rows, roster.DecodeAccount, w.SyncAccounts)
}

func (w *world) tasks(rows ...string) []string {
	w.Helper()
	return taken(w, rows, roster.DecodeTask, w.SyncTasks)
}

type syncer[T any] func(ctx context.Context, tenant, by string, rows []T, dryRun bool) ([]roster.RowResult, error)

// taken syncs rows of JSON and returns what became of each: an outcome, or the problem.
func taken[T any](w *world, rows []string, decode func([]byte) (T, error), sync syncer[T]) []string {
	w.Helper()
	results := synced(w, rows, decode, sync, false)
	out := make([]string, len(results))
	for i, r := range results {
		if out[i] = string(r.Outcome); r.Problem != nil {
			out[i] += r.Problem.Error()
		}
	}
	return out
}

// synced syncs rows of JSON.
func synced[T any](w *world, rows []string, decode func([]byte) (T, error), sync syncer[T], dryRun bool) []roster.RowResult {
	w.Helper()
	said := make([]T, len(rows))
	for i, row := range rows {
		var err error
		if said[i], err = decode([]byte(row)); err != nil {
			w.Fatalf("%s: %v", row, err)
		}
	}
	results, err := sync(w.ctx, tenant, "root", said, dryRun)
	w.must(err)
	return results
}

// deliver hands the reassigner the role changes that the outbox has got since the last time, and what comes of them.
func (w *world) deliver() {
	w.Helper()
	for {
		rows, err := w.pool.Query(w.ctx, `SELECT key, subject, body FROM outbox WHERE key > $1 AND stream = 'ROLE_CHANGES' ORDER BY key`, w.delivered)
		w.must(err)
		var m event.Message
		var messages []event.Message
		_, err = pgx.ForEachRow(rows, []any{&w.delivered, &m.Subject, &m.Body}, func() error {
			messages = append(messages, m)
			return nil
		})
		w.must(err)
		if len(messages) == 0 {
			return
		}
		w.must(w.reassigner.Handle(w.ctx, messages))
	}
}

var changes atomic.Int64 // made so far, by all tests

// change is a role change from outside at a time; from "" is left to us.
func (w *world) change(account, role, from, to string, at time.Time) {
	w.Helper()
	m, err := event.AccountRoleChanged{
		ID: fmt.Sprint(changes.Add(1)), Source: "//crm", Time: at, TenantID: tenant, AccountID: account, Role: role,
		PreviousOwnerID: from, NewOwnerID: to, Reason: event.ByAPI, InitiatedBy: "root",
	}.Message(event.SubjectRoleChanged(tenant))
	w.must(err)
	m.Stream = event.StreamRoleChanges
	w.must(w.reassigner.Handle(w.ctx, []event.Message{m}))
}

func (w *world) assignee(want string, tasks ...string) {
	w.Helper()
	for _, id := range tasks {
		w.wants(want, `SELECT assignee_id FROM tasks WHERE task_id = $1`, id)
	}
}

// owner checks who holds the role; "null" is nobody.
func (w *world) owner(want, account, role string) {
	w.Helper()
	w.wants(want, `SELECT owner_id FROM account_roles WHERE account_id = $1 AND role = $2`, account, role)
}

// leaves is a departure decided here, at a time; the successor may be "".
func (w *world) leaves(user, successor string, at time.Time) {
	w.Helper()
	var operation, next *string
	if successor != "" {
		id := "off-" + user
		operation, next = &id, &successor
		w.exec(`INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state)
			VALUES ($1, 'acme', 'user_disabled', 'root', $2, '{}', 'applying')`, id, at)
	}
	w.exec(`UPDATE users SET status = 'disabled', left_at = $2, successor_id = $3, departure_id = $4, departure_tasks = true WHERE user_id = $1`, user, at, next, operation)
}

func ago(d time.Duration) time.Time { return event.Micro(time.Now().Add(-d)) }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
