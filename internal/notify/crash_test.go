package notify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"handover.io/internal/testkit"
)

func (w *world) claimed(want int) []claim {
	w.t.Helper()
	if err := w.closeDue(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	claims, err := w.claim(context.Background())
	if err != nil || len(claims) != want {
		w.t.Fatalf("%d claims, %v; want %d", len(claims), err, want)
	}
	return claims
}

func (w *world) begun(c claim) written {
	w.t.Helper()
	mail, early, err := w.begin(context.Background(), c)
	if err != nil || early != nil {
		w.t.Fatalf("begin: %+v, %v", early, err)
	}
	return mail
}

// A process dies at each point between two commits; another one takes over after the lease. The mail is accepted at
// most once, exactly once where that can be known, and ambiguous where it can't.
func TestADeathAtAnyPointSendsAtMostOneMail(t *testing.T) {
	t.Parallel()
	send := func(w *world, mail written) Result { return w.post.Send(context.Background(), mail.Frozen) }
	for name, c := range map[string]struct {
		until    func(w *world)
		accepted int
		state    string
	}{
		"K1 before the items are committed": {func(w *world) {
			batch := w.messages(w.move("acme", "maya", "ada", "t1"))
			dying, cancel := context.WithCancel(context.Background())
			cancel()
			_ = w.Handle(dying, batch)
			_ = w.Handle(context.Background(), batch)
		}, 1, Sent},
		"K2 after the items, before the acknowledgement": {func(w *world) {
			batch := w.messages(w.move("acme", "maya", "ada", "t1"))
			_ = w.Handle(context.Background(), batch)
			_ = w.Handle(context.Background(), batch)
		}, 1, Sent},
		"K3 after the close": {func(w *world) {
			w.handle(w.move("acme", "maya", "ada", "t1"))
			w.elapse(DefaultWindow)
			_ = w.closeDue(context.Background())
		}, 1, Sent},
		"K5 after the claim": {func(w *world) {
			w.handle(w.move("acme", "maya", "ada", "t1"))
			w.elapse(DefaultWindow)
			w.claimed(1)
		}, 1, Sent},
		"K4 and K6 after the mail and its attempt are written": {func(w *world) {
			w.handle(w.move("acme", "maya", "ada", "t1"))
			w.elapse(DefaultWindow)
			w.begun(w.claimed(1)[0])
		}, 0, Ambiguous},
		"K7 and K8 after the mail was accepted": {func(w *world) {
			w.handle(w.move("acme", "maya", "ada", "t1"))
			w.elapse(DefaultWindow)
			send(w, w.begun(w.claimed(1)[0]))
		}, 1, Ambiguous},
		"K9 after the outcome": {func(w *world) {
			w.handle(w.move("acme", "maya", "ada", "t1"))
			w.elapse(DefaultWindow)
			claim := w.claimed(1)[0]
			mail := w.begun(claim)
			_, _ = w.record(context.Background(), claim, w.judge(mail, send(w, mail)))
		}, 1, Sent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			c.until(w)
			w.Notifier = w.restart()
			if _, err := w.RunOnce(context.Background()); err != nil {
				t.Fatal(err)
			}
			if w.number(`SELECT count(*) FROM notices WHERE state = 'sending'`) == 1 && w.attempts() == "" && len(w.post.tried) > 0 {
				t.Error("the claim of another was not respected")
			}
			for range 3 {
				w.elapse(DefaultWindow)
				if _, err := w.RunOnce(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			w.expect("ada acme " + c.state)
			if len(w.post.accepted) != c.accepted {
				t.Errorf("%d mails accepted, want %d", len(w.post.accepted), c.accepted)
			}
		})
	}
}

func TestAnAmbiguousMailIsNotSentAgainByItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(DefaultWindow)
	w.post.answer = refuse(Unknown, 0)
	w.run(0)
	w.post.answer = nil
	w.channel.works()
	w.elapse(48 * time.Hour)
	w.run(0)
	w.expect("ada acme ambiguous")
}

func TestTheFenceStopsALateWriter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"), w.move("globex", "maya", "ada", "t2"))
	w.elapse(DefaultWindow)
	claims := w.claimed(2)
	// The first sleeps past its lease before its attempt; the second after it.
	mail := w.begun(claims[1])
	w.elapse(time.Hour)
	w.Notifier = w.restart()
	w.run(1)
	if _, _, err := w.begin(context.Background(), claims[0]); !errors.Is(err, errClaimLost) {
		t.Errorf("the first began again: %v", err)
	}
	state, err := w.record(context.Background(), claims[1], w.judge(mail, Result{Outcome: RejectedForNow, Code: 451}))
	if state != "" || err != nil {
		t.Errorf("the second recorded %q, %v", state, err)
	}
	if n := w.number(`SELECT count(*) FROM notices WHERE state IN ('sent', 'ambiguous')`); n != 2 {
		t.Errorf("notices: %s", w.states())
	}
}

func TestALeaseIsRenewedWhenTheMailsTurnComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(DefaultWindow)
	c := w.claimed(1)[0]
	w.elapse(lease - time.Second)
	w.begun(c)
	w.elapse(lease - time.Minute)
	if err := w.reap(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.expect("ada acme sending")
}

func TestManySendersAtOnceSendEachMailOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO users (tenant_id, user_id, name, email) SELECT 'demo', 'u' || n, 'U', 'u' || n || '@example.com' FROM generate_series(1, 120) n`)
	for n := range 120 {
		testkit.PutTasks(t, w.pool, testkit.Task{Tenant: "demo", ID: fmt.Sprint("x", n+1), Account: "acme", Title: "T", Assignee: fmt.Sprint("u", n+1), Revision: 1, Since: time.Now()})
	}
	w.exec(`INSERT INTO notices (tenant_id, recipient_id, account_id, state, opened_at, close_at, next_try_at) SELECT 'demo', 'u' || n, 'acme', 'closed', now(), now(), now() FROM generate_series(1, 120) n`)
	w.exec(`INSERT INTO notice_moves (notice_id, kind, account_id, moved_by, reason, moved_at, task_ids, revisions)
SELECT notice_id, 'received', 'acme', 'noa', 'api', now(), ARRAY['x' || substr(recipient_id, 2)], ARRAY[1] FROM notices`)
	var senders sync.WaitGroup
	for range 3 {
		n := w.restart()
		senders.Go(func() {
			for range 6 {
				if _, err := n.RunOnce(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	senders.Wait()
	to := make(map[string]bool)
	for _, mail := range w.post.tried {
		to[mail.To] = true
	}
	if len(to) != 120 || len(w.post.tried) != 120 {
		t.Errorf("%d mails to %d people, want 120 to 120", len(w.post.tried), len(to))
	}
}

func TestRunStopsWithTheContextAndClosesTheChannel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(DefaultWindow)
	ctx, stop := context.WithCancel(context.Background())
	w.post.answer = func(Frozen) Result {
		stop()
		return Result{Outcome: Accepted}
	}
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}
	w.expect("ada acme sent")
	if err := New(w.pool, Config{}).Run(context.Background()); err == nil {
		t.Error("it runs without a Sender")
	}
}
