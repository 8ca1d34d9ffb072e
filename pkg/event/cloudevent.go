package event

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"mime"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"handover.io/internal/rawjson"
)

const (
	contentTypeStructured = "application/cloudevents+json"
	contentTypeJSON       = "application/json"
	headerPrefix          = "ce-"
	specVersion           = "1.0"
)

// structuredHeader is that of every message we write; nobody may change it.
var structuredHeader = map[string][]string{"Content-Type": {contentTypeStructured}}

// envelope is the part of a CloudEvent that both events share.
type envelope struct {
	ID, Source, Type, Subject, Sequence, Traceparent string
	Time                                             time.Time
	ContentType                                      string // of the data
	Data                                             []byte // nil when there is none
	inside                                           bool   // the data is part of a JSON text that has been checked
	tenant                                           string
}

// message is the event in structured mode, its data written by data. The data comes last, and the body ends with it.
func (e envelope) message(subject string, data func(*objectWriter)) Message {
	w := objectWriter{make([]byte, 0, usualBody)}
	w.begin()
	w.text("specversion", specVersion)
	w.text("type", e.Type)
	w.text("source", e.Source)
	w.text("id", e.ID)
	// An account id may be of spaces alone; a CloudEvents subject may not, and is for looks only.
	if strings.TrimSpace(e.Subject) != "" {
		w.text("subject", e.Subject)
	}
	w.time("time", Micro(e.Time))
	w.optional("sequence", e.Sequence)
	if traceContext.MatchString(e.Traceparent) {
		w.text("traceparent", e.Traceparent)
	}
	w.text("datacontenttype", contentTypeJSON)
	w.member("data")
	w.begin()
	data(&w)
	w.end()
	w.end()
	return Message{ID: MessageID(e.tenant, e.Source, e.ID), Subject: subject, Header: structuredHeader, Body: w.b}
}

// usualBody is room for most events, so that they need not grow.
const usualBody = 1 << 10

// MessageID is what the broker removes repeats by: the digest of tenant, source and id, so that ids of any length and
// any characters fit a header.
func MessageID(tenant, source, id string) string {
	d := digest(tenant, source, id)
	return hex.EncodeToString(d[:])
}

// Type is the CloudEvents type of a message, or "" if it is none; for those who route before they decode.
func Type(m Message) string {
	e, err := readEnvelope(m)
	if err != nil {
		return ""
	}
	return e.Type
}

// decode reads the envelope and hands its data over as an object. The error is an *Invalid.
func decode(m Message, wantType string) (envelope, *object, error) {
	if len(m.Body) > MaxEventBytes {
		return envelope{}, nil, invalid("", "is larger than %d KB", MaxEventBytes>>10)
	}
	e, err := readEnvelope(m)
	if err != nil {
		return envelope{}, nil, err
	}
	if e.Type != wantType {
		return envelope{}, nil, &Invalid{Reason: ReasonUnknownType, Field: "type", Remedy: "is " + quote(e.Type) + "; here only " + wantType + " is understood"}
	}
	if media, ok := mediaType(e.ContentType); e.ContentType != "" && (!ok || media != contentTypeJSON && !strings.HasSuffix(media, "+json")) {
		return envelope{}, nil, invalid("datacontenttype", "is %s; it must be application/json", quote(e.ContentType))
	}
	if len(e.Data) == 0 {
		return envelope{}, nil, invalid("data", "is missing")
	}
	// Inside of a structured event it has been checked with the rest.
	if !e.inside && !json.Valid(e.Data) {
		return envelope{}, nil, invalid("data", "is not JSON")
	}
	data := newObject("data", e.Data, &checks{reason: ReasonInvalid})
	return e, data, data.wrong.err()
}

func readEnvelope(m Message) (envelope, error) {
	contentType, err := m.one("Content-Type")
	if err != nil {
		return envelope{}, err
	}
	version, err := m.one(headerPrefix + "specversion")
	if err != nil {
		return envelope{}, err
	}
	media, _ := mediaType(contentType)
	switch {
	case media == contentTypeStructured || contentType == "" && version == "":
		return readStructured(m.Body)
	case version != "":
		return readBinary(m, contentType)
	}
	return envelope{}, notCloudEvent("Content-Type", "is "+quote(contentType)+" and there is no ce-specversion header; send "+contentTypeStructured+", or the attributes in ce-* headers")
}

// mediaType is a content type without its parameters, in lower case.
func mediaType(contentType string) (media string, ok bool) {
	if contentType == contentTypeStructured || contentType == contentTypeJSON {
		return contentType, true
	}
	media, _, err := mime.ParseMediaType(contentType)
	return media, err == nil
}

func readStructured(body []byte) (envelope, error) {
	wrong := &checks{reason: ReasonNotCloudEvent}
	o := &object{wrong: wrong}
	var ok bool
	if o.members, ok = make(rawjson.Object, 0, usualMembers).Parse(body); !ok {
		return envelope{}, notAnObject(body)
	}
	var e envelope
	e.fill(o.optional, wrong)
	if e.Data, e.inside = o.get("data"), true; string(e.Data) == "null" {
		e.Data = nil
	}
	if encoded := o.optional("data_base64"); encoded != "" {
		if e.Data != nil {
			wrong.fail("data_base64", "is there beside data; give one of them")
		}
		data, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || !utf8.Valid(data) {
			wrong.fail("data_base64", "is not Base64 of JSON in UTF-8")
		}
		e.Data, e.inside = data, false
	}
	return e, wrong.err()
}

// notAnObject says why a body is no JSON object.
func notAnObject(body []byte) *Invalid {
	if !utf8.Valid(body) {
		return notCloudEvent("", "is not valid UTF-8")
	}
	var v json.RawMessage
	if err := json.Unmarshal(body, &v); err != nil {
		return notCloudEvent("", "is not JSON: "+err.Error())
	}
	return notCloudEvent("", "must be an object, not "+kind(bytes.TrimSpace(body)))
}

func readBinary(m Message, contentType string) (envelope, error) {
	wrong := &checks{reason: ReasonNotCloudEvent}
	var e envelope
	e.fill(func(name string) string {
		if name == "datacontenttype" {
			return contentType
		}
		value, err := m.one(headerPrefix + name)
		if err != nil {
			wrong.fail(err.(*Invalid).Field, "%s", err.(*Invalid).Remedy)
		}
		// The NATS and HTTP bindings both percent-encode what a header can't carry.
		if decoded, err := url.PathUnescape(value); err == nil {
			value = decoded
		}
		if !utf8.ValidString(value) {
			wrong.fail(headerPrefix+name, "is not valid UTF-8; percent-encode it")
		}
		return value
	}, wrong)
	if e.Data = m.Body; !utf8.Valid(m.Body) {
		wrong.fail("data", "is not valid UTF-8")
	}
	return e, wrong.err()
}

// fill takes the attributes, absent ones as "", and checks what CloudEvents asks of them.
func (e *envelope) fill(attribute func(name string) string, wrong *checks) {
	if v := attribute("specversion"); v != specVersion {
		wrong.fail("specversion", "is %s; it must be %q", quote(v), specVersion)
	}
	e.ID, e.Source, e.Type, e.Subject = attribute("id"), attribute("source"), attribute("type"), attribute("subject")
	if strings.TrimSpace(e.Type) == "" {
		wrong.fail("type", "is required")
	}
	if what := checkEventID(e.ID); what != "" {
		wrong.fail("id", "%s", what)
	}
	if what := checkSource(e.Source); what != "" {
		wrong.fail("source", "%s", what)
	}
	if at := attribute("time"); at != "" {
		t, err := parseTime(at)
		if err != nil {
			wrong.fail("time", "is not RFC 3339: %s", quote(at))
		}
		e.Time = t
	}
	e.Sequence, e.Traceparent = attribute("sequence"), attribute("traceparent")
	if !traceContext.MatchString(e.Traceparent) {
		e.Traceparent = ""
	}
	e.ContentType = attribute("datacontenttype")
}

// traceContext is a W3C traceparent. Another one is left out, as that standard asks: a trace is no reason to refuse a change.
var traceContext = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

// one is the value of a header, "" when there is none. Two different ones can't both be right.
func (m Message) one(name string) (string, error) {
	var value string
	found := false
	for key, values := range m.Header {
		if !strings.EqualFold(key, name) {
			continue
		}
		for _, v := range values {
			if found && v != value {
				return "", notCloudEvent(name, "is there twice, with different values")
			}
			value, found = v, true
		}
	}
	return value, nil
}

// Get returns the first value of a header, compared without case, or "". Where headers differ in case alone, the one
// written as name comes first, then the others bytewise.
func (m Message) Get(name string) string {
	if v := m.Header[name]; len(v) > 0 {
		return v[0]
	}
	for _, key := range slices.Sorted(maps.Keys(m.Header)) {
		if v := m.Header[key]; len(v) > 0 && strings.EqualFold(key, name) {
			return v[0]
		}
	}
	return ""
}

func notCloudEvent(field, remedy string) *Invalid {
	return &Invalid{Reason: ReasonNotCloudEvent, Field: field, Remedy: remedy}
}

// quote shows a value of unknown length in a message.
func quote(s string) string {
	if len(s) > 80 {
		s = strings.ToValidUTF8(s[:80], "") + "…"
	}
	b, _ := json.Marshal(s)
	return string(b)
}
