// Package standing asks the broker and the database how things stand, and judges what needs a person.
//
// Invariant: it only reads. Attention is empty exactly when nothing needs anybody: whatever it lists is a sentence that
// says what is wrong and what to do.
//
// It fails when the broker or the database doesn't answer; a half answer would look like good news.
package standing

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/pkg/event"
)

const (
	// late is how old waiting work may be before somebody should look: far more than it takes, also during a bulk edit's
	// single changes; bulk work itself may queue for as long as it needs.
	late     = 30 * time.Second
	lateBulk = 30 * time.Minute
)

// Standing is how things stand.
type Standing struct {
	At          time.Time         `json:"at"` // by the database clock
	Streams     bus.StreamsStatus `json:"streams"`
	Outbox      Outbox            `json:"outbox"`
	Notices     Notices           `json:"notices"`
	DeadLetters []DeadLetters     `json:"dead_letters"`
	Operations  []Operation       `json:"operations"` // under way
	Attention   []string          `json:"attention"`
}

// Outbox is what is committed and not published yet.
type Outbox struct {
	Unpublished int64      `json:"unpublished"`
	OldestAt    *time.Time `json:"oldest_at"`
}

// Notices are the e-mail windows that aren't finished.
type Notices struct {
	Open      int        `json:"open"`
	Due       int        `json:"due"`
	Ambiguous int        `json:"ambiguous"`
	OldestDue *time.Time `json:"oldest_due"`
	Undecided []Notice   `json:"undecided"` // the ambiguous ones, the oldest 100
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
)

// Read asks. Broker is bus.Bus.Status.
func Read(ctx context.Context, pool *pgxpool.Pool, broker func(context.Context) (bus.StreamsStatus, error)) (Standing, error) {
	var s Standing
	if err := pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&s.At); err != nil {
		return s, fmt.Errorf("database: %w", err)
	}
	owed, err := journal.Owed(ctx, pool)
	if err != nil {
		return s, fmt.Errorf("outbox: %w", err)
	}
	s.Outbox = Outbox(owed)
	counts, err := notify.New(pool, notify.Config{}).Counts(ctx)
	if err != nil {
		return s, err
	}
	s.Notices = Notices{Open: counts.Open, Due: counts.Due, Ambiguous: counts.Ambiguous}
	if !counts.OldestDue.IsZero() {
		s.Notices.OldestDue = &counts.OldestDue
	}
	if s.Notices.Undecided, err = list[Notice](ctx, pool, undecided); err != nil {
		return s, fmt.Errorf("notices: %w", err)
	}
	if s.DeadLetters, err = list[DeadLetters](ctx, pool, deadLetters); err != nil {
		return s, fmt.Errorf("dead letters: %w", err)
	}
	if s.Operations, err = list[Operation](ctx, pool, operations); err != nil {
		return s, fmt.Errorf("operations: %w", err)
	}
	if s.Streams, err = broker(ctx); err != nil {
		return s, fmt.Errorf("broker: %w", err)
	}
	s.Attention = s.judge()
	return s, nil
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

// judge lists what needs somebody.
func (s Standing) judge() []string {
	out := []string{}
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for _, d := range s.DeadLetters {
		newest := ""
		if d.Count > 1 {
			newest = "the newest: "
		}
		say("%s of %s in tenant %s: %s (%s%s)", count(d.Count, "dead letter"), d.Consumer, d.TenantID, d.Reason, newest, d.Newest)
	}
	if n := s.Notices.Ambiguous; n > 0 {
		say("%s may or may not have arrived, and none is sent twice by itself: ask the recipients", count(int64(n), "mail"))
	}
	if at := s.Notices.OldestDue; at != nil && s.At.Sub(*at) > time.Minute {
		say("a mail is overdue by %s: is a notifier running, and does the mail server take mails?", s.age(*at))
	}
	if at := s.Outbox.OldestAt; at != nil && s.At.Sub(*at) > late {
		say("what was committed %s ago is not published: is a relay running, and is the broker there and not full?", s.age(*at))
	}
	for _, name := range []string{event.ConsumerReassigner, event.ConsumerReassignerBulk, event.ConsumerNotifier} {
		consumer, found := s.consumer(name)
		limit := late
		if name == event.ConsumerReassignerBulk {
			limit = lateBulk
		}
		switch {
		case !found:
			say("there is no consumer %s: it was never run", name)
		case !consumer.OldestPending.IsZero() && s.At.Sub(consumer.OldestPending) > limit:
			say("%s is behind by %s: is it running, and is the database there?", name, s.age(consumer.OldestPending))
		}
	}
	for _, stream := range s.Streams {
		if stream.MaxBytes > 0 && float64(stream.Bytes) > 0.8*float64(stream.MaxBytes) {
			say("the stream %s is %d%% full; it takes no more when it is full", stream.Stream, 100*stream.Bytes/uint64(stream.MaxBytes))
		}
	}
	return out
}

func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func (s Standing) consumer(name string) (bus.ConsumerStatus, bool) {
	for _, stream := range s.Streams {
		if i := slices.IndexFunc(stream.Consumers, func(c bus.ConsumerStatus) bool { return c.Consumer == name }); i >= 0 {
			return stream.Consumers[i], true
		}
	}
	return bus.ConsumerStatus{}, false
}

func (s Standing) age(t time.Time) time.Duration { return s.At.Sub(t).Round(time.Second) }
