package replay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"handover.io/internal/journal"
)

// Command is the name under which runs are kept.
const Command = "replay"

// Sources of a replay.
const (
	FromStream   = "stream"
	FromDatabase = "database"
)

// Order is what a replay is asked to do, and all it needs to go on after it was cut off.
type Order struct {
	Selection
	From   string `json:"from"` // FromStream or FromDatabase
	NoMail bool   `json:"no_mail,omitempty"`
	// StreamCreated names the stream that the cursor is a sequence of.
	StreamCreated time.Time `json:"stream_created,omitzero"`
}

// ErrInterrupted is how a run ends that was told to stop: in order, to be resumed.
var ErrInterrupted = errors.New("interrupted")

// Begin writes down a new run. What arrives on the stream from now on isn't part of it.
func (r *Replay) Begin(ctx context.Context, o Order, actor string) (*journal.Run, error) {
	if o.From == FromStream {
		created, last, err := r.Stream(ctx)
		if err != nil {
			return nil, err
		}
		o.StreamCreated = created
		if o.ToSeq == 0 || o.ToSeq > last {
			o.ToSeq = max(last, 1)
		}
	}
	return journal.BeginRun(ctx, r.Pool, Command, actor, o)
}

// OrderOf is what a run was asked to do.
func OrderOf(run *journal.Run) (Order, error) {
	var o Order
	if run.Command != Command {
		return o, fmt.Errorf("run %d is one of %s, not of replay", run.ID, run.Command)
	}
	if err := json.Unmarshal(run.Arguments, &o); err != nil {
		return o, fmt.Errorf("run %d: %w", run.ID, err)
	}
	return o, nil
}

// After is the sequence of the stream up to which the run is done.
func After(run *journal.Run) uint64 {
	after, _ := strconv.ParseUint(run.Cursor, 10, 64)
	return after
}

const (
	// The lock is the connection's: it ends with the process, however that ends.
	holdRun    = `SELECT pg_try_advisory_lock(hashtextextended('handover.replay.' || $1, 0))`
	releaseRun = `SELECT pg_advisory_unlock_all()`
)

// Run does what a run was asked to, from where it is, at a rate of changes a second. When ctx ends it stops after the
// delivery under way, with [ErrInterrupted]. However it ends, its row says so.
func (r *Replay) Run(ctx context.Context, run *journal.Run, perSecond float64, report func(Progress)) (Counts, error) {
	counts := Counts{DeadLetters: map[string]int{}}
	if err := json.Unmarshal(run.Counts, &counts); err != nil {
		return counts, fmt.Errorf("run %d: its counts: %w", run.ID, err)
	}
	o, err := OrderOf(run)
	if err != nil {
		return counts, err
	}
	conn, err := r.Pool.Acquire(ctx)
	if err != nil {
		return counts, err
	}
	defer conn.Release()
	var ours bool
	if err := conn.QueryRow(ctx, holdRun, strconv.FormatInt(run.ID, 10)).Scan(&ours); err != nil || !ours {
		return counts, errors.Join(err, fmt.Errorf("run %d is under way in another process", run.ID))
	}
	defer func() { _, _ = conn.Exec(context.WithoutCancel(ctx), releaseRun) }()
	if err := run.Resume(ctx); err != nil {
		return counts, err
	}
	d := &delivery{Replay: r, run: run, counts: counts, report: report, pace: newPace(perSecond)}
	if o.From == FromDatabase {
		err = d.refold(ctx, o)
	} else {
		err = d.redeliver(ctx, o)
	}
	if err != nil && ctx.Err() != nil {
		err = ErrInterrupted
	}
	return d.counts, errors.Join(err, run.End(ctx, d.counts, err))
}
