package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"handover.io/pkg/event"
)

// cloudEvent is a role change of acme as an upstream service sends it, with what the test changes of it.
func cloudEvent(changes object) object {
	e := object{
		"specversion": "1.0", "id": "e-1", "source": "//crm.example.com", "type": event.TypeAccountRoleChanged,
		"time": "2026-01-15T09:30:00Z",
		"data": object{
			"tenant_id": "acme", "account_id": "a-1", "role": "success_manager", "new_owner_id": "u-2", "reason": "api", "initiated_by": "u-1",
		},
	}
	for name, v := range changes {
		at := e
		if rest, ok := strings.CutPrefix(name, "data."); ok {
			at, name = e["data"].(object), rest
		}
		at[name] = v
	}
	return e
}

const (
	structured = "application/cloudevents+json"
	batched    = "application/cloudevents-batch+json"
)

func (w *world) post(media string, body any, options ...option) answer {
	w.t.Helper()
	return w.send("POST", "/v1/events", body, append([]option{as("assign"), header("Content-Type", media)}, options...)...)
}

// decoded are the role changes that were published.
func (w *world) decoded() []event.AccountRoleChanged {
	w.t.Helper()
	out := make([]event.AccountRoleChanged, len(w.published))
	for i, m := range w.published {
		c, err := event.DecodeAccountRoleChanged(m)
		if err != nil {
			w.t.Fatal(err)
		}
		out[i] = c
	}
	return out
}

func TestEventsInEveryMode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.post(structured, cloudEvent(nil)).want(t, http.StatusAccepted)
	w.post(structured+"; charset=utf-8", cloudEvent(nil)).want(t, http.StatusAccepted)
	w.post(batched, []object{cloudEvent(nil), cloudEvent(nil)}).want(t, http.StatusAccepted)
	w.post("application/json", cloudEvent(nil)["data"], header("ce-specversion", "1.0"), header("ce-id", "e-1"), header("ce-source", "//crm.example.com"),
		header("ce-type", event.TypeAccountRoleChanged), header("ce-time", "2026-01-15T09:30:00Z")).want(t, http.StatusAccepted)
	w.post(batched, []object{}).want(t, http.StatusAccepted)
	got := w.decoded()
	if len(got) != 5 {
		t.Fatalf("%d events", len(got))
	}
	for i, c := range got {
		if c.Content() != got[0].Content() || c.Digest() != got[0].Digest() || c.NewOwnerID != "u-2" {
			t.Errorf("%d: %+v", i, c)
		}
		if m := w.published[i]; m.Subject != "handover.role.changed.acme" || m.ID != w.published[0].ID || m.Get("Authorization") != "" {
			t.Errorf("%d: %+v", i, m)
		}
	}
}

func TestABatchIsBulkWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	batch := func(n int) []object {
		out := make([]object, n)
		for i := range out {
			out[i] = cloudEvent(object{"id": "e-" + strings.Repeat("x", i%50)})
		}
		return out
	}
	w.post(batched, batch(99)).want(t, http.StatusAccepted)
	if s := w.published[0].Subject; s != "handover.role.changed.acme" {
		t.Errorf("99 on %s", s)
	}
	w.published = nil
	w.post(batched, batch(100)).want(t, http.StatusAccepted)
	if s := w.published[0].Subject; s != "handover.role.bulk.acme" {
		t.Errorf("subject %s", s)
	}
	w.post(batched, batch(1001)).problem(t, http.StatusRequestEntityTooLarge)
}

func TestABatchIsTakenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.post(batched, []object{cloudEvent(nil), cloudEvent(object{"data.role": nil}), cloudEvent(object{"data.new_owner_id": 7})}).
		problem(t, http.StatusUnprocessableEntity)
	if len(p.Errors) != 2 || p.Errors[0].Location != "body[1].data.role" || p.Errors[1].Location != "body[2].data.new_owner_id" {
		t.Errorf("%+v", p.Errors)
	}
	if len(w.published) != 0 {
		t.Errorf("%d were published", len(w.published))
	}
}

func TestEventsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, c := range map[string]struct {
		event    object
		status   int
		location string
	}{
		"another tenant":       {cloudEvent(object{"data.tenant_id": "zeta"}), 422, "body.data.tenant_id"},
		"no tenant of ours":    {cloudEvent(object{"data.tenant_id": "nobody"}), 422, "body.data.tenant_id"},
		"our own source":       {cloudEvent(object{"source": event.SourceHandover}), 422, "body.source"},
		"ours, differently":    {cloudEvent(object{"source": strings.ToUpper(event.SourceHandover)}), 422, "body.source"},
		"six minutes ahead":    {cloudEvent(object{"time": time.Now().Add(6 * time.Minute)}), 422, "body.time"},
		"somebody else's name": {cloudEvent(object{"data.initiated_by": "u-2"}), 403, "body.data.initiated_by"},
		"another type":         {cloudEvent(object{"type": event.TypeTaskReassigned}), 422, "body.type"},
		"no time":              {cloudEvent(object{"time": nil}), 422, "body.time"},
		"no data":              {cloudEvent(object{"data": nil}), 422, "body.data"},
		"a control character":  {cloudEvent(object{"data.account_id": "a\x00"}), 422, "body.data.account_id"},
		"too large":            {cloudEvent(object{"data.note": strings.Repeat("x", 300<<10)}), 422, "body"},
	} {
		p := w.post(structured, c.event).problem(t, c.status)
		if len(p.Errors) != 1 || p.Errors[0].Location != c.location {
			t.Errorf("%s: %+v", name, p)
		}
		if strings.Contains(p.Detail+p.Errors[0].Message, "zeta") {
			t.Errorf("%s tells of another tenant: %+v", name, p)
		}
	}
	for location, change := range map[string]option{
		"header.ce-source": header("ce-source", ""), "header.ce-time": header("ce-time", "yesterday"), "body.role": header("x-none", "1"),
	} {
		data := cloudEvent(nil)["data"].(object)
		if location == "body.role" {
			delete(data, "role")
		}
		p := w.post("application/json", data, header("ce-specversion", "1.0"), header("ce-id", "e-1"), header("ce-source", "//crm.example.com"),
			header("ce-type", event.TypeAccountRoleChanged), header("ce-time", "2026-01-15T09:30:00Z"), change).problem(t, http.StatusUnprocessableEntity)
		if len(p.Errors) != 1 || p.Errors[0].Location != location {
			t.Errorf("binary, %s: %+v", location, p)
		}
	}
	for _, body := range []string{"", "{", "[]", "7", `{"specversion":"1.0"}`, "\xff", strings.Repeat("[", 200_000)} {
		w.post(structured, body).problem(t, http.StatusUnprocessableEntity)
	}
	for _, body := range []string{"", "{", "{}", "7"} {
		w.post(batched, body).problem(t, http.StatusBadRequest)
	}
	w.post("text/plain", cloudEvent(nil)).problem(t, http.StatusUnsupportedMediaType)
	w.post("", cloudEvent(nil)).problem(t, http.StatusUnsupportedMediaType)
	if len(w.published) != 0 {
		t.Errorf("%d were published", len(w.published))
	}
}

func TestAMachineMayNameOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	machine := w.token("acme", "crm", "assign", "sync")
	w.post(structured, cloudEvent(object{"data.initiated_by": "u-2"}), token(machine)).want(t, http.StatusAccepted)
}

func TestAPolicyOfItsOwnNeedsTheTenantsLeave(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	own := cloudEvent(object{"data.tasks": "move_all_tasks"})
	p := w.post(structured, own).problem(t, http.StatusUnprocessableEntity)
	if len(p.Errors) != 1 || p.Errors[0].Location != "body.data.tasks" {
		t.Errorf("%+v", p)
	}
	w.send("PUT", "/v1/settings", object{"allow_task_override": true}, as("policy")).want(t, http.StatusOK)
	w.post(structured, own).want(t, http.StatusAccepted)
}

func TestEventsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.refuse = errAway
	a := w.post(structured, cloudEvent(nil))
	a.problem(t, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" || strings.Contains(string(a.body), "10.1.2.3") {
		t.Errorf("%v %s", a.header, a.body)
	}
}
