package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/internal/reassign"
	"handover.io/internal/replay"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// spoilt are messages of every kind that a reassigner refuses; two of them are the same.
func (w *world) spoilt() []event.Message {
	w.Helper()
	unknown, ahead := w.change(), w.change()
	unknown.NewOwnerID = "nobody.known"
	ahead.Time = w.now.Add(time.Hour)
	refused := w.message(unknown)
	return []event.Message{refused, refused, w.message(ahead), {Subject: event.SubjectRoleChanged("acme"), Body: []byte("hello")}, {Subject: event.SubjectRoleBulk("globex"), Body: refused.Body}}
}

// The whole of it: what a dry run says is what happens then, exactly, wherever the two databases parted; and it ends as if
// nothing had been missing.
func TestForecastIsWhatAReplayThenDoes(t *testing.T) {
	t.Parallel()
	for round := range 4 {
		w := newWorld(t)
		w.random = rand.New(rand.NewPCG(uint64(round), 8))
		w.live(append(w.changes(5+20*round), w.spoilt()...))
		yesterday := w.dump()
		missing := append(w.changes(40), w.spoilt()...)
		missing = append(missing, missing[:10]...) // each of these twice
		reused := w.change()
		reused.ID = "1" // of an event that is known
		missing = append(missing, w.message(reused))
		reused.ID = "reused" // of one that is missing, too
		first := w.message(reused)
		reused.NewOwnerID, reused.AccountID = "cyd", "a0"
		second := w.message(reused)
		second.Subject = first.Subject // in one lane, which of them comes first is certain
		missing = append(missing, first, second)
		w.live(missing)
		want := w.assignees()
		letters := w.one(`SELECT count(*) FROM dead_letters`)

		w.use(yesterday)
		before := w.assignees()
		if cmp.Equal(want, before) {
			t.Fatal("nothing is missing")
		}
		rows := w.one(`SELECT count(*) FROM role_changes`) + w.one(`SELECT count(*) FROM outbox`)
		foreseen := w.foresee(replay.Selection{})
		if got := w.one(`SELECT count(*) FROM role_changes`) + w.one(`SELECT count(*) FROM outbox`); got != rows || !cmp.Equal(before, w.assignees()) {
			t.Fatal("the dry run wrote")
		}
		done, run := w.apply(replay.Order{})
		if diff := cmp.Diff(foreseen.Counts, done); diff != "" {
			t.Errorf("foreseen, and done:\n%s", diff)
		}
		if done.Missing == 0 || done.Known == 0 || done.NewDeadLetters() == 0 || done.DeadAlready == 0 || done.TasksMoved == 0 {
			t.Errorf("too little happened: %+v", done)
		}
		after := w.assignees()
		if diff := cmp.Diff(want, after); diff != "" {
			t.Errorf("without the loss, and after the replay:\n%s", diff)
		}
		moved := 0
		for task := range after {
			if after[task] != before[task] {
				moved++
			}
		}
		if moved != foreseen.TasksMoved {
			t.Errorf("%d tasks are with somebody else, foreseen were %d", moved, foreseen.TasksMoved)
		}
		for _, m := range foreseen.Moves {
			if before[m.TaskID] != m.From || after[m.TaskID] != m.To {
				t.Errorf("foreseen %+v, was with %s, is with %s", m, before[m.TaskID], after[m.TaskID])
			}
		}
		if got := w.one(`SELECT count(*) FROM dead_letters`); got != letters {
			t.Errorf("%s dead letters, without the loss %s", got, letters)
		}
		testkit.CheckFold(t, w.pool)
		var kept replay.Counts
		if err := json.Unmarshal(run.Counts, &kept); err != nil || !cmp.Equal(kept, done) || run.State != "done" || run.Actor != "oscar" {
			t.Errorf("kept is %+v, %v", run, err)
		}

		again, _ := w.apply(replay.Order{})
		if again.Known+again.DeadAlready != again.Messages || again.TasksMoved > 0 {
			t.Errorf("a second replay: %+v", again)
		}
	}
}

// A bug kept changes from having their effect. Replayed, those whom they concern are mailed, once, however often it is
// replayed and announced.
func TestReplaysMailOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.live(w.changes(10))
	w.publish(w.changes(30))
	mails := &mailbox{}
	n := notify.New(w.pool, notify.Config{Window: time.Millisecond, Sender: mails, Logger: zap.NewNop()})
	settle := func() {
		w.relay()
		for _, m := range w.stream(event.StreamTaskReassignments, 1) {
			if err := n.Handle(w.ctx, []event.Message{m}); err != nil {
				t.Fatal(err)
			}
		}
		testkit.Eventually(t, "all windows are mailed", func() (bool, string) {
			_, err := n.RunOnce(w.ctx)
			left := w.one(`SELECT count(*) FROM notices WHERE finished_at IS NULL`)
			return left == "0" && err == nil, fmt.Sprint(left, err)
		})
	}
	settle()
	before := mails.count()

	forecast := &notify.Forecast{}
	r := w.replay(replay.Order{}, forecast)
	if _, err := r.Foresee(w.ctx, replay.Selection{}, 0, silence); err != nil {
		t.Fatal(err)
	}
	recipients := w.recipients(forecast)
	w.apply(replay.Order{})
	settle()
	first := mails.count()
	if first == before || len(recipients) == 0 {
		t.Fatalf("%d mails before the replay, %d after, foreseen %v", before, first, recipients)
	}
	foreseen := map[string]bool{}
	for _, r := range recipients {
		foreseen[r.UserID+"@example.com"] = true
	}
	for _, to := range mails.to[before:] {
		if !foreseen[to] {
			t.Errorf("%s was mailed, foreseen were %v", to, recipients)
		}
	}
	for range 2 {
		w.apply(replay.Order{})
		settle()
	}
	if got := mails.count(); got != first {
		t.Errorf("replayed again, %d mails became %d", first, got)
	}
	for notice, times := range mails.notices {
		if times != 1 {
			t.Errorf("notice %d was mailed %d times", notice, times)
		}
	}
}

func (w *world) recipients(f *notify.Forecast) []notify.Recipient {
	w.Helper()
	tx, err := w.pool.Begin(w.ctx)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	out, err := f.Recipients(w.ctx, tx)
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// mailbox accepts every mail.
type mailbox struct {
	mu      sync.Mutex
	to      []string
	notices map[int64]int
}

func (m *mailbox) Send(_ context.Context, mail notify.Frozen) notify.Result {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.notices == nil {
		m.notices = map[int64]int{}
	}
	m.to = append(m.to, mail.To)
	m.notices[mail.ID]++
	return notify.Result{Outcome: notify.Accepted, Code: 250}
}

func (m *mailbox) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.to)
}

// Old history moves tasks, and everybody but the notifier hears of it.
func TestReplayWithoutMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	yesterday := w.dump()
	w.live(w.changes(40))
	want := w.assignees()
	w.use(yesterday)
	done, _ := w.apply(replay.Order{NoMail: true})
	w.relay()
	announced := 0
	n := notify.New(w.pool, notify.Config{})
	for _, m := range w.stream(event.StreamTaskReassignments, 1) {
		e, err := event.DecodeTaskReassigned(m)
		if err != nil || !e.Silent {
			t.Fatalf("announced %+v, %v", e, err)
		}
		announced += len(e.Tasks)
		if err := n.Handle(w.ctx, []event.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	if announced == 0 || announced != done.TasksMoved {
		t.Errorf("%d tasks announced, %d moved", announced, done.TasksMoved)
	}
	if got := w.one(`SELECT count(*) FROM notices`); got != "0" {
		t.Errorf("%s windows", got)
	}
	if diff := cmp.Diff(want, w.assignees()); diff != "" {
		t.Error(diff)
	}
	testkit.CheckFold(t, w.pool)
}

func TestReplayBesideLiveChanges(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(w.changes(300))
	all := w.stream(event.StreamRoleChanges, 1)
	live := w.changes(200)
	var parts sync.WaitGroup
	for worker := range 2 {
		parts.Go(func() {
			r := reassign.New(w.pool, reassign.Config{Consumer: event.ConsumerReassigner, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
			for i := worker; i < len(live); i += 2 {
				// A change of its own, and one that the replay is about to deliver, too.
				if err := r.Handle(w.ctx, []event.Message{live[i], all[i]}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done, _ := w.apply(replay.Order{})
	parts.Wait()
	if done.Messages != 300 || done.Known+done.Missing != 300 {
		t.Errorf("came to %+v", done)
	}
	if got := w.one(`SELECT count(*) FROM role_changes`); got != "500" {
		t.Errorf("%s changes are recorded", got)
	}
	testkit.CheckFold(t, w.pool)
}

// Whatever a replay is cut off by, it goes on from where it was, and nothing counts twice.
func TestReplayThatWasCutOffGoesOn(t *testing.T) {
	t.Parallel()
	for how, cut := range map[string]func(r *replay.Replay, cancel func()){
		"told to stop": func(r *replay.Replay, cancel func()) {
			apply, calls := r.Apply, 0
			r.Apply = func(ctx context.Context, messages []event.Message) (replay.Applied, error) {
				if calls++; calls == 3 {
					cancel()
				}
				return apply(ctx, messages)
			}
		},
		"failing": func(r *replay.Replay, _ func()) {
			apply, calls := r.Apply, 0
			r.Apply = func(ctx context.Context, messages []event.Message) (replay.Applied, error) {
				if calls++; calls == 3 {
					return replay.Applied{}, errors.New("broken")
				}
				return apply(ctx, messages)
			}
		},
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			yesterday := w.dump()
			w.live(w.changes(60))
			want := w.assignees()
			w.use(yesterday)
			ctx, cancel := context.WithCancel(w.ctx)
			defer cancel()
			o := replay.Order{From: replay.FromStream, Selection: replay.Selection{Tenants: []string{"acme"}}}
			r := w.replay(o, nil)
			r.GatherAtMost(10)
			run, err := r.Begin(w.ctx, o, "oscar")
			if err != nil {
				t.Fatal(err)
			}
			cut(r, cancel)
			first, err := r.Run(ctx, run, fast, silence)
			if err == nil || (ctx.Err() != nil) != errors.Is(err, replay.ErrInterrupted) {
				t.Fatalf("cut off, it returned %v", err)
			}
			kept := w.run(run.ID)
			if kept.State != "failed" || kept.Problem == "" || kept.Cursor == "" || first.Missing == 0 || first.Missing >= 60 {
				t.Fatalf("kept %+v of %+v", kept, first)
			}
			w.publish(w.changes(5)) // isn't part of it
			second, err := w.replay(o, nil).Run(w.ctx, kept, fast, silence)
			if err != nil || second.Missing != 60 || second.Messages != 60 {
				t.Errorf("in the end %+v, %v", second, err)
			}
			if diff := cmp.Diff(want, w.assignees()); diff != "" {
				t.Error(diff)
			}
			if last := w.run(run.ID); last.State != "done" || last.Cursor != "60" {
				t.Errorf("kept %+v", last)
			}
			testkit.CheckFold(t, w.pool)
		})
	}
}

func TestRunGoesOnOnceAndOnItsOwnStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(w.changes(3))
	o := replay.Order{From: replay.FromStream}
	r := w.replay(o, nil)
	run, err := r.Begin(w.ctx, o, "oscar")
	if err != nil {
		t.Fatal(err)
	}
	apply := r.Apply
	r.Apply = func(ctx context.Context, messages []event.Message) (replay.Applied, error) {
		if _, err := w.replay(o, nil).Run(ctx, w.run(run.ID), fast, silence); err == nil || !strings.Contains(err.Error(), "is under way in another process") {
			t.Errorf("a second process: %v", err)
		}
		return apply(ctx, messages)
	}
	if _, err := r.Run(w.ctx, run, fast, silence); err != nil {
		t.Fatal(err)
	}
	other, err := r.Begin(w.ctx, o, "oscar")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := w.replay(o, nil)
	recreated := testkit.NATS(t)
	elsewhere.Stream = func(ctx context.Context) (time.Time, uint64, error) {
		return recreated.StreamCreated(ctx, event.StreamRoleChanges)
	}
	if _, err := elsewhere.Run(w.ctx, other, fast, silence); err == nil || !strings.Contains(err.Error(), "begin a new replay") {
		t.Errorf("on another stream: %v", err)
	}
}

// Either lane has buried what it couldn't use under its own name; a replay buries none of it again.
func TestReplayedDeadLettersAreTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.live(append(w.spoilt(), w.spoilt()...))
	w.exec(`UPDATE dead_letters SET state = 'dropped' WHERE reason = 'not_cloudevent'`)
	before := w.one(`SELECT string_agg(consumer || ' ' || reason || ' ' || state || ' ' || tries, ', ' ORDER BY key) FROM dead_letters`)
	done, _ := w.apply(replay.Order{})
	if done.Messages != 10 || done.DeadAlready+done.Known != 10 || done.Known > 2 || done.NewDeadLetters() != 0 { // a repeat in one batch is known
		t.Errorf("came to %+v", done)
	}
	if after := w.one(`SELECT string_agg(consumer || ' ' || reason || ' ' || state || ' ' || tries, ', ' ORDER BY key) FROM dead_letters`); after != before {
		t.Errorf("dead letters were %s, and are %s", before, after)
	}
}

func TestSelection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO tenants (tenant_id) VALUES ('globex')`)
	w.exec(`INSERT INTO users (tenant_id, user_id, name) VALUES ('globex', 'bob', 'Bob')`)
	publish := func(change func(c *event.AccountRoleChanged)) {
		c := w.change()
		c.AccountID, c.Role, c.Time = "a1", "success_manager", w.now
		change(&c)
		w.publish([]event.Message{w.message(c)})
	}
	publish(func(c *event.AccountRoleChanged) {})
	publish(func(c *event.AccountRoleChanged) { c.TenantID, c.NewOwnerID = "globex", "bob" })
	publish(func(c *event.AccountRoleChanged) { c.AccountID = "a2" })
	publish(func(c *event.AccountRoleChanged) { c.Role = "sales_manager" })
	publish(func(c *event.AccountRoleChanged) { c.Source, c.OperationID = event.SourceHandover, "op-1" })
	publish(func(c *event.AccountRoleChanged) { c.OperationID = "op-1" }) // of elsewhere: ignored
	publish(func(c *event.AccountRoleChanged) { c.Time = w.now.Add(-time.Hour) })
	w.publish([]event.Message{{Subject: event.SubjectRoleChanged("acme"), Body: []byte("hello")}})
	var at []time.Time
	for _, m := range w.stream(event.StreamRoleChanges, 1) {
		at = append(at, m.StoredAt)
	}
	for name, c := range map[string]struct {
		of            replay.Selection
		missing, dead int
	}{
		"all":               {replay.Selection{}, 7, 1},
		"a tenant":          {replay.Selection{Tenants: []string{"acme"}}, 6, 1},
		"two tenants":       {replay.Selection{Tenants: []string{"acme", "globex"}}, 7, 1},
		"an account":        {replay.Selection{Accounts: []string{"a2"}}, 1, 0},
		"accounts":          {replay.Selection{Accounts: []string{"a1", "a2"}}, 7, 0},
		"a role":            {replay.Selection{Roles: []string{"sales_manager"}}, 1, 0},
		"an operation":      {replay.Selection{Operations: []string{"op-1"}}, 1, 0},
		"since it occurred": {replay.Selection{OccurredSince: w.now}, 6, 0},
		"until it occurred": {replay.Selection{OccurredUntil: w.now}, 1, 0},
		"sequences":         {replay.Selection{FromSeq: 3, ToSeq: 4}, 2, 0},
		"since it arrived":  {replay.Selection{Since: at[7]}, 0, 1},
		"until it arrived":  {replay.Selection{Until: at[0]}, 0, 0},
		"all of these":      {replay.Selection{Tenants: []string{"acme"}, Accounts: []string{"a1"}, Roles: []string{"success_manager"}, OccurredSince: w.now}, 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			if f := w.foresee(c.of); f.Missing != c.missing || f.NewDeadLetters() != c.dead || f.Messages != c.missing+c.dead {
				t.Errorf("%+v", f.Counts)
			}
		})
	}
	done, _ := w.apply(replay.Order{Selection: replay.Selection{Accounts: []string{"a2"}}})
	if got := w.one(`SELECT string_agg(account_id, ' ') FROM role_changes`); got != "a2" || done.Missing != 1 {
		t.Errorf("recorded is %s, %+v", got, done)
	}
}
