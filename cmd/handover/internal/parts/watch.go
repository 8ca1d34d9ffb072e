package parts

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// A part that says nothing bad for this long counts as well, unless it says something good before: longer than the
	// pause between its tries, which it names or which is a third of this. Many succeed in silence.
	quiet, quietLeast = 30 * time.Second, 12 * time.Second
	// maxText is how much of an error is kept, in bytes.
	maxText = 500
)

// Watch remembers the troubles of the parts of this process. Its methods are safe for concurrent use.
type Watch struct {
	mu    sync.Mutex
	parts map[string]*trouble
	now   func() time.Time
}

// trouble is that of one part. The times are of this process's clock, which is only used for differences.
type trouble struct {
	errors       int64
	last         string
	at           time.Time
	since, until time.Time
}

// NewWatch returns a watch that has heard nothing.
func NewWatch() *Watch { return &Watch{parts: map[string]*trouble{}, now: time.Now} }

// Listen returns a logger that writes what log writes, and whose lines the watch hears, also those that log leaves out.
// A line is of the part that its field "consumer" or else "part" names; without either nobody's.
func (w *Watch) Listen(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(core zapcore.Core) zapcore.Core {
		return zapcore.NewTee(core, &ear{watch: w})
	}))
}

// ear is a zapcore.Core that only hears.
type ear struct {
	watch *Watch
	named
}

// named is of whom a line is.
type named struct{ part, consumer string }

func (n named) with(fields []zapcore.Field) named {
	for _, f := range fields {
		switch {
		case f.Type != zapcore.StringType:
		case f.Key == "part":
			n.part = f.String
		case f.Key == "consumer":
			n.consumer = f.String
		}
	}
	return n
}

// String is the consumer's name where there is one: the connection that it reads from logs for it.
func (n named) String() string {
	if n.consumer != "" {
		return n.consumer
	}
	return n.part
}

func (e *ear) Enabled(level zapcore.Level) bool { return level >= zapcore.InfoLevel }

func (e *ear) With(fields []zapcore.Field) zapcore.Core { return &ear{e.watch, e.named.with(fields)} }

func (e *ear) Check(entry zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Enabled(entry.Level) {
		return to.AddCore(entry, e)
	}
	return to
}

func (e *ear) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	part := e.named.with(fields).String()
	switch {
	case part == "":
	case entry.Level >= zapcore.WarnLevel:
		text, pause := describe(entry.Message, fields)
		e.watch.bad(part, text, pause)
	default:
		e.watch.good(part)
	}
	return nil
}

func (e *ear) Sync() error { return nil }

// describe is what a person needs of a line, and after which pause the part tries again, if it says so.
func describe(message string, fields []zapcore.Field) (string, time.Duration) {
	var pause time.Duration
	add := func(text string) {
		// An error and what a server answered are often the same.
		if text != "" && !strings.Contains(message, text) {
			message += ": " + text
		}
	}
	for _, f := range fields {
		switch {
		case f.Type == zapcore.ErrorType:
			if err, ok := f.Interface.(error); ok {
				add(err.Error())
			}
		case f.Type == zapcore.DurationType && (f.Key == "pause" || f.Key == "in"):
			pause = time.Duration(f.Integer)
		case f.Type == zapcore.StringType && f.Key == "response":
			add(f.String)
		}
	}
	return oneLine(message), pause
}

// oneLine makes a text of what a server said: printable, on one line, not endless.
func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

func (w *Watch) bad(part, text string, pause time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now, t := w.now(), w.parts[part]
	if t == nil {
		t = &trouble{}
		w.parts[part] = t
	}
	silence := quiet
	if now.Before(t.until) {
		silence = min(quiet, max(quietLeast, 3*now.Sub(t.at)))
	} else {
		t.since = now
	}
	t.errors++
	t.last, t.at, t.until = text, now, now.Add(pause+silence)
}

func (w *Watch) good(part string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.parts[part]
	if t == nil || t.errors == 0 {
		return
	}
	if now := w.now(); now.Before(t.until) {
		t.until = now
	}
}

// troubles is a copy of what is known.
func (w *Watch) troubles() map[string]trouble {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make(map[string]trouble, len(w.parts))
	for part, t := range w.parts {
		out[part] = *t
	}
	return out
}

var errorsTotal = prometheus.NewDesc("handover_part_errors_total",
	"Warnings and errors of the parts of this process; each part goes on trying.", []string{"part"}, nil)

// Describe implements prometheus.Collector.
func (w *Watch) Describe(out chan<- *prometheus.Desc) { out <- errorsTotal }

// Collect implements prometheus.Collector.
func (w *Watch) Collect(out chan<- prometheus.Metric) {
	for part, t := range w.troubles() {
		out <- prometheus.MustNewConstMetric(errorsTotal, prometheus.CounterValue, float64(t.errors), part)
	}
}
