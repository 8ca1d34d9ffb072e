package system_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"handover.io/internal/bus"
	"handover.io/internal/verify"
	"handover.io/pkg/event"
)

// broker is what a verification asks.
func (w *world) broker() verify.Broker {
	return verify.Broker{
		Streams: func(ctx context.Context) ([]verify.Stream, error) {
			all, err := w.bus.Status(ctx)
			var out []verify.Stream
			for _, s := range all {
				one := verify.Stream{Name: s.Stream, Created: s.Created, FirstSeq: s.FirstSeq, LastSeq: s.LastSeq, Consumers: map[string]verify.Consumer{}}
				for _, c := range s.Consumers {
					one.Consumers[c.Consumer] = verify.Consumer{Handled: c.AckFloor}
				}
				out = append(out, one)
			}
			return out, err
		},
		Read: func(ctx context.Context, stream string, from, to uint64, handle func(context.Context, []event.Message) error) error {
			_, err := w.bus.Read(ctx, stream, bus.Range{FromSeq: from, ToSeq: to}, func(ctx context.Context, batch []event.Message, _ uint64) error {
				for i := range batch {
					batch[i].ID = bus.MessageID(batch[i])
				}
				return handle(ctx, batch)
			})
			return err
		},
	}
}

// verified lists what a verification finds wrong. The faults make mails whose end nobody knows, and histories have changes
// that are refused; those are to be found.
func (w *world) verified(ctx context.Context, thorough bool) ([]string, error) {
	kinds := slices.DeleteFunc(verify.Kinds(), func(k verify.Kind) bool { return k == verify.AmbiguousMail || k == verify.DeadLetters })
	r, err := verify.Verify(ctx, w.pool, w.broker(), verify.Options{Only: kinds, Thorough: thorough, Duty: 0.5})
	var wrong []string
	for _, k := range r.Results {
		for _, f := range k.Findings[:min(10, len(k.Findings))] {
			if !k.Note {
				wrong = append(wrong, fmt.Sprintf("%s: %s", f.Kind, f.Says))
			}
		}
	}
	return wrong, err
}

// verifyAllTheTime verifies while everything happens, and fails at the first false alarm. The returned function ends it
// and tells how often it found nothing.
func (w *world) verifyAllTheTime() (stop func() int64) {
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	var times atomic.Int64
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			wrong, err := w.verified(ctx, times.Load()%4 == 0)
			switch {
			case ctx.Err() != nil:
			case err != nil:
				w.Errorf("verify under load: %v", err)
				return
			case len(wrong) > 0:
				w.Errorf("verify under load raised a false alarm:\n%s", strings.Join(wrong, "\n"))
				return
			default:
				times.Add(1)
			}
		}
	}()
	return func() int64 {
		cancel()
		<-ended
		return times.Load()
	}
}
