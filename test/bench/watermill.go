package main

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wmnats "github.com/ThreeDotsLabs/watermill-nats/v2/pkg/nats"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"handover.io/pkg/event"
)

const watermillHandlers = 8

// asDocumented is Watermill by its documentation: the subscriber's settings are those of its guide to NATS, the handler
// runs a transaction and publishes each moved task with Watermill's publisher, and what it returned nil for is acknowledged.
func asDocumented() contender {
	c := watermillWith("watermill", applyInSteps, messagePerTask, wmnats.JetStreamConfig{
		SubscribeOptions: []nats.SubOpt{nats.DeliverAll(), nats.AckExplicit()},
		TrackMsgId:       true, DurablePrefix: durable,
	})
	c.fewer = 20
	return c
}

// tuned is the best that can be made of it without leaving Watermill. One message a change; one statement a change; no
// more messages handed out than keep all handlers at work, since the broker else gives everything to whoever
// subscribed first; acknowledgements that nobody waits for. Its publisher knows no other way than to wait for the broker.
func tuned() contender {
	oneStatement := func(ctx context.Context, pool *pgxpool.Pool, c event.AccountRoleChanged) (event.TaskReassigned, error) {
		return applyAtOnce(ctx, pool, c)
	}
	return watermillWith("watermill-tuned", oneStatement, messages, wmnats.JetStreamConfig{
		SubscribeOptions: []nats.SubOpt{nats.DeliverAll(), nats.AckExplicit(), nats.MaxAckPending(4 * watermillHandlers)},
		TrackMsgId:       true, DurablePrefix: durable, AckAsync: true,
	})
}

type (
	apply  func(context.Context, *pgxpool.Pool, event.AccountRoleChanged) (event.TaskReassigned, error)
	divide func(event.TaskReassigned) []event.Message
)

func watermillWith(name string, apply apply, divide divide, js wmnats.JetStreamConfig) contender {
	return contender{name: name, load: putOnStream, run: func(ctx context.Context, a *arena) error {
		log := watermill.NewSlogLogger(errorsOnly)
		publisher, err := wmnats.NewPublisher(wmnats.PublisherConfig{URL: a.natsURL, JetStream: js}, log)
		if err != nil {
			return err
		}
		defer publisher.Close()
		subscriber, err := wmnats.NewSubscriber(wmnats.SubscriberConfig{
			URL: a.natsURL, QueueGroupPrefix: durable, SubscribersCount: watermillHandlers,
			CloseTimeout: 30 * time.Second, AckWaitTimeout: 30 * time.Second, JetStream: js,
		}, log)
		if err != nil {
			return err
		}
		router, err := message.NewRouter(message.RouterConfig{}, log)
		if err != nil {
			return err
		}
		router.AddConsumerHandler("reassign", event.SubjectRoleChanged("*"), subscriber, func(m *message.Message) error {
			c, err := event.DecodeAccountRoleChanged(event.Message{Header: headers(m), Body: m.Payload})
			if err != nil {
				return err
			}
			moved, err := apply(m.Context(), a.pool, c)
			if err != nil {
				return err
			}
			out := divide(moved)
			if len(out) == 0 {
				return nil
			}
			announced := make([]*message.Message, len(out))
			for i, o := range out {
				announced[i] = message.NewMessage(o.ID, o.Body)
				announced[i].Metadata.Set("Content-Type", o.Header["Content-Type"][0])
			}
			return publisher.Publish(out[0].Subject, announced...)
		})
		stopped := make(chan error, 1)
		go func() { stopped <- router.Run(ctx) }()
		if err := a.awaitHandled(ctx, stopped); err != nil {
			return err
		}
		return router.Close()
	}}
}

func headers(m *message.Message) map[string][]string {
	out := make(map[string][]string, len(m.Metadata))
	for name, value := range m.Metadata {
		out[name] = []string{value}
	}
	return out
}
