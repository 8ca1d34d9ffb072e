package parts

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"handover.io/pkg/event"
)

// Rates is what a part, or all of them, did per second, over the last minute, by what it is: [Changes] and so on.
type Rates map[string]float64

// What is counted.
const (
	Changes       = "changes"       // role changes recorded
	TasksMoved    = "tasks_moved"   // tasks that went to another assignee
	Announcements = "announcements" // of moved tasks, taken by the stream
	Mails         = "mails"         // that a mail server accepted
)

// counted says which counters make the rates: of the metric, those whose labels are these. The part is named, or is what
// the label consumer says.
var counted = []struct {
	metric, label, value string
	part, what           string
}{
	{"handover_changes_total", "outcome", "recorded", "", Changes},
	{"handover_tasks_moved_total", "", "", "", TasksMoved},
	{"handover_published_total", "stream", event.StreamTaskReassignments, "relay", Announcements},
	{"handover_notices_total", "outcome", "sent", "sender", Mails},
}

// over is what rates are measured over, at most.
const over = time.Minute

// meter turns counters that only grow into rates.
type meter struct {
	gatherer prometheus.Gatherer
	samples  []sample // the oldest first
}

type sample struct {
	at     time.Time
	totals map[string]Rates // by part
}

// newMeter counts from now.
func newMeter(gatherer prometheus.Gatherer, now time.Time) *meter {
	return &meter{gatherer: gatherer, samples: []sample{{at: now}}}
}

// read takes a sample and returns the rates by part.
func (m *meter) read(now time.Time) map[string]Rates {
	// What could be gathered counts, whatever is wrong with other metrics.
	families, _ := m.gatherer.Gather()
	last := sample{now, totals(families)}
	for len(m.samples) > 1 && now.Sub(m.samples[1].at) >= over {
		m.samples = m.samples[1:]
	}
	m.samples = append(m.samples, last)
	first := m.samples[0]
	rates := make(map[string]Rates, len(last.totals))
	for part, totals := range last.totals {
		rates[part] = Rates{}
		for what, n := range totals {
			rates[part][what] = (n - first.totals[part][what]) / max(1, now.Sub(first.at).Seconds())
		}
	}
	return rates
}

func totals(families []*dto.MetricFamily) map[string]Rates {
	out := map[string]Rates{}
	for _, family := range families {
		for _, c := range counted {
			if family.GetName() != c.metric {
				continue
			}
			for _, m := range family.GetMetric() {
				labels := map[string]string{}
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = l.GetValue()
				}
				if c.label != "" && labels[c.label] != c.value {
					continue
				}
				part := c.part
				if part == "" {
					part = labels["consumer"]
				}
				if out[part] == nil {
					out[part] = Rates{}
				}
				out[part][c.what] += m.GetCounter().GetValue()
			}
		}
	}
	return out
}
