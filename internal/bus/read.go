package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"handover.io/pkg/event"
)

// Range is a part of a stream. Empty fields don't narrow it.
type Range struct {
	Subjects       []string  // patterns; any by default
	FromSeq, ToSeq uint64    // both included
	Since, Until   time.Time // of arrival; Since is included, Until is not
	Batch          int       // the most messages read together; 512 by default
}

const (
	defaultReadBatch = 512
	// askEvery is how often a read makes sure that the stream is still the one that it began with.
	askEvery = 5 * time.Second
	// readerKept is how long the broker keeps a reader that went without a word; one that ends is gone at once, since the
	// broker has room for so many only.
	readerKept = time.Minute
)

// ErrAnotherStream ends a read of a stream that was made again, or lost its end, meanwhile.
var ErrAnotherStream = errors.New("the stream was made again, or lost its end, while it was read")

// Read gives the messages of a part of a stream to handle, in their order, in batches, without a durable consumer: nobody
// else misses what it reads. It ends with what the stream holds when it begins. Pending is how many messages there are
// after the batch, those beyond Until and ToSeq included. It returns the sequence up to which the stream has been read.
//
// An error is that of handle, which ends it, that of ctx, or the broker's, or ErrAnotherStream; what was handled before
// stays handled. It waits for a broker that goes away in between.
func (b *Bus) Read(ctx context.Context, stream string, r Range, handle func(ctx context.Context, batch []event.Message, pending uint64) error) (uint64, error) {
	if err := b.awaitConnected(ctx); err != nil {
		return 0, err
	}
	created, end, err := b.StreamCreated(ctx, stream)
	if err != nil {
		return 0, err
	}
	if r.ToSeq != 0 {
		end = min(end, r.ToSeq)
	}
	if end < r.FromSeq {
		return end, nil
	}
	consumer, err := b.reader(ctx, stream, r)
	if err != nil {
		return 0, fmt.Errorf("read the stream %s: %w", stream, cause(ctx, err))
	}
	defer b.dropReader(ctx, stream, consumer)
	if consumer.CachedInfo().NumPending == 0 {
		return end, nil
	}
	size := r.Batch
	if size <= 0 {
		size = defaultReadBatch
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(size))
	if err != nil {
		return 0, fmt.Errorf("read the stream %s: %w", stream, cause(ctx, err))
	}
	defer messages.Stop()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go b.watchRead(ctx, stream, created, end, stop)
	batch := make([]event.Message, 0, size)
	for {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if errors.Is(err, jetstream.ErrNoHeartbeat) {
			continue
		}
		if context.Cause(ctx) == ErrAnotherStream {
			err = ErrAnotherStream
		}
		if err != nil {
			return 0, fmt.Errorf("read the stream %s: %w", stream, cause(ctx, err))
		}
		at, err := m.Metadata()
		if err != nil {
			return 0, fmt.Errorf("read the stream %s: %w", stream, err)
		}
		beyond := at.Sequence.Stream > end || (!r.Until.IsZero() && !at.Timestamp.Before(r.Until))
		if !beyond && !at.Timestamp.Before(r.Since) {
			batch = append(batch, event.Message{
				Subject: m.Subject(), Header: m.Headers(), Body: m.Data(), Stream: stream, Sequence: at.Sequence.Stream, StoredAt: at.Timestamp,
			})
		}
		last := beyond || at.NumPending == 0 || at.Sequence.Stream == end
		if len(batch) > 0 && (last || len(batch) == size) {
			if err := handle(ctx, batch, at.NumPending); err != nil {
				return 0, err
			}
			batch = make([]event.Message, 0, size)
		}
		if last {
			return end, nil
		}
	}
}

// watchRead stops a read that could wait for ever: for messages that the stream doesn't have any more.
func (b *Bus) watchRead(ctx context.Context, stream string, created time.Time, end uint64, stop context.CancelCauseFunc) {
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now, last, err := b.StreamCreated(ctx, stream); err == nil && (!now.Equal(created) || last < end) {
			stop(ErrAnotherStream)
			return
		}
	}
}

func (b *Bus) reader(ctx context.Context, stream string, r Range) (jetstream.Consumer, error) {
	ctx, cancel := b.request(ctx)
	defer cancel()
	config := jetstream.OrderedConsumerConfig{FilterSubjects: r.Subjects, DeliverPolicy: jetstream.DeliverAllPolicy, InactiveThreshold: readerKept}
	switch {
	case r.FromSeq != 0:
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, r.FromSeq
	case !r.Since.IsZero():
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &r.Since
	}
	return b.js.OrderedConsumer(ctx, stream, config)
}

func (b *Bus) dropReader(ctx context.Context, stream string, reader jetstream.Consumer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if info := reader.CachedInfo(); info != nil && b.Connected() {
		_ = b.js.DeleteConsumer(ctx, stream, info.Name)
	}
}
