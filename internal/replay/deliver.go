package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"golang.org/x/time/rate"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

const (
	saveEvery = time.Second
	// patience is for how long a database that is away is waited for, between two looks at most lookAgain.
	patience  = 2 * time.Minute
	lookAgain = 5 * time.Second
)

// delivery is a run at work.
type delivery struct {
	*Replay
	run      *journal.Run
	counts   Counts
	progress Progress
	report   func(Progress)
	pace     *rate.Limiter
	saved    time.Time
}

func newPace(perSecond float64) *rate.Limiter {
	if perSecond <= 0 {
		perSecond = DefaultRate
	}
	return rate.NewLimiter(rate.Limit(perSecond), deliverBatch)
}

// errChunk ends the reading of the stream while what was gathered is delivered.
var errChunk = errors.New("enough for now")

// redeliver delivers what is missing of the stream, chunk by chunk. What a chunk holds is safe before the cursor is.
func (d *delivery) redeliver(ctx context.Context, o Order) error {
	created, last, err := d.Stream(ctx)
	if err != nil {
		return err
	}
	after := After(d.run)
	if !created.Equal(o.StreamCreated) || last < after {
		return fmt.Errorf("the stream isn't the one that run %d is about (made %s, this one %s): begin a new replay", d.run.ID, o.StreamCreated.Format(time.RFC3339), created.Format(time.RFC3339))
	}
	if err := d.restoreMoves(ctx, o.Selection); err != nil {
		return err
	}
	for {
		next, more, err := d.nextChunk(ctx, o.Selection, after)
		if err != nil {
			return err
		}
		if after = next; !more {
			return nil
		}
	}
}

// nextChunk reads and delivers, and returns up to where, and whether there is more.
func (d *delivery) nextChunk(ctx context.Context, s Selection, after uint64) (uint64, bool, error) {
	limit := chunk
	if d.chunk > 0 {
		limit = d.chunk
	}
	sift := d.sift(s)
	var found []roster.Judged
	var counted Counts
	var read int64
	end, err := d.Read(ctx, s.part(after, min(readBatch, limit)), func(ctx context.Context, batch []event.Message, pending uint64) error {
		keep, counts, err := sift.take(ctx, batch)
		if err != nil {
			return err
		}
		counts.Missing, counts.DeadLetters = 0, nil // they count when they are delivered
		found, counted, after = append(found, keep...), counted.plus(counts), batch[len(batch)-1].Sequence
		read += int64(len(batch))
		d.progress.Total = d.progress.Done + read + int64(pending)
		if len(found) >= limit {
			return errChunk
		}
		if len(found) > 0 {
			return nil
		}
		if d.counts.Recent != nil {
			return nil // what it has done past the cursor comes yet
		}
		d.counts = d.counts.plus(counted)
		d.progress.Done += read
		counted, read = Counts{}, 0
		return d.save(ctx, after, false)
	})
	more := errors.Is(err, errChunk)
	if err != nil && !more {
		return after, false, err
	}
	if !more {
		after = max(after, end)
	}
	again := d.counts.Recent // of the time before it was cut off
	if err := d.deliver(ctx, found, read); err != nil {
		return after, false, err
	}
	if again != nil {
		counted.Known, counted.DeadAlready = max(counted.Known-again.Recorded, 0), max(counted.DeadAlready-again.Buried, 0)
	}
	d.counts = d.counts.plus(counted)
	d.counts.Recent = nil
	return after, more, d.save(ctx, after, true)
}

// save writes down how far the run is: now, or when that is some time ago.
func (d *delivery) save(ctx context.Context, after uint64, now bool) error {
	d.progress.Counts = d.counts.clone()
	d.report(d.progress)
	if !now && time.Since(d.saved) < saveEvery {
		return nil
	}
	d.saved = time.Now()
	cursor := ""
	if after > 0 {
		cursor = strconv.FormatUint(after, 10)
	}
	return d.run.Save(context.WithoutCancel(ctx), cursor, d.counts)
}

// deliver delivers what a chunk has found, of so many messages read.
func (d *delivery) deliver(ctx context.Context, found []roster.Judged, read int64) error {
	cursor, done := After(d.run), d.progress.Done
	delivered := 0
	for _, batch := range batches(found) {
		if err := d.wait(ctx, len(batch)); err != nil {
			return err
		}
		applied, err := d.apply(ctx, batch)
		if err != nil {
			return err
		}
		delivered += len(batch)
		d.progress.Done = done + read*int64(delivered)/int64(len(found))
		done := counted(applied)
		recent := Recent{Recorded: done.Missing, Buried: done.NewDeadLetters()}
		if d.counts.Recent != nil {
			recent.Recorded, recent.Buried = recent.Recorded+d.counts.Recent.Recorded, recent.Buried+d.counts.Recent.Buried
		}
		d.counts = d.counts.plus(done)
		d.counts.Recent = &recent
		if err := d.save(ctx, cursor, false); err != nil {
			return err
		}
	}
	d.progress.Done = done + read
	return nil
}

func counted(a Applied) Counts {
	c := Counts{Known: a.Known, Missing: a.Recorded, DeadLetters: a.DeadLetters}
	for _, m := range a.Moves {
		c.TasksMoved += len(m.Tasks)
	}
	return c
}

// apply delivers a batch. Once begun it isn't interrupted; a database that is away is waited for.
func (d *delivery) apply(ctx context.Context, batch []event.Message) (Applied, error) {
	since, wait := time.Now(), 100*time.Millisecond
	for {
		applied, err := d.Apply(context.WithoutCancel(ctx), batch)
		if err == nil || !postgres.Unavailable(err) || time.Since(since) > patience {
			return applied, err
		}
		select {
		case <-ctx.Done():
			return Applied{}, errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
		wait = min(2*wait, lookAgain)
	}
}

// wait keeps the rate.
func (d *delivery) wait(ctx context.Context, n int) error {
	for n > 0 {
		some := min(n, deliverBatch)
		if err := d.pace.WaitN(ctx, some); err != nil {
			return err
		}
		n -= some
	}
	return ctx.Err()
}

// batches keep the changes of one account together, in the order in which they came, and accounts in the order of their
// first. What is no change of an account, or comes second to one with its id, comes last.
func batches(found []roster.Judged) [][]event.Message {
	var groups [][]event.Message
	at := map[roster.Account]int{}
	var rest []event.Message
	for _, j := range found {
		if !j.Missing() {
			rest = append(rest, j.Message)
			continue
		}
		i, grouped := at[j.Change.Account]
		if !grouped || len(groups[i]) == accountBatch {
			i = len(groups)
			at[j.Change.Account], groups = i, append(groups, nil)
		}
		groups[i] = append(groups[i], j.Message)
	}
	groups = append(groups, slices.Collect(slices.Chunk(rest, deliverBatch))...)
	var out [][]event.Message
	for _, g := range groups {
		if last := len(out) - 1; last >= 0 && len(out[last])+len(g) <= deliverBatch {
			out[last] = append(out[last], g...)
			continue
		}
		out = append(out, g)
	}
	return out
}
