package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"handover.io/pkg/event"
)

// Limits of the streams. The zero value is ready for use.
type Limits struct {
	// The most bytes of each stream: 4 GiB, 4 GiB and 1 GiB by default. A full stream refuses messages; it never drops
	// old ones to make room.
	RoleChanges, TaskReassignments, DeadLetters int64
	// MaxAge is how long messages are kept; 30 days by default.
	MaxAge time.Duration
	// Replicas of each stream; 1 by default.
	Replicas int
}

const (
	defaultMaxAge = 30 * 24 * time.Hour
	// duplicateWindow is for how long the broker knows the ids of messages.
	duplicateWindow = 2 * time.Minute
	maxMessageSize  = 1 << 20
	// atomicLevel is the broker's API level since which it takes atomic batches (version 2.12).
	atomicLevel = 2
)

type stream struct {
	name, purpose string
	subjects      []string
	maxBytes      func(Limits) int64
}

var streams = []stream{
	{
		event.StreamRoleChanges, "account role changes, single ones and those of bulk work",
		[]string{event.SubjectRoleChanged("*"), event.SubjectRoleBulk("*")},
		func(l Limits) int64 { return cmp.Or(l.RoleChanges, 4<<30) },
	},
	{
		event.StreamTaskReassignments, "tasks that moved", []string{event.SubjectTaskReassigned("*")},
		func(l Limits) int64 { return cmp.Or(l.TaskReassignments, 4<<30) },
	},
	{
		event.StreamDeadLetters, "messages that a consumer could not use", []string{event.SubjectDead("*", "*")},
		func(l Limits) int64 { return cmp.Or(l.DeadLetters, 1<<30) },
	},
}

// streamOf is the stream that a subject is on, or "".
func streamOf(subject string) string {
	for _, s := range streams {
		for _, pattern := range s.subjects {
			if prefix, _, _ := strings.Cut(pattern, "*"); strings.HasPrefix(subject, prefix) {
				return s.name
			}
		}
	}
	return ""
}

// EnsureStreams creates the streams, or gives existing ones these limits. It waits for the broker until ctx is done, and
// the Bus makes a stream that disappears later again by itself.
func (b *Bus) EnsureStreams(ctx context.Context, l Limits) error {
	b.mu.Lock()
	b.limits = &l
	b.mu.Unlock()
	if err := b.awaitConnected(ctx); err != nil {
		return fmt.Errorf("wait for the broker: %w", err)
	}
	return b.ensureStreams(ctx)
}

func (b *Bus) ensureStreams(ctx context.Context) error {
	b.mu.Lock()
	l := b.limits
	b.mu.Unlock()
	if l == nil {
		return errors.New("the streams are not there, and EnsureStreams was never called")
	}
	account, err := b.js.AccountInfo(ctx)
	if err != nil {
		return fmt.Errorf("ask the broker for JetStream: %w", err)
	}
	atomic := account.API.Level >= atomicLevel
	if !atomic {
		b.log.Warn("the broker is older than 2.12 and takes no atomic batches; publishing is slower", zap.Int("api_level", account.API.Level))
	}
	for _, s := range streams {
		info, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
			Name: s.name, Description: s.purpose, Subjects: s.subjects,
			Storage: jetstream.FileStorage, Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardNew,
			MaxBytes: s.maxBytes(*l), MaxAge: cmp.Or(l.MaxAge, defaultMaxAge), MaxMsgSize: maxMessageSize,
			Duplicates: min(duplicateWindow, cmp.Or(l.MaxAge, defaultMaxAge)), Replicas: cmp.Or(l.Replicas, 1),
			AllowDirect: true, AllowAtomicPublish: atomic,
		})
		if err != nil {
			return fmt.Errorf("stream %s: %w", s.name, err)
		}
		b.setCreated(s.name, info.CachedInfo().Created)
	}
	b.mu.Lock()
	b.atomic = atomic
	b.mu.Unlock()
	return nil
}

// StreamCreated asks the broker for the identity of a stream and its last sequence.
func (b *Bus) StreamCreated(ctx context.Context, stream string) (time.Time, uint64, error) {
	info, err := b.js.Stream(ctx, stream)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("stream %s: %w", stream, err)
	}
	cached := info.CachedInfo()
	return b.setCreated(stream, cached.Created), cached.State.LastSeq, nil
}

func (b *Bus) setCreated(stream string, at time.Time) time.Time {
	at = event.Micro(at)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.created[stream] = at
	return at
}

// identity is StreamCreated, remembered until the next connect.
func (b *Bus) identity(ctx context.Context, stream string) (time.Time, error) {
	b.mu.Lock()
	at, known := b.created[stream]
	b.mu.Unlock()
	if known {
		return at, nil
	}
	at, _, err := b.StreamCreated(ctx, stream)
	return at, err
}
