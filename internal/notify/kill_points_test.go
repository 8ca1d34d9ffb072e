package notify

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
)

// dying is a connection that breaks as its transaction would commit: so a process ends there.
type dying struct{ at atomic.Int32 }

func (d *dying) TraceQueryStart(ctx context.Context, conn *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.EqualFold(q.SQL, "commit") {
		d.at.Add(1)
		_ = conn.PgConn().Conn().Close()
	}
	return ctx
}

func (d *dying) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// A process dies at each point between two commits, with a real mail server at the other end; another process takes over
// when the lease has ended. The server accepts the mail at most once, exactly once where that can be known; where it can't,
// the mail is ambiguous, and a person sees it.
func TestKillPoints(t *testing.T) {
	t.Parallel()
	// One that is claimed and due; what follows goes on from there.
	due := func(w *world) claim {
		w.handle(w.move("acme", "maya", "ada", "t1"))
		w.elapse(DefaultWindow)
		return w.claimed(1)[0]
	}
	for name, c := range map[string]struct {
		fault    testkit.Fault
		until    func(w *world, doomed *Notifier, deaths *dying)
		accepted int
		state    string
	}{
		"K1 before item commit": {testkit.SMTPOK, func(w *world, doomed *Notifier, deaths *dying) {
			batch := w.messages(w.move("acme", "maya", "ada", "t1"))
			if err := doomed.Handle(context.Background(), batch); err == nil || deaths.at.Load() == 0 {
				w.t.Errorf("it didn't die: %v", err)
			}
			w.expect("")
			_ = w.Handle(context.Background(), batch) // not acknowledged, so it comes again
		}, 1, Sent},
		"K2 after item commit": {testkit.SMTPOK, func(w *world, _ *Notifier, _ *dying) {
			batch := w.messages(w.move("acme", "maya", "ada", "t1"))
			_ = w.Handle(context.Background(), batch)
			_ = w.Handle(context.Background(), batch) // died before the acknowledgement
		}, 1, Sent},
		"K3 after close": {testkit.SMTPOK, func(w *world, _ *Notifier, _ *dying) {
			w.handle(w.move("acme", "maya", "ada", "t1"))
			w.elapse(DefaultWindow)
			_ = w.closeDue(context.Background())
			w.expect("ada acme closed")
		}, 1, Sent},
		// The mail and its attempt are one commit: before it there is neither, after it both, which is K6.
		"K4 after render, before its commit": {testkit.SMTPOK, func(w *world, doomed *Notifier, deaths *dying) {
			if _, _, err := doomed.begin(context.Background(), due(w)); err == nil || deaths.at.Load() == 0 {
				w.t.Errorf("it didn't die: %v", err)
			}
			if n := w.number(`SELECT count(*) FROM notices WHERE mime IS NOT NULL`); n != 0 || w.attempts() != "" {
				w.t.Errorf("%d mails are written, attempts: %q", n, w.attempts())
			}
		}, 1, Sent},
		"K5 after claim": {testkit.SMTPOK, func(w *world, _ *Notifier, _ *dying) {
			due(w)
			w.expect("ada acme sending")
		}, 1, Sent},
		"K6 after attempt row": {testkit.SMTPOK, func(w *world, _ *Notifier, _ *dying) {
			w.begun(due(w))
		}, 0, Ambiguous},
		"K7 after dot": {testkit.SMTPStallAfterDot, func(w *world, _ *Notifier, _ *dying) {
			w.sender.Send(context.Background(), w.begun(due(w)).Frozen) // it dies waiting for the answer
		}, 1, Ambiguous},
		"K8 after 250 before outcome commit": {testkit.SMTPOK, func(w *world, _ *Notifier, _ *dying) {
			if r := w.sender.Send(context.Background(), w.begun(due(w)).Frozen); r.Outcome != Accepted {
				w.t.Errorf("%+v", r)
			}
		}, 1, Ambiguous},
		"K9 after outcome": {testkit.SMTPOK, func(w *world, _ *Notifier, _ *dying) {
			claim := due(w)
			mail := w.begun(claim)
			_, _ = w.record(context.Background(), claim, w.judge(mail, w.sender.Send(context.Background(), mail.Frozen)))
		}, 1, Sent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, pool := testkit.NewDatabase(t)
			w := newWorldOn(t, pool)
			sink := testkit.SMTP(t, c.fault)
			w.sender = smtpTo(t, sink.URL())
			deaths := &dying{}
			mortal, err := postgres.Open(context.Background(), url, postgres.Options{Tracer: deaths})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(mortal.Close)
			c.until(w, New(mortal, Config{Sender: w.sender}), deaths)

			sink.Set(testkit.SMTPOK)
			w.Notifier = w.restart()
			w.sender = smtpTo(t, sink.URL())
			before := len(sink.Accepted())
			if _, err := w.RunOnce(context.Background()); err != nil {
				t.Fatal(err)
			}
			if w.number(`SELECT count(*) FROM notices WHERE state = 'sending'`) == 1 && len(sink.Accepted()) != before {
				t.Error("the claim of another was not respected")
			}
			for range 3 {
				w.elapse(DefaultWindow)
				if _, err := w.RunOnce(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			w.expect("ada acme " + c.state)
			if n := len(sink.Accepted()); n != c.accepted {
				t.Errorf("the server accepted %d mails, want %d", n, c.accepted)
			}
			if found, err := w.Find(context.Background(), Search{Attention: true}); err != nil || (len(found) == 1) != (c.state == Ambiguous) {
				t.Errorf("a person sees %+v, %v", found, err)
			}
		})
	}
}
