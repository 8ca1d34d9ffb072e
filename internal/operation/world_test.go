package operation_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// Oracles of these tests: what the methods answer, and the rows of operations, outbox, account_heads, account_roles,
// users, notifications. Nothing else.

// world is the tenant "acme" with the users ann, bob, cyd and dee. Nothing comes back from its outbox unless told.
type world struct {
	testing.TB
	ctx  context.Context
	url  string
	pool *pgxpool.Pool
	*operation.Operations
	offered []journal.Entry // not for tests that expand concurrently
}

const (
	success = "success_manager"
	sales   = "sales_manager"
)

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, ctx: t.Context()}
	w.url, w.pool = testkit.NewDatabase(t)
	w.Operations = operation.New(w.pool, func(e []journal.Entry) { w.offered = append(w.offered, e...) }, zap.NewNop(), nil)
	w.exec(`INSERT INTO tenants (tenant_id) VALUES ('acme'), ('globex')`)
	w.exec(`INSERT INTO users (tenant_id, user_id, name) SELECT 'acme', u, initcap(u) FROM unnest(ARRAY['ann', 'bob', 'cyd', 'dee']) u`)
	w.exec(`INSERT INTO roles VALUES ('acme', 'success_manager', 'Success Manager'), ('acme', 'sales_manager', 'Sales Manager')`)
	return w
}

// another is a second process on the same database.
func (w *world) another() *operation.Operations {
	return operation.New(w.pool, func([]journal.Entry) {}, zap.NewNop(), nil)
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	testkit.Exec(w, w.pool, sql, args...)
}

func one[V any](w *world, sql string, args ...any) V {
	w.Helper()
	return testkit.One[V](w, w.pool, sql, args...)
}

func all[V any](w *world, sql string, args ...any) []V {
	w.Helper()
	return testkit.All[V](w, w.pool, sql, args...)
}

func (w *world) policy(p string) {
	w.exec(`INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by) VALUES ('acme', '-infinity', $1, 'ann')`, p)
}

// accounts makes accounts whose success manager is owner since ever.
func (w *world) accounts(owner string, ids ...string) {
	w.Helper()
	w.exec(`INSERT INTO accounts (tenant_id, account_id, name) SELECT 'acme', a, initcap(a) FROM unnest($1::text[]) a`, ids)
	w.holds(owner, success, ids...)
}

// holds makes owner the holder of a role since ever.
func (w *world) holds(owner, role string, ids ...string) {
	w.Helper()
	w.exec(`INSERT INTO account_roles (tenant_id, account_id, role, owner_id, last_person, latest_owner, first_owner, synced_owner, synced)
		SELECT 'acme', a, $2, $1, $1, $1, $1, $1, true FROM unnest($3::text[]) a`, owner, role, ids)
}

// many are n account ids, in order.
func many(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("account-%06d", i)
	}
	return ids
}

// task puts an open task of somebody's on an account, assigned an hour ago.
func (w *world) task(id, account, assignee, source, role string) {
	w.Helper()
	testkit.PutTasks(w, w.pool, testkit.Task{Tenant: "acme", ID: id, Account: account, Title: "Call " + id, Source: source, Role: role, Assignee: assignee, Since: w.clock().Add(-time.Hour)})
}

// issued are the changes in the outbox, in order.
func (w *world) issued() []event.AccountRoleChanged {
	w.Helper()
	var out []event.AccountRoleChanged
	for _, m := range w.messages() {
		c, err := event.DecodeAccountRoleChanged(m)
		if err != nil {
			w.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

func (w *world) messages() []event.Message {
	w.Helper()
	rows, err := w.pool.Query(w.ctx, `SELECT message_id, subject, body FROM outbox WHERE stream = 'ROLE_CHANGES' ORDER BY key`)
	if err != nil {
		w.Fatal(err)
	}
	messages, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (event.Message, error) {
		var m event.Message
		return m, row.Scan(&m.ID, &m.Subject, &m.Body)
	})
	if err != nil {
		w.Fatal(err)
	}
	return messages
}

// brief shows changes in one line each.
func brief(changes []event.AccountRoleChanged) []string {
	var out []string
	for _, c := range changes {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s: %s→%s %s %s", c.AccountID, c.Role, c.PreviousOwnerID, c.NewOwnerID, c.Reason, c.Tasks)))
	}
	return out
}

// expandAll expands until there is nothing to do, and returns how many chunks that took.
func (w *world) expandAll() int {
	w.Helper()
	for n := 0; ; n++ {
		worked, err := w.ExpandOnce(w.ctx)
		if err != nil {
			w.Fatal(err)
		}
		if !worked {
			return n
		}
	}
}

func (w *world) progress(done ...operation.Applied) {
	w.Helper()
	if err := progress(w, done...); err != nil {
		w.Fatal(err)
	}
}

func progress(w *world, done ...operation.Applied) error {
	return postgres.InTx(w.ctx, w.pool, func(ctx context.Context, tx pgx.Tx) error { return operation.Progress(ctx, tx, done) })
}

func (w *world) get(id string) operation.Operation {
	w.Helper()
	op, err := w.Get(w.ctx, "acme", id)
	if err != nil {
		w.Fatal(err)
	}
	return op
}

// titles are the notifications of a user, the oldest first.
func (w *world) titles(user string) []string {
	return all[string](w, `SELECT title FROM notifications WHERE tenant_id = 'acme' AND user_id = $1 ORDER BY notification_id`, user)
}

// dump is every row of every table.
func (w *world) dump() map[string][]json.RawMessage {
	w.Helper()
	out := map[string][]json.RawMessage{}
	for _, table := range all[string](w, `SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1`) {
		out[table] = all[json.RawMessage](w, `SELECT to_jsonb(t) FROM `+pgx.Identifier{table}.Sanitize()+` t ORDER BY to_jsonb(t)::text`)
	}
	return out
}

func p(s string) *string { return &s }

func must[V any](t testing.TB) func(V, error) V {
	return func(v V, err error) V {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) change(account, role, owner string) operation.Accepted {
	w.Helper()
	to := p(owner)
	if owner == "" {
		to = nil
	}
	return must[operation.Accepted](w.TB)(w.ChangeRole(w.ctx, "acme", "dee", account, role, to, event.ByAPI, false))
}

func (w *world) latest(account, role string) string {
	w.Helper()
	return one[string](w, `SELECT coalesce(latest_owner, '') FROM account_roles WHERE tenant_id = 'acme' AND account_id = $1 AND role = $2`, account, role)
}

func (w *world) clock() time.Time { return one[time.Time](w, `SELECT clock_timestamp()`) }
