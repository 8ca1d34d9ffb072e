package bus_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

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

func TestLatency(t *testing.T) {
	b := testkit.NATS(t)
	arrived := make(chan time.Time, 1)
	consume(t, b, live, func(_ context.Context, batch []event.Message) error {
		arrived <- time.Now()
		return nil
	})
	var took, acked []time.Duration
	for i := range 500 {
		start := time.Now()
		publish(t, b, messages(1, event.SubjectRoleChanged, fmt.Sprint(i)))
		acked = append(acked, time.Since(start))
		took = append(took, (<-arrived).Sub(start))
	}
	slices.Sort(took)
	slices.Sort(acked)
	t.Logf("publish to handle: p50 %v p99 %v; publish acked p50 %v", took[250], took[495], acked[250])
}
