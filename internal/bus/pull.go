package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

const (
	// pullExpiry is how long one request for messages waits at the broker, pullHeartbeat how often the broker says that
	// it still does. Two missing heartbeats mean that the request is lost.
	pullExpiry    = 30 * time.Second
	pullHeartbeat = 2 * time.Second
	// linger is the longest wait between two messages of a batch. The broker ends a batch by itself when it has no more;
	// but not when it has more and may not hand them out (too many unacknowledged, a consumer paused by an operator).
	linger = 2 * time.Millisecond
	// busyPause is before the next request when the broker has refused one for such a reason.
	busyPause = 20 * time.Millisecond
)

// puller takes batches from one durable consumer. One worker at a time asks the broker, for all that has arrived up to a
// batch, and then leaves its place to the next: so no worker holds messages that an idle one could be working on, which
// is what the client library's own iterators do.
type puller struct {
	bus *Bus
	Consumer
	log *zap.Logger

	turn    chan struct{} // held by whoever uses what follows
	ready   bool          // the consumer exists, and orphans are taken care of
	inbox   string
	sub     *nats.Subscription
	arrived chan *nats.Msg
	asked   uint64 // requests so far
	open    string // where the broker reports about the request that it is still serving, or ""
	left    int    // how many messages that one may still bring
	retry   *backoff.ExponentialBackOff
}

func newPuller(b *Bus, c Consumer) *puller {
	return &puller{
		bus: b, Consumer: c, log: b.log.With(zap.String("consumer", c.Durable)),
		turn: make(chan struct{}, 1), inbox: b.nc.NewInbox(),
		arrived: make(chan *nats.Msg, 2*c.Batch+64),
		retry: &backoff.ExponentialBackOff{
			InitialInterval: 50 * time.Millisecond, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: 5 * time.Second,
		},
	}
}

// take blocks until it has a batch, or returns none when ctx is done.
func (p *puller) take(ctx context.Context) []*nats.Msg {
	select {
	case <-ctx.Done():
		return nil
	case p.turn <- struct{}{}:
	}
	defer func() { <-p.turn }()
	for ctx.Err() == nil {
		if !p.ready {
			if err := p.prepare(ctx); err != nil {
				p.pause(ctx, err)
				continue
			}
			p.ready = true
			p.retry.Reset()
		}
		batch, err := p.pull(ctx)
		if err != nil && ctx.Err() == nil {
			p.ready, p.open = false, ""
			p.log.Warn("asking for messages failed; asking again", zap.Error(err))
		}
		if len(batch) > 0 {
			return batch
		}
	}
	return nil
}

// close gives back what has arrived and nobody has taken, so that another process has it at once.
func (p *puller) close() {
	p.turn <- struct{}{}
	defer func() { <-p.turn }()
	if p.sub == nil {
		return
	}
	// Draining, unlike unsubscribing, lets what is already on its way arrive.
	closed := make(chan struct{})
	p.sub.SetClosedHandler(func(string) { close(closed) })
	if p.bus.Connected() && p.sub.Drain() == nil {
		select {
		case <-closed:
		case <-time.After(time.Second):
		}
	}
	for {
		select {
		case m, open := <-p.arrived:
			if !open {
				return
			}
			if !isStatus(m) {
				respond([]*nats.Msg{m}, giveBack)
			}
		default:
			return
		}
	}
}

func (p *puller) pause(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	next := p.retry.NextBackOff()
	p.log.Warn("the consumer is not ready; trying again", zap.Duration("in", next), zap.Error(err))
	select {
	case <-ctx.Done():
	case <-time.After(next):
	}
}

// prepare waits for the broker, makes the consumer if it isn't there, and subscribes.
func (p *puller) prepare(ctx context.Context) error {
	if err := p.bus.awaitConnected(ctx); err != nil {
		return err
	}
	config := jetstream.ConsumerConfig{
		Durable: p.Durable, FilterSubject: p.Filter,
		DeliverPolicy: jetstream.DeliverAllPolicy, AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: ackWait, MaxDeliver: -1, MaxAckPending: max(1000, 4*p.Batch*p.Workers),
	}
	var consumer jetstream.Consumer
	create := func(ctx context.Context) (err error) {
		consumer, err = p.bus.js.CreateOrUpdateConsumer(ctx, p.Stream, config)
		return err
	}
	err := p.bus.question(ctx, create)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if err = p.bus.ensureStreams(ctx); err == nil {
			err = p.bus.question(ctx, create)
		}
	}
	if err != nil {
		return fmt.Errorf("consumer %s: %w", p.Durable, err)
	}
	p.adopt(ctx, consumer.CachedInfo())
	if p.sub == nil {
		if p.sub, err = p.bus.nc.ChanSubscribe(p.inbox+".*", p.arrived); err != nil {
			return err
		}
	}
	return nil
}

// adopt has messages delivered again that were handed out to nobody who lives: a process that crashed, or the far end of
// a connection that broke. Nobody is asking for messages, so whoever had these is most likely gone, and without this
// they would wait until the end of their ackWait. If somebody is at work on them after all, they are done twice.
func (p *puller) adopt(ctx context.Context, info *jetstream.ConsumerInfo) {
	if info.NumAckPending == 0 || info.NumWaiting > 0 {
		return
	}
	ctx, cancel := p.bus.request(ctx)
	defer cancel()
	s, err := p.bus.js.Stream(ctx, p.Stream)
	if err == nil {
		_, err = s.ResetConsumer(ctx, p.Durable)
	}
	if err != nil {
		p.log.Debug("messages of a process that is gone come again only when their time is up", zap.Int("messages", info.NumAckPending), zap.Error(err))
	}
}

// pull returns what has arrived, up to a batch, and waits if nothing has. An error says that the request is lost; what
// came before it is returned too.
//
// There is at most one request at a time, so never more on its way than there is room for.
func (p *puller) pull(ctx context.Context) (batch []*nats.Msg, err error) {
	session := p.bus.current()
	if p.open == "" {
		if err := p.ask(); err != nil {
			return nil, err
		}
	}
	silence := time.NewTimer(2 * pullHeartbeat)
	defer silence.Stop()
	for len(batch) < p.Batch && p.open != "" {
		select {
		case <-ctx.Done():
			respond(batch, giveBack)
			return nil, nil
		case <-session.Done():
			return batch, ErrDisconnected
		case <-silence.C:
			if len(batch) > 0 {
				return batch, nil
			}
			return nil, errors.New("the broker is silent")
		case m := <-p.arrived:
			if isStatus(m) {
				if err := p.report(ctx, m, len(batch)); err != nil {
					return batch, err
				}
				if len(batch) == 0 {
					silence.Reset(2 * pullHeartbeat)
				}
				continue
			}
			batch = append(batch, m)
			if p.left--; p.left == 0 {
				p.open = ""
			}
			silence.Reset(linger)
		}
	}
	return batch, nil
}

// report is what the broker says about the open request: that it still waits, or that it has ended, for better or worse.
func (p *puller) report(ctx context.Context, m *nats.Msg, taken int) error {
	if m.Subject != p.open {
		return nil // of a request that was given up
	}
	switch code, text := m.Header.Get("Status"), m.Header.Get("Description"); code {
	case "100": // heartbeat
		return nil
	case "404", "408": // no more for now, the request is too old, or there are others for the little there is
		p.open = ""
		if taken == 0 && text != "Request Timeout" {
			select {
			case <-ctx.Done():
			case <-time.After(busyPause):
			}
		}
		return nil
	default:
		return fmt.Errorf("%s %s", code, text)
	}
}

// ask sends a request for messages.
//
// no_wait together with expires means: wait until there is something, then hand out all there is and end the request.
func (p *puller) ask() error {
	p.asked++
	p.open, p.left = p.inbox+"."+strconv.FormatUint(p.asked, 10), p.Batch
	body, err := json.Marshal(map[string]any{
		"batch": p.Batch, "no_wait": true, "expires": pullExpiry, "idle_heartbeat": pullHeartbeat,
	})
	if err != nil {
		return err
	}
	return firstError(nil, p.bus.nc.PublishRequest("$JS.API.CONSUMER.MSG.NEXT."+p.Stream+"."+p.Durable, p.open, body))
}

// isStatus tells whether m is the broker's own word about a request.
func isStatus(m *nats.Msg) bool {
	return len(m.Data) == 0 && m.Header.Get("Status") != ""
}
