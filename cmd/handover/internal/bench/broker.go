package bench

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"handover.io/internal/bus"
	"handover.io/pkg/event"
)

// runBroker is the broker alone, by the same client: the plan's deliveries are consumed in batches like ours, and for them
// as many messages of the same size are published as we announced; no database, and nothing is decoded.
func (b *bench) runBroker(ctx context.Context, p plan, announced verdict) (_ spent, right bool, err error) {
	w := &world{servers: &b.servers, name: runDatabase}
	defer func() { err = errors.Join(err, w.close()) }()
	if w.broker, err = b.startBroker(); err != nil {
		return spent{}, false, err
	}
	// A database of no meaning, to ask for the server's clock and log by the same code.
	if err := w.create(ctx, w.name, "template0"); err != nil {
		return spent{}, false, err
	}
	if err := w.connect(ctx); err != nil {
		return spent{}, false, err
	}
	connection, err := bus.Connect(ctx, bus.Options{Name: "bench", InProcess: w.broker})
	if err != nil {
		return spent{}, false, err
	}
	defer connection.Close()
	if err := connection.EnsureStreams(ctx, bus.Limits{}); err != nil {
		return spent{}, false, err
	}
	if err := p.publish(ctx, connection); err != nil {
		return spent{}, false, err
	}
	clock, err := startClock(ctx, w.conn)
	if err != nil {
		return spent{}, false, err
	}
	if err := consumeAndPublish(ctx, connection, len(p.deliveries), announced); err != nil {
		return spent{}, false, err
	}
	if err := until(ctx, "changes acknowledged", func() (bool, int, error) {
		left, err := unacknowledged(ctx, connection)
		return left == 0, left, err
	}); err != nil {
		return spent{}, false, err
	}
	s, err := clock.stop(ctx)
	if err != nil {
		return s, false, err
	}
	on, err := messagesOn(ctx, connection, event.StreamTaskReassignments)
	return s, on == announced.announcements, err
}

func consumeAndPublish(ctx context.Context, b *bus.Bus, deliveries int, announced verdict) error {
	size := 0
	if announced.announcements > 0 {
		size = int(announced.bytes) / announced.announcements
	}
	body := bytes.Repeat([]byte{'x'}, size)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	share := shares{of: announced.announcements, deliveries: deliveries}
	lane := bus.Consumer{Stream: event.StreamRoleChanges, Durable: event.ConsumerReassigner, Batch: 512, Workers: 2}
	return b.Consume(ctx, lane, func(ctx context.Context, batch []event.Message) error {
		from, to, last := share.next(len(batch))
		messages := make([]event.Message, 0, to-from)
		for i := from; i < to; i++ {
			messages = append(messages, event.Message{
				ID: taskID(i), Subject: event.SubjectTaskReassigned(tenantID(0)), Body: body,
				Header: map[string][]string{"Content-Type": {"application/cloudevents+json"}},
			})
		}
		if _, err := b.Publish(ctx, messages); err != nil {
			return err
		}
		if last {
			cancel()
		}
		return nil
	})
}

// shares deals out the announcements: to a batch as large a share of them as it has of the deliveries.
type shares struct {
	of, deliveries int

	mu           sync.Mutex
	done, dealt int
}

func (s *shares) next(batch int) (from, to int, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done += batch
	from = s.dealt
	s.dealt = min(s.of, s.done*s.of/s.deliveries)
	return from, s.dealt, s.done >= s.deliveries
}
