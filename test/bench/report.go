package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// result is one run of one contender, or the median of several. handover bench prints the same. What wasn't measured is 0.
type result struct {
	Contender      string  `json:"contender"`
	Mix            string  `json:"mix"`
	Changes        int     `json:"changes"`
	Seconds        float64 `json:"seconds"`
	ChangesPerS    float64 `json:"changes_per_s"`
	TasksPerS      float64 `json:"tasks_per_s"`
	RatioToLimit   float64 `json:"ratio_to_limit,omitempty"`
	P50            float64 `json:"p50_ms,omitempty"`
	P99            float64 `json:"p99_ms,omitempty"`
	WAL            int64   `json:"wal_bytes,omitempty"`
	ServiceCPU     float64 `json:"service_cpu_s,omitempty"`
	PostgresCPU    float64 `json:"postgres_cpu_s,omitempty"`
	PeakRSS        int64   `json:"peak_rss_bytes,omitempty"`
	Right          bool    `json:"right"`
	WrongAssignees int     `json:"wrong_assignees"`
	MovesDue       int     `json:"moves_due,omitempty"`
	Announced      int     `json:"tasks_moved,omitempty"` // as often as the stream says it
	Repeated       int     `json:"announced_twice,omitempty"`
	Differences    int     `json:"difference_count,omitempty"` // what handover bench calls everything that is wrong
	// HandoverIsTimes is handover's rate over this one's, on the same mix.
	HandoverIsTimes float64   `json:"handover_is_times,omitempty"`
	EachRun         []float64 `json:"each_run_changes_per_s,omitempty"`
}

// medians are the runs in the middle, by rate, of each contender on each mix, in the order of their first appearance. A
// contender is right if it was right each time, and wrong as often as in its worst run.
func medians(runs []result) []result {
	type key struct{ mix, contender string }
	byKey := map[key][]result{}
	var order []key
	for _, r := range runs {
		k := key{r.Mix, r.Contender}
		if byKey[k] == nil {
			order = append(order, k)
		}
		byKey[k] = append(byKey[k], r)
	}
	slices.SortStableFunc(order, func(a, b key) int {
		return cmp.Compare(slices.Index(mixNames, a.mix), slices.Index(mixNames, b.mix))
	})
	var out []result
	for _, k := range order {
		of := byKey[k]
		slices.SortFunc(of, func(a, b result) int { return cmp.Compare(a.ChangesPerS, b.ChangesPerS) })
		middle := of[(len(of)-1)/2]
		middle.EachRun = nil
		for _, r := range of {
			middle.EachRun = append(middle.EachRun, r.ChangesPerS)
			middle.Right = middle.Right && r.Right
			middle.WrongAssignees = max(middle.WrongAssignees, r.WrongAssignees)
		}
		out = append(out, middle)
	}
	compare(out)
	return out
}

// compare fills in how many times a contender's rate Handover's is. What Handover makes of a hot mix doesn't depend on the
// order, so its rate on the shuffled one stands for both.
func compare(results []result) {
	rates := map[string]float64{}
	for _, r := range results {
		if r.Contender == handoverName {
			rates[r.Mix] = r.ChangesPerS
		}
	}
	if _, measured := rates["hot-ordered"]; !measured {
		rates["hot-ordered"] = rates["hot"]
	}
	for i, r := range results {
		if r.Contender != handoverName {
			results[i].HandoverIsTimes = rates[r.Mix] / r.ChangesPerS
		}
	}
}

// report is what handover bench prints, too, so that handover bench --from draws it.
type report struct {
	Machine map[string]any `json:"machine,omitempty"` // as handover bench describes it; nil where that didn't run
	Results []result       `json:"results"`
}

func (r report) writeJSON(to io.Writer) error {
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// writeTable is the same for people. Each contender's row says how many changes it was given.
func (r report) writeTable(to io.Writer) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "mix\tcontender\tchanges\tseconds\tchanges/s\ttasks/s\thandover is\tservice cpu s\tpostgres cpu s\tWAL MB\tpeak MB\tright")
	for _, r := range r.Results {
		fmt.Fprintf(w, "%s\t%s\t%d\t%.2f\t%.0f\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\n",
			r.Mix, r.Contender, r.Changes, r.Seconds, r.ChangesPerS, r.TasksPerS, number("× %.1f", r.HandoverIsTimes),
			number("%.2f", r.ServiceCPU), number("%.2f", r.PostgresCPU),
			number("%.0f", float64(r.WAL)/1e6), number("%.0f", float64(r.PeakRSS)/1e6), verdict(r))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(to, notes)
	return err
}

const notes = `
Rates are what is compared: watermill, the slowest, is given fewer changes. Who is wrong has done less than the work, so
that its rate says little. Every commit and every message is on disk before it counts, for everybody; service cpu is the
contender with its client and the embedded broker. handover bench takes hot in no order only, so that rate stands beside
hot-ordered, too; where several changes of an account wait, it makes one move of each task. limit is the bare UPDATE with
its history, in two sessions; jetstream is the broker alone. All of it ran on one machine, right after a checkpoint.
`

func number(format string, v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf(format, v)
}

func verdict(r result) string {
	switch {
	case r.Right:
		return "yes"
	case r.WrongAssignees > 0:
		return fmt.Sprintf("NO: %d tasks with the wrong person, %d of %d moves made", r.WrongAssignees, r.Announced, r.MovesDue)
	case r.Repeated > 0:
		return fmt.Sprintf("NO: %d moves announced twice", r.Repeated)
	case r.Differences > 0:
		return fmt.Sprintf("NO: %d differences", r.Differences)
	case r.MovesDue > 0:
		return fmt.Sprintf("NO: %d of %d moves announced", r.Announced, r.MovesDue)
	}
	return "NO"
}
