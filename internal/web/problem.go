package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/validation"

	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Problem is what every refused or failed request answers: RFC 9457.
type Problem struct {
	Title     string         `json:"title" doc:"The meaning of the status." example:"Unprocessable Entity"`
	Status    int            `json:"status" doc:"The HTTP status." example:"422"`
	Detail    string         `json:"detail" doc:"What is wrong with this request, and what to do." example:"1 field can't be taken; see errors."`
	RequestID string         `json:"request_id,omitempty" doc:"Names the request to whoever runs the service; their log has the cause under it." example:"0198f0c2-7d5e-7c3a-9f43-5a8f6f1f2b11"`
	Errors    []FieldProblem `json:"errors,omitempty" doc:"One for each field that can't be taken."`
	Holds     *Holds         `json:"holds,omitempty" doc:"What a person still holds, when that is in the way."`

	header http.Header
	cause  error // for the log
}

// FieldProblem names one field of a request and says what to do about it.
type FieldProblem struct {
	Location string `json:"location" doc:"Where it stands: body.…, query.…, path.… or header.…" example:"body.owner_id"`
	Message  string `json:"message" doc:"What is wrong and what to do." example:"is not a user of yours; sync the user first"`
}

// Holds counts what a person still has.
type Holds struct {
	Roles       int64  `json:"roles" doc:"Roles of accounts." example:"12"`
	OpenTasks   int64  `json:"open_tasks" doc:"Open tasks." example:"48"`
	SuccessorID string `json:"successor_id,omitempty" doc:"Who takes over already, when that is in the way."`
}

func (p *Problem) Error() string {
	if p.cause != nil {
		return p.Detail + " " + p.cause.Error()
	}
	return p.Detail
}

// because keeps the cause for the log.
func (p *Problem) because(err error) *Problem {
	p.cause = err
	return p
}

// GetStatus makes a Problem the status of an answer.
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders are sent along with it.
func (p *Problem) GetHeaders() http.Header { return p.header }

// ContentType is application/problem+json.
func (*Problem) ContentType(string) string { return "application/problem+json" }

func newProblem(status int, detail string, fields ...FieldProblem) *Problem {
	return &Problem{Title: title(status), Status: status, Detail: detail, Errors: fields}
}

func (p *Problem) with(name, value string) *Problem {
	if p.header == nil {
		p.header = http.Header{}
	}
	p.header.Set(name, value)
	return p
}

// statusClientGone is what is logged when nobody waits for the answer any more; no client sees it.
const statusClientGone = 499

func title(status int) string {
	if status == statusClientGone {
		return "Client Closed Request"
	}
	return http.StatusText(status)
}

// problem is the one translation of errors to answers. Where says at what place of the request a field stands.
func problem(err error, where func(field string) string) *Problem {
	var (
		p            *Problem
		invalid      *roster.Invalid
		invalidEvent *event.Invalid
		conflict     *operation.Conflict
		underWay     *operation.UnderWay
		tooLarge     *http.MaxBytesError
	)
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &invalid):
		return unfit(where, invalid.Field, invalid.Remedy)
	case errors.As(err, &invalidEvent):
		return unfit(where, invalidEvent.Field, invalidEvent.Remedy)
	case errors.Is(err, roster.ErrUnauthorized):
		return newProblem(http.StatusUnauthorized, "The token is not valid, was revoked, or is that of somebody who has left. Ask an administrator for a new one.").
			with("WWW-Authenticate", challenge+`, error="invalid_token"`)
	case errors.Is(err, roster.ErrNotFound):
		return newProblem(http.StatusNotFound, "You have nothing of that id.")
	case errors.As(err, &conflict):
		return conflictProblem(conflict)
	case errors.As(err, &underWay):
		return newProblem(http.StatusConflict, sentence(underWay.Error())+".").with("Location", "/v1/operations/"+url.PathEscape(underWay.OperationID))
	case errors.As(err, &tooLarge):
		return newProblem(http.StatusRequestEntityTooLarge, "The body is too large. Send less at once, or use an import.")
	case postgres.BadData(err):
		return newProblem(http.StatusUnprocessableEntity, "A value can't be stored: the database refuses it.")
	case errors.Is(err, context.Canceled):
		return newProblem(statusClientGone, "The client went away.")
	case errors.Is(err, context.DeadlineExceeded), postgres.Unavailable(err):
		return newProblem(http.StatusServiceUnavailable, "The service can't do this right now. Try again.").with("Retry-After", "2")
	}
	return newProblem(http.StatusInternalServerError, "Something broke on our side. The request id names it in our log.")
}

// unfit is the problem of one field, or, without its name, of the body as a whole.
func unfit(where func(string) string, field, remedy string) *Problem {
	if field == "" {
		return newProblem(http.StatusUnprocessableEntity, sentence(remedy), FieldProblem{"body", remedy})
	}
	return unprocessable(FieldProblem{where(field), remedy})
}

func unprocessable(fields ...FieldProblem) *Problem {
	detail := "1 field can't be taken; see errors."
	if len(fields) > 1 {
		detail = "Several fields can't be taken; see errors."
	}
	return newProblem(http.StatusUnprocessableEntity, detail, fields...)
}

// within is where a field stands that is neither in the path nor anywhere special.
func within(place string) func(field string) string {
	return func(field string) string { return place + "." + field }
}

func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(first)) + s[size:]
}

// writeProblem answers with p, unless the answer has begun.
func writeProblem(w http.ResponseWriter, r *http.Request, p *Problem) {
	req := requestOf(r.Context())
	if p.Status >= 500 {
		p.RequestID = req.id
	}
	for name, values := range p.header {
		w.Header()[name] = values
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_ = json.NewEncoder(w).Encode(p)
	}
}

// explain turns the error of a handler into its problem, and keeps the cause for the request's log line.
func explain(ctx context.Context, err error, where func(field string) string) *Problem {
	p := problem(err, where)
	req := requestOf(ctx)
	req.err = err
	if p.Status >= 500 {
		p.RequestID = req.id
	}
	return p
}

// huma knows only package-wide hooks for the shape of its own errors; this package is its only user here.
func init() {
	huma.NewError = func(status int, detail string, errs ...error) huma.StatusError {
		p := newProblem(status, sentence(detail))
		if detail == "validation failed" {
			p.Detail = "The request can't be taken; see errors."
		}
		for _, err := range errs {
			var d huma.ErrorDetailer
			if errors.As(err, &d) {
				e := d.ErrorDetail()
				p.Errors = append(p.Errors, plain(e.Location, e.Message))
			} else if err != nil {
				p.Errors = append(p.Errors, FieldProblem{"body", err.Error()})
			}
		}
		return p
	}
}

// plain names the field itself where huma names the object around it.
func plain(location, message string) FieldProblem {
	if rest, ok := strings.CutPrefix(message, "expected required property "); ok {
		return FieldProblem{location + "." + strings.TrimSuffix(rest, " to be present"), "is required"}
	}
	if message == validation.MsgUnexpectedProperty {
		message = "is no field here; leave it out, or look for a misspelling"
	}
	return FieldProblem{location, message}
}
