package verify_test

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

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/reassign"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/internal/verify"
	"handover.io/pkg/event"
)

// checked is the whole system at work over a database and a broker of its own, for the tenant acme with the users ann, bob,
// cyd, dee and eve, and the accounts a1 to a6 with three tasks each. Its parts can be told to break.
type checked struct {
	testing.TB
	ctx        context.Context
	pool       *pgxpool.Pool
	bus        *bus.Bus
	relay      *journal.Relay
	roster     *roster.Roster
	operations *operation.Operations
	reassigner *reassign.Reassigner
	published  atomic.Int64
	// forgetful consumers acknowledge what they haven't handled: the bug of the incident.
	forgetful map[string]*atomic.Bool
	cut       atomic.Bool // nothing is published
	stopMails func()
}

type delivered struct{}

func (delivered) Send(context.Context, notify.Frozen) notify.Result {
	return notify.Result{Outcome: notify.Accepted, Code: 250}
}

func newChecked(t testing.TB) *checked {
	t.Helper()
	url, pool := testkit.NewDatabase(t)
	ctx, cancel := context.WithCancel(context.Background())
	w := &checked{TB: t, ctx: ctx, pool: pool, bus: testkit.NATS(t), forgetful: map[string]*atomic.Bool{}}
	writers, err := postgres.Open(ctx, url, postgres.Options{Writer: true})
	w.must(err)
	w.relay = journal.NewRelay(pool, func(ctx context.Context, messages []event.Message) ([]event.Stored, error) {
		if w.cut.Load() {
			return make([]event.Stored, len(messages)), errors.New("the broker is away")
		}
		return w.bus.Publish(ctx, messages)
	}, zap.NewNop())
	w.roster = roster.New(pool, w.relay.Offer)
	w.operations = operation.New(pool, w.relay.Offer, zap.NewNop(), nil)
	notifier := notify.New(writers, notify.Config{Window: 10 * time.Millisecond, Sender: delivered{}, Logger: zap.NewNop()})
	var parts sync.WaitGroup
	run := func(ctx context.Context, part func(context.Context) error) {
		parts.Go(func() {
			if err := part(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	consume := func(c bus.Consumer, handle func(context.Context, []event.Message) error) {
		forget := &atomic.Bool{}
		w.forgetful[c.Durable] = forget
		run(ctx, func(ctx context.Context) error {
			return w.bus.Consume(ctx, c, func(ctx context.Context, batch []event.Message) error {
				if forget.Load() {
					return nil
				}
				return handle(ctx, batch)
			})
		})
	}
	for durable, filter := range map[string]string{event.ConsumerReassigner: event.SubjectRoleChanged("*"), event.ConsumerReassignerBulk: event.SubjectRoleBulk("*")} {
		r := reassign.New(writers, reassign.Config{Consumer: durable, Offer: w.relay.Offer, Logger: zap.NewNop()})
		if durable == event.ConsumerReassigner {
			w.reassigner = r
		}
		consume(bus.Consumer{Stream: event.StreamRoleChanges, Durable: durable, Filter: filter, Batch: 16, Workers: 2}, r.Handle)
	}
	consume(bus.Consumer{Stream: event.StreamTaskReassignments, Durable: event.ConsumerNotifier, Batch: 16, Workers: 2}, notifier.Handle)
	run(ctx, w.relay.Run)
	run(ctx, w.operations.Run)
	mails, stop := context.WithCancel(ctx)
	w.stopMails = stop
	run(mails, notifier.Run)
	t.Cleanup(func() {
		cancel()
		parts.Wait()
		writers.Close()
	})
	w.found()
	return w
}

func (w *checked) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *checked) exec(sql string, args ...any) {
	w.Helper()
	testkit.Exec(w, w.pool, sql, args...)
}

func said[T any](v T) roster.Maybe[T] { return roster.Maybe[T]{Given: true, Value: v} }

// found makes the company, and a history of it: every task has moved twice, and the third on each account once more.
func (w *checked) found() {
	w.must(w.roster.EnsureTenant(w.ctx, "acme"))
	w.exec(`INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by) VALUES ('acme', '2000-01-01', 'move_all_tasks', 'eve')`)
	w.users("ann", "bob", "cyd", "dee", "eve")
	var accounts []roster.AccountSaid
	var tasks []roster.TaskSaid
	for i := range 6 {
		id := fmt.Sprintf("a%d", i+1)
		accounts = append(accounts, roster.AccountSaid{ID: id, Name: said("Account " + id), Roles: map[string]string{"success_manager": "ann", "sales_manager": "bob"}})
		for j := range 3 {
			tasks = append(tasks, roster.TaskSaid{ID: fmt.Sprintf("t%d-%d", i+1, j+1), AccountID: said(id), Title: said("Call"), AssigneeID: said("ann"), Source: said([]string{"manual", "success_play", "success_play"}[j])})
		}
	}
	_, err := w.roster.SyncAccounts(w.ctx, "acme", "eve", accounts, false)
	w.must(err)
	_, err = w.roster.SyncTasks(w.ctx, "acme", "eve", tasks, false)
	w.must(err)
	for i := range 6 {
		w.change(fmt.Sprintf("a%d", i+1), "success_manager", "", "cyd")
	}
	w.rest()
	for i := range 6 {
		w.change(fmt.Sprintf("a%d", i+1), "success_manager", "", "ann")
	}
	w.rest()
}

func (w *checked) users(ids ...string) {
	w.Helper()
	var users []roster.UserSaid
	for _, id := range ids {
		users = append(users, roster.UserSaid{ID: id, Name: said(id), Email: said(id + "@example.com")})
	}
	results, err := w.roster.SyncUsers(w.ctx, "acme", "eve", users, false)
	w.must(err)
	for _, r := range results {
		if r.Problem != nil {
			w.Fatal(r.Problem)
		}
	}
}

// change publishes a role change of another system, that occurs now.
func (w *checked) change(account, role, from, to string) {
	w.Helper()
	m, err := event.AccountRoleChanged{
		ID: fmt.Sprint(w.published.Add(1)), Source: "//crm", Time: testkit.One[time.Time](w, w.pool, `SELECT clock_timestamp()`), TenantID: "acme", AccountID: account, Role: role,
		PreviousOwnerID: from, NewOwnerID: to, Reason: event.ByAPI, InitiatedBy: "eve",
	}.Message(event.SubjectRoleChanged("acme"))
	w.must(err)
	w.publish(m)
}

func (w *checked) publish(m event.Message) {
	w.Helper()
	_, err := w.bus.Publish(w.ctx, []event.Message{m})
	w.must(err)
}

// rest waits until nothing is under way.
func (w *checked) rest() {
	w.Helper()
	underWay := func() string {
		return testkit.One[string](w, w.pool, `
SELECT concat_ws(', ',
  (SELECT count(*) || ' unpublished' FROM outbox_owed HAVING count(*) > 0),
  (SELECT count(*) || ' operations' FROM operations WHERE finished_at IS NULL HAVING count(*) > 0),
  (SELECT count(*) || ' windows' FROM notices WHERE state IN ('open', 'closed', 'sending') HAVING count(*) > 0))`)
	}
	testkit.Eventually(w, "rest", func() (bool, string) {
		if _, err := w.relay.Sweep(w.ctx, 0); err != nil {
			return false, err.Error()
		}
		if left := underWay(); left != "" {
			return false, left
		}
		if behind := w.behind(); behind != "" {
			return false, behind
		}
		return underWay() == "", "just done"
	})
}

// behind names a consumer that has something left.
func (w *checked) behind() string {
	status, err := w.bus.Status(w.ctx)
	if err != nil {
		return err.Error()
	}
	for _, s := range status {
		for _, c := range s.Consumers {
			if c.Pending > 0 || c.AckPending > 0 {
				return c.Consumer
			}
		}
	}
	return ""
}

func (w *checked) broker() verify.Broker {
	return verify.Broker{
		Streams: func(ctx context.Context) ([]verify.Stream, error) {
			all, err := w.bus.Status(ctx)
			var out []verify.Stream
			for _, s := range all {
				one := verify.Stream{Name: s.Stream, Created: s.Created, FirstSeq: s.FirstSeq, LastSeq: s.LastSeq, Consumers: map[string]verify.Consumer{}}
				for _, c := range s.Consumers {
					one.Consumers[c.Consumer] = verify.Consumer{Handled: c.AckFloor}
				}
				out = append(out, one)
			}
			return out, err
		},
		Read: func(ctx context.Context, stream string, from, to uint64, handle func(context.Context, []event.Message) error) error {
			_, err := w.bus.Read(ctx, stream, bus.Range{FromSeq: from, ToSeq: to}, func(ctx context.Context, batch []event.Message, _ uint64) error {
				for i := range batch {
					batch[i].ID = bus.MessageID(batch[i])
				}
				return handle(ctx, batch)
			})
			return err
		},
	}
}

func (w *checked) verify(o verify.Options) verify.Report {
	w.Helper()
	o.Duty = 1
	r, err := verify.Verify(w.ctx, w.pool, w.broker(), o)
	w.must(err)
	return r
}

// kindsOf are the kinds of what was found, without the notes named.
func kindsOf(r verify.Report, but ...verify.Kind) []verify.Kind {
	out := []verify.Kind{}
	for _, k := range r.Results {
		if !slices.Contains(but, k.Kind) {
			out = append(out, k.Kind)
		}
	}
	return out
}

// says lists everything found, for a failed test.
func says(r verify.Report) string {
	var b strings.Builder
	for _, k := range r.Results {
		for _, f := range k.Findings {
			fmt.Fprintf(&b, "%s: %s\n    %s\n", f.Kind, f.Says, f.Remedy)
		}
	}
	return b.String()
}

func (w *checked) mend(r verify.Report) verify.Mended {
	w.Helper()
	done, err := verify.Mend(w.ctx, w.pool, r, verify.MendOptions{Actor: "zoe", Arguments: map[string]string{"for": w.Name()}, Finish: operation.Recount})
	w.must(err)
	return done
}
