package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"handover.io/pkg/event"
)

// StreamsStatus is what the broker keeps, and how far its readers are.
type StreamsStatus []StreamStatus

// StreamStatus is one stream. The times are zero while it is empty.
type StreamStatus struct {
	Stream    string           `json:"stream"`
	Created   time.Time        `json:"created"`
	Messages  uint64           `json:"messages"`
	Bytes     uint64           `json:"bytes"`
	MaxBytes  int64            `json:"max_bytes"`
	FirstSeq  uint64           `json:"first_sequence"`
	FirstTime time.Time        `json:"first_time,omitzero"`
	LastSeq   uint64           `json:"last_sequence"`
	LastTime  time.Time        `json:"last_time,omitzero"`
	Consumers []ConsumerStatus `json:"consumers"`
}

// ConsumerStatus is one durable consumer.
type ConsumerStatus struct {
	Consumer string `json:"consumer"`
	// Pending is what it was not given yet, AckPending what it was given and has not acknowledged.
	Pending    uint64 `json:"pending"`
	AckPending int    `json:"ack_pending"`
	// AckFloor is the sequence of the stream up to which it has acknowledged all that it wants.
	AckFloor uint64 `json:"ack_floor"`
	// Redelivered is how many of AckPending it was given more than once.
	Redelivered int `json:"redelivered"`
	// OldestPending is when the oldest message arrived that it has not acknowledged; zero when there is none.
	OldestPending time.Time `json:"oldest_pending,omitzero"`
}

// Status asks the broker about all streams and their durable consumers. Without a connection it fails at once.
func (b *Bus) Status(ctx context.Context) (StreamsStatus, error) {
	if !b.Connected() {
		return nil, b.away()
	}
	ctx, cancel := b.request(ctx)
	defer cancel()
	var out StreamsStatus
	for _, known := range streams {
		s, err := b.js.Stream(ctx, known.name)
		if err != nil {
			return nil, fmt.Errorf("stream %s: %w", known.name, cause(ctx, err))
		}
		info := s.CachedInfo()
		status := StreamStatus{
			Stream: known.name, Created: b.setCreated(known.name, info.Created),
			Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes,
			FirstSeq: info.State.FirstSeq, FirstTime: instant(info.State.FirstTime),
			LastSeq: info.State.LastSeq, LastTime: instant(info.State.LastTime),
			Consumers: []ConsumerStatus{},
		}
		consumers := s.ListConsumers(ctx)
		for c := range consumers.Info() {
			if c.Config.Durable == "" {
				continue
			}
			one := ConsumerStatus{Consumer: c.Name, Pending: c.NumPending, AckPending: c.NumAckPending, AckFloor: ackFloor(info, c), Redelivered: c.NumRedelivered}
			if one.OldestPending, err = oldestPending(ctx, s, c); err != nil {
				return nil, fmt.Errorf("consumer %s: %w", c.Name, err)
			}
			status.Consumers = append(status.Consumers, one)
		}
		if err := consumers.Err(); err != nil {
			return nil, fmt.Errorf("consumers of %s: %w", known.name, err)
		}
		out = append(out, status)
	}
	return out, nil
}

// ackFloor is past what the consumer was given last where nothing is left for it: then it has seen the stream to the end,
// which was asked for before.
func ackFloor(s *jetstream.StreamInfo, c *jetstream.ConsumerInfo) uint64 {
	if c.NumPending == 0 && c.NumAckPending == 0 {
		return max(c.AckFloor.Stream, s.State.LastSeq)
	}
	return c.AckFloor.Stream
}

// oldestPending is the time of the first message that the consumer wants past its acknowledgement floor.
func oldestPending(ctx context.Context, s jetstream.Stream, c *jetstream.ConsumerInfo) (time.Time, error) {
	if c.NumPending == 0 && c.NumAckPending == 0 {
		return time.Time{}, nil
	}
	subject := c.Config.FilterSubject
	if subject == "" {
		subject = ">"
	}
	m, err := s.GetMsg(ctx, c.AckFloor.Stream+1, jetstream.WithGetMsgSubject(subject))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return time.Time{}, nil
	}
	if err != nil {
		return time.Time{}, err
	}
	return event.Micro(m.Time), nil
}

// instant drops the broker's own idea of no time at all.
func instant(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return event.Micro(t)
}
