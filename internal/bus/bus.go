package bus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
)

// Options of a connection. One of URL and InProcess is required.
type Options struct {
	// URL of the broker or brokers, credentials included: nats://user:password@host:port, several with commas between.
	URL string
	// Name is what operators see in the broker's list of connections.
	Name   string
	Logger *zap.Logger
	// InProcess connects to an embedded broker directly.
	InProcess *Server
}

const (
	// ackTimeout is how long the broker may take to acknowledge, which includes its sync to disk.
	ackTimeout = 10 * time.Second
	// firstAnswer is how long a question waits for its answer before it is asked again.
	firstAnswer = time.Second
	// closePatience is for what has been published to leave this process.
	closePatience = 5 * time.Second
	pingInterval  = 20 * time.Second
	// maxUnacknowledged is a bound that callers of Publish should never meet: each of them has 256 at most.
	maxUnacknowledged = 1 << 16
	// awayEvery is how often the log says that the broker is still away.
	awayEvery = 10 * time.Second
)

// Bus is a connection to the broker, safe for use by any number of goroutines.
type Bus struct {
	nc     *nats.Conn
	js     jetstream.JetStream
	log    *zap.Logger
	closed chan struct{}

	mu         sync.Mutex
	connected  chan struct{}   // closed, and replaced, at every connect
	changed    chan struct{}   // the same, and when a stream was made
	session    context.Context // ends when the connection breaks
	endSession context.CancelCauseFunc
	limits     *Limits // of the last EnsureStreams
	atomic     bool    // whether the broker takes atomic batches
	created    map[string]time.Time
	awayFor    error // why the last try to connect was in vain
	saidAway   time.Time
}

// Connect returns a Bus at once, even while the broker is away: it goes on trying, for ever. It fails only on options
// that can't ever work.
func Connect(ctx context.Context, o Options) (*Bus, error) {
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	b := &Bus{
		log: o.Logger.With(zap.String("part", "bus")), closed: make(chan struct{}),
		connected: make(chan struct{}), changed: make(chan struct{}), created: map[string]time.Time{},
	}
	b.session, b.endSession = context.WithCancelCause(context.Background())
	b.endSession(ErrDisconnected)
	first := b.connected
	options := []nats.Option{
		nats.Name(o.Name),
		nats.MaxReconnects(-1), nats.RetryOnFailedConnect(true),
		// A refused password is for an operator to put right, on either side, not an end.
		nats.IgnoreAuthErrorAbort(),
		nats.CustomReconnectDelay(reconnectDelay), nats.PingInterval(pingInterval),
		// What can't be sent now fails now: its sender keeps it, and decides when to try again.
		nats.ReconnectBufSize(-1),
		nats.ConnectHandler(func(nc *nats.Conn) { b.onConnect(nc) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { b.onConnect(nc) }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { b.onDisconnect(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { b.onAway(err) }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { b.log.Warn("broker", zap.Error(err)) }),
		nats.ClosedHandler(func(*nats.Conn) { close(b.closed) }),
	}
	if o.InProcess != nil {
		options = append(options, nats.InProcessServer(o.InProcess.server), nats.UserInfo(userName, o.InProcess.password))
	} else if o.URL == "" {
		return nil, errors.New("connect to the broker: no URL")
	}
	var err error
	if b.nc, err = nats.Connect(o.URL, options...); err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	if b.js, err = jetstream.New(b.nc, jetstream.WithPublishAsyncTimeout(ackTimeout), jetstream.WithPublishAsyncMaxPending(maxUnacknowledged)); err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	if b.nc.IsConnected() {
		select {
		case <-first:
		case <-ctx.Done():
		}
	}
	return b, nil
}

// reconnectDelay grows from 20 ms, for a broker that is restarted beside us, to 2 s.
func reconnectDelay(attempts int) time.Duration {
	return min(2*time.Second, 20*time.Millisecond<<min(attempts, 10))
}

func (b *Bus) onConnect(nc *nats.Conn) {
	b.log.Info("connected to the broker", zap.String("server", nc.ConnectedServerName()), zap.String("version", nc.ConnectedServerVersion()))
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.created) // it may be another broker, or the same one with other disks
	b.session, b.endSession = context.WithCancelCause(context.Background())
	close(b.connected)
	b.connected = make(chan struct{})
	b.change()
}

func (b *Bus) onDisconnect(err error) {
	if err != nil {
		b.log.Warn("lost the broker; reconnecting", zap.Error(err))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endSession(ErrDisconnected)
}

// onAway is called at every vain try to connect.
func (b *Bus) onAway(err error) {
	b.mu.Lock()
	b.awayFor = err
	say := time.Since(b.saidAway) >= awayEvery
	if say {
		b.saidAway = time.Now()
	}
	b.mu.Unlock()
	if say {
		b.log.Warn("the broker is away; still trying", zap.Error(err))
	}
}

// away is ErrDisconnected, with the reason where there is one.
func (b *Bus) away() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.awayFor == nil {
		return ErrDisconnected
	}
	return fmt.Errorf("%w: %w", ErrDisconnected, b.awayFor)
}

// Connected tells whether the broker is there now.
func (b *Bus) Connected() bool { return b.current().Err() == nil }

// current is the context of the present connection; it has ended while there is none.
func (b *Bus) current() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.session
}

// request returns a context for something that the broker answers, on this connection or not at all.
func (b *Bus) request(ctx context.Context) (context.Context, context.CancelFunc) {
	session := b.current()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(session, func() { cancel(context.Cause(session)) })
	ctx, cancelTimeout := context.WithTimeout(ctx, ackTimeout)
	return ctx, func() {
		stop()
		cancelTimeout()
		cancel(nil)
	}
}

// question asks the broker for something that may be asked twice, for as long as a request may take. A cluster that has
// lost its leader stays silent until it has another one, and that one doesn't know what the first was asked: so the
// question is put again, after a second, and then less and less often, lest a broker that is only slow never gets to it.
func (b *Bus) question(ctx context.Context, ask func(ctx context.Context) error) error {
	ctx, cancel := b.request(ctx)
	defer cancel()
	for patience := firstAnswer; ; patience *= 2 {
		attempt, end := context.WithTimeout(ctx, patience)
		err := ask(attempt)
		end()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return cause(ctx, err)
		}
	}
}

// awaitConnected returns when the broker is there, or the error of ctx.
func (b *Bus) awaitConnected(ctx context.Context) error {
	for {
		b.mu.Lock()
		next, session := b.connected, b.session
		b.mu.Unlock()
		if session.Err() == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.closed:
			return nats.ErrConnectionClosed
		case <-next:
		}
	}
}

// Close sends what is still to be sent, for up to 5 seconds, and disconnects. Consume must have returned before.
func (b *Bus) Close() {
	if b.nc.Drain() != nil {
		b.nc.Close()
	}
	select {
	case <-b.closed:
	case <-time.After(closePatience):
		b.nc.Close()
	}
}
