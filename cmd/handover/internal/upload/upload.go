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

// Row is one row, ready to be sent.
type Row struct {
	Line int
	ID   string
	Body []byte
}

// Next returns the next row, nil for one that is left out, a *tabular.Problem for one that can't be made, or io.EOF.
type Next func() (*Row, error)

// Send sends a chunk whole and says what became of its rows. When it fails nothing of the answer counts, and the chunk
// may be sent again; with a [*Fatal] it never will be.
type Send func(ctx context.Context, chunk []Row) (Answer, error)

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

type chunk struct {
	rows    []Row
	refused []tabular.Problem
	leftOut int
	err     error
}

// Run sends everything. The summary counts what was done also when it fails.
func Run(ctx context.Context, next Next, send Send, to Reporter, o Options) (Summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks := make(chan chunk)
	go func() {
		defer close(chunks)
		for {
			c := read(next, o)
			select {
			case chunks <- c:
			case <-ctx.Done():
				return
			}
			if c.err != nil {
				return
			}
		}
	}()
	var sum Summary
	for c := range chunks {
		var answer Answer
		if len(c.rows) > 0 {
			var err error
			if answer, err = patiently(ctx, send, c.rows, o.Patience, to); err != nil {
				return sum, fmt.Errorf("lines %d to %d were not taken: %w", c.rows[0].Line, c.rows[len(c.rows)-1].Line, err)
			}
		}
		refused := append(c.refused, answer.Refused...)
		slices.SortStableFunc(refused, func(a, b tabular.Problem) int { return cmp.Compare(a.Line, b.Line) })
		for _, p := range refused {
			to.Refused(p)
		}
		sum.Rows += len(c.rows) + len(c.refused) + c.leftOut
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
		to.Progress(sum)
		if c.err != nil && !errors.Is(c.err, io.EOF) {
			return sum, c.err
		}
	}
	return sum, context.Cause(ctx)
}

func read(next Next, o Options) chunk {
	var c chunk
	for bytes := 0; len(c.rows)+len(c.refused) < o.Rows && bytes < o.Bytes; {
		row, err := next()
		var problem *tabular.Problem
		switch {
		case errors.As(err, &problem):
			c.refused = append(c.refused, *problem)
		case err != nil:
			c.err = err
			return c
		case row == nil:
			c.leftOut++
		default:
			c.rows = append(c.rows, *row)
			bytes += len(row.Body)
		}
	}
	return c
}

func patiently(ctx context.Context, send Send, rows []Row, patience time.Duration, to Reporter) (Answer, error) {
	pause := &backoff.ExponentialBackOff{InitialInterval: 200 * time.Millisecond, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: 5 * time.Second}
	began := time.Now()
	for attempt := 1; ; attempt++ {
		answer, err := send(ctx, rows)
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
