package web_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"handover.io/internal/web"
)

// sse is one server-sent event.
type sse struct {
	name string
	op   web.Operation
}

// follow opens the events of an operation.
func (w *world) follow(id string, options ...option) *bufio.Scanner {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "GET", w.url+"/v1/operations/"+id+"/events", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.tokens["acme-u-1-read"])
	for _, o := range options {
		o(r)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	return bufio.NewScanner(resp.Body)
}

// next is the next event, or false at the end of the stream.
func next(t *testing.T, in *bufio.Scanner) (sse, bool) {
	t.Helper()
	var e sse
	for in.Scan() {
		line := in.Text()
		if name, ok := strings.CutPrefix(line, "event: "); ok {
			e.name = name
		}
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			if err := json.Unmarshal([]byte(data), &e.op); err != nil {
				t.Fatal(err)
			}
		}
		if line == "" && e.name != "" {
			return e, true
		}
	}
	return e, false
}

func TestAnOperationIsFollowedToItsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme"}).want(t, http.StatusCreated)
	var accepted web.AcceptedOperation
	w.send("PUT", roleOf, object{"owner_id": "u-2"}).want(t, http.StatusAccepted, &accepted)
	in := w.follow(accepted.OperationID)
	e, ok := next(t, in)
	if !ok || e.name != "progress" || e.op.ID != accepted.OperationID || e.op.State != "applying" {
		t.Fatalf("%v %+v", ok, e)
	}
	w.exec(`UPDATE operations SET tasks_moved = 7`)
	if e, ok = next(t, in); !ok || e.name != "progress" || e.op.TasksMoved != 7 {
		t.Fatalf("%v %+v", ok, e)
	}
	w.exec(`UPDATE operations SET state = 'done', applied = 1, finished_at = now()`)
	if e, ok = next(t, in); !ok || e.name != "progress" || e.op.State != "done" {
		t.Fatalf("%v %+v", ok, e)
	}
	if e, ok = next(t, in); !ok || e.name != "done" || e.op.FinishedAt == nil {
		t.Fatalf("%v %+v", ok, e)
	}
	if e, ok = next(t, in); ok {
		t.Fatalf("after the end: %+v", e)
	}
	// Whoever comes late, or back, gets it all.
	in = w.follow(accepted.OperationID, header("Last-Event-ID", "3"))
	if e, ok = next(t, in); !ok || e.name != "progress" {
		t.Fatalf("%v %+v", ok, e)
	}
	if e, ok = next(t, in); !ok || e.name != "done" {
		t.Fatalf("%v %+v", ok, e)
	}
	w.send("GET", "/v1/operations/"+accepted.OperationID+"/events", nil, token("zeta-u-1-read")).problem(t, http.StatusNotFound)
}

func TestFollowersAreLetGoWhenTheServerStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme"}).want(t, http.StatusCreated)
	var accepted web.AcceptedOperation
	w.send("PUT", roleOf, object{"owner_id": "u-2"}).want(t, http.StatusAccepted, &accepted)
	in := w.follow(accepted.OperationID)
	if e, ok := next(t, in); !ok {
		t.Fatalf("%+v", e)
	}
	if err := w.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e, ok := next(t, in); ok {
		t.Fatalf("%+v", e)
	}
}
