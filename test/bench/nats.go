package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"handover.io/pkg/event"
)

// natsWorkers is a handler on nats.go alone: so many workers that each take a message, apply it, and publish; it is
// acknowledged once the broker has the announcement, while the worker is at the next one. With one worker it is the only
// peer that keeps the order of the stream.
func natsWorkers(workers int) contender {
	return contender{name: fmt.Sprintf("nats-%d", workers), load: putOnStream, run: func(ctx context.Context, a *arena) error {
		consumer, err := a.js.CreateConsumer(ctx, event.StreamRoleChanges, jetstream.ConsumerConfig{
			Durable: durable, FilterSubject: event.SubjectRoleChanged("*"), AckPolicy: jetstream.AckExplicitPolicy,
		})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		results := make(chan error, workers)
		var wait sync.WaitGroup
		for range workers {
			// Each asks for a few messages at a time: for the default of 500, the first workers would take everything.
			deliveries, err := consumer.Messages(jetstream.PullMaxMessages(16))
			if err != nil {
				return err
			}
			context.AfterFunc(ctx, deliveries.Stop)
			wait.Go(func() { results <- a.work(ctx, deliveries) })
		}
		err = a.awaitHandled(ctx, results)
		cancel()
		wait.Wait()
		return err
	}}
}

func (a *arena) work(ctx context.Context, deliveries jetstream.MessagesContext) error {
	for {
		m, err := deliveries.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		} else if err != nil {
			return err
		}
		if err := a.handle(ctx, m); err != nil {
			return err
		}
	}
}

func (a *arena) handle(ctx context.Context, m jetstream.Msg) error {
	c, err := event.DecodeAccountRoleChanged(event.Message{Subject: m.Subject(), Header: m.Headers(), Body: m.Data()})
	if err != nil {
		return err
	}
	moved, err := applyAtOnce(ctx, a.pool, c)
	if err != nil {
		return err
	}
	out := messages(moved)
	stored := make([]jetstream.PubAckFuture, len(out))
	for i, o := range out {
		if stored[i], err = a.js.PublishMsgAsync(wire(o), jetstream.WithMsgID(o.ID)); err != nil {
			return err
		}
	}
	go func() {
		for _, s := range stored {
			select {
			case <-s.Ok():
			case <-s.Err():
				_ = m.Nak()
				return
			}
		}
		_ = m.Ack() // one that is lost comes again
	}()
	return nil
}

// wire has headers of its own: events share theirs, and the client writes to them.
func wire(m event.Message) *nats.Msg {
	return &nats.Msg{Subject: m.Subject, Header: maps.Clone(m.Header), Data: m.Body}
}

// durable is the name of the consumer in every contender that reads a stream.
const durable = event.ConsumerReassigner

// awaitHandled blocks until the consumer has nothing left to deliver and nothing unacknowledged, and stops the clock; or
// until somebody has failed.
func (a *arena) awaitHandled(ctx context.Context, failed <-chan error) error {
	// The newer API knows no consumers that push, which Watermill's are.
	js, err := a.nc.JetStream()
	if err != nil {
		return err
	}
	tick := time.NewTicker(10 * time.Millisecond) // more often would itself be work for the broker
	defer tick.Stop()
	for {
		select {
		case err := <-failed:
			if err == nil {
				err = errors.New("it stopped before everything was handled")
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		info, err := js.ConsumerInfo(event.StreamRoleChanges, durable, nats.Context(ctx))
		if errors.Is(err, nats.ErrConsumerNotFound) {
			continue // not made yet
		} else if err != nil {
			return err
		}
		if info.NumPending == 0 && info.NumAckPending == 0 && info.Delivered.Consumer > 0 {
			a.stopClock()
			return nil
		}
	}
}
