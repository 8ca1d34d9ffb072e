package web

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"handover.io/internal/roster"
)

const (
	progressEvery  = 300 * time.Millisecond
	heartbeatEvery = 15 * time.Second // proxies cut what is silent for half a minute
	// progressFor ends a stream that nobody may be reading any more; a client that is still there comes back.
	progressFor = 30 * time.Minute
	// streamTimeout is how long one write of a stream may take before its reader counts as gone.
	streamTimeout = 30 * time.Second
)

func (s *server) progress() {
	type input struct {
		ID          string `path:"id" doc:"The operation."`
		LastEventID string `header:"Last-Event-ID" doc:"Sent by clients that come back. The stream always begins with how things stand."`
	}
	rt := route{
		method: http.MethodGet, path: "/v1/operations/{id}/events", right: roster.RightRead, id: "follow-operation", tag: "Operations", stream: true,
		summary: "Follow an operation",
		about: "Server-sent events: `progress` with the operation at once and whenever it has changed, then `done` with its last state, and the end of the stream. " +
			"A stream that ends before `done` is to be opened again.",
	}
	register(s, rt, func(ctx context.Context, in *input) (*huma.StreamResponse, error) {
		tenant := callerOf(ctx).TenantID
		read := func(ctx context.Context) (Operation, error) {
			ctx, cancel := context.WithTimeout(ctx, handleTimeout)
			defer cancel()
			o, err := s.Operations.Get(ctx, tenant, in.ID)
			return Operation(o), err
		}
		first, err := read(ctx)
		if err != nil {
			return nil, err
		}
		return &huma.StreamResponse{Body: func(hc huma.Context) {
			r, w := humago.Unwrap(hc)
			s.follow(r.Context(), w, first, read)
		}}, nil
	})
	s.documented(rt).Responses["200"].Content = map[string]*huma.MediaType{"text/event-stream": {
		Schema:  &huma.Schema{Type: "string"},
		Example: "id: 1\nevent: done\ndata: {\"id\":\"…\",\"state\":\"done\",…}\n\n",
	}}
}

// follow sends the operation whenever it differs from what was sent last, until it is finished.
func (s *server) follow(ctx context.Context, w http.ResponseWriter, o Operation, read func(context.Context) (Operation, error)) {
	ctx, cancel := context.WithTimeout(ctx, progressFor)
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	out := eventStream{w: w, conn: http.NewResponseController(w)}
	out.write("retry: 1000\n\n")
	poll := time.NewTicker(progressEvery)
	defer poll.Stop()
	for out.err == nil {
		out.send("progress", o)
		if o.FinishedAt != nil {
			out.send("done", o)
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-stopping(ctx):
			return
		case <-poll.C:
		}
		next, err := read(ctx)
		if err != nil {
			// The client opens it again, and gets the answer as a status.
			requestOf(ctx).err = err
			return
		}
		o = next
	}
}

// eventStream writes server-sent events.
type eventStream struct {
	w       http.ResponseWriter
	conn    *http.ResponseController
	n       int
	last    []byte
	written time.Time
	err     error
}

// send writes the event, unless it is progress that was sent already: then now and then a comment, so that both ends
// know of each other.
func (e *eventStream) send(name string, o Operation) {
	data, err := json.Marshal(o)
	if err != nil {
		e.err = err
		return
	}
	if name == "progress" && bytes.Equal(data, e.last) {
		if time.Since(e.written) >= heartbeatEvery {
			e.write(": still at it\n\n")
		}
		return
	}
	e.last = data
	e.n++
	e.write(fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", e.n, name, data))
}

func (e *eventStream) write(s string) {
	if e.err != nil {
		return
	}
	e.written = time.Now()
	_ = e.conn.SetWriteDeadline(e.written.Add(streamTimeout))
	if _, e.err = e.w.Write([]byte(s)); e.err == nil {
		e.err = e.conn.Flush()
	}
}
