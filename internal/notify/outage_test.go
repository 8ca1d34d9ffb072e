package notify

import (
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"handover.io/internal/testkit"
)

// However long the way out is out of order, no mail pays for it: none is given up, none loses a try, and all go out when
// it is put right.
func TestAWayOutThatIsOutOfOrderConsumesNoMail(t *testing.T) {
	t.Parallel()
	cert, trusted := certificate(t)
	backend := &secure{}
	good, plain := backend.serve(t, cert, false, false), (&secure{}).serve(t, cert, false, true)
	trusting := func(s *SMTP) *SMTP {
		s.config.TLS = &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}
		return s
	}
	for name, bad := range map[string]*SMTP{
		"535 at AUTH":      trusting(smtpTo(t, "smtp://user:wrong@"+good)),
		"bad certificate":  smtpTo(t, "smtp://user:p%40ss@"+good),
		"no STARTTLS":      trusting(smtpTo(t, "smtp://"+plain)),
		"421 at connect":   smtpTo(t, testkit.SMTP(t, testkit.SMTPConnect421).URL()),
		"nobody listening": smtpTo(t, "smtp://127.0.0.1:1?tls=none"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			const people = 20
			w.due(people)
			w.sender = bad
			for range 4 {
				if _, err := w.RunOnce(context.Background()); err != nil {
					t.Fatal(err)
				}
				if !w.channel.paused() {
					t.Fatal("the channel isn't paused")
				}
				w.channel.until = time.Time{} // the pause has passed
				w.elapse(time.Hour)
			}
			if n := w.number(`SELECT count(*) FROM notices WHERE state = 'closed' AND tries = 0`); n != people {
				t.Errorf("%d of %d mails are as they were", n, people)
			}
			if testutil.ToFloat64(w.metrics.paused) != 1 {
				t.Error("nobody is alerted")
			}
			w.sender = trusting(smtpTo(t, "smtp://user:p%40ss@"+good))
			w.channel.works()
			backend.mu.Lock()
			before := backend.accepted
			backend.mu.Unlock()
			w.elapse(time.Hour)
			w.run(people)
			w.run(0)
			backend.mu.Lock()
			defer backend.mu.Unlock()
			if n := backend.accepted - before; n != people || w.channel.paused() {
				t.Errorf("%d mails accepted, want %d", n, people)
			}
			if testutil.ToFloat64(w.metrics.paused) != 0 {
				t.Error("the alert stays")
			}
		})
	}
}

// Six hours without a mail server, with 300 windows of one person and 50 of others: one mail to the one, and the others in
// the order in which they waited.
func TestAfterAnOutageNobodyIsFlooded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post.answer = refuse(NotSent, 0)
	const hours, perHour, others = 6, 50, 50
	for h := range hours {
		for n := range perHour {
			w.handle(w.move(fmt.Sprintf("a%d-%d", h, n), "maya", "ada", fmt.Sprintf("h%d-%d", h, n)))
		}
		if h == 0 {
			for n := range others {
				user := fmt.Sprintf("u%02d", n)
				w.exec(`INSERT INTO users (tenant_id, user_id, name, email) VALUES ('demo', $1, $1, $1 || '@example.com')`, user)
				w.handle(w.move("acme", "maya", user, "x"+user))
				w.exec(`UPDATE notices SET close_at = close_at + $1::interval, next_try_at = next_try_at + $1::interval WHERE recipient_id = $2`, time.Duration(n)*time.Second, user)
			}
		}
		w.elapse(time.Hour)
		for range 2 { // the channel is tried now and then
			w.run(0)
			w.channel.until = time.Time{}
		}
	}
	w.post.answer, w.post.tried = nil, nil
	w.channel.works()
	w.elapse(time.Hour)
	for range 4 {
		if _, err := w.RunOnce(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	to := map[string]int{}
	for _, m := range w.post.accepted {
		to[m.To]++
	}
	if to["ada@example.com"] != 1 || len(to) != others+1 || len(w.post.accepted) != others+1 {
		t.Errorf("%d mails to ada, %d in all to %d people", to["ada@example.com"], len(w.post.accepted), len(to))
	}
	text := ""
	for _, m := range w.post.accepted {
		if m.To == "ada@example.com" {
			_, text, _ = parse(t, m.MIME)
		}
	}
	if !strings.Contains(text, "300 tasks on 300 accounts are now yours") || strings.Contains(text, "This e-mail is late") {
		t.Errorf("ada is told:\n%s", text)
	}
	if n := w.number(`SELECT count(*) FROM notices WHERE state NOT IN ('sent', 'merged')`); n != 0 {
		t.Errorf("%d windows are not at their end", n)
	}
}

func TestTheLongestWaitingAreClaimedFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const people = claimLimit + 30
	w.due(people)
	w.exec(`UPDATE notices SET next_try_at = next_try_at + (10000 - notice_id) * interval '1 s', close_at = close_at + (10000 - notice_id) * interval '1 s'`)
	w.elapse(4 * time.Hour)
	claims := w.claimed(claimLimit)
	ids := make([]int64, 0, len(claims))
	for _, c := range claims {
		ids = append(ids, c.id)
	}
	slices.Sort(ids)
	if ids[0] != 31 {
		t.Errorf("the first of the claimed is %d", ids[0])
	}
}

func TestAMailThatIsADayLateSaysSo(t *testing.T) {
	t.Parallel()
	late := toAda
	late.closed = noon.Add(-26 * time.Hour)
	d, _ := compose(noon, []told{moved("t1", "Call them", time.Hour)})
	l, err := pen.write(noon, late, d)
	if err != nil {
		t.Fatal(err)
	}
	_, text, html := parse(t, l.mime)
	testkit.Golden(t, "late.txt", []byte(text))
	if !strings.Contains(html, "This e-mail is late: it was due on Sun 13 Sep 2026, 12:00.") {
		t.Errorf("the HTML doesn't say so:\n%s", html)
	}
	late.closed = noon.Add(-23 * time.Hour)
	if l, err = pen.write(noon, late, d); err != nil {
		t.Fatal(err)
	}
	if _, text, _ = parse(t, l.mime); strings.Contains(text, "late") {
		t.Errorf("23 hours:\n%s", text)
	}
}

func TestAMailThatNeverLeftTellsTheTruthWhenItDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.handle(w.move("acme", "maya", "ada", "t1", "t2", "t3"))
	w.handle(w.move("acme", "ada", "lee", "t3"))
	w.elapse(DefaultWindow)
	w.post.answer = refuse(NotSent, 535)
	w.run(0)
	w.handle(w.move("acme", "ada", "lee", "t1"))
	w.handle(w.move("acme", "lee", "ada", "t3"))
	w.post.answer = nil
	w.channel.works()
	w.elapse(DefaultWindow + time.Hour)
	w.run(3)
	for i, m := range w.post.accepted {
		_, text, _ := parse(t, m.MIME)
		if strings.Contains(text, "Title of t1.") != (m.To == "lee@example.com") || strings.Contains(strings.ToLower(text), "no longer yours") {
			t.Errorf("mail %d to %s:\n%s", i, m.To, text)
		}
	}
	if n := w.number(`SELECT count(*) FROM notice_items WHERE recipient_id = 'ada' AND task_id = 't2' AND left_out`); n != 0 {
		t.Error("t2 counts as left out")
	}
}
