package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"handover.io/internal/bus"
	"handover.io/pkg/event"
)

// trickleEvery is the time between two changes of a trickle.
const trickleEvery = time.Second / 50

// trickle publishes changes at a steady pace and notes when the announcement of each is delivered.
type trickle struct {
	plan

	mu        sync.Mutex
	published []time.Time
	delivered []time.Duration // since then; 0: not yet
	left      int
}

// newTrickle is n changes of other accounts than the given ones.
func newTrickle(d dataset, n int, not []int) (*trickle, error) {
	if n > d.accounts-len(not) {
		return nil, fmt.Errorf("%d changes of as many accounts: %d are left; raise --accounts and --tasks, or lower --changes", n, d.accounts-len(not))
	}
	taken := make(map[int]bool, len(not))
	for _, account := range not {
		taken[account] = true
	}
	t := &trickle{plan: plan{dataset: d, name: "trickle", since: changesFrom}, published: make([]time.Time, n), delivered: make([]time.Duration, n), left: n}
	for _, account := range random(4).Perm(d.accounts) {
		if from := d.owner(account); !taken[account] && len(t.changes) < n {
			t.changes = append(t.changes, change{int32(account), int32(from), int32(d.next(from, 1))})
		}
	}
	return t, nil
}

// run publishes all changes and waits until the last announcement is delivered. A change counts from when it was due: one
// that waits for the one before it is late already.
func (t *trickle) run(ctx context.Context, client *bus.Bus) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	subscriber := bus.Consumer{Stream: event.StreamTaskReassignments, Durable: "bench-trickle", Batch: 512}
	subscribed := make(chan error, 1)
	go func() { subscribed <- client.Consume(ctx, subscriber, t.deliver) }()
	var wait sync.WaitGroup
	errs := make([]error, len(t.changes))
	ticker := time.NewTicker(trickleEvery)
	defer ticker.Stop()
	for i := range t.changes {
		e := t.event(i)
		m, err := e.Message(event.SubjectRoleChanged(e.TenantID))
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
		t.mu.Lock()
		t.published[i] = time.Now()
		t.mu.Unlock()
		wait.Go(func() { _, errs[i] = client.Publish(ctx, []event.Message{m}) })
	}
	wait.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	err := until(ctx, "announcements delivered", look, func() (bool, int, error) {
		t.mu.Lock()
		defer t.mu.Unlock()
		return t.left == 0, t.left, nil
	})
	cancel()
	return errors.Join(err, <-subscribed)
}

// deliver is the subscriber. It looks for the changes of the trickle alone, so as not to slow down what is measured.
func (t *trickle) deliver(_ context.Context, messages []event.Message) error {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, m := range messages {
		_, rest, found := bytes.Cut(m.Body, []byte(`"`+t.name+`-`))
		if !found {
			continue
		}
		digits, _, _ := bytes.Cut(rest, []byte{'"'})
		i, err := strconv.Atoi(string(digits))
		if err != nil || i >= len(t.delivered) || t.delivered[i] != 0 {
			continue // the check says what is wrong with it
		}
		t.delivered[i] = now.Sub(t.published[i])
		t.left--
	}
	return nil
}

// percentile is that of all samples, in milliseconds.
func percentile(samples []time.Duration, p float64) *float64 {
	sorted := slices.Sorted(slices.Values(samples))
	at := int(math.Ceil(p*float64(len(sorted)))) - 1
	return new(float64(sorted[max(0, at)].Microseconds()) / 1000)
}

func (b *bench) runTrickle(ctx context.Context) ([]Result, error) {
	return b.trickleBeside(ctx, "trickle", nil, nil)
}

// runTrickleBesideBulk edits a segment of half the accounts, again and again.
func (b *bench) runTrickleBesideBulk(ctx context.Context) ([]Result, error) {
	s, prepare, err := newSegment(b.oneTenant(), b.Accounts/2)
	if err != nil {
		return nil, err
	}
	return b.trickleBeside(ctx, "trickle+bulk", s, prepare)
}

func (b *bench) trickleBeside(ctx context.Context, name string, s *edited, prepare prepare) ([]Result, error) {
	d := b.oneTenant()
	var not []int
	if s != nil {
		not = s.accounts
	}
	tr, err := newTrickle(d, b.changes, not)
	if err != nil {
		return nil, err
	}
	t := templateOf(d, false)
	if err := b.need(ctx, t); err != nil {
		return nil, err
	}
	var r Result
	err = b.with(ctx, t, prepare, func(w *world) error {
		if err := w.Start(ctx); err != nil {
			return err
		}
		stopEditing := func() (float64, error) { return 0, nil }
		if s != nil {
			stopEditing = s.editing(ctx, w)
		}
		spent, err := w.measured(ctx, func() error { return tr.run(ctx, w.client) })
		perSecond, bulkErr := stopEditing()
		if err := errors.Join(err, bulkErr); err != nil {
			return err
		}
		expected := changesOf(tr.plan)
		handled := len(tr.changes)
		if s != nil {
			r.BulkChangesPerS = &perSecond
			for account, changes := range s.changes() {
				expected[account] = slices.Concat(expected[account], changes)
			}
			handled += len(s.edits) * len(s.accounts)
		}
		if err := w.settled(ctx, handled); err != nil {
			return err
		}
		v, err := w.check(ctx, expect(d, expected))
		bulk := r.BulkChangesPerS
		v.moved = len(tr.changes) * d.openTasks() // what the edits moved is told by their rate
		r = newResult(Handover, name, len(tr.changes), spent, v)
		r.BulkChangesPerS, r.P50, r.P99 = bulk, percentile(tr.delivered, .5), percentile(tr.delivered, .99)
		return err
	})
	return []Result{r}, err
}

// editing edits the segment over and over until the returned function is called, which says how many changes a second
// were done.
func (s *edited) editing(ctx context.Context, w *world) (stop func() (float64, error)) {
	enough := make(chan struct{})
	ended := make(chan error, 1)
	began := time.Now()
	go func() {
		for {
			select {
			case <-enough:
				ended <- nil
				return
			default:
			}
			if err := s.edit(ctx, w.Operations); err != nil {
				ended <- err
				return
			}
		}
	}()
	return func() (float64, error) {
		close(enough)
		err := <-ended
		return float64(len(s.edits)*len(s.accounts)) / time.Since(began).Seconds(), err
	}
}
