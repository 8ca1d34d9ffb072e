package bus

import (
	"context"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"handover.io/pkg/event"
)

// Consumer names a durable consumer and how this process reads from it.
type Consumer struct {
	Stream, Durable string
	// Filter is the subject to read, of those on the stream; all by default.
	Filter string
	// Batch is the most messages handled together; 1 by default.
	Batch int
	// Workers is how many batches are handled at the same time; 1 by default.
	Workers int
}

const (
	// ackWait is after how long the broker gives a message to somebody else, if it hears nothing of it. It must exceed
	// the longest pause of a process that is alive; extendEvery is how often we say that we are still at it.
	ackWait     = 60 * time.Second
	extendEvery = 20 * time.Second
	// grace is how long a handler may go on after the context is done.
	grace = 10 * time.Second
	// A failing batch is tried again after 100 ms, then twice as long each time, up to 10 s.
	firstRetry, lastRetry = 100 * time.Millisecond, 10 * time.Second
)

// Consume delivers the messages of a durable consumer to handle, in batches of what has arrived, until ctx is done; it
// then lets the handlers finish, for up to 10 seconds before their context ends too, and returns nil. It waits for a
// broker that is away, and makes the consumer or the stream again if they are deleted.
//
// When handle returns nil the messages are done. When it fails it is called again with the same batch, later and later,
// and the batch stays with this process. handle is called by several goroutines at once. A message can come more than
// once, even at the same time: after a crash, a lost connection, or a process that was paused for a minute.
func (b *Bus) Consume(ctx context.Context, c Consumer, handle func(ctx context.Context, batch []event.Message) error) error {
	c.Batch, c.Workers = max(1, c.Batch), max(1, c.Workers)
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, cancel) })()

	p := newPuller(b, c)
	w := worker{puller: p, work: work, handle: handle, log: p.log}
	var workers sync.WaitGroup
	for range c.Workers {
		workers.Go(func() { w.run(ctx) })
	}
	<-ctx.Done()
	p.close()
	workers.Wait()
	// So that what was done is acknowledged before the caller goes on to disconnect.
	_ = b.nc.FlushTimeout(time.Second)
	return nil
}

// worker takes a batch, sees it through, and takes the next.
type worker struct {
	puller *puller
	work   context.Context // outlives the consumer's context by the grace
	handle func(ctx context.Context, batch []event.Message) error
	log    *zap.Logger
}

func (w worker) run(ctx context.Context) {
	for {
		batch := w.puller.take(ctx)
		if len(batch) == 0 {
			return
		}
		if w.see(ctx, batch) {
			respond(batch, ack)
		} else {
			respond(batch, giveBack)
		}
	}
}

// see has the batch handled, as often as it takes; false means that ctx was done first.
func (w worker) see(ctx context.Context, batch []*nats.Msg) bool {
	messages := make([]event.Message, len(batch))
	for i, m := range batch {
		messages[i] = read(m)
	}
	defer extend(batch, extendEvery)()
	wait := &backoff.ExponentialBackOff{InitialInterval: firstRetry, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: lastRetry}
	for attempt := 1; ; attempt++ {
		err := w.handle(w.work, messages)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			w.log.Warn("batch left for the next start", zap.Int("messages", len(batch)), zap.Error(err))
			return false
		}
		next := wait.NextBackOff()
		w.log.Warn("batch failed; trying again", zap.Int("messages", len(batch)), zap.Int("attempt", attempt), zap.Duration("in", next), zap.Error(err))
		select {
		case <-ctx.Done():
			return false
		case <-time.After(next):
		}
	}
}

// extend keeps telling the broker that the batch is being worked on, until the returned function is called.
func extend(batch []*nats.Msg, every time.Duration) (stop func()) {
	done := make(chan struct{})
	go func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				respond(batch, inProgress)
			}
		}
	}()
	return func() { close(done) }
}

// What can be answered to a message.
var (
	ack        = []byte("+ACK")
	giveBack   = []byte("-NAK")
	inProgress = []byte("+WPI")
)

// respond answers all messages. It isn't told whether that arrives: if not they come again, which is harmless.
func respond(batch []*nats.Msg, answer []byte) {
	for _, m := range batch {
		_ = m.Respond(answer)
	}
}

func read(m *nats.Msg) event.Message {
	out := event.Message{Subject: m.Subject, Header: m.Header, Body: m.Data}
	if at, err := m.Metadata(); err == nil {
		out.Stream, out.Sequence, out.StoredAt = at.Stream, at.Sequence.Stream, at.Timestamp
	}
	return out
}
