package main

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
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

// A contender that does less than its work would be compared all the same, so each must be right where it can be. And the
// check must see who is wrong: whoever takes changes as they come is, when they come in any order.
func TestPeers(t *testing.T) {
	b := openSmall(t)
	type run struct {
		contender
		mix   string
		right bool
	}
	runs := []run{{natsWorkers(1), "hot-ordered", true}, {natsWorkers(1), "hot", false}}
	for _, c := range peers() {
		runs = append(runs, run{c, "unique", true})
	}
	for _, c := range runs {
		t.Run(c.name+" "+c.mix, func(t *testing.T) {
			r, err := b.measure(context.Background(), c.contender, c.mix, 200, 1)
			if err != nil {
				t.Fatal(err)
			}
			if r.Right != c.right || r.Right != (r.WrongAssignees == 0) || r.MovesDue == 0 {
				t.Errorf("%s: %+v", verdict(r), r)
			}
		})
	}
}

func TestReadHandover(t *testing.T) {
	got, err := readHandover([]byte(`{"machine": {"runs": 1}, "results": [
		{"mix": "hot", "changes": 9, "changes_per_s": 7.5, "right": true, "wal_bytes": 11, "p50_ms": null},
		{"contender": "limit", "mix": "hot", "right": false, "wal_bytes": null, "difference_count": 3}]}`))
	if err != nil || len(got.Results) != 2 {
		t.Fatal(got, err)
	}
	ours := result{Contender: handoverName, Mix: "hot", Changes: 9, ChangesPerS: 7.5, WAL: 11, Right: true}
	if r := got.Results[0]; !reflect.DeepEqual(r, ours) || verdict(r) != "yes" {
		t.Errorf("%+v", r)
	}
	if r := got.Results[1]; r.Contender != "limit" || verdict(r) != "NO: 3 differences" {
		t.Errorf("%+v", r)
	}
	for _, said := range []string{"", "{}", "stopped"} {
		if got, err := readHandover([]byte(said)); err == nil {
			t.Errorf("%q is read as %+v", said, got)
		}
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
	if len(got) != 2 || got[0].ChangesPerS != 1000 || got[1].ChangesPerS != 200 {
		t.Fatalf("%+v", got)
	}
	if got[0].HandoverIsTimes != 0 || got[1].HandoverIsTimes != 5 {
		t.Errorf("%+v", got)
	}
	if two := medians([]result{run("nats-1", 1, true), run("nats-1", 2, true)}); two[0].ChangesPerS != 1 {
		t.Errorf("of two: %+v", two)
	}
	if !got[0].Right || got[1].Right {
		t.Errorf("right in each run: %v; wrong in one: %v", got[0].Right, got[1].Right)
	}
}
