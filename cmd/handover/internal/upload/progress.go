package upload

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/cmd/handover/internal/tabular"
)

// plainEvery is how often a log file learns how far things are.
const plainEvery = 5 * time.Second

// Progress shows a person how far things are: a bar on a terminal, a line now and then elsewhere.
type Progress struct {
	out      io.Writer
	errors   io.Writer // NDJSON; nil: plain lines on out
	bar      *progressbar.ProgressBar
	read     *atomic.Int64
	began    time.Time
	lastLine time.Time
}

// NewProgress reports on out. Size is that of the file, or -1; errors, if not nil, gets a JSON line per refused row.
func NewProgress(out io.Writer, terminal bool, what string, size int64, errors io.Writer) *Progress {
	now := time.Now()
	p := &Progress{out: out, errors: errors, read: new(atomic.Int64), began: now, lastLine: now}
	if terminal {
		p.bar = progressbar.NewOptions64(size, progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what),
			progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(),
			progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true))
	}
	return p
}

// Reader counts what is read of r.
func (p *Progress) Reader(r io.Reader) io.Reader { return &countingReader{r, p.read} }

type countingReader struct {
	io.Reader
	n *atomic.Int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// Refused implements Reporter.
func (p *Progress) Refused(row tabular.Problem) {
	if p.errors != nil {
		if line, err := safe.Line(row); err == nil {
			_, _ = p.errors.Write(line)
		}
		return
	}
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintln(p.out, safe.Text(row.Error()))
}

// Progress implements Reporter.
func (p *Progress) Progress(s Summary) {
	if p.bar != nil {
		_ = p.bar.Set64(p.read.Load())
		return
	}
	if now := time.Now(); now.Sub(p.lastLine) >= plainEvery {
		p.lastLine = now
		fmt.Fprintf(p.out, "%d rows so far, %d of them with problems (%.0f rows a second)\n", s.Rows, s.Failed, float64(s.Rows)/now.Sub(p.began).Seconds())
	}
}

// Waiting implements Reporter.
func (p *Progress) Waiting(why error, patience time.Duration) {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
	fmt.Fprintf(p.out, "Trying again for up to %v: %s\n", patience, safe.Text(why.Error()))
}

// Done takes the bar away and says how long everything took.
func (p *Progress) Done() time.Duration {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
	return time.Since(p.began)
}
