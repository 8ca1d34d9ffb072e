package notify

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/pkg/event"
)

func TestOneMailPerWindowAndAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1", "t2"), w.move("globex", "maya", "ada", "t3"), w.move("acme", "maya", "lee", "t4"))
	w.handle(w.move("acme", "maya", "ada", "t5"))
	w.run(0)
	w.expect("ada acme open, ada globex open, lee acme open")
	w.elapse(DefaultWindow)
	w.run(3)
	w.expect("ada acme sent, ada globex sent, lee acme sent")
	w.tells(0, 3, "t1", "t2", "t5")
	w.tells(1, 3, "t3")
	w.tells(2, 3, "t4")
	if got := w.attempts(); got != "accepted accepted accepted" {
		t.Errorf("attempts: %s", got)
	}
}

func TestARedeliveryLeavesNothingTwice(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	batch := w.messages(w.move("acme", "maya", "ada", "t1"), w.move("globex", "maya", "lee", "t2"))
	for range 3 {
		if err := w.Handle(context.Background(), append(batch, batch...)); err != nil {
			t.Fatal(err)
		}
	}
	w.expect("ada acme open, lee globex open")
	w.elapse(DefaultWindow)
	w.run(2)
	if err := w.Handle(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
	w.expect("ada acme sent, lee globex sent")
	// Half of a batch is new: only that half opens a window.
	if err := w.Handle(context.Background(), append(batch, w.messages(w.move("acme", "ada", "lee", "t1"))...)); err != nil {
		t.Fatal(err)
	}
	w.expect("ada acme sent, lee globex sent, lee acme open")
}

func TestManyIntakesAtOnceMakeOneWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	batches := make([][]event.Message, 200)
	for i := range batches {
		batches[i] = w.messages(w.move("acme", "maya", "ada", fmt.Sprintf("x%d", i%100)))
	}
	var all sync.WaitGroup
	for _, batch := range batches {
		all.Go(func() {
			// Twice each, as two notifiers that were both given the message.
			for range 2 {
				if err := w.Handle(context.Background(), batch); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	w.expect("ada acme open")
	if n := w.number(`SELECT count(*) FROM notice_items`); n != 200 {
		t.Errorf("%d items, want 200", n)
	}
}

func TestIntakesOfTheSameWindowsInAnyOrderDontDeadlock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all []event.Message
	for i := range 60 {
		all = append(all, w.messages(w.move(fmt.Sprintf("a%d", i%20), "maya", "ada", fmt.Sprintf("x%d", i)))...)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 10 {
				batch := slices.Clone(all)
				rand.Shuffle(len(batch), func(i, j int) { batch[i], batch[j] = batch[j], batch[i] })
				if err := w.Handle(context.Background(), batch[:40]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	w.handle()
	if err := w.Handle(context.Background(), all); err != nil {
		t.Fatal(err)
	}
	if items, windows := w.number(`SELECT count(*) FROM notice_items`), w.number(`SELECT count(*) FROM notices`); items != 60 || windows != 20 {
		t.Errorf("%d items in %d windows, want 60 in 20", items, windows)
	}
}

func TestNothingIsLostOrToldTwiceWhenIntakeRacesWithClosing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	short := New(w.pool, Config{Window: time.Millisecond, Sender: w.post})
	const intakes, moves = 6, 150
	batches := make([][][]event.Message, intakes)
	for i := range batches {
		for n := range moves {
			batches[i] = append(batches[i], w.messages(w.move("acme", "maya", "ada", fmt.Sprintf("x-%d-%d", i, n))))
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	var intake, sending sync.WaitGroup
	for range 2 {
		sending.Go(func() {
			for ctx.Err() == nil {
				if _, err := short.RunOnce(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for _, batch := range batches {
		intake.Go(func() {
			for _, m := range batch {
				if err := short.Handle(context.Background(), m); err != nil {
					t.Error(err)
				}
			}
		})
	}
	intake.Wait()
	stop()
	sending.Wait()
	for w.number(`SELECT count(*) FROM notices WHERE finished_at IS NULL`) > 0 {
		w.elapse(time.Minute)
		if _, err := short.RunOnce(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.number(`SELECT sum(tasks_told) FROM notices WHERE state = 'sent'`); n != intakes*moves {
		t.Errorf("%d tasks were told, want %d", n, intakes*moves)
	}
	if sent := w.number(`SELECT count(*) FROM notices WHERE state = 'sent'`); sent != len(w.post.accepted) {
		t.Errorf("%d mails for %d notices", len(w.post.accepted), sent)
	}
	if n := w.number(`SELECT count(*) FROM notice_items WHERE left_out`); n != 0 {
		t.Errorf("%d items were left out", n)
	}
	if n := w.number(`SELECT count(*) FROM notices n WHERE NOT EXISTS (SELECT FROM notice_items i WHERE i.notice_id = n.notice_id)`); n != 0 {
		t.Errorf("%d windows are empty", n)
	}
}

func TestAnOverdueWindowTakesNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"), w.move("globex", "maya", "ada", "t2"))
	w.elapse(DefaultWindow)
	w.handle(w.move("acme", "maya", "ada", "t3"))
	w.expect("ada acme closed, ada globex open, ada acme open")
	w.run(2)
	w.tells(0, 2, "t1")
	w.tells(1, 2, "t2")
}

func TestARestartChangesNothingAboutAWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(7 * time.Minute)
	w.Notifier = New(w.pool, Config{Window: time.Hour, Sender: w.post})
	w.handle(w.move("acme", "maya", "ada", "t2"))
	w.run(0)
	if n := w.number(`SELECT count(*) FROM notices WHERE close_at - opened_at = interval '15 minutes'`); n != 1 {
		t.Error("the window is not 15 minutes long any more")
	}
	w.elapse(8 * time.Minute)
	w.run(1)
	w.tells(0, 1, "t1", "t2")
}

func TestScopesDontMix(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, account := range []string{"0", "null", "ünïcode", "a b", "*"} {
		w.handle(w.move(account, "maya", "ada", fmt.Sprintf("t%d", 2*i)), w.move(account, "maya", "lee", fmt.Sprintf("t%d", 2*i+1)))
	}
	w.elapse(DefaultWindow)
	w.run(10)
	for i := range 10 {
		w.tells(i, 10, fmt.Sprintf("t%d", i))
	}
}

func TestSummaryModeIsOneWindowPerRecipientAndIsFrozenWhenItOpens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.exec(`UPDATE tenants SET notice_mode = 'summary'`)
	w.handle(w.move("acme", "maya", "ada", "t2"), w.move("globex", "maya", "ada", "t3"))
	w.expect("ada acme open, ada  open")
	w.exec(`UPDATE tenants SET notice_mode = 'account'`)
	w.handle(w.move("acme", "maya", "ada", "t4"), w.move("globex", "maya", "ada", "t5"))
	w.expect("ada acme open, ada  open, ada globex open")
	w.elapse(DefaultWindow)
	w.run(3)
	w.tells(0, 3, "t1", "t4")
	w.tells(1, 3, "t2", "t3")
	w.tells(2, 3, "t5")
}

func TestWhoMovesTasksToThemselfGetsNoMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := w.move("acme", "maya", "noa", "t1")
	w.handle(own, w.move("acme", "maya", "", "t2"))
	w.expect("")
}

func TestBadMessagesAreBuriedAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger, nul := w.move("acme", "maya", "ada", "t1"), w.move("acme", "maya", "ada", "t2")
	stranger.TenantID, nul.InitiatedBy = "elsewhere", "n\x00a"
	batch := w.messages(stranger, nul, w.move("acme", "maya", "ada", "t3"))
	batch = append(batch, event.Message{Subject: event.SubjectTaskReassigned("demo"), Body: []byte("{")})
	for range 2 {
		if err := w.Handle(context.Background(), batch); err != nil {
			t.Fatal(err)
		}
	}
	w.expect("ada acme open")
	for reason, want := range map[string]int{event.ReasonTenantUnknown: 1, event.ReasonInvalid: 1, event.ReasonNotCloudEvent: 1} {
		if n := w.number(`SELECT count(*) FROM dead_letters WHERE reason = $1 AND consumer = 'notifier'`, reason); n != want {
			t.Errorf("%d dead letters %s, want %d", n, reason, want)
		}
	}
}

func TestAnIntakeThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	batch := w.messages(w.move("acme", "maya", "ada", "t1"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := w.Handle(ctx, batch); err == nil {
		t.Fatal("no error")
	}
	w.expect("")
	if err := w.Handle(context.Background(), batch); err != nil {
		t.Fatal(err)
	}
	w.expect("ada acme open")
}

// Nobody is mailed about a silent move, also not about one that takes something back; the mails after it tell the truth.
func TestSilentMoveIsNotMailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	quiet := func(r event.TaskReassigned) event.TaskReassigned {
		r.Silent = true
		return r
	}
	w.handle(w.move("acme", "maya", "ada", "t1", "t2"))
	w.elapse(DefaultWindow)
	w.run(1)
	w.tells(0, 1, "t1", "t2")

	back := w.move("acme", "ada", "lee", "t1")
	back.Correction = true
	w.handle(quiet(back), quiet(w.move("acme", "maya", "lee", "t3")))
	w.expect("ada acme sent")
	w.elapse(DefaultWindow)
	w.run(0)

	// The task that silence brought goes on, another comes: the mail has what its recipient has now, once.
	w.handle(w.move("acme", "lee", "ada", "t3"), w.move("acme", "maya", "lee", "t4"))
	w.elapse(DefaultWindow)
	w.run(2)
	w.tells(1, 3, "t3")
	w.tells(2, 3, "t4")
	if n := w.number(`SELECT count(*) FROM notice_items WHERE task_id = 't3'`); n != 1 {
		t.Errorf("t3 has %d items", n)
	}
}

// An announcement that was refused is retried when its cause is mended, and then taken in once.
func TestARetriedAnnouncementIsTakenIn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stranger := w.move("acme", "maya", "ada", "t1")
	stranger.TenantID = "elsewhere"
	if err := w.Handle(context.Background(), w.messages(stranger)); err != nil {
		t.Fatal(err)
	}
	retry := func() []event.Message {
		var out []event.Message
		err := postgres.InTx(context.Background(), w.pool, func(ctx context.Context, tx pgx.Tx) error {
			entries, err := journal.Retry(ctx, tx, []int64{1})
			for _, e := range entries {
				e.Sequence = 100
				out = append(out, e.Message)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	handle := func(want string) {
		t.Helper()
		if err := w.Handle(context.Background(), retry()); err != nil {
			t.Fatal(err)
		}
		if n := w.number(`SELECT count(*) FROM dead_letters WHERE state = $1`, want); n != 1 {
			t.Errorf("%d are %s", n, want)
		}
	}
	handle(journal.Dead)
	w.exec(`INSERT INTO tenants (tenant_id) VALUES ('elsewhere')`)
	handle(journal.Resolved)
	if n := w.number(`SELECT count(*) FROM notices WHERE tenant_id = 'elsewhere'`); n != 1 {
		t.Errorf("%d windows", n)
	}
}
