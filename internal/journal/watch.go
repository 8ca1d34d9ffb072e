package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"handover.io/pkg/event"
)

const (
	// lookEvery is how often the streams are compared with the outbox while nothing calls for it.
	lookEvery = time.Minute
	// lookSoon is after how long it is done again when a look failed, or found something.
	lookSoon = 3 * time.Second
)

// StreamState is which stream it is now, and what it holds.
type StreamState struct {
	Created           time.Time // cut to microseconds: a stream created at another time is another stream
	FirstSeq, LastSeq uint64    // FirstSeq is past LastSeq when it is empty
	Lost              []uint64  // sequences that the broker itself found to be damaged
	MaxAge            time.Duration
}

// Streams is how a [Watch] asks the broker.
type Streams struct {
	State func(ctx context.Context, stream string) (StreamState, error)
	// IDAt is the id of the message at a sequence; found is false when none is there.
	IDAt func(ctx context.Context, stream string, sequence uint64) (id string, found bool, err error)
	// Read gives the messages of a range, both ends included, to handle, in their order, with their ids.
	Read func(ctx context.Context, stream string, from, to uint64, handle func(context.Context, []event.Message) error) error
	// NextChange is closed when the broker was connected to again, or this process has made a stream.
	NextChange func() <-chan struct{}
}

// What a look can find.
const (
	Recreated = "recreated"      // the stream is another one than messages were put on
	Truncated = "truncated"      // the stream ends before what it had acknowledged
	Regrown   = "regrown"        // other messages stand where ours had been acknowledged
	Damaged   = "damaged"        // the broker says that it lost messages in the middle
	Older     = "database_older" // the stream has messages of ours that this database has never heard of
)

// Finding is one thing that a look found, and has dealt with.
type Finding struct {
	Stream, What string
	Owed         int64  // messages that are owed again
	From, To     uint64 // of Older: the sequences of the messages that the database doesn't know
	Unknown      int64  // of Older: how many they are
}

// WatchConfig is what a [Watch] needs.
type WatchConfig struct {
	Streams Streams
	// Older is called, and must have its effect, before anything else is written down of a database that is older than a
	// stream. After an error it is called again.
	Older      func(ctx context.Context, reason string) error
	Logger     *zap.Logger
	Registerer prometheus.Registerer
}

// Watch compares the streams with the outbox. What a stream has lost is owed again, and so published again under the same
// ids, which consumers absorb. What a stream has and the database doesn't know, because it was restored from an older
// dump, is reported. Any number may run at once, in any process: they take turns.
type Watch struct {
	pool *pgxpool.Pool
	WatchConfig
	findings *prometheus.CounterVec
	owed     *prometheus.CounterVec
}

// NewWatch returns a watch on the outbox of pool.
func NewWatch(pool *pgxpool.Pool, c WatchConfig) *Watch {
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	c.Logger = c.Logger.With(zap.String("part", "watch"))
	with := promauto.With(c.Registerer)
	return &Watch{
		pool: pool, WatchConfig: c,
		findings: with.NewCounterVec(prometheus.CounterOpts{
			Name: "handover_stream_findings_total", Help: "What was found wrong between a stream and the outbox: recreated, truncated, regrown, damaged, database_older.",
		}, []string{"stream", "finding"}),
		owed: with.NewCounterVec(prometheus.CounterOpts{
			Name: "handover_stream_lost_messages_total", Help: "Messages that a stream had lost and that are published again.",
		}, []string{"stream"}),
	}
}

// Run looks at every reconnect, whenever a stream was made, and every minute until ctx is done. It doesn't look at once:
// Look does that before anything is published or mailed. After a look that found something it looks again soon, since
// others may just have written down what a stream that is gone had acknowledged.
func (w *Watch) Run(ctx context.Context) error {
	wait := time.NewTimer(lookSoon)
	defer wait.Stop()
	next := w.Streams.NextChange()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next:
		case <-wait.C:
		}
		next = w.Streams.NextChange()
		found, err := w.look(ctx, false)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			w.Logger.Warn("streams not compared with the outbox; trying again", zap.Error(err))
			wait.Reset(lookSoon)
		case len(found) > 0:
			wait.Reset(lookSoon)
		default:
			wait.Reset(lookEvery)
		}
	}
}

// Look compares all streams with the outbox once and returns what it found. It waits for another that is at it. After an
// error a part may be done; the next look goes on.
func (w *Watch) Look(ctx context.Context) ([]Finding, error) { return w.look(ctx, true) }

const (
	lockLook   = `SELECT pg_advisory_lock(hashtextextended('handover.streams', 0))`
	tryLook    = `SELECT pg_try_advisory_lock(hashtextextended('handover.streams', 0))`
	unlockLook = `SELECT pg_advisory_unlock(hashtextextended('handover.streams', 0))`
)

func (w *Watch) look(ctx context.Context, wait bool) (found []Finding, err error) {
	conn, err := w.pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("look at the streams: %w", err)
	}
	// The lock is the connection's and outlives no cut of it; two at once would only do some of it twice.
	held := true
	if wait {
		_, err = conn.Exec(ctx, lockLook)
	} else {
		err = conn.QueryRow(ctx, tryLook).Scan(&held)
	}
	defer func() {
		if _, err := conn.Exec(context.WithoutCancel(ctx), unlockLook); err != nil {
			_ = conn.Conn().Close(context.WithoutCancel(ctx))
		}
		conn.Release()
	}()
	if err != nil || !held {
		return nil, err
	}
	// What can be lost first; then what is there already, so that it isn't sent twice.
	for _, stream := range []string{event.StreamRoleChanges, event.StreamTaskReassignments, event.StreamDeadLetters} {
		of, streamErr := w.lookAt(ctx, stream)
		found = append(found, of...)
		if streamErr != nil {
			err = errors.Join(err, fmt.Errorf("look at the stream %s: %w", stream, streamErr))
		}
	}
	return found, err
}

// looked is up to where a stream was compared.
type looked struct {
	created  time.Time
	sequence uint64
	id       *string
}

const (
	readMark = `SELECT created, sequence, message_id FROM stream_marks WHERE stream = $1`
	saveMark = `
INSERT INTO stream_marks (stream, created, sequence, message_id) VALUES ($1, $2, $3, nullif($4, ''))
ON CONFLICT (stream) DO UPDATE SET created = $2, sequence = $3, message_id = nullif($4, ''), looked_at = clock_timestamp()`
)

func (w *Watch) lookAt(ctx context.Context, stream string) (found []Finding, err error) {
	var before looked
	var known bool
	switch err := w.pool.QueryRow(ctx, readMark, stream).Scan(&before.created, &before.sequence, &before.id); {
	case err == nil:
		known = true
	case !errors.Is(err, pgx.ErrNoRows):
		return nil, err
	}
	// What is acknowledged after the stream was asked is no matter of this look.
	var bound int64
	if err := w.pool.QueryRow(ctx, `SELECT coalesce(max(key), 0) FROM outbox_published`).Scan(&bound); err != nil {
		return nil, err
	}
	state, err := w.Streams.State(ctx, stream)
	if err != nil {
		return nil, err
	}
	if state.MaxAge <= 0 {
		state.MaxAge = keepFor
	}
	l := looking{Watch: w, stream: stream, state: state, bound: bound}
	if known && before.created.Equal(state.Created) {
		l.mark = before
	}
	report := func(f Finding) {
		f.Stream = stream
		found = append(found, f)
		w.report(f)
	}
	if err := l.lost(ctx, report); err != nil {
		return found, err
	}
	return found, l.ahead(ctx, report)
}

// looking is one look at one stream.
type looking struct {
	*Watch
	stream string
	state  StreamState
	mark   looked // of this very stream; zero when it wasn't looked at before
	bound  int64  // the newest row of outbox_published before the stream was asked
}

func (w *Watch) report(f Finding) {
	w.findings.WithLabelValues(f.Stream, f.What).Inc()
	w.owed.WithLabelValues(f.Stream).Add(float64(f.Owed))
	fields := []zap.Field{zap.String("stream", f.Stream), zap.String("finding", f.What), zap.Int64("published_again", f.Owed)}
	if f.What == Older {
		fields = append(fields, zap.Int64("unknown", f.Unknown), zap.Uint64("from_sequence", f.From), zap.Uint64("to_sequence", f.To))
	}
	w.Logger.Error(f.sentence(), fields...)
}

func (f Finding) sentence() string {
	switch f.What {
	case Recreated:
		return "the stream is a new one: what the old one held is published again"
	case Truncated:
		return "the stream has lost its end: what stood there is published again"
	case Regrown:
		return "the stream has other messages where ours stood: those are published again"
	case Damaged:
		return "the broker lost messages of the stream: they are published again"
	}
	return strings.ToUpper(f.olderReason()[:1]) + f.olderReason()[1:]
}

// olderReason fits twice, for the two streams that hold messages of ours, where a reason is shown in brief.
func (f Finding) olderReason() string {
	return fmt.Sprintf("the database was restored, and mails may have been sent that it doesn't know of: it is older than the stream %s, which holds %d of our own messages that are not in it (sequences %d to %d)",
		f.Stream, f.Unknown, f.From, f.To)
}
