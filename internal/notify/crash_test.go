package notify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/postgres"
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

// due makes so many windows of as many people that are due.
func (w *world) due(n int) {
	w.t.Helper()
	for i := range n {
		user := fmt.Sprintf("u%02d", i)
		w.exec(`INSERT INTO users (tenant_id, user_id, name, email) VALUES ('demo', $1, $1, $1 || '@example.com')`, user)
		w.handle(w.move("acme", "maya", user, fmt.Sprintf("x%d", i)))
	}
	w.elapse(DefaultWindow)
}

// settled runs until everything that can end has ended, and counts: by state, and that no mail was accepted twice.
func (w *world) settled() map[string]int {
	w.t.Helper()
	for range 4 {
		w.channel.works()
		w.elapse(2 * time.Hour)
		if _, err := w.RunOnce(context.Background()); err != nil {
			w.t.Fatal(err)
		}
	}
	times := make(map[int64]int)
	for _, mail := range w.post.accepted {
		if times[mail.ID]++; times[mail.ID] > 1 {
			w.t.Errorf("the mail of notice %d was accepted %d times", mail.ID, times[mail.ID])
		}
	}
	states := make(map[string]int)
	page, _, err := w.List(context.Background(), "demo", Filter{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, n := range page {
		states[n.State]++
		if n.State == Sent && times[n.ID] != 1 {
			w.t.Errorf("notice %d is sent, and was accepted %d times", n.ID, times[n.ID])
		}
	}
	return states
}

// Mails that come together share the transaction before the sending and the one after it. A process dies at each point
// between them: in doubt are the mails under way, and no other.
func TestADeathAmongMailsThatShareATransactionDoubtsOnlyThoseUnderWay(t *testing.T) {
	t.Parallel()
	const all, group = 20, 8
	send := func(w *world, mails []begun) {
		for _, b := range mails {
			w.post.Send(context.Background(), b.mail.Frozen)
		}
	}
	for name, c := range map[string]struct {
		until          func(w *world, claims []claim)
		sent, doubtful int
	}{
		"before they begin": {func(*world, []claim) {}, all, 0},
		"while they begin: the transaction isn't committed": {func(w *world, claims []claim) {
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			if _, err := w.beginAll(ctx, claims[:group]); err == nil {
				w.t.Error("they began")
			}
		}, all, 0},
		"when they have begun": {func(w *world, claims []claim) {
			w.begunAll(claims[:group])
		}, all - group, group},
		"when they were accepted": {func(w *world, claims []claim) {
			send(w, w.begunAll(claims[:group]))
		}, all - group, group},
		"when half of the outcomes are written": {func(w *world, claims []claim) {
			mails := w.begunAll(claims[:group])
			send(w, mails)
			w.recordedAll(claims[:group/2], mails[:group/2])
		}, all - group/2, group / 2},
		"when all of the outcomes are written": {func(w *world, claims []claim) {
			mails := w.begunAll(claims[:group])
			send(w, mails)
			w.recordedAll(claims[:group], mails)
		}, all, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.due(all)
			c.until(w, w.claimed(all))
			w.Notifier = w.restart()
			states := w.settled()
			if states[Sent] != c.sent || states[Ambiguous] != c.doubtful || len(states) > 2 {
				t.Errorf("%v, want %d sent and %d ambiguous", states, c.sent, c.doubtful)
			}
		})
	}
}

func (w *world) begunAll(claims []claim) []begun {
	w.t.Helper()
	mails, err := w.beginAll(context.Background(), claims)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, b := range mails {
		if b.mail == nil {
			w.t.Fatalf("%+v", b)
		}
	}
	return mails
}

func (w *world) recordedAll(claims []claim, mails []begun) {
	w.t.Helper()
	var outcomes []outcome
	for i, c := range claims {
		outcomes = append(outcomes, outcome{c, w.judge(*mails[i].mail, Result{Outcome: Accepted, Code: 250})})
	}
	done, err := w.recordAll(context.Background(), outcomes)
	if err != nil {
		w.t.Fatal(err)
	}
	for i, r := range done {
		if !r.ours {
			w.t.Errorf("the outcome of notice %d wasn't written", claims[i].id)
		}
	}
}

func TestALostClaimAmongOthersHoldsNoneOfThemUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.due(3)
	late := w.claimed(3)
	w.elapse(time.Hour)
	w.Notifier = w.restart()
	if err := w.reap(context.Background()); err != nil {
		t.Fatal(err)
	}
	now := w.claimed(3)
	// The late one and the present one of one notice, in one transaction.
	mails, err := w.beginAll(context.Background(), []claim{late[0], now[0], late[1], now[2]})
	if err != nil || mails[0] != (begun{}) || mails[1].mail == nil || mails[2] != (begun{}) || mails[3].mail == nil {
		t.Fatalf("%+v, %v", mails, err)
	}
	sent := verdict{state: Sent, result: Result{Outcome: Accepted}}
	done, err := w.recordAll(context.Background(), []outcome{{late[0], sent}, {now[0], sent}, {now[2], sent}, {late[2], sent}})
	if err != nil || done[0].ours || !done[1].ours || !done[2].ours || done[3].ours {
		t.Fatalf("%+v, %v", done, err)
	}
}

// breaking cuts connections now and then, at any statement: before it, so that it is sent in vain, or after it, so that
// nobody knows what became of it.
type breaking struct {
	mu     sync.Mutex
	random *rand.Rand
	one    int // in so many
	cut    int
}

func (b *breaking) strike(conn *pgx.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.one > 0 && b.random.IntN(b.one) == 0 {
		b.cut++
		_ = conn.PgConn().Conn().Close()
	}
}

func (b *breaking) TraceQueryStart(ctx context.Context, conn *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	b.strike(conn)
	return ctx
}

func (b *breaking) TraceQueryEnd(_ context.Context, conn *pgx.Conn, _ pgx.TraceQueryEndData) {
	b.strike(conn)
}

func TestNoMailIsSentTwiceOrLostWhenConnectionsBreak(t *testing.T) {
	t.Parallel()
	const mails = 300
	url, pool := testkit.NewDatabase(t)
	w := newWorldOn(t, pool)
	w.exec(`INSERT INTO users (tenant_id, user_id, name, email) SELECT 'demo', 'u' || n, 'U', 'u' || n || '@example.com' FROM generate_series(1, $1) n`, mails)
	for n := range mails {
		w.handle(w.move("acme", "maya", fmt.Sprintf("u%d", n+1), fmt.Sprintf("x%d", n)))
	}
	w.elapse(DefaultWindow)
	faults := &breaking{random: rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano()))), one: 25}
	cut, err := postgres.Open(context.Background(), url, postgres.Options{Writer: true, Tracer: faults})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cut.Close)
	w.post.answer = func(mail Frozen) Result {
		if mail.ID%17 == 0 {
			return refuse(RejectedForNow, 451)(mail)
		}
		return Result{Outcome: Accepted, Code: 250}
	}
	var processes sync.WaitGroup
	for range 2 {
		n := New(cut, Config{Sender: w.post})
		processes.Go(func() {
			for range 60 {
				_, _ = n.RunOnce(context.Background())
			}
		})
	}
	processes.Wait()
	if faults.cut < 10 || len(w.post.accepted) < mails/2 {
		t.Errorf("%d connections were cut while %d mails were sent", faults.cut, len(w.post.accepted))
	}
	w.post.answer = nil
	states := w.settled()
	if states[Sent] != mails-states[Ambiguous] || states[Ambiguous] != 0 {
		t.Errorf("%v: an outcome that wasn't written at first was lost, or a mail is neither sent nor shown", states)
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
