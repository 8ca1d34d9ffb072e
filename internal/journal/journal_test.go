package journal_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

func entry(id string) journal.Entry {
	return journal.Entry{Stream: event.StreamRoleChanges, Message: event.Message{
		ID: id, Subject: event.SubjectRoleChanged("acme"), Header: map[string][]string{"Content-Type": {"application/cloudevents+json"}}, Body: []byte(id),
	}}
}

func appendTo(t *testing.T, pool *pgxpool.Pool, entries ...journal.Entry) []journal.Entry {
	t.Helper()
	err := postgres.InTx(t.Context(), pool, func(ctx context.Context, tx pgx.Tx) error { return journal.Append(ctx, tx, entries) })
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// stream keeps what is published once per id, as the broker does, and fails when told to.
type stream struct {
	mu    sync.Mutex
	ids   []string
	times map[string]int
	fail  func(event.Message) bool
}

func (s *stream) publish(_ context.Context, messages []event.Message) ([]event.Stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	stored := make([]event.Stored, len(messages))
	var errs []error
	for i, m := range messages {
		if s.fail != nil && s.fail(m) {
			errs = append(errs, fmt.Errorf("%s refused", m.ID))
			continue
		}
		if s.times == nil {
			s.times = map[string]int{}
		}
		if s.times[m.ID]++; s.times[m.ID] == 1 {
			s.ids = append(s.ids, m.ID)
		}
		stored[i] = event.Stored{Stream: event.StreamRoleChanges, Created: time.Unix(1, 0), Sequence: uint64(len(s.ids))}
	}
	return stored, errors.Join(errs...)
}

func unpublished(t *testing.T, pool *pgxpool.Pool) int64 {
	t.Helper()
	owed, err := journal.Owed(t.Context(), pool)
	if err != nil {
		t.Fatal(err)
	}
	return owed.Unpublished
}

func TestWhatIsRolledBackIsNotOwed(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	undo := errors.New("undo")
	err := postgres.InTx(t.Context(), pool, func(ctx context.Context, tx pgx.Tx) error {
		return errors.Join(journal.Append(ctx, tx, []journal.Entry{entry("a")}), undo)
	})
	if !errors.Is(err, undo) || unpublished(t, pool) != 0 {
		t.Fatalf("%v; %d owed", err, unpublished(t, pool))
	}
}

func TestSameIDIsOwedOnce(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	first := appendTo(t, pool, entry("a"), entry("b"))
	again := appendTo(t, pool, entry("b"), entry("c"))
	if first[0].Key == 0 || first[1].Key == 0 || again[0].Key != 0 || again[1].Key == 0 || unpublished(t, pool) != 3 {
		t.Fatalf("keys %v, then %v", first, again)
	}
}

func TestWhatIsAcceptedAgainIsOwedAgain(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	s := &stream{}
	relay := journal.NewRelay(pool, s.publish, zap.NewNop())
	accept := func(entries ...journal.Entry) []journal.Entry {
		t.Helper()
		err := postgres.InTx(t.Context(), pool, func(ctx context.Context, tx pgx.Tx) error { return journal.Accept(ctx, tx, entries) })
		if err != nil {
			t.Fatal(err)
		}
		return entries
	}
	accept(entry("a"), entry("a"), entry("b"))
	if got := unpublished(t, pool); got != 2 {
		t.Fatalf("%d owed, want 2", got)
	}
	if _, err := relay.Sweep(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if again := accept(entry("b"), entry("c")); again[0].Key != 0 || again[1].Key == 0 || unpublished(t, pool) != 2 {
		t.Fatalf("%d owed, keys %d and %d", unpublished(t, pool), again[0].Key, again[1].Key)
	}
	if _, err := relay.Sweep(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]int{"a": 1, "b": 2, "c": 1}, s.times); diff != "" {
		t.Error(diff)
	}
}

func TestWhatFailsIsSweptUntilItIsThere(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	broken := true
	s := &stream{fail: func(m event.Message) bool { return broken && m.ID == "b" }}
	relay := journal.NewRelay(pool, s.publish, zap.NewNop())
	appendTo(t, pool, entry("a"), entry("b"), entry("c"))
	for _, c := range []struct {
		broken bool
		owed   int64
	}{{true, 1}, {true, 1}, {false, 0}} {
		broken = c.broken
		if _, err := relay.Sweep(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		if got := unpublished(t, pool); got != c.owed {
			t.Fatalf("%d owed, want %d", got, c.owed)
		}
	}
	if diff := cmp.Diff([]string{"a", "c", "b"}, s.ids); diff != "" {
		t.Error(diff)
	}
}

func TestRelayPublishesWhatIsOfferedAndWhatNobodyOffered(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	s := &stream{}
	relay := journal.NewRelay(pool, s.publish, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.Run(ctx) }()
	appendTo(t, pool, entry("lost between commit and offer"))
	relay.Offer(appendTo(t, pool, entry("offered")))
	testkit.Eventually(t, "both published", func() (bool, string) {
		return unpublished(t, pool) == 0, fmt.Sprint(unpublished(t, pool), " owed")
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// A slow broker has had a message for so long that a sweep publishes it too. What the broker says to the first of the two is
// noted while the second still waits, and what comes next isn't held up; in the end nothing is owed.
func TestASweepAtASlowBrokerHoldsUpNobody(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	s := &stream{}
	type call struct {
		ids  string
		open chan struct{}
	}
	calls := make(chan call)
	relay := journal.NewRelay(pool, func(ctx context.Context, messages []event.Message) ([]event.Stored, error) {
		c := call{open: make(chan struct{})}
		for _, m := range messages {
			c.ids += m.ID
		}
		calls <- c
		<-c.open
		return s.publish(ctx, messages)
	}, zap.NewNop())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	relay.Offer(appendTo(t, pool, entry("a")))
	go func() { ended <- relay.Run(ctx) }()
	first := <-calls
	go func() {
		_, err := relay.Sweep(t.Context(), 0)
		ended <- err
	}()
	second := <-calls
	close(first.open)
	testkit.Eventually(t, "where the first one put it is known", func() (bool, string) {
		n := testkit.One[int](t, pool, `SELECT count(*) FROM outbox_published`)
		return n == 1, fmt.Sprint(n, " places")
	})
	relay.Offer(appendTo(t, pool, entry("b")))
	third := <-calls
	if first.ids != "a" || second.ids != "a" || third.ids != "b" {
		t.Errorf("published were %q, %q, %q", first.ids, second.ids, third.ids)
	}
	close(second.open)
	close(third.open)
	go func() {
		for { // what the relay sweeps by itself, where this took seconds
			select {
			case c := <-calls:
				close(c.open)
			case <-t.Context().Done():
				return
			}
		}
	}()
	testkit.Eventually(t, "nothing is owed", func() (bool, string) {
		return unpublished(t, pool) == 0, fmt.Sprint(unpublished(t, pool), " owed")
	})
	cancel()
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestSameMessageIsOneDeadLetterUntilItIsTriedAgain(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	letter := journal.DeadLetter{
		Consumer: "reassigner", Reason: event.ReasonOwnerUnknown, Detail: "a\r\nb", UserID: "zoe",
		Message: event.Message{Subject: event.SubjectRoleChanged("acme"), Header: map[string][]string{"X": {"1"}, "Nats-Msg-Id": {"m"}}, Body: []byte("{\x00}"), Stream: event.StreamRoleChanges, Sequence: 7},
	}
	bury := func() (entries []journal.Entry, fresh []journal.DeadLetter) {
		t.Helper()
		err := postgres.InTx(t.Context(), pool, func(ctx context.Context, tx pgx.Tx) (err error) {
			buried, err := journal.Bury(ctx, tx, []journal.DeadLetter{letter})
			entries, fresh = buried.Entries, buried.Fresh
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return entries, fresh
	}
	entries, fresh := bury()
	if len(fresh) != 1 || len(entries) != 1 {
		t.Fatalf("%d fresh, %d announced", len(fresh), len(entries))
	}
	want := map[string][]string{
		"X": {"1"}, journal.HeaderReason: {"owner_unknown"}, journal.HeaderDetail: {"a  b"}, journal.HeaderStream: {"ROLE_CHANGES"},
		journal.HeaderSequence: {"7"}, journal.HeaderSubject: {"handover.role.changed.acme"},
	}
	if diff := cmp.Diff(want, entries[0].Header); diff != "" || entries[0].Subject != "handover.dead.reassigner.acme" || string(entries[0].Body) != "{\x00}" {
		t.Errorf("announced on %s: %q\n%s", entries[0].Subject, entries[0].Body, diff)
	}
	letter.Message.Sequence, letter.Message.Header["Nats-Msg-Id"] = 8, []string{"another"}
	if _, fresh := bury(); len(fresh) != 0 {
		t.Error("delivered again, it is another dead letter")
	}
	var retried []journal.Entry
	retry := func() {
		t.Helper()
		err := postgres.InTx(t.Context(), pool, func(ctx context.Context, tx pgx.Tx) (err error) {
			retried, err = journal.RetryWaiting(ctx, tx, "acme", []string{"zoe"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	retry()
	if len(retried) != 1 || retried[0].Subject != letter.Message.Subject || string(retried[0].Body) != "{\x00}" || retried[0].Header["Nats-Msg-Id"] != nil {
		t.Fatalf("tried again: %+v", retried)
	}
	first := retried[0].ID
	if retry(); len(retried) != 0 {
		t.Error("tried again twice")
	}
	if _, fresh := bury(); len(fresh) != 1 {
		t.Error("in vain: it is dead again")
	}
	if retry(); len(retried) != 1 || retried[0].ID == first {
		t.Error("the second retry needs an id that the broker hasn't seen")
	}
}

func TestPublishedRowsAreKeptLongerThanTheStreamKeepsThem(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	relay := journal.NewRelay(pool, (&stream{}).publish, zap.NewNop())
	for _, id := range []string{"old", "young"} {
		appendTo(t, pool, entry(id))
		if _, err := relay.Sweep(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		testkit.Exec(t, pool, `UPDATE outbox_published SET published_at = published_at - interval '31 days 1 hour'`)
	}
	testkit.Exec(t, pool, `UPDATE outbox_published SET published_at = published_at + interval '31 days' WHERE key = (SELECT max(key) FROM outbox_published)`)
	appendTo(t, pool, entry("old but owed"))
	testkit.Exec(t, pool, `UPDATE outbox SET created_at = now() - interval '40 days'`)
	if err := relay.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	left := testkit.All[string](t, pool, `SELECT message_id FROM outbox ORDER BY key`)
	if diff := cmp.Diff([]string{"young", "old but owed"}, left); diff != "" {
		t.Error(diff)
	}
}
