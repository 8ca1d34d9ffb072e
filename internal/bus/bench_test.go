package bus_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// durable is a broker with the durability of production.
func durable(b *testing.B) *bus.Bus {
	b.Helper()
	s, err := bus.StartServer(bus.ServerOptions{Dir: b.TempDir(), Addr: "127.0.0.1:0", SyncAlways: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return testkit.ConnectNATS(b, s)
}

// BenchmarkLatency is from before Publish until handle is called, one message at a time.
func BenchmarkLatency(b *testing.B) {
	for name, broker := range map[string]*bus.Bus{"durable": durable(b), "fast": testkit.NATS(b)} {
		b.Run(name, func(b *testing.B) {
			arrived := make(chan time.Time, 1)
			stop := consume(b, broker, live, func(context.Context, []event.Message) error {
				arrived <- time.Now()
				return nil
			})
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				start := time.Now()
				publish(b, broker, messages(1, event.SubjectRoleChanged, fmt.Sprint(start.UnixNano(), i)))
				took = append(took, (<-arrived).Sub(start))
			}
			stop()
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
		})
	}
}

func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{1, 8, 15, 16, 32, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			broker := durable(b)
			for i := 0; b.Loop(); i++ {
				publish(b, broker, messages(n, event.SubjectRoleChanged, fmt.Sprint(i)))
			}
			b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "messages/s")
		})
	}
}

func BenchmarkConsume(b *testing.B) {
	broker := testkit.NATS(b)
	const n = 50_000
	for part := range n / 1000 {
		publish(b, broker, messages(1000, event.SubjectRoleChanged, fmt.Sprint(part)))
	}
	for i := 0; b.Loop(); i++ {
		var got seen
		done := make(chan struct{})
		stop := consume(b, broker, bus.Consumer{Stream: live.Stream, Durable: fmt.Sprint("c", i), Batch: 512, Workers: 4},
			func(_ context.Context, batch []event.Message) error {
				got.add(batch)
				if got.count() == n {
					close(done)
				}
				return nil
			})
		<-done
		stop()
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "messages/s")
}
