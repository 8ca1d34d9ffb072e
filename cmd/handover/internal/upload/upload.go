package upload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"

	"handover.io/cmd/handover/internal/tabular"
)

// Next appends the line of the next row to body. It appends nothing for one that is left out; the error is a
// *tabular.Problem for one that can't be made, or io.EOF.
type Next func(body []byte) (Row, []byte, error)

// Send sends a chunk whole and says what became of its rows. When it fails nothing of the answer counts, and the chunk
// may be sent again; with a [*Fatal] it never will be.
type Send func(ctx context.Context, chunk Chunk) (Answer, error)

// Answer is what became of a chunk.
type Answer struct {
	Created, Updated, Unchanged int
	TasksMoved                  *int // nil when the answer doesn't tell
	Refused                     []tabular.Problem
}

// Fatal is an error that no repeat can mend: a wrong token, a wrong address.
type Fatal struct{ Err error }

func (e *Fatal) Error() string { return e.Err.Error() }
func (e *Fatal) Unwrap() error { return e.Err }

// Summary is what became of all rows.
type Summary struct {
	Rows      int `json:"rows"`
	Created   int `json:"created"`
	Updated   int `json:"updated"`
	Unchanged int `json:"unchanged"`
	Failed    int `json:"failed"`
	LeftOut   int `json:"left_out"`

	DryRun     bool `json:"dry_run,omitempty"` // nothing was done
	TasksMoved *int `json:"tasks_moved,omitempty"`
}

// Reporter is told of every refused row, and how far things are after every chunk. It is called from one goroutine.
type Reporter interface {
	Refused(tabular.Problem)
	Progress(Summary)
	// Waiting is called once for a chunk that isn't taken at first: why, and for how long it is tried again at most.
	Waiting(why error, patience time.Duration)
}

// Options bound a chunk.
type Options struct {
	Rows, Bytes int
	// Patience is how long a chunk is tried while the service is away.
	Patience time.Duration
}

// reading is a chunk with the rows that were read for it but aren't to be sent.
type reading struct {
	Chunk
	refused []tabular.Problem
	leftOut int
	err     error
}

// Run sends everything. The summary counts what was done also when it fails.
func Run(ctx context.Context, next Next, send Send, to Reporter, o Options) (Summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read, room := make(chan *reading), make(chan *reading, 2)
	room <- new(reading)
	room <- new(reading)
	go func() {
		defer close(read)
		var spare Chunk
		for c := range room {
			c.fill(next, o)
			c.Chunk, spare = c.gathered(spare)
			select {
			case read <- c:
			case <-ctx.Done():
				return
			}
			if c.err != nil {
				return
			}
		}
	}()
	var sum Summary
	for c := range read {
		var answer Answer
		if len(c.Rows) > 0 {
			var err error
			if answer, err = patiently(ctx, send, c.Chunk, o.Patience, to); err != nil {
				first, last := c.span()
				return sum, fmt.Errorf("lines %d to %d were not taken: %w", first, last, err)
			}
		}
		sum.add(c, answer, to)
		if c.err != nil {
			if !errors.Is(c.err, io.EOF) {
				return sum, c.err
			}
			break
		}
		room <- c
	}
	return sum, context.Cause(ctx)
}

func (sum *Summary) add(c *reading, answer Answer, to Reporter) {
	refused := append(c.refused, answer.Refused...)
	slices.SortStableFunc(refused, func(a, b tabular.Problem) int { return cmp.Compare(a.Line, b.Line) })
	for _, p := range refused {
		to.Refused(p)
	}
	sum.Rows += len(c.Rows) + len(c.refused) + c.leftOut
	sum.LeftOut += c.leftOut
	sum.Failed += len(refused)
	sum.Created += answer.Created
	sum.Updated += answer.Updated
	sum.Unchanged += answer.Unchanged
	if answer.TasksMoved != nil {
		if sum.TasksMoved == nil {
			sum.TasksMoved = new(int)
		}
		*sum.TasksMoved += *answer.TasksMoved
	}
	to.Progress(*sum)
}

// fill reads a chunk, in the room of one that has been sent.
func (c *reading) fill(next Next, o Options) {
	*c = reading{Chunk: c.empty()}
	for len(c.Rows)+len(c.refused) < o.Rows && len(c.Body) < o.Bytes {
		row, body, err := next(c.Body)
		var problem *tabular.Problem
		switch {
		case errors.As(err, &problem):
			c.refused = append(c.refused, *problem)
		case err != nil:
			c.err = err
			return
		case len(body) == len(c.Body):
			c.leftOut++
		default:
			c.add(row, body)
		}
	}
}

func patiently(ctx context.Context, send Send, chunk Chunk, patience time.Duration, to Reporter) (Answer, error) {
	pause := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: 5 * time.Second}
	began := time.Now()
	for attempt := 1; ; attempt++ {
		answer, err := send(ctx, chunk)
		var fatal *Fatal
		if err == nil || ctx.Err() != nil || errors.As(err, &fatal) || time.Since(began) >= patience {
			return answer, err
		}
		if attempt == 1 {
			to.Waiting(err, patience)
		}
		select {
		case <-ctx.Done():
			return Answer{}, err
		case <-time.After(pause.NextBackOff()):
		}
	}
}
