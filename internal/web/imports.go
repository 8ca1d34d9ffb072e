package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"handover.io/internal/roster"
)

// chunkTimeout is far more than a chunk takes, waiting for locks included.
const chunkTimeout = 2 * time.Minute

// ImportLine is a line of the answer to an import: about a row that was refused, progress, or the end.
type ImportLine struct {
	Line     int            `json:"line,omitempty" doc:"Of the request, from 1: a row that was refused."`
	ID       string         `json:"id,omitempty" doc:"Of that row, where it has one."`
	Field    string         `json:"field,omitempty"`
	Problem  string         `json:"problem,omitempty" doc:"What is wrong with the row and what to do."`
	Progress *ImportRows    `json:"progress,omitempty" doc:"After every few thousand rows."`
	Summary  *ImportSummary `json:"summary,omitempty" doc:"The last line of an import that was read to its end."`
	Aborted  *Problem       `json:"aborted,omitempty" doc:"The last line of one that wasn't: what was taken by then stays, and the import can be repeated."`
}

// ImportRows says how far an import is.
type ImportRows struct {
	Rows int `json:"rows"`
}

// ImportSummary says what became of the rows.
type ImportSummary struct {
	Rows      int `json:"rows" example:"50000"`
	Created   int `json:"created"`
	Updated   int `json:"updated"`
	Unchanged int `json:"unchanged"`
	Failed    int `json:"failed"`

	DryRun     bool `json:"dry_run,omitempty" doc:"Nothing was done; this is what would have been."`
	TasksMoved *int `json:"tasks_moved,omitempty" doc:"On a dry run: tasks that would go to somebody else: at once, or with the roles by the policy in force."`
}

// registerImport registers the import of what; sync takes up to chunkRows rows at once, decoded from lines such as example.
func registerImport[T any](s *server, what, example string, decode func([]byte) (T, error), sync syncer[T], chunkRows int) {
	rt := route{
		method: http.MethodPost, path: "/v1/imports/" + what, right: roster.RightSync, id: "import-" + what, tag: "Roster", stream: true, anyMedia: true,
		summary: "Import " + what,
		about: "Takes any number of " + what + ", one JSON object with its `id` per line (NDJSON), while they are being sent, and answers in the same way: a line for every row " +
			"that is refused, progress after every few thousand, and at last a `summary`. The other rows are taken. Without `summary` the import is incomplete; " +
			"it can be repeated as often as you like. An Idempotency-Key isn't needed and has no effect. " +
			"A dry run judges every few thousand rows by what is known now, without those before them.",
		body: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			"application/x-ndjson": {Schema: &huma.Schema{Type: "string"}, Example: example + "\n"},
		}},
	}
	register(s, rt, func(_ context.Context, input *DryRunParam) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			who := callerOf(r.Context())
			in := importing[T]{
				ctx: r.Context(), decode: decode, chunkRows: chunkRows, out: &lineWriter{w: w, conn: http.NewResponseController(w)},
				sync: func(ctx context.Context, rows []T) ([]roster.RowResult, error) {
					return sync(ctx, who.TenantID, who.UserID, rows, input.DryRun)
				},
			}
			if input.DryRun {
				in.sum.DryRun, in.sum.TasksMoved = true, new(int)
			}
			in.run(w, r)
		}}, nil
	})
	s.documented(rt).Responses["200"].Content = map[string]*huma.MediaType{"application/x-ndjson": {
		Schema:  schemaOf[ImportLine](s),
		Example: `{"line":7,"id":"t-9","field":"due_at","problem":"must be a time, RFC 3339"}` + "\n" + `{"progress":{"rows":1000}}` + "\n" + `{"summary":{"rows":1000,"created":900,"updated":90,"unchanged":9,"failed":1}}` + "\n",
	}}
}

// importing is one import under way.
type importing[T any] struct {
	ctx       context.Context
	decode    func([]byte) (T, error)
	sync      func(context.Context, []T) ([]roster.RowResult, error)
	chunkRows int
	out       *lineWriter
	sum       ImportSummary
}

func (in *importing[T]) run(w http.ResponseWriter, r *http.Request) {
	// Answers go out while the request comes in.
	_ = in.out.conn.EnableFullDuplex()
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("X-Accel-Buffering", "no")
	body := &patientReader{r: r.Body, conn: in.out.conn}
	err := in.takeAll(newLines(body), body.giveUp)
	switch {
	case in.out.err != nil: // nobody reads
		requestOf(in.ctx).err = in.out.err
	case err == nil:
		in.out.write(ImportLine{Summary: &in.sum})
	case in.out.began:
		in.out.write(ImportLine{Aborted: explain(in.ctx, err, within("body"))})
	default:
		writeProblem(w, r, explain(in.ctx, err, within("body")))
	}
	in.out.flush()
}

// takeAll takes chunk by chunk; while one is being taken the next is being read and decoded. When it returns reading has
// ended too: giveUp ends a read that waits for more.
func (in *importing[T]) takeAll(from *lines, giveUp func()) (err error) {
	read, room := make(chan *chunk[T]), make(chan *chunk[T], 2)
	room <- new(chunk[T])
	room <- new(chunk[T])
	go func() {
		defer close(read)
		for c := range room {
			c.fill(from, in.decode, in.chunkRows)
			read <- c
			if c.end != nil {
				return
			}
		}
	}()
	for c := range read {
		switch {
		case err != nil: // nothing of what was being read meanwhile is taken
			continue
		case c.end == nil:
			err = in.take(c)
		case errors.Is(c.end, io.EOF):
			return in.take(c)
		default:
			return cutOff(c.end)
		}
		if err != nil {
			giveUp()
			close(room)
			continue
		}
		c.empty()
		room <- c
	}
	return err
}

// take syncs the chunk and reports on it.
func (in *importing[T]) take(c *chunk[T]) error {
	if c.lines == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(in.ctx, chunkTimeout)
	results, err := in.sync(ctx, c.rows)
	cancel()
	if err != nil {
		return err
	}
	for i, r := range results {
		if in.sum.DryRun {
			*in.sum.TasksMoved += r.TasksMoved
		}
		switch r.Outcome {
		case roster.Created:
			in.sum.Created++
		case roster.Updated:
			in.sum.Updated++
		case roster.Unchanged:
			in.sum.Unchanged++
		default:
			c.refused = append(c.refused, refusedRow(c.numbers[i], r.ID, r.Problem))
		}
	}
	in.sum.Rows += c.lines
	in.sum.Failed += len(c.refused)
	slices.SortFunc(c.refused, func(a, b ImportLine) int { return cmp.Compare(a.Line, b.Line) })
	for _, l := range c.refused {
		in.out.write(l)
	}
	in.out.write(ImportLine{Progress: &ImportRows{in.sum.Rows}})
	in.out.flush()
	return in.out.err
}

func refusedRow(line int, id string, err error) ImportLine {
	l := ImportLine{Line: line, ID: id}
	var invalid *roster.Invalid
	if errors.As(err, &invalid) {
		l.Field, l.Problem = invalid.Field, invalid.Remedy
	} else {
		l.Problem = err.Error()
	}
	return l
}

// idOf is the id of a row that can't be taken, where it can be made out.
func idOf(line []byte) string {
	var row struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(line, &row)
	return row.ID
}

func cutOff(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return newProblem(http.StatusRequestTimeout, "Nothing more arrived for a minute.").because(err)
	}
	return newProblem(http.StatusBadRequest, "The body ended before it was complete.").because(err)
}

// patientReader gives every read of a body its own time: an import may take hours, but not stand still.
type patientReader struct {
	r    io.Reader
	conn *http.ResponseController

	mu    sync.Mutex
	ended bool
}

func (p *patientReader) Read(b []byte) (int, error) {
	if !p.wait() {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := p.r.Read(b)
	if err != nil {
		// At the end the server goes on listening for the client to go away; it must not take the deadline for that.
		_ = p.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

func (p *patientReader) wait() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = p.conn.SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	return !p.ended
}

// giveUp ends the read that is under way, and all later ones.
func (p *patientReader) giveUp() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	_ = p.conn.SetReadDeadline(time.Now())
}

// lineWriter writes JSON lines.
type lineWriter struct {
	w     http.ResponseWriter
	conn  *http.ResponseController
	began bool
	err   error
}

func (l *lineWriter) write(v any) {
	if l.err != nil {
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		l.err = err
		return
	}
	l.began = true
	_ = l.conn.SetWriteDeadline(time.Now().Add(streamTimeout))
	_, l.err = l.w.Write(append(b, '\n'))
}

func (l *lineWriter) flush() {
	if l.err == nil {
		l.err = l.conn.Flush()
	}
}
