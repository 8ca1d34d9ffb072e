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
func (b *bench) runBroker(ctx context.Context, p plan, announced verdict) (r Result, err error) {
	w := &world{servers: &b.servers, name: "postgres"} // only to ask for the server's clock and log by the same code
	defer func() { err = errors.Join(err, w.closeBroker()) }()
	if err := w.openBroker(ctx); err != nil {
		return r, err
	}
	if err := w.connect(ctx); err != nil {
		return r, err
	}
	defer w.conn.Close(context.WithoutCancel(ctx))
	if err := p.publish(ctx, w.client); err != nil {
		return r, err
	}
	s, err := w.measured(ctx, func() error {
		if err := consumeAndPublish(ctx, w.client, len(p.deliveries), announced); err != nil {
			return err
		}
		return w.acknowledged(ctx)
	})
	if err != nil {
		return r, err
	}
	r = newResult(Broker, p.name, len(p.deliveries), s, verdict{moved: announced.moved, announcements: announced.announcements})
	r.WALBytes, r.PostgresCPU = nil, nil
	on, err := messagesOn(ctx, w.client, event.StreamTaskReassignments)
	r.Right = on == announced.announcements
	b.say("jetstream: %.2f s", s.seconds)
	return r, err
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

	mu          sync.Mutex
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
