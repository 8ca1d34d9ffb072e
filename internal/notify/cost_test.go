package notify

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// However many windows stand open, taking a move in, closing, claiming and sending touch as many pages as with few of
// them, by plans made while the tables were empty; no statement reads or writes more than a bounded number of windows; and
// a process that starts reads none of them.
func TestAHundredThousandOpenWindowsCostNoMoreThanFew(t *testing.T) {
	t.Parallel()
	small, large := costOfWindows(t, 400), costOfWindows(t, 100_000)
	for what, of := range map[string][2]float64{
		"a move into an open window": {small.joins, large.joins}, "a move that opens a window": {small.opens, large.opens},
		"closing a window": {small.closes, large.closes}, "claiming a mail": {small.claims, large.claims}, "sending a mail": {small.sends, large.sends},
		"a correction": {small.corrects, large.corrects}, "telling of a correction": {small.sendsBack, large.sendsBack},
		"claiming a window of all at once": {small.claimsOfAll, large.claimsOfAll}, "looking while nothing is due": {small.idle, large.idle},
	} {
		t.Logf("%s touches %.1f pages with 400 windows, %.1f with 100,000", what, of[0], of[1])
		if of[1] > 2*of[0]+20 {
			t.Errorf("%s touches %.1f pages with 400 windows, %.1f with 100,000", what, of[0], of[1])
		}
	}
	for name, sent := range map[string]int64{"restarting": large.restart, "one statement": large.most} {
		t.Logf("%s: %d rows", name, sent)
	}
	if large.restart > 10 {
		t.Errorf("a process that starts reads %d rows while 100,000 windows are open", large.restart)
	}
	if large.most > closeLimit {
		t.Errorf("one statement reads or writes %d rows, more than %d", large.most, closeLimit)
	}
}

// windowCost is pages for each move, window or mail; restart and most are rows that went between us and the database.
type windowCost struct {
	joins, opens, closes, claims, sends, corrects, sendsBack, claimsOfAll, idle float64
	restart, most                                                               int64
}

// costOfWindows measures while so many windows are open, twenty for each recipient.
func costOfWindows(t *testing.T, windows int) (c windowCost) {
	ctx := context.Background()
	url, admin := testkit.NewDatabase(t)
	rows := new(rowCounter)
	pool, err := postgres.Open(ctx, url, postgres.Options{Writer: true, MaxConns: 1, Tracer: rows})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	w := newWorldOn(t, pool)
	w.Notifier = New(pool, Config{Sender: w.post, From: "Handover <handover@example.com>"})
	touched := testkit.CountPages(t, pool)
	// Now the plans are made.
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(time.Hour)
	w.run(1)
	w.handle(w.move("acme", "maya", "ada", "t2"))

	const each = 20
	testkit.Exec(t, admin, `INSERT INTO users (tenant_id, user_id, name, email) SELECT 'demo', 'u' || n, 'Somebody', 'u' || n || '@example.com' FROM generate_series(0, $1) n`, windows/each)
	testkit.Exec(t, admin, `INSERT INTO accounts (tenant_id, account_id, name) SELECT 'demo', 'a' || n, 'Customer' FROM generate_series(0, $1) n`, windows-1)
	testkit.Exec(t, admin, `INSERT INTO notices (tenant_id, recipient_id, account_id, opened_at, close_at, next_try_at)
SELECT 'demo', 'u' || n / $2, 'a' || n, now(), now() + '1 h', now() + '1 h' FROM generate_series(0, $1 - 1) n`, windows, each)
	testkit.Exec(t, admin, `INSERT INTO notice_moves (notice_id, kind, account_id, from_id, moved_by, reason, moved_at, task_ids, revisions)
SELECT notice_id, 'received', account_id, 'maya', 'noa', 'segment', now(), ARRAY['of ' || account_id], ARRAY[1] FROM notices WHERE account_id ~ '^a\d'`)
	testkit.Exec(t, admin, `INSERT INTO notice_items (tenant_id, recipient_id, task_id, revision, kind, notice_id)
SELECT tenant_id, recipient_id, 'of ' || account_id, 1, 'received', notice_id FROM notices WHERE account_id ~ '^a\d'`)

	// Moves to every fifth window of twenty people, and as many to people who had none on that account.
	const people, chosen = 20, 80
	var joins, opens []event.TaskReassigned
	for n := range chosen {
		id := n * 5
		joins = append(joins, w.move(fmt.Sprint("a", id), "maya", fmt.Sprint("u", id/each), fmt.Sprint("of a", id)))
		opens = append(opens, w.move(fmt.Sprint("a", id), "maya", fmt.Sprint("u", (id/each+1)%people), fmt.Sprint("more of a", id)))
	}
	for i := range joins { // the fill has a first move of each already
		joins[i].Tasks[0].Revision = 2
	}
	per := func(n int, do func()) float64 {
		touched()
		rows.take()
		do()
		c.most = max(c.most, rows.take().most)
		return touched() / float64(n)
	}
	c.joins = per(chosen, func() { w.handle(joins...) })
	c.opens = per(chosen, func() { w.handle(opens...) })
	if n := w.number(`SELECT count(*) FROM notices WHERE state = 'open'`); n != windows+chosen+1 {
		t.Fatalf("%d windows are open, want %d", n, windows+chosen+1)
	}
	w.Notifier = New(pool, Config{Sender: w.post, From: "Handover <handover@example.com>"})
	c.idle = per(1, func() { w.run(0) })
	rows.take()
	w.Notifier = New(pool, Config{Sender: w.post, From: "Handover <handover@example.com>"})
	w.run(0)
	c.restart = rows.take().sum

	// All that was opened or joined is due.
	due := func() {
		testkit.Exec(t, admin, `UPDATE notices SET opened_at = now() - interval '1 h', close_at = now(), next_try_at = now()
WHERE state = 'open' AND (recipient_id, account_id) IN (SELECT 'u' || n * 5 / $2, 'a' || n * 5 FROM generate_series(0, $1 - 1) n)`, chosen, each)
	}
	closeAll := func() {
		if err := w.closeDue(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var claims []claim
	claim := func() {
		if claims, err = w.claim(ctx); err != nil || len(claims) != chosen {
			t.Fatalf("%d claims, want %d: %v", len(claims), chosen, err)
		}
	}
	send := func() {
		for _, c := range claims {
			if state, err := w.deliver(ctx, c); err != nil || state != Sent {
				t.Fatal(state, err)
			}
		}
	}
	due()
	c.closes, c.claims, c.sends = per(chosen, closeAll), per(chosen, claim), per(chosen, send)
	corrections := make([]event.TaskReassigned, chosen)
	for i, r := range joins {
		corrections[i] = w.move(r.AccountID, r.ToID, "maya", r.Tasks[0].ID)
		corrections[i].Correction, corrections[i].Tasks[0].Revision, corrections[i].ToID = true, 3, ""
	}
	c.corrects = per(chosen, func() { w.handle(corrections...) })
	due()
	closeAll()
	claim()
	c.sendsBack = per(chosen, send)

	// All the others are due at once.
	testkit.Exec(t, admin, `UPDATE notices SET opened_at = now() - interval '1 h', close_at = now() - interval '1 min' + notice_id * interval '1 us', next_try_at = now() WHERE state = 'open'`)
	began := time.Now()
	c.closes = max(c.closes, per(windows, closeAll))
	t.Logf("%d windows closed in %s", windows, time.Since(began).Round(time.Millisecond))
	pages := per(1, func() {
		if claims, err = w.claim(ctx); err != nil || len(claims) == 0 || len(claims) > claimLimit {
			t.Fatalf("%d claims: %v", len(claims), err)
		}
	})
	c.claimsOfAll = pages / float64(w.number(`SELECT count(*) FROM notices WHERE state IN ('sending', 'merged')`))
	return c
}

// rowCounter counts the rows that statements read or wrote for us.
type rowCounter struct {
	mu    sync.Mutex
	count rowCount
}

type rowCount struct{ sum, most int64 }

func (r *rowCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (r *rowCounter) TraceQueryEnd(_ context.Context, _ *pgx.Conn, d pgx.TraceQueryEndData) {
	r.add(d.CommandTag.RowsAffected())
}

func (r *rowCounter) TraceBatchStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceBatchStartData) context.Context {
	return ctx
}

func (r *rowCounter) TraceBatchQuery(_ context.Context, _ *pgx.Conn, d pgx.TraceBatchQueryData) {
	r.add(d.CommandTag.RowsAffected())
}

func (r *rowCounter) TraceBatchEnd(context.Context, *pgx.Conn, pgx.TraceBatchEndData) {}

func (r *rowCounter) add(rows int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count = rowCount{r.count.sum + rows, max(r.count.most, rows)}
}

// take is what was counted since it was called before.
func (r *rowCounter) take() rowCount {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.count = rowCount{} }()
	return r.count
}
