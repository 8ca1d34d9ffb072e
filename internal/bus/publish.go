package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"handover.io/pkg/event"
)

// ErrFull means that a stream has reached its limit: nothing is wrong with the message, it must be sent again later.
var ErrFull = errors.New("the stream is full")

// ErrDisconnected means that the broker is away.
var ErrDisconnected = errors.New("not connected to the broker")

const (
	// batchFrom is the number of messages from which an atomic batch is faster than publishing each. A batch costs some
	// five syncs whatever its size, a message of its own one: measured, they meet at about 16 on a fast disk, earlier on
	// a slow one.
	batchFrom = 16
	// The most that goes into one atomic batch; the count is the broker's own limit.
	batchMessages = 1000
	batchBytes    = 8 << 20
	// inFlight is how many single messages wait for their acknowledgement at once.
	inFlight = 256

	headerMessageID = "Nats-Msg-Id"

	errCodeFull = jetstream.ErrorCode(10077)
)

// Publish sends messages and blocks until the broker has stored them or refused; stored[i] says where messages[i] is.
// When some fail the error says why (ErrFull and ErrDisconnected among others), their Stored is zero, and the others are
// safe. Sending again under the same id within two minutes stores nothing twice.
func (b *Bus) Publish(ctx context.Context, messages []event.Message) ([]event.Stored, error) {
	stored := make([]event.Stored, len(messages))
	if len(messages) == 0 {
		return stored, nil
	}
	if !b.Connected() {
		return stored, ErrDisconnected
	}
	var groups []*group
	byStream := map[string]*group{}
	var errs []error
	for i, m := range messages {
		name := streamOf(m.Subject)
		if name == "" {
			errs = append(errs, fmt.Errorf("no stream has the subject %q", m.Subject))
			continue
		}
		g := byStream[name]
		if g == nil {
			g = &group{stream: name}
			byStream[name], groups = g, append(groups, g)
		}
		g.add(wire(m), &stored[i])
	}
	results := make([]error, len(groups))
	var wait sync.WaitGroup
	for i, g := range groups {
		wait.Go(func() { results[i] = b.publishGroup(ctx, g) })
	}
	wait.Wait()
	return stored, errors.Join(append(errs, results...)...)
}

// group is what goes to one stream.
type group struct {
	stream   string
	messages []*nats.Msg
	stored   []*event.Stored
}

func (g *group) add(m *nats.Msg, s *event.Stored) {
	g.messages, g.stored = append(g.messages, m), append(g.stored, s)
}

// cut takes what fits into one batch off the front.
func (g *group) cut() group {
	n, bytes := 0, 0
	for n < len(g.messages) && n < batchMessages && (n == 0 || bytes+g.messages[n].Size() <= batchBytes) {
		bytes += g.messages[n].Size()
		n++
	}
	first := group{stream: g.stream, messages: g.messages[:n], stored: g.stored[:n]}
	g.messages, g.stored = g.messages[n:], g.stored[n:]
	return first
}

func (b *Bus) publishGroup(ctx context.Context, g *group) error {
	created, err := b.identity(ctx, g.stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = b.ensureStreams(ctx); err == nil {
			created, err = b.identity(ctx, g.stream)
		}
	}
	if err != nil {
		return err
	}
	for _, s := range g.stored {
		s.Stream, s.Created = g.stream, created
	}
	total := len(g.messages)
	all, failed := g.stored, 0
	for rest := *g; len(rest.messages) > 0; {
		part := rest.cut()
		partErr := errTooFew
		if len(part.messages) >= batchFrom && b.takesBatches() {
			partErr = b.publishBatch(ctx, part)
		}
		if partErr != nil && !errors.Is(partErr, ErrFull) && ctx.Err() == nil {
			partErr = b.publishEach(ctx, part)
		}
		if partErr != nil && err == nil {
			err = partErr
		}
	}
	for _, s := range all {
		if s.Sequence == 0 {
			*s = event.Stored{}
			failed++
		}
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, jetstream.ErrNoStreamResponse) || errors.Is(err, nats.ErrNoResponders) {
		b.forget(g.stream)
	}
	return fmt.Errorf("%d of %d messages not stored on %s: %w", failed, total, g.stream, err)
}

var errTooFew = errors.New("not worth a batch")

func (b *Bus) takesBatches() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.atomic
}

func (b *Bus) forget(stream string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.created, stream)
}

// publishEach sends the messages one by one, in order, without waiting for each acknowledgement.
func (b *Bus) publishEach(ctx context.Context, g group) error {
	var failure error
	for start := 0; start < len(g.messages); start += inFlight {
		end := min(start+inFlight, len(g.messages))
		futures := make([]jetstream.PubAckFuture, end-start)
		for i, m := range g.messages[start:end] {
			var err error
			if futures[i], err = b.js.PublishMsgAsync(m); err != nil {
				failure = firstError(failure, err)
			}
		}
		for i, f := range futures {
			if f == nil {
				continue
			}
			select {
			case ack := <-f.Ok():
				g.stored[start+i].Sequence, g.stored[start+i].Duplicate = ack.Sequence, ack.Duplicate
			case err := <-f.Err():
				failure = firstError(failure, err)
			case <-ctx.Done():
				return firstError(failure, ctx.Err())
			}
		}
		if failure != nil && !b.Connected() {
			return failure
		}
	}
	return failure
}

// cause says why ctx ended, if that is what err is about.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

// firstError keeps the first of many alike, but a full stream over all others, since that one says what to do.
func firstError(first, err error) error {
	var api *jetstream.APIError
	if errors.As(err, &api) && api.ErrorCode == errCodeFull {
		return ErrFull
	}
	if errors.Is(err, nats.ErrReconnectBufExceeded) || errors.Is(err, nats.ErrDisconnected) {
		err = ErrDisconnected
	}
	if first != nil {
		return first
	}
	return err
}

// wire is the message as it travels. Headers of the broker's own are not the sender's to set.
func wire(m event.Message) *nats.Msg {
	header := make(nats.Header, len(m.Header)+4)
	for name, values := range m.Header {
		if !strings.HasPrefix(name, "Nats-") {
			header[name] = values
		}
	}
	if m.ID != "" {
		header[headerMessageID] = []string{m.ID}
	}
	return &nats.Msg{Subject: m.Subject, Header: header, Data: m.Body}
}
