package notify

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"handover.io/internal/testkit"
)

func TestWhileMailsAreOnHoldNoneIsSentAndWindowsGoOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(DefaultWindow)
	other := w.restart() // another process
	for _, reason := range []string{"the database was restored", "the database was restored", "and again"} {
		if err := other.Hold(t.Context(), reason, "zoe"); err != nil {
			t.Fatal(err)
		}
	}
	if h, err := w.Held(t.Context()); err != nil || h == nil || h.Reason != "the database was restored; and again" || h.By != "zoe" || h.Since.IsZero() {
		t.Fatalf("%+v %v", h, err)
	}
	w.run(0)
	w.handle(w.move("globex", "maya", "ada", "t2"))
	w.expect("ada acme closed, ada globex open")
	w.elapse(DefaultWindow)
	w.run(0)
	w.expect("ada acme closed, ada globex closed")
	if settled, err := other.Release(t.Context(), time.Time{}); err != nil || settled != 0 {
		t.Fatal(settled, err)
	}
	w.run(2)
	if h, err := w.Held(t.Context()); err != nil || h != nil {
		t.Errorf("%+v %v", h, err)
	}
}

func TestAfterAHoldNoMailIsClaimedByAnySender(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const people = 400
	w.due(people)
	w.post.answer = func(Frozen) Result { return Result{Outcome: Accepted, Code: 250} }
	var senders sync.WaitGroup
	for range 3 {
		n := w.restart()
		senders.Go(func() {
			for range 4 {
				if _, err := n.RunOnce(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if err := w.Hold(t.Context(), "stop", "zoe"); err != nil {
		t.Fatal(err)
	}
	claimed := w.number(`SELECT coalesce(sum(fence), 0)::int FROM notices`)
	senders.Wait()
	if n := w.number(`SELECT coalesce(sum(fence), 0)::int FROM notices`); n != claimed {
		t.Errorf("%d mails were claimed when they were put on hold, and %d in the end", claimed, n)
	}
	for range 8 {
		w.run(0)
	}
	if len(w.post.accepted) != claimed {
		t.Errorf("%d of %d claimed mails were sent", len(w.post.accepted), claimed)
	}
}

func TestAReleaseAfterARestoreSendsNothingThatMayHaveBeenSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1")) // closed
	w.elapse(DefaultWindow)
	_ = w.closeDue(t.Context())
	w.handle(w.move("acme", "maya", "lee", "t3")) // being sent
	w.elapse(DefaultWindow)
	w.claimed(2)
	w.handle(w.move("globex", "maya", "ada", "t2")) // open
	w.elapse(DefaultWindow + time.Minute)
	w.handle(w.move("globex", "maya", "lee", "t4")) // of now
	if err := w.Hold(t.Context(), "restored", "zoe"); err != nil {
		t.Fatal(err)
	}
	before := testkit.One[time.Time](t, w.pool, `SELECT clock_timestamp()`)
	counts, err := w.Unfinished(t.Context(), before)
	if err != nil || fmt.Sprint(len(counts)) != "3" || counts[0].State != Open || !counts[0].SentBefore || counts[0].Windows != 1 ||
		counts[1].State != Sending || counts[1].Windows != 2 || counts[1].Recipients != 2 || counts[2].SentBefore || counts[2].State != Open {
		t.Fatalf("%+v %v", counts, err)
	}
	if n, err := w.Release(t.Context(), before); n != 3 || err != nil {
		t.Fatal(n, err)
	}
	w.elapse(DefaultWindow)
	w.run(1)
	w.expect("ada acme ambiguous, lee acme ambiguous, ada globex ambiguous, lee globex sent")
	w.tells(0, 1, "t4")
	if n := w.number(`SELECT count(*) FROM notices WHERE problem = $1`, restored); n != 3 {
		t.Errorf("%d say why", n)
	}
}

// ambiguous is a world with one mail of which nobody knows whether it arrived.
func ambiguous(t *testing.T) (w *world, id int64) {
	w = newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1", "t2"))
	w.elapse(DefaultWindow)
	w.post.answer = refuse(Unknown, 0)
	w.run(0)
	w.post.answer = nil
	w.channel.works()
	return w, testkit.One[int64](t, w.pool, `SELECT notice_id FROM notices`)
}

func decidedOn(t *testing.T, want string) func([]Decision, error) {
	t.Helper()
	return func(of []Decision, err error) {
		t.Helper()
		if got := fmt.Sprint(of, err); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestAResendIsANewMailOfTheSameBytes(t *testing.T) {
	t.Parallel()
	w, id := ambiguous(t)
	first := w.post.tried[0]
	w.move("acme", "ada", "lee", "t2") // the frozen mail says what was true
	decidedOn(t, fmt.Sprintf("[{%d true ambiguous}] <nil>", id))(w.Resend(t.Context(), []int64{id}))
	decidedOn(t, fmt.Sprintf("[{%d false closed} {99 false }] <nil>", id))(w.Resend(t.Context(), []int64{id, 99}))
	w.run(1)
	w.expect("ada acme sent")
	if w.attempts() != "unknown accepted" {
		t.Errorf("attempts: %s", w.attempts())
	}
	was, now := header1(t, first.MIME), header1(t, w.post.accepted[0].MIME)
	if was == now || now != strings.Replace(was, "@", ".v2@", 1) {
		t.Errorf("Message-ID was %s and is %s", was, now)
	}
	if !bytes.Equal(bytes.Replace(first.MIME, []byte(was), []byte(now), 1), w.post.accepted[0].MIME) {
		t.Error("other bytes changed too")
	}
	decidedOn(t, fmt.Sprintf("[{%d false sent}] <nil>", id))(w.Resend(t.Context(), []int64{id}))
}

func header1(t *testing.T, raw []byte) string {
	t.Helper()
	h, _, _ := parse(t, raw)
	return h.Get("Message-ID")
}

func TestEveryResendHasItsOwnID(t *testing.T) {
	t.Parallel()
	w, id := ambiguous(t)
	ids := []string{header1(t, w.post.tried[0].MIME)}
	for n := 2; n <= 4; n++ {
		if _, err := w.Resend(t.Context(), []int64{id}); err != nil {
			t.Fatal(err)
		}
		w.post.answer = refuse(Unknown, 0)
		w.run(0)
		w.channel.works()
		ids = append(ids, header1(t, w.post.tried[n-1].MIME))
		if want := strings.Replace(ids[0], "@", fmt.Sprintf(".v%d@", n), 1); ids[n-1] != want {
			t.Errorf("%s, want %s", ids[n-1], want)
		}
	}
}

func TestTwoPersonsWhoResendAtOnceSendOneMail(t *testing.T) {
	t.Parallel()
	w, id := ambiguous(t)
	var all sync.WaitGroup
	done := make(chan bool, 8)
	for range cap(done) {
		n := w.restart()
		all.Go(func() {
			d, err := n.Resend(context.Background(), []int64{id})
			if err != nil || len(d) != 1 {
				t.Error(d, err)
				return
			}
			done <- d[0].Done
		})
	}
	all.Wait()
	close(done)
	times := 0
	for d := range done {
		if d {
			times++
		}
	}
	w.run(1)
	w.elapse(time.Hour)
	w.run(0)
	if times != 1 || len(w.post.accepted) != 1 {
		t.Errorf("%d resends took place, %d mails were sent", times, len(w.post.accepted))
	}
}

func TestAResendOfWhatCouldntBeDeliveredTellsTheTruthOfNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1", "t2"))
	w.handle(w.move("acme", "ada", "lee", "t2")) // left out of the first mail
	w.elapse(DefaultWindow)
	w.post.answer = func(m Frozen) Result {
		if m.To == "ada@example.com" {
			return refuse(Rejected, 550)(m)
		}
		return Result{Outcome: Accepted}
	}
	w.run(1)
	w.expect("ada acme undeliverable, lee acme sent")
	w.exec(`UPDATE users SET email = 'ada.l@example.com' WHERE user_id = 'ada'`)
	w.move("acme", "ada", "lee", "t1")
	w.move("acme", "lee", "ada", "t2")
	id := testkit.One[int64](t, w.pool, `SELECT notice_id FROM notices WHERE recipient_id = 'ada'`)
	decidedOn(t, fmt.Sprintf("[{%d true undeliverable}] <nil>", id))(w.Resend(t.Context(), []int64{id}))
	w.run(1)
	mail := w.post.accepted[1]
	if _, text, _ := parse(t, mail.MIME); mail.To != "ada.l@example.com" || strings.Contains(text, "Title of t1.") || !strings.Contains(text, "Title of t2.") {
		t.Errorf("to %s:\n%s", mail.To, text)
	}
	if !strings.Contains(header1(t, mail.MIME), ".v2@") {
		t.Error(header1(t, mail.MIME))
	}
	if left := w.number(`SELECT count(*) FROM notice_items WHERE recipient_id = 'ada' AND task_id = 't2' AND left_out`); left != 0 {
		t.Error("t2 counts as left out of a mail that tells of it")
	}
}

func TestAResendWithNothingLeftToTellIsSuppressed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(DefaultWindow)
	w.post.answer = refuse(Rejected, 550)
	w.run(0)
	testkit.CloseTask(t, w.pool, "demo", "t1")
	if _, err := w.Resend(t.Context(), []int64{testkit.One[int64](t, w.pool, `SELECT notice_id FROM notices`)}); err != nil {
		t.Fatal(err)
	}
	w.run(0)
	w.expect("ada acme suppressed")
}

func TestAnAmbiguousMailThatArrivedIsSettled(t *testing.T) {
	t.Parallel()
	w, id := ambiguous(t)
	shown, err := w.Show(t.Context(), id)
	if err != nil || len(shown.Attempts) != 1 || shown.Attempts[0].Outcome != "unknown" || shown.To != "ada@example.com" || len(shown.Moves) != 1 ||
		!strings.Contains(shown.Header, "Message-ID: <n.") || !strings.Contains(shown.Text, "Title of t1.") {
		t.Errorf("%+v %v", shown, err)
	}
	decidedOn(t, fmt.Sprintf("[{%d true ambiguous}] <nil>", id))(w.Settle(t.Context(), []int64{id}, "zoe"))
	decidedOn(t, fmt.Sprintf("[{%d false sent}] <nil>", id))(w.Settle(t.Context(), []int64{id}, "zoe"))
	w.run(0)
	if shown, err = w.Show(t.Context(), id); err != nil || shown.State != Sent || shown.Problem != "it arrived, says zoe" || len(w.post.accepted) != 0 {
		t.Errorf("%+v %v", shown, err)
	}
	if _, err := w.Show(t.Context(), 99); err != ErrNoNotice {
		t.Error(err)
	}
}

func TestFindTakesWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	w, id := ambiguous(t)
	w.handle(w.move("globex", "maya", "lee", "t5"))
	for name, c := range map[string]struct {
		search Search
		want   int
	}{
		"all":         {Search{}, 2},
		"attention":   {Search{Attention: true}, 1},
		"state":       {Search{States: []string{Open}}, 1},
		"tenant":      {Search{TenantID: "other"}, 0},
		"recipient":   {Search{RecipientID: "lee"}, 1},
		"account":     {Search{Account: "acme"}, 1},
		"id":          {Search{IDs: []int64{id}}, 1},
		"since":       {Search{ClosedSince: time.Now()}, 1},
		"before":      {Search{ClosedBefore: time.Now()}, 1},
		"limit":       {Search{Limit: 1}, 1},
		"overdue too": {Search{Attention: true, RecipientID: "lee"}, 0},
	} {
		if found, err := w.Find(t.Context(), c.search); err != nil || len(found) != c.want {
			t.Errorf("%s: %+v %v", name, found, err)
		}
	}
	w.elapse(DefaultWindow + time.Hour)
	if found, err := w.Find(t.Context(), Search{Attention: true, RecipientID: "lee"}); err != nil || len(found) != 1 {
		t.Errorf("overdue: %+v %v", found, err)
	}
}
