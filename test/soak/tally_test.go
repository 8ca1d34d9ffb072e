package soak_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// tally counts the faults and what became of them.
type tally struct {
	mu     sync.Mutex
	faults map[string]*outcome
	kills  int
}

// outcome is a line of the table. Recovered is the longest time until everybody who was hit was ready again.
type outcome struct {
	Fault     string  `json:"fault"`
	Injected  int     `json:"injected"`
	Survived  int     `json:"survived"`
	Recovered float64 `json:"longest_recovery_seconds"`
}

func newTally() *tally { return &tally{faults: map[string]*outcome{}} }

func (t *tally) of(name string) *outcome {
	if t.faults[name] == nil {
		t.faults[name] = &outcome{Fault: name}
	}
	return t.faults[name]
}

func (t *tally) injected(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.of(name).Injected++
}

func (t *tally) survived(name string, after time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.of(name)
	o.Survived++
	o.Recovered = max(o.Recovered, float64(after.Milliseconds())/1000)
}

func (t *tally) killed(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kills += n
}

func (t *tally) sum() (kills, injected, survived int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.faults {
		injected, survived = injected+o.Injected, survived+o.Survived
	}
	return t.kills, injected, survived
}

// report is what a soak came to.
type report struct {
	Seed    uint64       `json:"seed"`
	Seconds float64      `json:"seconds"`
	Kills   int          `json:"kills"`
	Faults  []outcome    `json:"faults"`
	Counts  []count      `json:"counts"`
	Sizes   []partGrowth `json:"sizes"`
	Wrong   []string     `json:"wrong"`
}

// count is something that there was so much of.
type count struct {
	What string `json:"what"`
	N    int64  `json:"n"`
}

func (t *tally) report() []outcome {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []outcome
	for _, o := range slices.SortedFunc(maps.Values(t.faults), func(a, b *outcome) int { return cmp.Compare(a.Fault, b.Fault) }) {
		out = append(out, *o)
	}
	return out
}

func (r report) String() string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(&b, "seed %d, %.0f s of faults, %d kills\n\n", r.Seed, r.Seconds, r.Kills)
	fmt.Fprintln(table, "injected\tsurvived\tlongest recovery\t  fault")
	for _, o := range r.Faults {
		fmt.Fprintf(table, "%d\t%d\t%.1f s\t  %s\n", o.Injected, o.Survived, o.Recovered, o.Fault)
	}
	_ = table.Flush()
	b.WriteString("\n")
	for _, c := range r.Counts {
		fmt.Fprintf(&b, "%9d %s\n", c.N, c.What)
	}
	for _, s := range r.Sizes {
		fmt.Fprintf(&b, "%s\n", s)
	}
	for _, w := range r.Wrong {
		fmt.Fprintf(&b, "WRONG: %s\n", w)
	}
	return b.String()
}

func (r report) write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// partGrowth compares a part's size early and late: medians of the second and of the last quarter.
type partGrowth struct {
	Part            string  `json:"part"`
	Samples         int     `json:"samples"`
	EarlyBytes      float64 `json:"early_bytes"`
	LateBytes       float64 `json:"late_bytes"`
	EarlyGoroutines float64 `json:"early_goroutines"`
	LateGoroutines  float64 `json:"late_goroutines"`
}

func (g partGrowth) String() string {
	return fmt.Sprintf("%9s %.0f MB and %.0f goroutines early, %.0f MB and %.0f late (%d samples)", g.Part,
		g.EarlyBytes/1e6, g.EarlyGoroutines, g.LateBytes/1e6, g.LateGoroutines, g.Samples)
}

// flat tells whether it stayed what it was, give or take what a heap does between two collections.
func (g partGrowth) flat() bool {
	return g.LateBytes <= 1.4*g.EarlyBytes+32e6 && g.LateGoroutines <= 1.3*g.EarlyGoroutines+20
}

func growth(part string, samples []size) partGrowth {
	n := len(samples)
	early, late := samples[n/4:n/2], samples[3*n/4:]
	return partGrowth{part, n,
		median(early, func(s size) float64 { return s.Bytes }), median(late, func(s size) float64 { return s.Bytes }),
		median(early, func(s size) float64 { return s.Goroutines }), median(late, func(s size) float64 { return s.Goroutines })}
}

func median(samples []size, of func(size) float64) float64 {
	if len(samples) == 0 {
		return 0
	}
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
