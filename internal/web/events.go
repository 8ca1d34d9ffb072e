package web

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.opentelemetry.io/otel/propagation"

	"handover.io/internal/handover"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

const (
	mediaEvent  = "application/cloudevents+json"
	mediaEvents = "application/cloudevents-batch+json"

	// eventLimit is for one event; the broker takes up to 1 MB, and a role change needs a few hundred bytes.
	eventLimit = 256 << 10
	// batchLimit is what one batch may hold: few enough for one transaction.
	batchLimit = 1000
	// bulkFrom is from how many events on a batch is bulk work, which single changes don't queue behind.
	bulkFrom = 100
)

// Accepted says how many events were taken.
type Accepted struct {
	Accepted int `json:"accepted" doc:"Events that are kept, and published at once or as soon as the broker is there." example:"1"`
}

func (s *server) events() {
	one := &huma.Schema{Type: "object", Description: "AccountRoleChanged as a CloudEvent; its own JSON Schema says all of it.",
		Required: []string{"specversion", "id", "source", "type", "time", "data"}}
	register(s, route{
		method: http.MethodPost, path: "/v1/events", right: roster.RightAssign, id: "publish-events", tag: "Handing over",
		summary: "Publish role changes as CloudEvents",
		about: "Takes AccountRoleChanged events (`io.handover.account.role.changed.v1`) by the CloudEvents HTTP binding: structured (`" + mediaEvent +
			"`), binary (`ce-*` headers, the data as body) or a batch of up to 1,000 (`" + mediaEvents + "`), which is taken whole or not at all. " +
			"The answer comes when they are kept for good; what becomes of them shows in the account's history. " +
			"`data.tenant_id` must be the tenant of the token, and `data.initiated_by` its user, unless it has the right `sync`. " +
			"Events with the same source and id are one event, so a repeat does nothing. `data.tasks` needs the setting `allow_task_override`.",
		status: http.StatusAccepted, limit: wideBodyLimit, anyMedia: true,
		body: &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{
			mediaEvent: {Schema: one, Example: map[string]any{
				"specversion": "1.0", "id": "crm-4711", "source": "//crm.example.com", "type": "io.handover.account.role.changed.v1",
				"time": "2026-01-15T09:30:00Z", "data": map[string]any{"tenant_id": "demo", "account_id": "a-1", "role": "success_manager",
					"new_owner_id": "u-2", "reason": "api", "initiated_by": "u-1"}}},
			mediaEvents:        {Schema: &huma.Schema{Type: "array", Items: one, MaxItems: ptr(batchLimit)}},
			"application/json": {Schema: &huma.Schema{Type: "object", Description: "The data alone, in binary mode: the attributes are in ce-* headers."}},
		}},
	}, func(ctx context.Context, _ *struct{}) (*body[Accepted], error) {
		n, err := s.takeEvents(ctx)
		return &body[Accepted]{Accepted{n}}, err
	})
}

func (s *server) takeEvents(ctx context.Context) (int, error) {
	received, mode, err := eventsOf(requestOf(ctx).header, bodyOf(ctx))
	if err != nil {
		return 0, err
	}
	who := callerOf(ctx)
	subject := event.SubjectRoleChanged(who.TenantID)
	if len(received) >= bulkFrom {
		subject = event.SubjectRoleBulk(who.TenantID)
	}
	mayOverride := sync.OnceValue(func() error { return s.mayOverride(ctx, who.TenantID) })
	var refused refusals
	messages := make([]event.Message, 0, len(received))
	for i, m := range received {
		m.Subject = subject
		c, err := acceptable(who, m)
		if err == nil && c.Tasks != "" {
			err = mayOverride()
		}
		var invalid *event.Invalid
		switch {
		case errors.As(err, &invalid):
			refused.add(i, mode, invalid)
			continue
		case err != nil:
			return 0, err
		}
		c.Traceparent = cmp.Or(c.Traceparent, traceparent(ctx))
		// Written anew, so that whoever reads it reads what was checked here.
		message, err := c.Message(subject)
		if err != nil {
			return 0, err
		}
		messages = append(messages, message)
	}
	if err := refused.problem(); err != nil || len(messages) == 0 {
		return 0, err
	}
	return len(messages), s.Events(ctx, messages)
}

// mayOverride tells at once what would otherwise become a dead letter.
func (s *server) mayOverride(ctx context.Context, tenant string) error {
	settings, err := s.Roster.Settings(ctx, tenant)
	if err == nil && !settings.AllowTaskOverride {
		err = &event.Invalid{Field: "data.tasks",
			Remedy: "gives the change a policy of its own, which the tenant's settings don't allow; leave it out, or set allow_task_override"}
	}
	return err
}

// eventMode is how events came: it decides where their fields stand.
type eventMode int

const (
	structuredEvent eventMode = iota
	binaryEvent
	eventBatch
)

// eventsOf are the events of a request, and how they came. Of the headers they have only what is theirs.
func eventsOf(h http.Header, body []byte) ([]event.Message, eventMode, error) {
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	structured := map[string][]string{"Content-Type": {mediaEvent}}
	switch {
	case media == mediaEvents:
		var raw []json.RawMessage
		if err := json.Unmarshal(body, &raw); err != nil {
			return nil, eventBatch, newProblem(http.StatusBadRequest, "The body is not a JSON array of CloudEvents: "+err.Error()+".")
		}
		if len(raw) > batchLimit {
			return nil, eventBatch, newProblem(http.StatusRequestEntityTooLarge, fmt.Sprintf("The batch has %d events; send at most %d at once.", len(raw), batchLimit))
		}
		out := make([]event.Message, len(raw))
		for i, r := range raw {
			out[i] = event.Message{Header: structured, Body: r}
		}
		return out, eventBatch, nil
	case media == mediaEvent:
		return []event.Message{{Header: structured, Body: body}}, structuredEvent, nil
	case h.Get("Ce-Specversion") != "":
		m := event.Message{Header: map[string][]string{}, Body: body}
		for name, values := range h {
			if strings.HasPrefix(name, "Ce-") || name == "Content-Type" {
				m.Header[strings.ToLower(name)] = values
			}
		}
		return []event.Message{m}, binaryEvent, nil
	}
	return nil, structuredEvent, newProblem(http.StatusUnsupportedMediaType, "The body is no CloudEvent: send Content-Type "+mediaEvent+" or "+mediaEvents+
		", or the attributes in ce-* headers.").with("Accept", mediaEvent+", "+mediaEvents)
}

// errNotYours refuses an event in somebody else's name.
var errNotYours = &event.Invalid{Field: "data.initiated_by",
	Remedy: `must be the token's user; a token with the right "sync" may name others`}

// acceptable decodes an event and checks that the caller may publish it.
func acceptable(who roster.Identity, m event.Message) (event.AccountRoleChanged, error) {
	if len(m.Body) > eventLimit {
		return event.AccountRoleChanged{}, &event.Invalid{Remedy: "is larger than 256 KB"}
	}
	if !json.Valid(m.Body) {
		return event.AccountRoleChanged{}, &event.Invalid{Remedy: "is not JSON"}
	}
	c, err := event.DecodeAccountRoleChanged(m)
	var invalid *event.Invalid
	switch {
	case errors.As(err, &invalid) && invalid.Reason == event.ReasonTenantMismatch:
		return c, &event.Invalid{Field: invalid.Field, Remedy: "must be the tenant of the token"}
	case err != nil:
		return c, err
	case strings.EqualFold(c.Source, event.SourceHandover): // in any case, so that nobody takes theirs for ours
		return c, &event.Invalid{Field: "source", Remedy: "is Handover's own; name your system"}
	case c.Time.After(time.Now().Add(handover.MaxAhead)):
		return c, &event.Invalid{Field: "time", Remedy: "is more than five minutes ahead of our clock; send when it occurred"}
	case c.InitiatedBy != who.UserID && !slices.Contains(who.Rights, roster.RightSync):
		return c, errNotYours
	}
	return c, nil
}

// refusals gathers what is wrong with the events of one request.
type refusals struct {
	fields    []FieldProblem
	forbidden bool
}

// refusalsShown is how many are listed; who sends a thousand wrong ones has one mistake.
const refusalsShown = 100

func (r *refusals) add(i int, mode eventMode, invalid *event.Invalid) {
	r.forbidden = r.forbidden || invalid == errNotYours
	if len(r.fields) == refusalsShown {
		return
	}
	r.fields = append(r.fields, FieldProblem{mode.location(i, invalid.Field), invalid.Remedy})
}

// location is where a field of the i-th event stands.
func (m eventMode) location(i int, field string) string {
	switch {
	case m == binaryEvent && (field == "data" || field == ""):
		return "body"
	case m == binaryEvent && strings.HasPrefix(field, "data."):
		return "body." + strings.TrimPrefix(field, "data.")
	case m == binaryEvent && (field == "Content-Type" || strings.HasPrefix(field, "ce-")):
		return "header." + field
	case m == binaryEvent && field == "datacontenttype":
		return "header.Content-Type"
	case m == binaryEvent:
		return "header.ce-" + field
	}
	location := "body"
	if m == eventBatch {
		location = fmt.Sprintf("body[%d]", i)
	}
	if field != "" {
		location += "." + field
	}
	return location
}

func (r *refusals) problem() error {
	switch {
	case len(r.fields) == 0:
		return nil
	case r.forbidden:
		return newProblem(http.StatusForbidden, "The event names somebody else as initiator, which needs the right \"sync\". Nothing was published.", r.fields...)
	}
	p := unprocessable(r.fields...)
	p.Detail += " Nothing was published."
	return p
}

// traceparent is the trace of this request, as an event carries it.
func traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}
