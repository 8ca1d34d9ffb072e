package bench

import (
	"context"
	"errors"
)

// unique1 is a run of the mix unique: ours, the bare UPDATE, and the broker alone.
func (b *bench) unique1(ctx context.Context) ([]Result, error) {
	p, err := unique(b.data(), b.Changes)
	if err != nil {
		return nil, err
	}
	return b.besideLimits(ctx, p)
}

// besideLimits runs a plan through the product and through both limits.
func (b *bench) besideLimits(ctx context.Context, p plan) ([]Result, error) {
	t := template{dataset: p.dataset}
	limit := template{dataset: p.dataset, limit: true}
	if err := b.need(ctx, t, limit); err != nil {
		return nil, err
	}
	expected := expect(p.dataset, changesOf(p))
	ours, announced, err := b.runOurs(ctx, t, p, expected)
	if err != nil {
		return nil, err
	}
	bare, err := b.runBare(ctx, limit, p, expected)
	if err != nil {
		return nil, err
	}
	s, right, err := b.runBroker(ctx, p, announced)
	alone := newResult(Broker, p.name, len(p.deliveries), s, verdict{moved: announced.moved, announcements: announced.announcements})
	alone.Right, alone.WALBytes, alone.PostgresCPU = right, nil, nil
	return []Result{ours, bare, alone}, err
}

// runOurs has the changes on the stream before the clock starts; it stops when all are acknowledged and every
// announcement is on its stream.
func (b *bench) runOurs(ctx context.Context, t template, p plan, expected right) (_ Result, v verdict, err error) {
	w, err := b.open(ctx, t, nil)
	if err != nil {
		return Result{}, v, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := p.publish(ctx, w.Bus); err != nil {
		return Result{}, v, err
	}
	clock, err := startClock(ctx, w.conn)
	if err != nil {
		return Result{}, v, err
	}
	if err := w.Start(ctx); err != nil {
		return Result{}, v, err
	}
	if err := w.settled(ctx, len(p.deliveries)); err != nil {
		return Result{}, v, err
	}
	s, err := clock.stop(ctx)
	if err != nil {
		return Result{}, v, err
	}
	b.say("handover: %.2f s for %d changes; checking", s.seconds, len(p.deliveries))
	if v, err = w.check(ctx, expected); err != nil {
		return Result{}, v, err
	}
	return newResult(Handover, p.name, len(p.deliveries), s, v), v, nil
}

func (b *bench) runBare(ctx context.Context, t template, p plan, expected right) (_ Result, err error) {
	w, err := b.open(ctx, t, nil)
	if err != nil {
		return Result{}, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	s, err := w.runLimit(ctx, p)
	if err != nil {
		return Result{}, err
	}
	b.say("limit: %.2f s", s.seconds)
	v, err := w.checkLimit(ctx, expected)
	result := newResult(Limit, p.name, len(p.deliveries), s, v)
	result.ServiceCPU, result.PeakRSS = nil, nil
	return result, err
}
