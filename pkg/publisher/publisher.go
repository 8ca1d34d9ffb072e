package publisher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"handover.io/pkg/event"
)

const (
	// ackTimeout is how long the broker may take to store one message, its sync to disk included.
	ackTimeout = 5 * time.Second
	// inFlight is how many messages wait for their acknowledgement at once.
	inFlight = 128
	// A failed attempt is followed by another after 50 ms, then twice as long each time, up to 5 s.
	firstRetry, lastRetry = 50 * time.Millisecond, 5 * time.Second
)

// Publisher publishes the role changes of one source. It is safe for use by any number of goroutines.
type Publisher struct {
	js      jetstream.JetStream
	source  string
	subject func(tenant string) string
	log     *slog.Logger
	poll    time.Duration

	mu   sync.Mutex
	last time.Time // the latest time filled in
}

// Option of a Publisher.
type Option func(*Publisher)

// WithBulk publishes to the lane for bulk work, where a single change of a person never waits behind it.
func WithBulk() Option { return func(p *Publisher) { p.subject = event.SubjectRoleBulk } }

// WithLogger has the relay say there what it waits for; slog.Default by default.
func WithLogger(log *slog.Logger) Option { return func(p *Publisher) { p.log = log } }

// WithPollInterval is how often the relay looks for what was committed; 250 ms by default, and at least 1 ms.
func WithPollInterval(d time.Duration) Option {
	return func(p *Publisher) { p.poll = max(d, time.Millisecond) }
}

// New returns a Publisher. The source names the service, as a URI reference such as //crm.example.com: an event is known by
// its tenant, source and id. It doesn't talk to the broker yet. The connection should be one that reconnects for ever
// (nats.MaxReconnects(-1)).
func New(js jetstream.JetStream, source string, options ...Option) *Publisher {
	p := &Publisher{js: js, source: source, subject: event.SubjectRoleChanged, log: slog.Default(), poll: 250 * time.Millisecond}
	for _, o := range options {
		o(p)
	}
	return p
}

// Failure is a change that was not published, as it was to be published, and why.
type Failure struct {
	Index  int // in the arguments
	Change event.AccountRoleChanged
	Err    error
}

// Error tells which changes failed; the others are on the stream.
type Error struct{ Failed []Failure }

func (e *Error) Error() string {
	f := e.Failed[0]
	text := fmt.Sprintf("role change %d (account %s): %v", f.Index, f.Change.AccountID, f.Err)
	if n := len(e.Failed); n > 1 {
		text += fmt.Sprintf(", and %d more", n-1)
	}
	return text
}

// Unwrap gives errors.Is and errors.As the reasons.
func (e *Error) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f.Err
	}
	return errs
}

// Publish publishes the changes and blocks until the stream has all of them. ID, Source and Time are filled in where they
// are empty: a UUID of version 7, the Publisher's source, and now. A broker that is away, a stream that is full or not
// there yet, is waited for until ctx is done, so give ctx a deadline.
//
// When some could not be published the error is an [*Error] with those; publish its changes again, which have their IDs
// now, rather than the ones given. When one is invalid the error holds an [*event.Invalid] and nothing is published.
func (p *Publisher) Publish(ctx context.Context, changes ...event.AccountRoleChanged) error {
	filled, messages, err := p.prepare(changes)
	if err != nil {
		return err
	}
	var failed []Failure
	for i, err := range p.each(messages, func(m event.Message) error { return p.untilStored(ctx, m) }) {
		if err != nil {
			failed = append(failed, Failure{i, filled[i], err})
		}
	}
	if failed != nil {
		return &Error{failed}
	}
	return nil
}

// prepare fills in and validates all changes, and writes them as messages.
func (p *Publisher) prepare(changes []event.AccountRoleChanged) ([]event.AccountRoleChanged, []event.Message, error) {
	filled, messages := make([]event.AccountRoleChanged, len(changes)), make([]event.Message, len(changes))
	var failed []Failure
	for i, c := range changes {
		c.Source = cmp.Or(c.Source, p.source)
		if c.ID == "" {
			c.ID = uuid.Must(uuid.NewV7()).String()
		}
		if c.Time.IsZero() {
			c.Time = p.now()
		}
		m, err := c.Message(p.subject(c.TenantID))
		if err == nil && strings.EqualFold(c.Source, event.SourceHandover) {
			err = &event.Invalid{Reason: event.ReasonInvalid, Field: "source", Remedy: "is Handover's own; name your service"}
		}
		if err != nil {
			failed = append(failed, Failure{i, c, err})
		}
		// Whoever publishes an id again, with a time that was filled in anew, repeats it and doesn't contradict it.
		m.ID = event.MessageID(c.TenantID, c.Source, c.ID)
		filled[i], messages[i] = c, m
	}
	if failed != nil {
		return nil, nil, &Error{failed}
	}
	return filled, messages, nil
}

// now is later than any time it has returned, so that changes keep the order in which they were given.
func (p *Publisher) now() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := event.Micro(time.Now())
	if !now.After(p.last) {
		now = p.last.Add(time.Microsecond)
	}
	p.last = now
	return now
}

// each calls publish for all messages, some at a time, and returns its errors.
func (p *Publisher) each(messages []event.Message, publish func(event.Message) error) []error {
	errs := make([]error, len(messages))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(inFlight, len(messages)) {
		workers.Go(func() {
			for i := range next {
				errs[i] = publish(messages[i])
			}
		})
	}
	for i := range messages {
		next <- i
	}
	close(next)
	workers.Wait()
	return errs
}

// untilStored tries until the stream has the message, ctx is done, or trying again can't help.
func (p *Publisher) untilStored(ctx context.Context, m event.Message) error {
	wait := &backoff.ExponentialBackOff{InitialInterval: firstRetry, MaxInterval: lastRetry, Multiplier: 2, RandomizationFactor: 0.5}
	var reason error
	for {
		err := p.store(ctx, m)
		if err == nil || hopeless(err) {
			return err
		}
		// Once ctx has ended every attempt fails for that; the one before says why.
		if reason == nil || ctx.Err() == nil {
			reason = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last: %w", context.Cause(ctx), reason)
		case <-time.After(wait.NextBackOff()):
		}
	}
}

// store is one attempt.
func (p *Publisher) store(ctx context.Context, m event.Message) error {
	attempt, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	header := nats.Header(maps.Clone(m.Header))
	header.Set(nats.MsgIdHdr, m.ID)
	_, err := p.js.PublishMsg(attempt, &nats.Msg{Subject: m.Subject, Header: header, Data: m.Body}, jetstream.WithRetryAttempts(0))
	if err != nil && attempt.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("the broker has not acknowledged within %v: %w", ackTimeout, err)
	}
	return err
}

func hopeless(err error) bool {
	return errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrConnectionDraining) || errors.Is(err, nats.ErrMaxPayload) ||
		errors.Is(err, nats.ErrBadSubject)
}
