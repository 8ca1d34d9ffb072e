package bench

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Measures of the chart, in pixels.
const (
	chartWidth = 820
	labelWidth = 130
	barWidth   = 420 // of the longest bar
	rowHeight  = 24
	barHeight  = 14
	groupGap   = 18
	titleSpace = 64
)

// bar is one line of a chart.
type bar struct {
	contender, label, note string
	value                  float64
	wrong                  bool
}

// bars are those of one mix, in one unit.
type bars struct {
	mix, unit string
	bars      []bar
}

// chartOf puts the results into groups, in their order: a mix each, its contenders beside each other.
func chartOf(results []Result) []*bars {
	var groups []*bars
	group := func(mix, unit string) *bars {
		for _, g := range groups {
			if g.mix == mix && g.unit == unit {
				return g
			}
		}
		g := &bars{mix: mix, unit: unit}
		groups = append(groups, g)
		return g
	}
	for _, r := range results {
		contender := cmp.Or(r.Contender, Handover)
		mix := r.Mix
		round, steady := strings.CutPrefix(mix, "steady-")
		if steady {
			mix = "steady"
		}
		b := bar{contender: contender, label: contender, value: r.ChangesPerS, wrong: !r.Right}
		switch {
		case r.P50 != nil && r.P99 != nil:
			g := group(r.Mix, "ms")
			b.label, b.value = contender+" p50", *r.P50
			g.bars = append(g.bars, b)
			b.label, b.value = contender+" p99", *r.P99
			g.bars = append(g.bars, b)
			continue
		case r.Mix == "huge":
			b.value = r.TasksPerS
			g := group(r.Mix, "tasks/s")
			g.bars = append(g.bars, b)
			continue
		case steady:
			b.label = "round " + strings.TrimLeft(round, "0")
		}
		g := group(mix, "changes/s")
		g.bars = append(g.bars, b)
	}
	for _, g := range groups {
		g.compare()
	}
	return groups
}

// compare notes how ours stands to the limit, and others to ours.
func (g *bars) compare() {
	value := func(contender string) float64 {
		at := slices.IndexFunc(g.bars, func(b bar) bool { return b.contender == contender && !b.wrong })
		if at < 0 {
			return 0
		}
		return g.bars[at].value
	}
	ours, limit := value(Handover), value(Limit)
	for i := range g.bars {
		b := &g.bars[i]
		switch {
		case b.wrong || g.unit == "ms" || b.label != b.contender:
		case b.contender == Handover && limit > 0:
			b.note = times(b.value/limit) + " the limit"
		case b.contender != Limit && b.contender != Broker && b.contender != Handover && b.value > 0 && ours > 0:
			b.note = "handover is " + times(ours/b.value)
		}
	}
}

// scale is the value of the longest bar. The broker alone may dwarf all others: then its bar is cut, and shows it.
func (g *bars) scale() float64 {
	longest, broker := 1e-9, 0.0
	for _, b := range g.bars {
		switch {
		case b.wrong:
		case b.contender == Broker:
			broker = b.value
		default:
			longest = max(longest, b.value)
		}
	}
	if broker > 2.5*longest && longest > 1e-9 {
		return 1.25 * longest
	}
	return max(longest, broker)
}

const chartStyle = `
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2937 }
  .title { font-size: 17px; font-weight: 600 }
  .mix { font-weight: 600 }
  .quiet { fill: #6b7280; font-size: 12px }
  .wrong { fill: #b91c1c; font-weight: 600 }
  .back { fill: #ffffff }
  .bar { fill: #94a3b8 }
  .bar.handover { fill: #2563eb }
  .bar.limit { fill: #4b5563 }
  .cut { stroke: #ffffff; stroke-width: 3 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e5e7eb }
    .quiet { fill: #9ca3af }
    .wrong { fill: #f87171 }
    .back { fill: #111827 }
    .bar { fill: #64748b }
    .bar.handover { fill: #60a5fa }
    .bar.limit { fill: #9ca3af }
    .cut { stroke: #111827 }
  }
`

// chartLegend says what the names mean that aren't those of programs.
var chartLegend = []string{
	"limit: the bare UPDATE that moves the same tasks, with a row of history each, in two sessions. jetstream: the broker alone.",
	"A bar with a gap is longer than it is drawn. Longer is better, but for milliseconds.",
}

// Chart writes the results as an SVG picture that needs nothing else, and is for light pages and dark ones.
func (r Report) Chart(w io.Writer) error {
	var body strings.Builder
	y := titleSpace
	for _, g := range chartOf(r.Results) {
		y += groupGap
		fmt.Fprintf(&body, `<text class="mix" x="20" y="%d">%s <tspan class="quiet">%s</tspan></text>`+"\n", y, escaped(g.mix), escaped(g.unit))
		scale := g.scale()
		y += 6
		for _, b := range g.bars {
			g.draw(&body, b, y, scale)
			y += rowHeight
		}
	}
	for _, line := range chartLegend {
		y += 20
		fmt.Fprintf(&body, `<text class="quiet" x="20" y="%d">%s</text>`+"\n", y, escaped(line))
	}
	height := y + 20
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="%s">
<style>%s</style>
<rect class="back" width="%d" height="%d" rx="8"/>
<text class="title" x="20" y="32">What the reassigner does in a second</text>
<text class="quiet" x="20" y="52">%s</text>
%s</svg>
`, chartWidth, height, chartWidth, height, escaped(r.inWords()), chartStyle, chartWidth, height, escaped(r.Machine.line()), body.String())
	return err
}

func (g *bars) draw(out *strings.Builder, b bar, y int, scale float64) {
	middle := y + rowHeight/2 + 4
	fmt.Fprintf(out, `<text x="%d" y="%d" text-anchor="end">%s</text>`, labelWidth, middle, escaped(b.label))
	x := labelWidth + 10
	if b.wrong {
		fmt.Fprintf(out, `<text class="wrong" x="%d" y="%d">wrong answer: doesn't count</text>`+"\n", x, middle)
		return
	}
	length, cut := b.value/scale*barWidth, false
	if length > barWidth {
		length, cut = barWidth, true
	}
	class := "bar"
	if b.contender == Handover || b.contender == Limit {
		class += " " + b.contender
	}
	top := y + (rowHeight-barHeight)/2
	fmt.Fprintf(out, `<rect class="%s" x="%d" y="%d" width="%.1f" height="%d" rx="2"/>`, class, x, top, max(length, 1), barHeight)
	if cut {
		at := x + barWidth - 30
		fmt.Fprintf(out, `<path class="cut" d="M%d %dl6 %dM%d %dl6 %d"/>`, at, top+barHeight+2, -barHeight-4, at+8, top+barHeight+2, -barHeight-4)
	}
	value := thousands(b.value)
	if g.unit == "ms" {
		value = strconv.FormatFloat(b.value, 'f', 1, 64)
	}
	fmt.Fprintf(out, `<text x="%.1f" y="%d">%s <tspan class="quiet">%s</tspan></text>`+"\n", float64(x)+length+8, middle, value, escaped(b.note))
}

// inWords is the picture for who can't see it.
func (r Report) inWords() string {
	var words []string
	for _, g := range chartOf(r.Results) {
		for _, b := range g.bars {
			value := thousands(b.value) + " " + g.unit
			if b.wrong {
				value = "wrong answer"
			}
			words = append(words, strings.TrimSpace(g.mix+", "+b.label+": "+value+" "+b.note))
		}
	}
	return strings.Join(words, "; ")
}

func (m Machine) line() string {
	if m.Cores == 0 {
		return ""
	}
	return fmt.Sprintf("%d cores, %s, %s; PostgreSQL %s; %s tasks; %s; median of %d", m.Cores, cmp.Or(m.CPU, m.OS), gigabytes(m.Memory), m.PostgreSQL,
		thousands(float64(m.Tasks)), m.At.Format("2006-01-02"), max(1, m.Runs))
}

func times(v float64) string {
	if v >= 9.95 {
		return strconv.FormatFloat(v, 'f', 0, 64) + "×"
	}
	return strconv.FormatFloat(v, 'f', 2, 64) + "×"
}

// thousands writes a number as 12,345.
func thousands(v float64) string {
	if v < 10 {
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func escaped(s string) string {
	var out strings.Builder
	_ = xml.EscapeText(&out, []byte(s))
	return out.String()
}
