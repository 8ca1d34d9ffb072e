package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"handover.io/pkg/event"
)

// StreamState is which stream it is now, and what it holds.
type StreamState struct {
	Created           time.Time // a stream of the same name created at another time is another stream
	FirstSeq, LastSeq uint64    // FirstSeq is LastSeq+1 when it is empty
	Lost              []uint64  // sequences that the broker itself found to be damaged
	MaxAge            time.Duration
}

// StreamState asks the broker. It makes the streams again if this one isn't there, when EnsureStreams was called before.
func (b *Bus) StreamState(ctx context.Context, stream string) (StreamState, error) {
	info, err := b.streamInfo(ctx, stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if ensureErr := b.ensureStreams(ctx); ensureErr != nil {
			return StreamState{}, errors.Join(err, ensureErr)
		}
		info, err = b.streamInfo(ctx, stream)
	}
	if err != nil {
		return StreamState{}, fmt.Errorf("stream %s: %w", stream, err)
	}
	s := StreamState{
		Created: b.setCreated(stream, info.Created), FirstSeq: info.State.FirstSeq, LastSeq: info.State.LastSeq, MaxAge: info.Config.MaxAge,
	}
	if info.State.Lost != nil {
		s.Lost = info.State.Lost.Msgs
	}
	return s, nil
}

func (b *Bus) streamInfo(ctx context.Context, stream string) (info *jetstream.StreamInfo, err error) {
	return info, b.question(ctx, func(ctx context.Context) error {
		s, err := b.js.Stream(ctx, stream)
		if err == nil {
			info = s.CachedInfo()
		}
		return err
	})
}

// MessageIDAt is the id of the message at a sequence, empty when it has none; found is false when no message is there.
func (b *Bus) MessageIDAt(ctx context.Context, stream string, sequence uint64) (id string, found bool, err error) {
	if sequence == 0 {
		return "", false, nil
	}
	ctx, cancel := b.request(ctx)
	defer cancel()
	s, err := b.js.Stream(ctx, stream)
	if err != nil {
		return "", false, fmt.Errorf("stream %s: %w", stream, cause(ctx, err))
	}
	m, err := s.GetMsg(ctx, sequence)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("message %d of the stream %s: %w", sequence, stream, cause(ctx, err))
	}
	return m.Header.Get(headerMessageID), true, nil
}

// MessageID is the id under which a message that was read had been published.
func MessageID(m event.Message) string {
	if of := m.Header[headerMessageID]; len(of) > 0 {
		return of[0]
	}
	return ""
}

// NextChange is closed when the broker was connected to again, or this process has made a stream.
func (b *Bus) NextChange() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// change closes what NextChange returned; b.mu is held.
func (b *Bus) change() {
	close(b.changed)
	b.changed = make(chan struct{})
}
