package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// small is enough for every tenant's policy, and for more changes than there are handlers.
var small = size{accounts: 200, tasks: 10}

func openSmall(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	// PostgreSQL runs as another user when the tests are run by root.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := open(context.Background(), dir, small, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// A contender that does less than its work would be compared all the same.
func TestContendersAreRight(t *testing.T) {
	b := openSmall(t)
	for _, c := range peers() {
		t.Run(c.name, func(t *testing.T) {
			r, err := b.measure(context.Background(), c, "unique", 200, 1)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Right || r.MovesDue == 0 {
				t.Errorf("%s: %+v", verdict(r), r)
			}
		})
	}
	t.Run("nats-1, hot-ordered", func(t *testing.T) {
		r, err := b.measure(context.Background(), natsWorkers(1), "hot-ordered", 200, 1)
		if err != nil {
			t.Fatal(err)
		}
		if !r.Right {
			t.Errorf("%s: %+v", verdict(r), r)
		}
	})
}

// The check itself must see that order matters: whoever takes the changes as they come is wrong when they come in any order.
func TestShuffledChangesAreSeenAsWrong(t *testing.T) {
	r, err := openSmall(t).measure(context.Background(), natsWorkers(1), "hot", 200, 1)
	if err != nil {
		t.Fatal(err)
	}
	if r.Right || r.WrongAssignees == 0 {
		t.Errorf("%+v", r)
	}
}

func TestMedians(t *testing.T) {
	run := func(contender string, rate float64, right bool) result {
		return result{Contender: contender, Mix: "unique", ChangesPerS: rate, Right: right}
	}
	got := medians([]result{
		run(handoverName, 900, true), run("nats-1", 300, true), run(handoverName, 1000, true), run("nats-1", 100, false),
		run(handoverName, 1100, true), run("nats-1", 200, true),
	})
	if len(got) != 2 || got[0].ChangesPerS != 1000 || got[1].ChangesPerS != 200 || got[1].HandoverIsTimes != 5 || got[0].HandoverIsTimes != 0 {
		t.Errorf("%+v", got)
	}
	if !got[0].Right || got[1].Right {
		t.Errorf("right in each run: %v; wrong in one: %v", got[0].Right, got[1].Right)
	}
}
