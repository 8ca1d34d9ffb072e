package event

import (
	"encoding/json"
	"errors"
	"mime"
	"net/url"
	"strings"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	"github.com/cloudevents/sdk-go/v2/types"
)

const (
	contentTypeStructured = "application/cloudevents+json"
	headerPrefix          = "ce-"
)

// envelope is the part of a CloudEvent that both events share.
type envelope struct {
	ID, Source, Type, Subject, Sequence, Traceparent string
	Time                                             time.Time
	Data                                             []byte
	tenant                                           string
}

func (e envelope) message(subject string, data any) (Message, error) {
	out := ce.New()
	out.SetID(e.ID)
	out.SetSource(e.Source)
	out.SetType(e.Type)
	out.SetSubject(e.Subject)
	out.SetTime(Micro(e.Time))
	if e.Sequence != "" {
		out.SetExtension("sequence", e.Sequence)
	}
	if e.Traceparent != "" {
		out.SetExtension("traceparent", e.Traceparent)
	}
	if err := out.SetData("application/json", data); err != nil {
		return Message{}, err
	}
	body, err := json.Marshal(out)
	if err != nil {
		return Message{}, invalid("", "can't be written as a CloudEvent: %v", err)
	}
	return Message{
		ID:      MessageID(e.tenant, e.Source, e.ID),
		Subject: subject,
		Header:  map[string][]string{"Content-Type": {contentTypeStructured}},
		Body:    body,
	}, nil
}

// MessageID is what the broker removes repeats by: the digest of tenant, source and id, so that ids of any length and
// any characters fit a header.
func MessageID(tenant, source, id string) string {
	const hex = "0123456789abcdef"
	d := digest(tenant, source, id)
	out := make([]byte, 0, 2*len(d))
	for _, b := range d {
		out = append(out, hex[b>>4], hex[b&15])
	}
	return string(out)
}

// Type is the CloudEvents type of a message, or "" if it is none; for those who route before they decode.
func Type(m Message) string {
	e, err := readCloudEvent(m)
	if err != nil {
		return ""
	}
	return e.Type()
}

func decodeEnvelope(m Message, wantType string) (envelope, error) {
	e, err := readCloudEvent(m)
	if err != nil {
		return envelope{}, err
	}
	if e.Type() != wantType {
		return envelope{}, &Invalid{Reason: ReasonUnknownType, Field: "type", Remedy: "is " + quote(e.Type()) + "; here only " + wantType + " is understood"}
	}
	out := envelope{ID: e.ID(), Source: e.Source(), Type: e.Type(), Subject: e.Subject(), Time: e.Time(), Data: e.Data()}
	out.Sequence, _ = types.Format(e.Extensions()["sequence"])
	out.Traceparent, _ = types.Format(e.Extensions()["traceparent"])
	if ct := e.DataMediaType(); ct != "" && ct != "application/json" && !strings.HasSuffix(ct, "+json") {
		return envelope{}, invalid("datacontenttype", "is %q; it must be application/json", ct)
	}
	return out, nil
}

func readCloudEvent(m Message) (ce.Event, error) {
	contentType, _, _ := mime.ParseMediaType(m.Get("Content-Type"))
	e := ce.New()
	switch {
	case contentType == contentTypeStructured || (contentType == "" && m.Get(headerPrefix+"specversion") == ""):
		if err := json.Unmarshal(m.Body, &e); err != nil {
			return e, notCloudEvent(err)
		}
	case m.Get(headerPrefix+"specversion") != "":
		if err := readBinary(m, &e); err != nil {
			return e, err
		}
	default:
		return e, notCloudEvent(errors.New("Content-Type " + quote(m.Get("Content-Type")) + " and no ce-specversion header"))
	}
	if err := e.Validate(); err != nil {
		return e, notCloudEvent(err)
	}
	return e, nil
}

func readBinary(m Message, e *ce.Event) error {
	if v := m.Get(headerPrefix + "specversion"); v != "1.0" {
		return notCloudEvent(errors.New("ce-specversion is " + quote(v) + ", not 1.0"))
	}
	for name, values := range m.Header {
		name = strings.ToLower(name)
		if !strings.HasPrefix(name, headerPrefix) || len(values) == 0 {
			continue
		}
		// The NATS and HTTP bindings both percent-encode what a header can't carry.
		value := values[0]
		if decoded, err := url.PathUnescape(value); err == nil {
			value = decoded
		}
		switch attribute := strings.TrimPrefix(name, headerPrefix); attribute {
		case "specversion":
		case "id":
			e.SetID(value)
		case "source":
			e.SetSource(value)
		case "type":
			e.SetType(value)
		case "subject":
			e.SetSubject(value)
		case "dataschema":
			e.SetDataSchema(value)
		case "time":
			t, err := types.ParseTime(value)
			if err != nil {
				return notCloudEvent(errors.New("ce-time is not RFC 3339: " + quote(value)))
			}
			e.SetTime(t)
		default:
			e.SetExtension(attribute, value)
		}
	}
	if ct := m.Get("Content-Type"); ct != "" {
		e.SetDataContentType(ct)
	}
	e.DataEncoded = m.Body
	return nil
}

func decodeData(data []byte, into any) error {
	if len(data) == 0 {
		return invalid("data", "is missing")
	}
	if err := json.Unmarshal(data, into); err != nil {
		var wrongType *json.UnmarshalTypeError
		if errors.As(err, &wrongType) {
			return invalid("data."+wrongType.Field, "must be a %s, not a %s", wrongType.Type, wrongType.Value)
		}
		return invalid("data", "is not JSON: %v", err)
	}
	return nil
}

func notCloudEvent(err error) *Invalid {
	return &Invalid{Reason: ReasonNotCloudEvent, Remedy: strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")}
}

// quote shows a value of unknown length in a message.
func quote(s string) string {
	if len(s) > 80 {
		s = s[:80] + "…"
	}
	b, _ := json.Marshal(s)
	return string(b)
}
