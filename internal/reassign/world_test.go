package reassign_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/reassign"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// Oracles of these tests: rows of role_changes, tasks, account_roles, moves, outbox, dead_letters, operations. Nothing else.

// world is a tenant "acme" with the users ann, bob, cyd and dee, and a reassigner.
type world struct {
	*testing.T
	ctx  context.Context
	pool *pgxpool.Pool
	r    *reassign.Reassigner
	now  time.Time // of the database, when the world was made
	seq  uint64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, ctx: t.Context(), pool: testkit.Postgres(t)}
	w.r = reassign.New(w.pool, reassign.Config{Consumer: event.ConsumerReassigner, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	w.exec(`INSERT INTO tenants (tenant_id) VALUES ('acme')`)
	w.exec(`INSERT INTO users (tenant_id, user_id, name) SELECT 'acme', u, initcap(u) FROM unnest(ARRAY['ann', 'bob', 'cyd', 'dee']) u`)
	w.now = event.Micro(one[time.Time](w, `SELECT clock_timestamp()`))
	return w
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

// task puts an open task of ann's on the account, assigned an hour ago.
func (w *world) task(id, account, source, role string) {
	w.Helper()
	w.exec(`INSERT INTO account_heads (tenant_id, account_id) VALUES ('acme', $1) ON CONFLICT DO NOTHING`, account)
	testkit.PutTasks(w, w.pool, testkit.Task{Tenant: "acme", ID: id, Account: account, Title: "Call " + id, Source: source, Role: role, Assignee: "ann", Since: w.now.Add(-time.Hour)})
}

func (w *world) assignee(task string) string {
	w.Helper()
	return one[string](w, `SELECT coalesce(assignee_id, '') FROM tasks WHERE tenant_id = 'acme' AND task_id = $1`, task)
}

// change is a change of the success manager, minutes after the world was made (before, if negative).
func (w *world) change(id, account, from, to string, minutes float64) event.AccountRoleChanged {
	return event.AccountRoleChanged{
		ID: id, Source: "//crm.example", Time: w.now.Add(time.Duration(minutes * float64(time.Minute))), TenantID: "acme", AccountID: account,
		Role: "success_manager", PreviousOwnerID: from, NewOwnerID: to, Reason: event.ByAPI, InitiatedBy: "dee",
	}
}

func (w *world) message(c event.AccountRoleChanged) event.Message {
	w.Helper()
	m, err := c.Message(event.SubjectRoleChanged(c.TenantID))
	if err != nil {
		w.Fatal(err)
	}
	w.seq++
	m.Stream, m.Sequence = event.StreamRoleChanges, w.seq
	return m
}

func (w *world) handle(messages ...event.Message) {
	w.Helper()
	if err := w.r.Handle(w.ctx, messages); err != nil {
		w.Fatal(err)
	}
}

func (w *world) deliver(changes ...event.AccountRoleChanged) {
	w.Helper()
	messages := make([]event.Message, len(changes))
	for i, c := range changes {
		messages[i] = w.message(c)
	}
	w.handle(messages...)
}

// announced are the TaskReassigned in the outbox, as "task revision: from→to", in the order of the outbox.
func (w *world) announced() []string {
	w.Helper()
	var out []string
	for _, body := range all[[]byte](w, `SELECT body FROM outbox WHERE stream = 'TASK_REASSIGNMENTS' ORDER BY key`) {
		e, err := event.DecodeTaskReassigned(event.Message{Body: body})
		if err != nil {
			w.Fatal(err)
		}
		for _, t := range e.Tasks {
			s := fmt.Sprintf("%s %d: %s→%s", t.ID, t.Revision, e.FromID, e.ToID)
			if e.Correction {
				s += " (correction)"
			}
			out = append(out, s)
		}
	}
	return out
}

// reasons are those of the dead letters, in order.
func (w *world) reasons() []string {
	w.Helper()
	return all[string](w, `SELECT reason FROM dead_letters ORDER BY key`)
}

// handedOn are the role changes in the outbox: those of departures.
func (w *world) handedOn() []event.Message {
	w.Helper()
	var out []event.Message
	for _, body := range all[[]byte](w, `SELECT body FROM outbox WHERE stream = 'ROLE_CHANGES' ORDER BY key`) {
		out = append(out, event.Message{Subject: event.SubjectRoleBulk("acme"), Body: body})
	}
	return out
}
