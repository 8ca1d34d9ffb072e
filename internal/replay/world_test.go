package replay_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/internal/postgres"
	"handover.io/internal/reassign"
	"handover.io/internal/replay"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// world is a tenant "acme" with the users ann, bob, cyd and dee, accounts a0 to a9 with tasks of all of them, and the
// streams. Its parts work when they are told to.
type world struct {
	*testing.T
	ctx    context.Context
	url    string
	pool   *pgxpool.Pool
	bus    *bus.Bus
	random *rand.Rand
	now    time.Time // of the database, when the world was made
	n      int       // changes made
}

const accounts = 10

var users = []string{"ann", "bob", "cyd", "dee"}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, ctx: t.Context(), bus: testkit.NATS(t), random: rand.New(rand.NewPCG(5, 8))}
	w.use(testkit.PostgresURL(t))
	w.exec(`INSERT INTO tenants (tenant_id) VALUES ('acme')`)
	w.exec(`INSERT INTO users (tenant_id, user_id, name, email) SELECT 'acme', u, initcap(u), u || '@example.com' FROM unnest($1::text[]) u`, users)
	w.exec(`INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by) VALUES ('acme', '-infinity', 'move_automated_tasks', 'ann')`)
	w.now = event.Micro(testkit.One[time.Time](w, w.pool, `SELECT clock_timestamp()`))
	var tasks []testkit.Task
	for a := range accounts {
		for i, user := range users {
			for _, source := range []string{"manual", "success_play"} {
				tasks = append(tasks, testkit.Task{
					Tenant: "acme", ID: fmt.Sprintf("t%d-%d-%s", a, i, source), Account: fmt.Sprintf("a%d", a), Title: "Call", Source: source, Assignee: user, Since: w.now.Add(-time.Hour),
				})
			}
		}
	}
	testkit.PutTasks(w, w.pool, tasks...)
	return w
}

// use makes the database at url the world's.
func (w *world) use(url string) {
	w.Helper()
	if w.pool != nil {
		w.pool.Close()
	}
	pool, err := postgres.Open(context.WithoutCancel(w.ctx), url, postgres.Options{Writer: true})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(pool.Close)
	w.url, w.pool = url, pool
}

// dump is the database as it is now, to be restored with use.
func (w *world) dump() string {
	w.Helper()
	w.pool.Close()
	copied := testkit.CopyDatabase(w, w.url)
	w.use(w.url)
	return copied
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	testkit.Exec(w, w.pool, sql, args...)
}

func (w *world) one(sql string, args ...any) string {
	w.Helper()
	return testkit.One[string](w, w.pool, `SELECT (`+sql+`)::text`, args...)
}

// change is any change of the success manager within the last half hour; an account has many of them, in any order.
func (w *world) change() event.AccountRoleChanged {
	w.n++
	pick := func(of ...string) string { return of[w.random.IntN(len(of))] }
	return event.AccountRoleChanged{
		ID: fmt.Sprint(w.n), Source: "//crm.example", Time: w.now.Add(-time.Duration(w.random.IntN(1800)) * time.Second), TenantID: "acme",
		AccountID: fmt.Sprintf("a%d", w.random.IntN(accounts)), Role: pick("success_manager", "success_manager", "sales_manager"), PreviousOwnerID: pick("", "ann", "bob", "cyd", "dee"),
		NewOwnerID: pick(users...), Reason: event.ByAPI, InitiatedBy: "zoe",
	}
}

func (w *world) message(c event.AccountRoleChanged) event.Message {
	w.Helper()
	subject := event.SubjectRoleChanged(c.TenantID)
	if w.random.IntN(2) == 0 {
		subject = event.SubjectRoleBulk(c.TenantID)
	}
	m, err := c.Message(subject)
	if err != nil {
		w.Fatal(err)
	}
	return m
}

func (w *world) changes(n int) []event.Message {
	w.Helper()
	out := make([]event.Message, n)
	for i := range out {
		out[i] = w.message(w.change())
	}
	return out
}

// publish puts messages on the stream, under ids of the moment, so that a repeat is one.
func (w *world) publish(messages []event.Message) {
	w.Helper()
	messages = append([]event.Message{}, messages...)
	for i := range messages {
		w.n++
		messages[i].ID = fmt.Sprintf("published-%d", w.n)
	}
	if _, err := w.bus.Publish(w.ctx, messages); err != nil {
		w.Fatal(err)
	}
}

// stream is what a stream holds from a sequence on.
func (w *world) stream(name string, from uint64) (all []event.Message) {
	w.Helper()
	if _, err := w.bus.Read(w.ctx, name, bus.Range{FromSeq: from}, func(_ context.Context, batch []event.Message, _ uint64) error {
		all = append(all, batch...)
		return nil
	}); err != nil {
		w.Fatal(err)
	}
	return all
}

// deliver is the reassigners at work on messages of the stream: either lane under its own name.
func (w *world) deliver(messages []event.Message) {
	w.Helper()
	for _, lane := range []string{event.ConsumerReassigner, event.ConsumerReassignerBulk} {
		r := reassign.New(w.pool, reassign.Config{Consumer: lane, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
		for _, m := range messages {
			if event.ConsumerOf(m.Subject) == lane {
				if err := r.Handle(w.ctx, []event.Message{m}); err != nil {
					w.Fatal(err)
				}
			}
		}
	}
}

// live publishes messages and delivers them.
func (w *world) live(messages []event.Message) {
	w.Helper()
	_, last, err := w.bus.StreamCreated(w.ctx, event.StreamRoleChanges)
	if err != nil {
		w.Fatal(err)
	}
	w.publish(messages)
	w.deliver(w.stream(event.StreamRoleChanges, last+1))
}

// relay publishes what is owed, as the running service does.
func (w *world) relay() {
	w.Helper()
	r := journal.NewRelay(w.pool, w.bus.Publish, zap.NewNop())
	testkit.Eventually(w, "nothing is owed", func() (bool, string) {
		n, err := r.Sweep(w.ctx, 0)
		return n == 0 && err == nil, fmt.Sprint(n, err)
	})
}

// replay is joined as the command joins it.
func (w *world) replay(o replay.Order, mailed *notify.Forecast) *replay.Replay {
	r := &replay.Replay{
		Pool: w.pool, Judge: reassign.Judge, Refold: roster.Refold,
		Read: func(ctx context.Context, part replay.Range, handle func(context.Context, []event.Message, uint64) error) (uint64, error) {
			return w.bus.Read(ctx, event.StreamRoleChanges, bus.Range(part), handle)
		},
		Stream: func(ctx context.Context) (time.Time, uint64, error) {
			return w.bus.StreamCreated(ctx, event.StreamRoleChanges)
		},
	}
	if o.NoMail {
		r.Refold = roster.RefoldSilently
	}
	if o.NoMail {
		r.Announced = func(ctx context.Context, since time.Time, handle func(context.Context, []event.Message) error) error {
			_, err := w.bus.Read(ctx, event.StreamTaskReassignments, bus.Range{Since: since, Batch: 256}, func(ctx context.Context, batch []event.Message, _ uint64) error { return handle(ctx, batch) })
			return err
		}
	}
	if mailed != nil {
		r.Mails = mailed.Add
	}
	reassigner := reassign.New(w.pool, reassign.Config{Silent: o.NoMail, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	r.Apply = func(ctx context.Context, messages []event.Message) (replay.Applied, error) {
		done, err := reassigner.Apply(ctx, messages)
		out := replay.Applied{Recorded: done.Recorded, Known: done.Known, DeadLetters: map[string]int{}, Moves: done.Moves}
		for _, l := range done.Refused {
			out.DeadLetters[l.Reason]++
		}
		return out, err
	}
	return r
}

const fast = 1e6

func silence(replay.Progress) {}

func (w *world) foresee(s replay.Selection) replay.Forecast {
	w.Helper()
	f, err := w.replay(replay.Order{}, nil).Foresee(w.ctx, s, 0, silence)
	if err != nil {
		w.Fatal(err)
	}
	return f
}

// apply replays to the end.
func (w *world) apply(o replay.Order) (replay.Counts, *journal.Run) {
	w.Helper()
	if o.From == "" {
		o.From = replay.FromStream
	}
	r := w.replay(o, nil)
	run, err := r.Begin(w.ctx, o, "oscar")
	if err != nil {
		w.Fatal(err)
	}
	counts, err := r.Run(w.ctx, run, fast, silence)
	if err != nil {
		w.Fatal(err)
	}
	return counts, w.run(run.ID)
}

func (w *world) run(id int64) *journal.Run {
	w.Helper()
	run, err := journal.FindRun(w.ctx, w.pool, id)
	if err != nil {
		w.Fatal(err)
	}
	return run
}

// assignees are those of all open tasks, as "task person".
func (w *world) assignees() map[string]string {
	w.Helper()
	out := map[string]string{}
	for _, line := range testkit.All[string](w, w.pool, `SELECT task_id || ' ' || coalesce(assignee_id, '') FROM open_tasks`) {
		task, person, _ := strings.Cut(line, " ")
		out[task] = person
	}
	return out
}
