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
	// Replicas of each stream; by default as many as it has, 1 for a new one.
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
	ctx, cancel := b.request(ctx)
	defer cancel()
	account, err := b.js.AccountInfo(ctx)
	if err != nil {
		return fmt.Errorf("ask the broker for JetStream: %w", cause(ctx, err))
	}
	atomic := account.API.Level >= atomicLevel
	if !atomic {
		b.log.Warn("the broker is older than 2.12 and takes no atomic batches; publishing is slower", zap.Int("api_level", account.API.Level))
	}
	for _, s := range streams {
		if err := b.ensureStream(ctx, s, *l, atomic); err != nil {
			return fmt.Errorf("stream %s: %w", s.name, cause(ctx, err))
		}
	}
	b.mu.Lock()
	b.atomic = atomic
	b.mu.Unlock()
	return nil
}

func (b *Bus) ensureStream(ctx context.Context, s stream, l Limits, atomic bool) error {
	config, made := jetstream.StreamConfig{Name: s.name, Storage: jetstream.FileStorage, Replicas: 1}, true
	// What operators have added to a stream stays.
	if existing, err := b.js.Stream(ctx, s.name); err == nil {
		config, made = existing.CachedInfo().Config, false
	} else if !errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	config.Description, config.Subjects = s.purpose, s.subjects
	config.Retention, config.Discard = jetstream.LimitsPolicy, jetstream.DiscardNew
	config.MaxBytes, config.MaxAge, config.MaxMsgSize = s.maxBytes(l), cmp.Or(l.MaxAge, defaultMaxAge), maxMessageSize
	config.Duplicates = min(duplicateWindow, config.MaxAge)
	config.Replicas = cmp.Or(l.Replicas, config.Replicas)
	config.AllowDirect, config.AllowAtomicPublish = true, atomic
	info, err := b.js.CreateOrUpdateStream(ctx, config)
	if err != nil {
		return err
	}
	b.setCreated(s.name, info.CachedInfo().Created)
	if made {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.change()
	}
	return nil
}

// StreamCreated asks the broker for the identity of a stream and its last sequence.
func (b *Bus) StreamCreated(ctx context.Context, stream string) (time.Time, uint64, error) {
	info, err := b.streamInfo(ctx, stream)
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("stream %s: %w", stream, err)
	}
	return b.setCreated(stream, info.Created), info.State.LastSeq, nil
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
