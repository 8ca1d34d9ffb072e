package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/pkg/event"
)

// heldByWatch is who put mails on hold when nobody did.
const heldByWatch = "handover"

// watchStreams compares the streams with the outbox before anything is published or mailed by this process, and goes on
// doing so.
func (p *process) watchStreams(ctx context.Context) error {
	w := journal.NewWatch(p.pool, journal.WatchConfig{
		Streams: streamsOf(p.bus), Logger: p.log, Registerer: p.registry,
		Older: func(ctx context.Context, reason string) error {
			return notify.New(p.pool, notify.Config{}).Hold(ctx, reason, heldByWatch)
		},
	})
	began := time.Now()
	for {
		_, err := w.Look(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.log.Warn("streams not compared with the outbox yet; trying again", zap.String("part", "watch"), zap.Error(err))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryEvery):
		}
	}
	p.logged("streams compared with the outbox", began)
	p.service.Go("watch", w.Run)
	return nil
}

// streamsOf lets a watch ask the broker.
func streamsOf(b *bus.Bus) journal.Streams {
	return journal.Streams{
		State: func(ctx context.Context, stream string) (journal.StreamState, error) {
			s, err := b.StreamState(ctx, stream)
			return journal.StreamState(s), err
		},
		IDAt: b.MessageIDAt,
		Read: func(ctx context.Context, stream string, from, to uint64, handle func(context.Context, []event.Message) error) error {
			_, err := b.Read(ctx, stream, bus.Range{FromSeq: from, ToSeq: to}, func(ctx context.Context, batch []event.Message, _ uint64) error {
				for i := range batch {
					batch[i].ID = bus.MessageID(batch[i])
				}
				return handle(ctx, batch)
			})
			return err
		},
		NextChange: b.NextChange,
	}
}
