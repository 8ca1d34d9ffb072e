package letters

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/journal"
	"handover.io/internal/rawjson"
	"handover.io/pkg/event"
)

// The extension attributes of an exported event: why it is a dead letter. Readers of the event pass over them.
const (
	extension         = "deadletter" // the key
	extensionReason   = "deadreason"
	extensionDetail   = "deaddetail"
	extensionConsumer = "deadconsumer"
	extensionSubject  = "deadsubject"
	extensionSince    = "deadsince"
)

var extensions = []string{extension, extensionReason, extensionDetail, extensionConsumer, extensionSubject, extensionSince}

const attributePrefix = "ce-"

// attributeName is what CloudEvents allows.
var attributeName = regexp.MustCompile(`^[a-z0-9]+$`)

// Export is a line of JSON for a letter with its original. An event, in whatever mode it came, is written in structured
// mode: once it is mended, handover publish takes it. Anything else is an object with "header" and "body", or "body_base64"
// when it is no text.
func Export(l journal.Letter) ([]byte, error) {
	var o members
	switch m := l.Message(); {
	case o.structured(m):
	case m.Get(attributePrefix+"specversion") != "":
		o.binary(m)
	default:
		o.other(m)
	}
	o.put(extension, strconv.FormatInt(l.Key, 10))
	o.put(extensionReason, l.Reason)
	o.put(extensionDetail, l.Detail)
	o.put(extensionConsumer, l.Consumer)
	o.put(extensionSubject, l.Subject)
	o.put(extensionSince, l.CreatedAt.UTC().Format(time.RFC3339Nano))
	if o.err != nil {
		return nil, o.err
	}
	return safe.JSON(append(append([]byte{'{'}, o.b.Bytes()...), "}\n"...)), nil
}

// members are those of an object that is being written.
type members struct {
	b   bytes.Buffer
	err error
}

func (o *members) name(n []byte) {
	if o.b.Len() > 0 {
		o.b.WriteByte(',')
	}
	o.json(string(n))
	o.b.WriteByte(':')
}

func (o *members) json(v any) {
	text, err := safe.Line(v)
	if err != nil && o.err == nil {
		o.err = err
	}
	o.b.Write(bytes.TrimSpace(text))
}

func (o *members) put(name string, v any) {
	o.name([]byte(name))
	o.json(v)
}

func (o *members) raw(name []byte, value []byte) {
	o.name(name)
	if err := json.Compact(&o.b, value); err != nil && o.err == nil {
		o.err = err
	}
}

// structured takes a body that is an event.
func (o *members) structured(m event.Message) bool {
	object, ok := rawjson.Object{}.Parse(m.Body)
	if !ok {
		return false
	}
	if version, twice := object.Get("specversion"); version == nil || twice {
		return false
	}
	for _, member := range object {
		if !slices.Contains(extensions, string(member.Name)) {
			o.raw(member.Name, member.Value)
		}
	}
	return true
}

// binary takes an event whose attributes are headers.
func (o *members) binary(m event.Message) {
	seen := map[string]bool{"data": true, "datacontenttype": true}
	for _, e := range extensions {
		seen[e] = true
	}
	for _, name := range slices.Sorted(maps.Keys(m.Header)) {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), attributePrefix)
		if !ok || seen[attribute] || !attributeName.MatchString(attribute) || len(m.Header[name]) == 0 {
			continue
		}
		seen[attribute] = true
		value := m.Header[name][0]
		if decoded, err := url.PathUnescape(value); err == nil && utf8.ValidString(decoded) {
			value = decoded
		}
		o.put(attribute, value)
	}
	if media := m.Get("Content-Type"); media != "" {
		o.put("datacontenttype", media)
	}
	switch {
	case len(m.Body) == 0:
	case utf8.Valid(m.Body) && json.Valid(m.Body):
		o.raw([]byte("data"), m.Body)
	default:
		o.put("data_base64", base64.StdEncoding.EncodeToString(m.Body))
	}
}

func (o *members) other(m event.Message) {
	o.put("header", m.Header)
	if utf8.Valid(m.Body) {
		o.put("body", string(m.Body))
	} else {
		o.put("body_base64", base64.StdEncoding.EncodeToString(m.Body))
	}
}
