package bench

import (
	"cmp"
	"fmt"
	"io"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"
)

// The contenders that this bench itself runs.
const (
	Handover = "handover"
	Limit    = "limit"     // the bare UPDATE
	Broker   = "jetstream" // the broker alone
)

// Report is what a bench has measured, and on what. It is read back for charts, so that it can hold others' results too.
type Report struct {
	Machine Machine  `json:"machine"`
	Results []Result `json:"results"`
}

// Machine is what it ran on.
type Machine struct {
	CPU        string    `json:"cpu"`
	Cores      int       `json:"cores"`
	Memory     int64     `json:"memory_bytes"`
	OS         string    `json:"os"`
	Go         string    `json:"go"`
	PostgreSQL string    `json:"postgresql"`
	Accounts   int       `json:"accounts"`
	Tasks      int       `json:"tasks"`
	Runs       int       `json:"runs"` // each result is the median of, by changes a second
	At         time.Time `json:"at"`
}

// Result is one contender's run of one mix. What wasn't measured, or has no meaning there, is nil.
type Result struct {
	Contender    string   `json:"contender"`
	Mix          string   `json:"mix"`
	Changes      int      `json:"changes"` // delivered
	Seconds      float64  `json:"seconds"`
	ChangesPerS  float64  `json:"changes_per_s"`
	TasksPerS    float64  `json:"tasks_per_s"`
	RatioToLimit *float64 `json:"ratio_to_limit"` // by changes a second, of the bare UPDATE in the same bench
	P50          *float64 `json:"p50_ms"`
	P99          *float64 `json:"p99_ms"`
	WALBytes     *int64   `json:"wal_bytes"`
	ServiceCPU   *float64 `json:"service_cpu_s"`  // of this process: product, client and embedded broker
	PostgresCPU  *float64 `json:"postgres_cpu_s"` // of all processes of the server
	PeakRSS      *int64   `json:"peak_rss_bytes"` // of this process
	Right        bool     `json:"right"`

	// Of some mixes alone: what a bulk edit beside a trickle did, and what the tasks take on disk.
	BulkChangesPerS *float64 `json:"bulk_changes_per_s,omitempty"`
	TasksHeap       int64    `json:"tasks_heap_bytes,omitempty"`
	TasksIndexes    int64    `json:"tasks_index_bytes,omitempty"`

	TasksMoved      int       `json:"tasks_moved"`
	Announcements   int       `json:"announcements,omitempty"`
	LargestMessage  int       `json:"largest_message_bytes,omitempty"`
	EachRun         []float64 `json:"each_run_changes_per_s,omitempty"`
	Differences     []string  `json:"differences,omitempty"`
	DifferenceCount int       `json:"difference_count,omitempty"`
}

func newResult(contender, mix string, changes int, s spent, v verdict) Result {
	return Result{
		Contender: contender, Mix: mix, Changes: changes, Seconds: s.seconds,
		ChangesPerS: float64(changes) / s.seconds, TasksPerS: float64(v.moved) / s.seconds,
		WALBytes: &s.walBytes, ServiceCPU: s.serviceCPU, PostgresCPU: s.postgrCPU, PeakRSS: s.peakRSS,
		Right: v.wrong == 0, TasksMoved: v.moved, Announcements: v.announcements, LargestMessage: v.largest,
		Differences: v.differences, DifferenceCount: v.wrong,
	}
}

// AllRight is whether every answer was.
func (r Report) AllRight() bool {
	return !slices.ContainsFunc(r.Results, func(r Result) bool { return !r.Right })
}

// medians takes of each contender's runs of a mix the one in the middle, by changes a second; but a wrong one before all
// others. The order is that of first appearance.
func medians(runs []Result) []Result {
	type key struct{ contender, mix string }
	var order []key
	of := map[key][]Result{}
	for _, r := range runs {
		k := key{r.Contender, r.Mix}
		if of[k] == nil {
			order = append(order, k)
		}
		of[k] = append(of[k], r)
	}
	var out []Result
	for _, k := range order {
		all := of[k]
		var each []float64
		for _, r := range all {
			each = append(each, r.ChangesPerS)
		}
		slices.SortStableFunc(all, func(a, b Result) int { return cmp.Compare(a.ChangesPerS, b.ChangesPerS) })
		middle := all[(len(all)-1)/2]
		if wrong := slices.IndexFunc(all, func(r Result) bool { return !r.Right }); wrong >= 0 {
			middle = all[wrong]
		}
		if len(all) > 1 {
			middle.EachRun = each
		}
		out = append(out, middle)
	}
	for i := range out {
		at := slices.IndexFunc(out, func(r Result) bool { return r.Contender == Limit && r.Mix == out[i].Mix })
		if at >= 0 && out[i].Contender != Limit && out[at].ChangesPerS > 0 {
			out[i].RatioToLimit = new(out[i].ChangesPerS / out[at].ChangesPerS)
		}
	}
	return out
}

// Print shows it to a person.
func (r Report) Print(w io.Writer) {
	m := r.Machine
	fmt.Fprintf(w, "%s: %d cores, %s, %s of memory\n", m.At.Format("2006-01-02 15:04 MST"), m.Cores, cmp.Or(m.CPU, runtime.GOARCH), gigabytes(m.Memory))
	fmt.Fprintf(w, "%s, PostgreSQL %s, %s; %d accounts, %d tasks; median of %d\n\n", m.OS, m.PostgreSQL, m.Go, m.Accounts, m.Tasks, max(1, m.Runs))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "MIX\tCONTENDER\tCHANGES\tS\tCHANGES/S\tTASKS/S\tOF LIMIT\tP50 MS\tP99 MS\tWAL MB\tSERVICE CPU S\tPOSTGRES CPU S\tPEAK MB\tRIGHT\t")
	for _, x := range r.Results {
		fmt.Fprintf(table, "%s\t%s\t%d\t%.2f\t%s\t%.0f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", x.Mix, cmp.Or(x.Contender, Handover), x.Changes, x.Seconds, thousands(x.ChangesPerS), x.TasksPerS,
			number("%.2f", x.RatioToLimit), number("%.1f", x.P50), number("%.1f", x.P99), megabytes(x.WALBytes),
			number("%.2f", x.ServiceCPU), number("%.2f", x.PostgresCPU), megabytes(x.PeakRSS), yes(x.Right))
	}
	_ = table.Flush()
	fmt.Fprintln(w)
	for _, x := range r.Results {
		x.printMore(w)
	}
	for _, x := range r.Results {
		if !x.Right {
			fmt.Fprintf(w, "\nThe answer of %s to %s is WRONG%s\n", cmp.Or(x.Contender, Handover), x.Mix, differences(x.DifferenceCount))
			for _, d := range x.Differences {
				fmt.Fprintln(w, " ", d)
			}
		}
	}
	fmt.Fprint(w, caveats)
}

// printMore is what some mixes have to say beside their numbers in the table.
func (r Result) printMore(w io.Writer) {
	if len(r.EachRun) > 0 {
		fmt.Fprintf(w, "%s of %s, changes a second of each run: %.0f\n", r.Mix, r.Contender, r.EachRun)
	}
	if r.BulkChangesPerS != nil {
		fmt.Fprintf(w, "%s: the edits beside it went at %.0f changes a second\n", r.Mix, *r.BulkChangesPerS)
	}
	if r.TasksHeap > 0 {
		fmt.Fprintf(w, "%s: afterwards the tasks take %d MB, their indexes %d MB\n", r.Mix, r.TasksHeap>>20, r.TasksIndexes>>20)
	}
	if r.Contender == Handover && r.Mix == "huge" {
		fmt.Fprintf(w, "%s: %d announcements, the largest of %d bytes\n", r.Mix, r.Announcements, r.LargestMessage)
	}
}

const caveats = `
limit is the bare UPDATE with a row of history per task, in two sessions, on ordinary indexes; jetstream is the broker
alone. SERVICE CPU is this process: the product, the client and the embedded broker; PEAK MB is its memory.

What these numbers don't say: everything ran on one machine, so no network lies between the parts, and they compete for
its cores; each run begins right after a checkpoint and lasts seconds, so there is no vacuum in it and every page is
written to the log in full once; mails are not part of it. Compare within one table: the same bench varies from minute
to minute.
`

func differences(n int) string {
	if n == 0 { // others' results may not say
		return ""
	}
	return fmt.Sprintf(": %d differences from the fold, such as", n)
}

func number(format string, v *float64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf(format, *v)
}

func megabytes(v *int64) string {
	if v == nil {
		return "-"
	}
	return fmt.Sprintf("%.0f", float64(*v)/(1<<20))
}

func gigabytes(v int64) string {
	if v == 0 {
		return "an unknown amount"
	}
	return fmt.Sprintf("%.1f GiB", float64(v)/(1<<30))
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return "NO"
}
