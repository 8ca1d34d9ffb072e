package notify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCallsThatComeTogetherShareARun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var runs atomic.Int64
		calls := together[int, string]{atOnce: 1, run: func(_ context.Context, asked []int) ([]string, error) {
			runs.Add(1)
			<-time.After(time.Second)
			out := make([]string, len(asked))
			for i, q := range asked {
				out[i] = fmt.Sprint(q)
			}
			return out, nil
		}}
		var all sync.WaitGroup
		for q := range 100 {
			all.Go(func() {
				if a, err := calls.ask(t.Context(), q); a != fmt.Sprint(q) || err != nil {
					t.Errorf("%d is answered %q, %v", q, a, err)
				}
			})
		}
		all.Wait()
		if runs.Load() > 2 {
			t.Errorf("%d runs for calls that came together", runs.Load())
		}
	})
}

func TestACallThatFailsSpoilsNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("bad")
		calls := together[int, int]{atOnce: 2, run: func(ctx context.Context, asked []int) ([]int, error) {
			<-time.After(time.Second)
			if slices.Contains(asked, 13) {
				return nil, bad
			}
			return asked, ctx.Err()
		}}
		gone, leave := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for q := range 40 {
			ctx := t.Context()
			if q%10 == 7 {
				ctx = gone
			}
			all.Go(func() {
				a, err := calls.ask(ctx, q)
				switch {
				case q == 13:
					if !errors.Is(err, bad) {
						t.Errorf("%d: %d, %v", q, a, err)
					}
				case ctx == gone:
					if err != nil && !errors.Is(err, context.Canceled) {
						t.Errorf("%d: %d, %v", q, a, err)
					}
				case a != q || err != nil:
					t.Errorf("%d: %d, %v", q, a, err)
				}
			})
		}
		synctest.Wait()
		leave()
		all.Wait()
	})
}
