package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
	"go.uber.org/zap"
)

const (
	// A part that ended is started again after 100 ms, then after longer and longer, up to 5 s.
	pauseFirst = 100 * time.Millisecond
	pauseMost  = 5 * time.Second
	// settled is how long a part must have run for its next end to count as the first again.
	settled = time.Minute
)

// Service is what has been started, and how it is stopped.
type Service struct {
	log   *zap.Logger
	steps []step

	mu    sync.Mutex
	parts []string
}

type step struct {
	name string
	stop func(context.Context) error
}

// New returns a service without parts.
func New(log *zap.Logger) *Service { return &Service{log: log} }

// OnStop has something stopped when the service stops: before everything that was added before it.
func (s *Service) OnStop(name string, stop func(context.Context) error) {
	s.steps = append(s.steps, step{name, stop})
}

// Go runs a part until the service stops. Run must return soon after its context is done; when it returns before that,
// it is run again.
func (s *Service) Go(name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	s.mu.Lock()
	s.parts = append(s.parts, name)
	s.mu.Unlock()
	go func() {
		defer close(done)
		s.keep(ctx, name, run)
	}()
	s.OnStop(name, func(patience context.Context) error {
		cancel()
		select {
		case <-done:
			return nil
		case <-patience.Done():
			return fmt.Errorf("is still at work after %w", patience.Err())
		}
	})
}

// Parts are the names of what Go has started. It may be called at any time.
func (s *Service) Parts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.parts)
}

func (s *Service) keep(ctx context.Context, name string, run func(context.Context) error) {
	pause := &backoff.ExponentialBackOff{
		InitialInterval: pauseFirst, RandomizationFactor: 0.3, Multiplier: 2, MaxInterval: pauseMost,
	}
	for {
		began := time.Now()
		err := run(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > settled {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		s.log.Error("a part ended; starting it again", zap.String("part", name), zap.Duration("pause", wait), zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Stop stops everything in reverse order, also what comes after an error. A second call does nothing.
func (s *Service) Stop(ctx context.Context) error {
	var errs []error
	for len(s.steps) > 0 {
		last := s.steps[len(s.steps)-1]
		s.steps = s.steps[:len(s.steps)-1]
		began := time.Now()
		if err := last.stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", last.name, err))
			s.log.Error("not stopped cleanly", zap.String("part", last.name), zap.Error(err))
			continue
		}
		s.log.Debug("stopped", zap.String("part", last.name), zap.Duration("took", time.Since(began)))
	}
	return errors.Join(errs...)
}

// oneSignal is how long signals count as the same one: who presses Ctrl-C under a wrapper that passes it on sends two.
const oneSignal = 500 * time.Millisecond

// Signals returns a context that ends at the first SIGINT or SIGTERM. The second one ends the process at once; what it
// leaves behind is put in order by the next start.
func Signals(parent context.Context, first func()) context.Context {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-parent.Done():
			cancel()
			return
		case <-signals:
		}
		at := time.Now()
		first()
		cancel()
		for range signals {
			if time.Since(at) > oneSignal {
				os.Exit(1)
			}
		}
	}()
	return ctx
}
