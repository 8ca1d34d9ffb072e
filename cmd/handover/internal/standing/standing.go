// Package standing asks the broker and the database how things stand, and judges what needs a person.
//
// Invariant: it only reads. Attention is empty exactly when nothing needs anybody: whatever it lists is a sentence that
// says what is wrong and what to do.
//
// It fails by telling half: of a broker or a database that doesn't answer it says so, as the first thing that needs
// somebody, and nothing about what that one keeps.
package standing

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/cmd/handover/internal/parts"
	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
)

// Standing is how things stand.
type Standing struct {
	At          time.Time         `json:"at"` // by the database's clock; by ours while it is away
	Attention   []string          `json:"attention"`
	Database    Server            `json:"database"`
	Broker      Server            `json:"broker"`
	Work        []Work            `json:"work"`             // in the order in which it flows
	Rates       parts.Rates       `json:"rates_per_second"` // over the last minute, all processes together
	Parts       []parts.Report    `json:"parts"`            // as heard of within a day
	Streams     bus.StreamsStatus `json:"streams"`
	Notices     Notices           `json:"notices"`
	DeadLetters []DeadLetters     `json:"dead_letters"`
	Operations  []Operation       `json:"operations"` // under way
	Runs        []Run             `json:"operator_runs"`
}

// Server is one of the two that everything stands on.
type Server struct {
	Answers bool    `json:"answers"`
	Problem string  `json:"problem,omitempty"`
	Seconds float64 `json:"answered_in_seconds"`
}

// Work is what waits for one of the parts.
type Work struct {
	Part     string     `json:"part"`
	Waiting  int64      `json:"waiting"`
	AtWork   int64      `json:"at_work"` // handed to a process and not done
	OldestAt *time.Time `json:"oldest_at"`
	Lag      float64    `json:"lag_seconds"` // age of the oldest; 0 without any
}

// Notices are the e-mail windows that aren't finished.
type Notices struct {
	Open      int      `json:"open"`
	Due       int      `json:"due"`
	Ambiguous int      `json:"ambiguous"`
	Undecided []Notice `json:"undecided"` // the ambiguous ones, the oldest 100
	// Hold says why no mail goes out; null while they do.
	Hold *notify.MailHold `json:"hold"`
}

// Notice is a mail of which nobody can tell whether it arrived.
type Notice struct {
	ID          int64     `json:"notice_id"`
	TenantID    string    `json:"tenant_id"`
	RecipientID string    `json:"recipient_id"`
	AccountID   string    `json:"account_id"` // empty: a summary of several
	Subject     string    `json:"subject"`
	OpenedAt    time.Time `json:"opened_at"`
}

// DeadLetters are those of one reason.
type DeadLetters struct {
	TenantID string    `json:"tenant_id"`
	Consumer string    `json:"consumer"`
	Reason   string    `json:"reason"`
	Count    int64     `json:"count"`
	OldestAt time.Time `json:"oldest_at"`
	Newest   string    `json:"newest"` // what is wrong with the newest of them, and what to do
}

// Operation is one that is under way.
type Operation struct {
	ID         string    `json:"operation_id"`
	TenantID   string    `json:"tenant_id"`
	Kind       string    `json:"kind"`
	State      string    `json:"state"`
	AcceptedAt time.Time `json:"accepted_at"`
	Changes    int64     `json:"changes"`
	Applied    int64     `json:"applied"`
	Refused    int64     `json:"refused"`
	TasksMoved int64     `json:"tasks_moved"`
}

// Run is what an operator does by command, or one that was cut off.
type Run struct {
	ID        int64     `json:"run_id"`
	Command   string    `json:"command"`
	Actor     string    `json:"actor"`
	StartedAt time.Time `json:"started_at"`
	UpdatedAt time.Time `json:"updated_at"`
	Cursor    string    `json:"cursor"` // how far it is, in the command's own words
}

const (
	deadLetters = `
SELECT g.tenant_id, g.consumer, g.reason, g.n, g.oldest, d.detail
FROM (
  SELECT tenant_id, consumer, reason, count(*) AS n, min(created_at) AS oldest, max(key) AS newest FROM dead_letters
  WHERE state = 'dead' GROUP BY tenant_id, consumer, reason) g
JOIN dead_letters d ON d.key = g.newest ORDER BY 1, 2, 3`
	undecided = `
SELECT notice_id, tenant_id, recipient_id, account_id, coalesce(subject, ''), opened_at FROM notices
WHERE state = 'ambiguous' ORDER BY notice_id LIMIT 100`
	operations = `
SELECT operation_id, tenant_id, kind, state, accepted_at, changes, applied, refused, tasks_moved FROM operations
WHERE state IN ('expanding', 'applying') ORDER BY accepted_at LIMIT 100`
	runs = `
SELECT run_id, command, actor, started_at, updated_at, coalesce(cursor, '') FROM operator_runs WHERE state = 'running' ORDER BY run_id`
	toExpand = `SELECT count(*), min(accepted_at) FROM operations WHERE state = 'expanding'`
)

// Read asks both servers at once, each for as long as ctx lasts. Broker is bus.Bus.Status.
func Read(ctx context.Context, pool *pgxpool.Pool, broker func(context.Context) (bus.StreamsStatus, error)) Standing {
	s := Standing{
		At: time.Now().UTC(), Rates: parts.Rates{}, Work: []Work{}, Parts: []parts.Report{}, Streams: bus.StreamsStatus{},
		Notices: Notices{Undecided: []Notice{}}, DeadLetters: []DeadLetters{}, Operations: []Operation{}, Runs: []Run{},
	}
	var streams bus.StreamsStatus
	var answered sync.WaitGroup
	answered.Go(func() {
		s.Broker = ask(func() (err error) {
			streams, err = broker(ctx)
			return err
		})
	})
	s.Database = ask(func() error { return s.readDatabase(ctx, pool) })
	answered.Wait()
	if s.Broker.Answers {
		s.readStreams(streams)
	}
	for i, w := range s.Work {
		s.Work[i].Lag = s.seconds(w.OldestAt)
	}
	for _, p := range s.Parts {
		if !p.Running {
			continue
		}
		for what, n := range p.Rates {
			s.Rates[what] += n
		}
	}
	s.Attention = s.judge()
	return s
}

func ask(question func() error) Server {
	began := time.Now()
	err := question()
	s := Server{Answers: err == nil, Seconds: time.Since(began).Seconds()}
	if err != nil {
		s.Problem = err.Error()
	}
	return s
}

// readDatabase begins with what says most.
func (s *Standing) readDatabase(ctx context.Context, pool *pgxpool.Pool) (err error) {
	if err := pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&s.At); err != nil {
		return err
	}
	if s.Parts, err = parts.Read(ctx, pool); err != nil {
		return fmt.Errorf("parts: %w", err)
	}
	expander := Work{Part: "expander"}
	if err := pool.QueryRow(ctx, toExpand).Scan(&expander.Waiting, &expander.OldestAt); err != nil {
		return fmt.Errorf("operations: %w", err)
	}
	owed, err := journal.Owed(ctx, pool)
	if err != nil {
		return fmt.Errorf("outbox: %w", err)
	}
	mails := notify.New(pool, notify.Config{})
	counts, err := mails.Counts(ctx)
	if err != nil {
		return err
	}
	sender := Work{Part: "sender", Waiting: int64(counts.Due)}
	if !counts.OldestDue.IsZero() {
		sender.OldestAt = &counts.OldestDue
	}
	s.Work = []Work{expander, {Part: "relay", Waiting: owed.Unpublished, OldestAt: owed.OldestAt}, sender}
	s.Notices = Notices{Open: counts.Open, Due: counts.Due, Ambiguous: counts.Ambiguous}
	if s.Notices.Hold, err = mails.Held(ctx); err != nil {
		return err
	}
	if s.Notices.Undecided, err = list[Notice](ctx, pool, undecided); err != nil {
		return fmt.Errorf("notices: %w", err)
	}
	if s.DeadLetters, err = list[DeadLetters](ctx, pool, deadLetters); err != nil {
		return fmt.Errorf("dead letters: %w", err)
	}
	if s.Operations, err = list[Operation](ctx, pool, operations); err != nil {
		return fmt.Errorf("operations: %w", err)
	}
	if s.Runs, err = list[Run](ctx, pool, runs); err != nil {
		return fmt.Errorf("runs of operators: %w", err)
	}
	return nil
}

// readStreams puts what waits for the consumers before the mails, which come last.
func (s *Standing) readStreams(streams bus.StreamsStatus) {
	s.Streams = streams
	var consumers []Work
	for _, stream := range streams {
		for _, c := range stream.Consumers {
			w := Work{Part: c.Consumer, Waiting: int64(c.Pending), AtWork: int64(c.AckPending)}
			if !c.OldestPending.IsZero() {
				w.OldestAt = &c.OldestPending
			}
			consumers = append(consumers, w)
		}
	}
	s.Work = slices.Insert(s.Work, max(0, len(s.Work)-1), consumers...)
}

func list[T any](ctx context.Context, pool *pgxpool.Pool, sql string) ([]T, error) {
	rows, err := pool.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if out == nil {
		out = []T{}
	}
	return out, err
}

// work is what waits for a part, if anybody knows.
func (s Standing) work(part string) (Work, bool) {
	i := slices.IndexFunc(s.Work, func(w Work) bool { return w.Part == part })
	if i < 0 {
		return Work{}, false
	}
	return s.Work[i], true
}

// running are the processes that run a part; last is the one heard of last, of them or of those that are gone.
func (s Standing) running(part string) (now []parts.Report, last *parts.Report) {
	for i, p := range s.Parts {
		if p.Part != part {
			continue
		}
		if p.Running {
			now = append(now, p)
		}
		if last == nil || p.SeenAt.After(last.SeenAt) {
			last = &s.Parts[i]
		}
	}
	return now, last
}

func (s Standing) age(t time.Time) string { return short(s.At.Sub(t)) }

func (s Standing) seconds(since *time.Time) float64 {
	if since == nil || since.IsZero() {
		return 0
	}
	return max(0, s.At.Sub(*since).Seconds())
}
