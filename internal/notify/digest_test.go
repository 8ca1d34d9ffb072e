package notify

import (
	"fmt"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestSeveralMovesOfATaskAreOneLineOrNone(t *testing.T) {
	t.Parallel()
	move := func(revision int64, kind, from string) told {
		return with(moved("t-1", "One", 0), func(t *told) { t.revision, t.kind, t.from, t.fromName = revision, kind, from, from })
	}
	now := func(holder string, open bool, items ...told) []told {
		for i := range items {
			items[i].holder, items[i].open = holder, open
		}
		return items
	}
	before := func(t told) told { t.toldBefore = true; return t }
	for name, c := range map[string]struct {
		items []told
		want  string
	}{
		"received":                            {now("u-ada", true, move(1, received, "maya")), "received from maya"},
		"received twice, from the first":      {now("u-ada", true, move(1, received, "maya"), move(3, received, "lee")), "received from maya"},
		"moved on":                            {now("u-lee", true, move(1, received, "maya")), ""},
		"closed":                              {now("u-ada", false, move(1, received, "maya")), ""},
		"gone, or nobody's":                   {now("", false, move(1, received, "maya")), ""},
		"taken back":                          {now("u-lee", true, before(move(5, takenBack, "u-ada"))), "taken back"},
		"taken back and closed by another":    {now("u-lee", false, before(move(5, takenBack, "u-ada"))), "taken back"},
		"taken back, but never told":          {now("u-lee", true, move(5, takenBack, "u-ada")), ""},
		"taken back and returned":             {now("u-ada", true, before(move(5, takenBack, "u-ada")), move(6, received, "lee")), ""},
		"taken back, never told, then given":  {now("u-ada", true, move(5, takenBack, "u-ada"), move(6, received, "lee")), "received from lee"},
		"received and taken back in a window": {now("u-lee", true, move(4, received, "maya"), move(5, takenBack, "u-ada")), ""},
		"returned and taken back again":       {now("u-lee", true, before(move(5, takenBack, "u-ada")), move(6, received, "lee"), move(7, takenBack, "u-ada")), "taken back"},
		"returned without an event":           {now("u-ada", true, move(5, takenBack, "u-ada")), ""},
	} {
		d, left := compose(noon, c.items)
		got := ""
		for _, a := range d.accounts {
			for _, line := range a.received {
				got += "received from " + line.from
			}
			for range a.takenBack {
				got += "taken back"
			}
		}
		if got != c.want || (got == "") != (len(left) == len(c.items)) {
			t.Errorf("%s: %q, want %q (left out %v)", name, got, c.want, left)
		}
	}
}

func TestComposeTellsEachTaskOnceAndOnlyTheTruth(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var items []told
		type truth struct {
			holder string
			open   bool
		}
		now := make(map[string]truth)
		for n := range rapid.IntRange(0, 8).Draw(t, "tasks") {
			task := fmt.Sprintf("t-%d", n)
			now[task] = truth{rapid.SampledFrom([]string{"u-ada", "u-lee", ""}).Draw(t, "holder"), rapid.Bool().Draw(t, "open")}
			for r := range rapid.IntRange(1, 4).Draw(t, "moves") {
				items = append(items, with(moved(task, "Title", 0), func(m *told) {
					m.revision, m.holder, m.open = int64(r+1), now[task].holder, now[task].open
					m.kind = rapid.SampledFrom([]string{received, takenBack}).Draw(t, "kind")
					m.toldBefore = m.kind == takenBack && rapid.Bool().Draw(t, "told before")
					m.accountID = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "account")
				}))
			}
		}
		shuffled := rapid.Permutation(items).Draw(t, "order")
		d, left := compose(noon, slices.Clone(shuffled))
		seen := make(map[string]bool)
		for _, a := range d.accounts {
			for _, line := range append(slices.Clone(a.received), a.takenBack...) {
				if seen[line.task] {
					t.Fatalf("%s is told twice", line.task)
				}
				seen[line.task] = true
			}
			for _, line := range a.received {
				if now[line.task] != (truth{"u-ada", true}) {
					t.Fatalf("%s is told as received, but is %+v", line.task, now[line.task])
				}
			}
			for _, line := range a.takenBack {
				if now[line.task].holder == "u-ada" {
					t.Fatalf("%s is told as taken back, but it is theirs", line.task)
				}
			}
		}
		if d.tasks != len(seen) {
			t.Fatalf("%d tasks counted, %d told", d.tasks, len(seen))
		}
		for i, item := range shuffled {
			if left[i] == seen[item.task] {
				t.Fatalf("%s: left out %t, told %t", item.task, left[i], seen[item.task])
			}
		}
		again, _ := compose(noon, items)
		if !reflect.DeepEqual(again, d) {
			t.Fatal("the order of the items matters")
		}
	})
}
