package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// refuse answers every mail with this outcome.
func refuse(o Outcome, code int) func(Frozen) Result {
	return func(Frozen) Result {
		return Result{Outcome: o, Code: code, Response: "said the server", Err: errors.New("said the server")}
	}
}

func TestWhatBecomesOfANoticeByOutcome(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		outcome       Outcome
		code          int
		state         string
		again, paused bool
	}{
		{Accepted, 250, Sent, false, false},
		{Rejected, 550, Undeliverable, false, false},
		{RejectedForNow, 451, Closed, true, false},
		{RejectedForNow, 0, Closed, true, false},
		{NotSent, 421, Closed, true, true},
		{Unknown, 0, Ambiguous, false, true},
	} {
		t.Run(fmt.Sprint(c.outcome, c.code), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.handle(w.move("acme", "maya", "ada", "t1"))
			w.elapse(DefaultWindow)
			w.post.answer = refuse(c.outcome, c.code)
			w.run(map[bool]int{true: 1}[c.outcome == Accepted])
			w.expect("ada acme " + c.state)
			if w.channel.paused() != c.paused {
				t.Errorf("the channel is paused: %t", !c.paused)
			}
			if got := w.attempts(); got != string(c.outcome) {
				t.Errorf("attempts: %s", got)
			}
			w.channel.works()
			w.run(0)
			if len(w.post.tried) != 1 {
				t.Error("it was tried again at once")
			}
			w.post.answer = nil
			w.elapse(2 * time.Hour)
			again := 0
			if c.again {
				again = 1
			}
			w.run(again)
			if again == 1 && c.outcome != NotSent && !bytes.Equal(w.post.tried[0].MIME, w.post.tried[1].MIME) {
				t.Error("the second try sent other bytes")
			}
		})
	}
}

func TestARetrySendsTheFrozenBytesWhateverChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(DefaultWindow)
	w.post.answer = refuse(RejectedForNow, 451)
	w.run(0)
	w.move("acme", "ada", "lee", "t1")
	w.exec(`UPDATE users SET email = 'other@example.com', status = 'disabled', left_at = now() WHERE user_id = 'ada'`)
	w.post.answer = nil
	w.elapse(time.Hour)
	w.run(1)
	w.tells(0, 1, "t1")
	if w.post.accepted[0].To != "ada@example.com" {
		t.Error("the address changed")
	}
}

func TestAMailRefusedForADayIsGivenUp(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.post.answer = refuse(RejectedForNow, 452)
	for range maxTries {
		w.expect("ada acme " + map[bool]string{true: Open, false: Closed}[len(w.post.tried) == 0])
		w.elapse(2 * time.Hour)
		w.run(0)
	}
	w.expect("ada acme undeliverable")
	var total time.Duration
	for tries := range maxTries - 1 {
		total += doubled(retryFirst, retryMost, tries)
	}
	if total < 20*time.Hour || total > 28*time.Hour {
		t.Errorf("given up after %s", total)
	}
}

func TestOneBadMailDoesntHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const people = claimLimit + 18
	for i := range people {
		user := fmt.Sprintf("u%d", i)
		w.exec(`INSERT INTO users (tenant_id, user_id, name, email) VALUES ('demo', $1, $1, $1 || '@example.com')`, user)
		w.handle(w.move("acme", "maya", user, fmt.Sprintf("x%d", i)))
	}
	w.elapse(DefaultWindow)
	w.post.answer = func(mail Frozen) Result {
		if mail.To == "u7@example.com" {
			return refuse(Rejected, 550)(mail)
		}
		return Result{Outcome: Accepted}
	}
	w.run(claimLimit - w.number(`SELECT count(*) FROM notices WHERE state = 'undeliverable'`) - 1)
	w.run(people - claimLimit)
	w.run(0)
	if len(w.post.accepted) != people-1 || len(w.post.tried) != people {
		t.Errorf("%d accepted of %d tried", len(w.post.accepted), len(w.post.tried))
	}
}

func TestAChannelOutOfOrderCostsNoMailATry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 9 {
		w.handle(w.move(fmt.Sprintf("a%d", i), "maya", "ada", fmt.Sprintf("t%d", i)))
	}
	w.elapse(DefaultWindow)
	w.post.answer = refuse(NotSent, 535)
	for range 5 {
		w.run(0)
	}
	if n := w.number(`SELECT count(*) FROM notices WHERE state = 'closed' AND tries = 0`); n != 9 {
		t.Errorf("%d of 9 mails are as they were", n)
	}
	if len(w.post.tried) > senders {
		t.Errorf("%d mails were tried on a channel that was out of order", len(w.post.tried))
	}
	w.post.answer = nil
	w.channel.works()
	w.elapse(time.Hour)
	w.run(9)
}

func TestRecipientsWhoCantOrWontBeMailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for user, set := range map[string]string{
		"a-off": `notices = false`, "b-left": `status = 'disabled', left_at = now()`, "c-gone": `status = 'deleted', left_at = now()`, "d-none": `email = ''`,
		"e-bad": `email = 'nobody'`, "f-two": `email = 'a@example.com, b@example.com'`, "g-crlf": `email = E'a@example.com\r\nBcc: x@example.com'`, "h-named": `email = 'Eve <eve@example.com>'`,
	} {
		w.exec(`INSERT INTO users (tenant_id, user_id, name, email) VALUES ('demo', $1, $1, $1 || '@example.com')`, user)
		w.exec(`UPDATE users SET `+set+` WHERE user_id = $1`, user)
	}
	users := []string{"a-off", "b-left", "c-gone", "d-none", "e-bad", "f-two", "g-crlf", "h-named", "z-unknown"}
	for i, user := range users {
		w.handle(w.move("acme", "maya", user, fmt.Sprintf("x%d", i)))
	}
	w.elapse(DefaultWindow)
	w.run(0)
	w.expect("a-off acme suppressed, b-left acme suppressed, c-gone acme suppressed, d-none acme undeliverable, e-bad acme undeliverable, " +
		"f-two acme undeliverable, g-crlf acme undeliverable, h-named acme undeliverable, z-unknown acme undeliverable")
	if n := w.number(`SELECT count(*) FROM notice_items`); n != len(users) || len(w.post.tried) != 0 {
		t.Errorf("%d items, %d mails tried", n, len(w.post.tried))
	}
}

func TestAtSendingTimeTheMailTellsTheTruth(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1", "t2", "t3", "t4"))
	w.handle(w.move("acme", "ada", "lee", "t2"))
	testkit.CloseTask(t, w.pool, "demo", "t3")
	w.handle(w.move("acme", "ada", "lee", "t4"))
	w.handle(w.move("acme", "lee", "ada", "t4"))
	w.elapse(DefaultWindow)
	w.run(2)
	w.tells(0, 2, "t1", "t4")
	w.tells(1, 2, "t2")
	if text := w.text(0); strings.Contains(text, "From Lee") {
		t.Errorf("t4 is not from whom it first came:\n%s", text)
	}
}

func TestNothingLeftToTellIsNoMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.handle(w.move("acme", "ada", "maya", "t1"))
	w.elapse(DefaultWindow)
	testkit.CloseTask(t, w.pool, "demo", "t1")
	w.run(0)
	w.expect("ada acme suppressed, maya acme suppressed")
	if len(w.post.tried) != 0 {
		t.Error("a mail was sent")
	}
}

func correction(r event.TaskReassigned) event.TaskReassigned {
	r.Correction = true
	return r
}

func TestACorrectionIsToldToWhoWasMailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1", "t2", "t3"))
	w.handle(correction(w.move("acme", "ada", "lee", "t3"))) // before the mail: simply left out
	w.elapse(DefaultWindow)
	w.run(2)
	w.tells(0, 2, "t1", "t2")

	w.handle(correction(w.move("acme", "ada", "lee", "t1")))
	w.elapse(DefaultWindow)
	w.run(2)
	w.expect("ada acme sent, lee acme sent, ada acme sent, lee acme sent")
	w.tells(2, 4, "t1")
	if text := w.text(2); !strings.Contains(text, "is no longer yours") || !strings.Contains(text, "Now with Lee") {
		t.Errorf("the correction isn't told:\n%s", text)
	}
	// Told once: another correction of the same task doesn't concern Ada any more, and one that returns is news again.
	w.handle(correction(w.move("acme", "lee", "maya", "t1")), w.move("acme", "maya", "ada", "t1"))
	w.elapse(DefaultWindow)
	w.run(2)
	w.tells(4, 6, "t1")
	w.tells(5, 6, "t1")
}

func TestACorrectionWhileTheMailIsUnderWayIsToldIfTheMailHadTheTask(t *testing.T) {
	t.Parallel()
	for _, frozen := range []bool{true, false} {
		w := newWorld(t)
		w.handle(w.move("acme", "maya", "ada", "t1", "t2"))
		w.elapse(DefaultWindow)
		c := w.claimed(1)[0]
		var mail written
		if frozen {
			mail = w.begun(c)
		}
		w.handle(correction(w.move("acme", "ada", "lee", "t1")))
		if !frozen {
			mail = w.begun(c)
		}
		if _, err := w.record(context.Background(), c, w.judge(mail, w.post.Send(context.Background(), mail.Frozen))); err != nil {
			t.Fatal(err)
		}
		w.elapse(DefaultWindow)
		if frozen {
			w.run(2)
			w.tells(0, 3, "t1", "t2")
			w.tells(1, 3, "t1")
		} else {
			w.run(1)
			w.tells(0, 2, "t2")
			w.expect("ada acme sent, ada acme suppressed, lee acme sent")
		}
	}
}

func TestMovesDuringTheSendGoIntoTheNextWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(DefaultWindow)
	var once sync.Once
	w.post.answer = func(Frozen) Result {
		once.Do(func() { w.handle(w.move("acme", "maya", "ada", "t2")) })
		return Result{Outcome: Accepted}
	}
	w.run(1)
	w.expect("ada acme sent, ada acme open")
	w.elapse(DefaultWindow)
	w.run(1)
	w.tells(0, 2, "t1")
	w.tells(1, 2, "t2")
}

func TestMoreThanTenWindowsOfOneRecipientAreOneMail(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 11 {
		w.handle(w.move(fmt.Sprintf("a%d", i), "maya", "ada", fmt.Sprintf("t%d", i)))
	}
	for i := range 10 {
		w.handle(w.move(fmt.Sprintf("a%d", i), "maya", "lee", fmt.Sprintf("t%d", 15+i)))
	}
	w.elapse(DefaultWindow)
	w.run(11)
	all := make([]string, 11)
	for i := range all {
		all[i] = fmt.Sprintf("t%d", i)
	}
	w.tells(0, 11, all...)
	if n := w.number(`SELECT count(*) FROM notices WHERE state = 'merged' AND merged_into IS NOT NULL`); n != 10 {
		t.Errorf("%d windows merged, want 10", n)
	}
	w.handle(correction(w.move("a5", "ada", "lee", "t5")))
	w.elapse(DefaultWindow)
	w.run(2)
	if !strings.Contains(w.text(len(w.post.accepted)-2)+w.text(len(w.post.accepted)-1), "is no longer yours") {
		t.Error("a correction of a task in a merged window isn't told")
	}
}

func TestClaimsArePlannedPerRecipient(t *testing.T) {
	t.Parallel()
	windows := func(n int, state string, closed time.Duration) (out []waiting) {
		for i := range n {
			at := noon.Add(-closed)
			out = append(out, waiting{id: int64(100*len(state) + i + 1), scope: scope{"demo", "ada", fmt.Sprint(i)}, state: state, closeAt: at, nextTryAt: at})
		}
		return out
	}
	for name, c := range map[string]struct {
		windows         []waiting
		claimed, merged int
	}{
		"ten":                             {windows(10, Closed, time.Second), 10, 0},
		"eleven":                          {windows(11, Closed, time.Second), 1, 10},
		"some, and more about to close":   {append(windows(5, Closed, time.Second), windows(8, Open, -time.Second)...), 0, 0},
		"waited long enough for the rest": {append(windows(5, Closed, time.Minute), windows(8, Open, -time.Second)...), 1, 4},
		"few, and few about to close":     {append(windows(5, Closed, time.Second), windows(3, Open, -time.Second)...), 5, 0},
		"not yet to be tried again":       {windows(12, Closed, -time.Minute), 0, 0},
	} {
		p := planClaims(noon, c.windows)
		if len(p.claim) != c.claimed || len(p.merged) != c.merged || len(p.heads) != c.merged {
			t.Errorf("%s: %d claimed, %d merged; want %d and %d", name, len(p.claim), len(p.merged), c.claimed, c.merged)
		}
	}
	frozen := windows(12, Closed, time.Second)
	for i := range frozen {
		frozen[i].written = true
	}
	if p := planClaims(noon, frozen); len(p.claim) != 12 || len(p.merged) != 0 {
		t.Errorf("written mails were merged: %+v", p)
	}
}
