package bus_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

func messages(n int, lane func(tenant string) string, prefix string) []event.Message {
	out := make([]event.Message, n)
	for i := range out {
		id := fmt.Sprintf("%s-%d", prefix, i)
		out[i] = event.Message{
			ID: id, Subject: lane("demo"), Body: []byte(id),
			Header: map[string][]string{"Content-Type": {"application/cloudevents+json"}},
		}
	}
	return out
}

func publish(t testing.TB, b *bus.Bus, m []event.Message) []event.Stored {
	t.Helper()
	stored, err := b.Publish(context.Background(), m)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// seen records how often each message was handled.
type seen struct {
	mu    sync.Mutex
	times map[string]int
}

func (s *seen) add(batch []event.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.times == nil {
		s.times = map[string]int{}
	}
	for _, m := range batch {
		s.times[string(m.Body)]++
	}
}

func (s *seen) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.times)
}

// consume runs a consumer in the background until the returned function is called.
func consume(t testing.TB, b *bus.Bus, c bus.Consumer, handle func(context.Context, []event.Message) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Consume(ctx, c, handle) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

var live = bus.Consumer{
	Stream: event.StreamRoleChanges, Durable: event.ConsumerReassigner,
	Filter: event.SubjectRoleChanged("*"), Batch: 64, Workers: 4,
}

func TestEveryMessageIsHandled(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	var got seen
	consume(t, b, live, func(_ context.Context, batch []event.Message) error {
		got.add(batch)
		return nil
	})
	publish(t, b, messages(500, event.SubjectRoleChanged, "m"))
	publish(t, b, messages(5, event.SubjectRoleBulk, "not-for-this-one"))
	testkit.Eventually(t, "all are handled", func() (bool, string) { return got.count() == 500, fmt.Sprint(got.count()) })
}

func TestABatchThatFailsComesAgain(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	publish(t, b, messages(40, event.SubjectRoleChanged, "m"))
	var got seen
	var mu sync.Mutex
	tries := map[string]int{}
	consume(t, b, live, func(_ context.Context, batch []event.Message) error {
		mu.Lock()
		defer mu.Unlock()
		if tries[batch[0].Get("Nats-Msg-Id")]++; tries[batch[0].Get("Nats-Msg-Id")] < 3 {
			return errors.New("not yet")
		}
		got.add(batch)
		return nil
	})
	testkit.Eventually(t, "all are handled", func() (bool, string) { return got.count() == 40, fmt.Sprint(got.count()) })
	settled(t, b)
}

// settled waits until the live consumer has nothing left.
func settled(t testing.TB, b *bus.Bus) {
	t.Helper()
	testkit.Eventually(t, "all are acknowledged", func() (bool, string) {
		c := status(t, b)
		return c.Pending == 0 && c.AckPending == 0 && c.OldestPending.IsZero(), fmt.Sprintf("%+v", c)
	})
}

// status of the live consumer.
func status(t testing.TB, b *bus.Bus) bus.ConsumerStatus {
	t.Helper()
	all, err := b.Status(context.Background())
	if err != nil {
		return bus.ConsumerStatus{AckPending: -1}
	}
	for _, s := range all {
		for _, c := range s.Consumers {
			if c.Consumer == live.Durable {
				return c
			}
		}
	}
	return bus.ConsumerStatus{AckPending: -1}
}

func TestMessagesArriveAsTheyWerePublished(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	before := time.Now().Add(-time.Second)
	stored := publish(t, b, messages(16, event.SubjectRoleChanged, "m"))
	arrived := make(chan event.Message, 16)
	one := live
	one.Workers = 1 // so that they come in order
	consume(t, b, one, func(_ context.Context, batch []event.Message) error {
		for _, m := range batch {
			arrived <- m
		}
		return nil
	})
	for i, want := range messages(16, event.SubjectRoleChanged, "m") {
		got := <-arrived
		if got.Stream != event.StreamRoleChanges || got.Sequence != stored[i].Sequence || got.StoredAt.Before(before) {
			t.Errorf("got %+v, stored as %+v", got, stored[i])
		}
		if got.Get("Nats-Batch-Id") == "" {
			t.Error("sixteen messages didn't go as an atomic batch")
		}
		if got.Subject != want.Subject || string(got.Body) != string(want.Body) || got.Get("content-type") != want.Get("content-type") {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestAWorkerThatIsBusyHoldsUpNobody(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	var got seen
	stuck := make(chan struct{})
	consume(t, b, live, func(_ context.Context, batch []event.Message) error {
		if string(batch[0].Body) == "stuck-0" {
			<-stuck
		}
		got.add(batch)
		return nil
	})
	defer close(stuck)
	publish(t, b, messages(1, event.SubjectRoleChanged, "stuck"))
	testkit.Eventually(t, "a worker has it", func() (bool, string) { return status(t, b).AckPending == 1, "" })
	for i := range 200 {
		publish(t, b, messages(1, event.SubjectRoleChanged, fmt.Sprint("m", i)))
	}
	testkit.Eventually(t, "all others are handled", func() (bool, string) { return got.count() == 200, fmt.Sprint(got.count()) })
}

func TestTheBatchInHandIsFinished(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	publish(t, b, messages(1, event.SubjectRoleChanged, "m"))
	begun, finish := make(chan struct{}), make(chan struct{})
	var got seen
	stop := consume(t, b, bus.Consumer{Stream: live.Stream, Durable: live.Durable, Filter: live.Filter, Batch: 64},
		func(ctx context.Context, batch []event.Message) error {
			close(begun)
			<-finish
			got.add(batch)
			return ctx.Err()
		})
	<-begun
	time.AfterFunc(50*time.Millisecond, func() { close(finish) })
	stop()
	if got.count() != 1 {
		t.Errorf("%d handled when Consume returned, want the one in hand", got.count())
	}
	settled(t, b)
}

func TestWhatWasNotDoneIsGivenBackAtOnce(t *testing.T) {
	t.Parallel()
	s := testkit.NATSServer(t)
	b := testkit.ConnectNATS(t, s)
	publish(t, b, messages(200, event.SubjectRoleChanged, "m"))
	failed := make(chan struct{}, 1000)
	stop := consume(t, b, live, func(context.Context, []event.Message) error {
		failed <- struct{}{}
		return errors.New("never")
	})
	for range 2 * live.Workers {
		<-failed
	}
	stop()
	var got seen
	consume(t, testkit.ConnectNATS(t, s), live, func(_ context.Context, batch []event.Message) error {
		got.add(batch)
		return nil
	})
	testkit.Eventually(t, "somebody else has them", func() (bool, string) { return got.count() == 200, fmt.Sprint(got.count()) })
}

func TestWhatADeadProcessHadComesAgainAtOnce(t *testing.T) {
	t.Parallel()
	s := testkit.NATSServer(t)
	publish(t, testkit.ConnectNATS(t, s), messages(100, event.SubjectRoleChanged, "m"))
	// A process that takes messages, and dies.
	js := jetStream(t, s)
	c, err := js.CreateOrUpdateConsumer(context.Background(), live.Stream, jetstream.ConsumerConfig{
		Durable: live.Durable, FilterSubject: live.Filter, AckWait: time.Minute, MaxDeliver: -1,
	})
	if err != nil {
		t.Fatal(err)
	}
	taken, err := c.Fetch(60)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for range taken.Messages() {
		n++
	}
	if n != 60 {
		t.Fatalf("took %d, want 60", n)
	}
	var got seen
	consume(t, testkit.ConnectNATS(t, s), live, func(_ context.Context, batch []event.Message) error {
		got.add(batch)
		return nil
	})
	testkit.Eventually(t, "all are handled", func() (bool, string) { return got.count() == 100, fmt.Sprint(got.count()) })
}

func TestARestartOfTheBrokerLosesNothing(t *testing.T) {
	t.Parallel()
	s := testkit.NATSServer(t)
	b := testkit.ConnectNATS(t, s)
	var got seen
	consume(t, b, live, func(_ context.Context, batch []event.Message) error {
		got.add(batch)
		return nil
	})
	const rounds, each = 3, 400
	for round := range rounds {
		in := messages(each, event.SubjectRoleChanged, fmt.Sprint(round))
		for part := range 10 {
			testkit.Eventually(t, "it is published", func() (bool, string) {
				_, err := b.Publish(context.Background(), in[part*each/10:(part+1)*each/10])
				return err == nil, fmt.Sprint(err)
			})
		}
		s = testkit.RestartNATS(t, s)
	}
	testkit.Eventually(t, "all are handled", func() (bool, string) { return got.count() == rounds*each, fmt.Sprint(got.count()) })
	settled(t, b)
}

func TestADeletedConsumerIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := testkit.NATSServer(t)
	b := testkit.ConnectNATS(t, s)
	var got seen
	consume(t, b, live, func(_ context.Context, batch []event.Message) error {
		got.add(batch)
		return nil
	})
	publish(t, b, messages(50, event.SubjectRoleChanged, "before"))
	testkit.Eventually(t, "the first are handled", func() (bool, string) { return got.count() == 50, fmt.Sprint(got.count()) })
	if err := jetStream(t, s).DeleteConsumer(context.Background(), live.Stream, live.Durable); err != nil {
		t.Fatal(err)
	}
	publish(t, b, messages(50, event.SubjectRoleChanged, "between"))
	testkit.Eventually(t, "the others too", func() (bool, string) { return got.count() == 100, fmt.Sprint(got.count()) })
	deleteStream(t, s, live.Stream)
	testkit.Eventually(t, "it is published on a new stream", func() (bool, string) {
		_, err := b.Publish(context.Background(), messages(50, event.SubjectRoleChanged, "after"))
		return err == nil, fmt.Sprint(err)
	})
	testkit.Eventually(t, "those on a new stream too", func() (bool, string) { return got.count() == 150, fmt.Sprint(got.count()) })
}

func TestStatusTellsWhatWaits(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	release := make(chan struct{})
	stored := publish(t, b, messages(3, event.SubjectRoleBulk, "not-for-this-one"))
	stop := consume(t, b, bus.Consumer{Stream: live.Stream, Durable: live.Durable, Filter: live.Filter, Batch: 2},
		func(context.Context, []event.Message) error {
			<-release
			return nil
		})
	before := time.Now().Add(-time.Second)
	publish(t, b, messages(1, event.SubjectRoleChanged, "first"))
	testkit.Eventually(t, "a worker has the first", func() (bool, string) { return status(t, b).AckPending == 1, "" })
	publish(t, b, messages(10, event.SubjectRoleChanged, "then"))
	all, err := b.Status(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	got := all[0]
	if got.Stream != event.StreamRoleChanges || got.Messages != 14 || got.FirstSeq != 1 || got.LastSeq != 14 || got.Bytes == 0 ||
		!got.Created.Equal(stored[0].Created) || got.FirstTime.Before(before) || got.LastTime.Before(got.FirstTime) {
		t.Errorf("got %+v", got)
	}
	c := got.Consumers[0]
	if c.Pending != 10 || c.AckPending != 1 || c.Redelivered != 0 || c.OldestPending.Before(before) {
		t.Errorf("got %+v", c)
	}
	if all[1].Messages != 0 || !all[1].FirstTime.IsZero() || len(all[1].Consumers) != 0 {
		t.Errorf("got %+v", all[1])
	}
	close(release)
	settled(t, b)
	stop()
}
