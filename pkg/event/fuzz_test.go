package event_test

import (
	"encoding/json"
	"errors"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"handover.io/pkg/event"
)

// seeds are hostile by what they hold or leave out. Some crash or mislead other readers of CloudEvents.
var seeds = []string{
	"", "null", "[]", "{}", "\"", "{\"", `{"":1}`, `{"specversion":"1.0","":1,"id":"1"}`,
	`{"specversion":"1.0","data_base64":1}`, `{"specversion":"1.0","data_base64":"x"}`, `{"specversion":"1.0","data":"\"}"}`,
	`{"specversion":"1.0","id":"\ud800","source":"/","type":"io.handover.account.role.changed.v1","time":"2026-01-01T00:00:00Z","data":{"tenant_id":"\\","\\":"}"}}`,
	`{"specversion":"1.0","id":"1","source":"/","type":"io.handover.task.reassigned.v1","time":"2026-01-01T24:00:00Z","data":{"tasks":[{"revision":1e999},[],null]}}`,
	`{"specversion":"1.0","id":"1","source":"//[","type":"io.handover.task.reassigned.v1","time":"2026-01-01T00:00:00+99:99","data":[[[[]]]]}`,
	`{"specversion":"1.0","id":"1","source":"/","type":"io.handover.task.reassigned.v1","time":"2026-01-01T00:00:00Z","data":{"tenant_id":"demo","account_id":"a","from_id":null,"to_id":"b","reason":"assigned","initiated_by":"u","correction":false,"tasks":[{"id":"t","revision":1.0,"title":"","source":"manual","due_at":"2026-01-01T00:00:00.123456789-23:59"}]}}`,
}

// refused fails when an error is not an *Invalid with a remedy.
func refused(t *testing.T, err error) {
	t.Helper()
	var wrong *event.Invalid
	if !errors.As(err, &wrong) || wrong.Reason == "" || wrong.Remedy == "" {
		t.Fatalf("refused with %#v", err)
	}
}

func FuzzDecodeAccountRoleChanged(f *testing.F) {
	for _, s := range append(seeds, string(with(nil)), string(with(object{"data.new_owner_id": null, "sequence": "7"}))) {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := event.DecodeAccountRoleChanged(event.Message{Body: body})
		if err != nil {
			refused(t, err)
			return
		}
		again, err := event.DecodeAccountRoleChanged(message(t, c))
		if err != nil || again != c {
			t.Fatalf("read %+v\nthen %+v, %v", c, again, err)
		}
	})
}

func FuzzDecodeTaskReassigned(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := event.DecodeTaskReassigned(event.Message{Body: body})
		if err != nil {
			refused(t, err)
			return
		}
		messages := r.Messages(func() string { return r.ID })
		if len(messages) != 1 {
			t.Fatalf("%d messages", len(messages))
		}
		again, err := event.DecodeTaskReassigned(messages[0])
		if err != nil || !reflect.DeepEqual(again, r) {
			t.Fatalf("read %+v\nthen %+v, %v", r, again, err)
		}
	})
}

func FuzzDecodeBinaryMode(f *testing.F) {
	f.Add("1.0", "1", "//crm", "2026-01-01T00:00:00Z", "application/json", []byte(`{}`))
	f.Add("1.0", "%", "%2", "2026-01-01T00:00:00Z", ";", []byte(`{"tenant_id":{}}`))
	f.Add("", "\x00", "\xff", "", "application/cloudevents+json", []byte(``))
	f.Fuzz(func(t *testing.T, version, id, source, at, contentType string, body []byte) {
		c, err := event.DecodeAccountRoleChanged(event.Message{Body: body, Header: map[string][]string{
			"Ce-Specversion": {version}, "cE-ID": {id}, "ce-source": {source}, "ce-time": {at}, "ce-type": {event.TypeAccountRoleChanged},
			"content-type": {contentType},
		}})
		if err != nil {
			refused(t, err)
			return
		}
		if again, err := event.DecodeAccountRoleChanged(message(t, c)); err != nil || again != c {
			t.Fatalf("read %+v\nthen %+v, %v", c, again, err)
		}
	})
}

// One event means the same in both modes, or is refused in both.
func FuzzModesAgree(f *testing.F) {
	data, _ := json.Marshal(map[string]any{"tenant_id": "demo", "account_id": "a", "role": "r", "new_owner_id": nil, "reason": "api", "initiated_by": "u"})
	f.Add("1", "//crm", "2026-01-01T00:00:00Z", "7", data)
	f.Add("50% ü\n", "urn:x:%41", "2026-01-01T00:00:00.123456789+01:00", "", data)
	f.Add(" ", "//[", "2026-01-01t00:00:00z", "\u2028", []byte(`[]`))
	f.Add("1", "/", "0000-01-01T00:00:00Z", "\x00", []byte(` {"tenant_id":"demo","tenant_id":"demo"} `))
	f.Fuzz(func(t *testing.T, id, source, at, sequence string, data []byte) {
		for _, s := range []string{id, source, at, sequence} {
			if !utf8.ValidString(s) {
				return // no JSON holds it
			}
		}
		attributes := map[string]any{"specversion": "1.0", "type": event.TypeAccountRoleChanged, "id": id, "source": source, "time": at, "sequence": sequence, "data": json.RawMessage(data)}
		body, err := json.Marshal(attributes)
		if err != nil || string(data) == "null" {
			return // not JSON, or no data, which has no place in the other mode
		}
		structured, wrong := event.DecodeAccountRoleChanged(event.Message{Body: body, Header: map[string][]string{"content-type": {"application/cloudevents+json; charset=utf-8"}}})
		header := map[string][]string{"content-type": {"application/json"}}
		for name, value := range attributes {
			if text, ok := value.(string); ok && text != "" {
				header["ce-"+name] = []string{url.PathEscape(text)}
			}
		}
		binary, wrongToo := event.DecodeAccountRoleChanged(event.Message{Body: data, Header: header})
		if (wrong == nil) != (wrongToo == nil) && !strings.Contains(string(data), "\\") && utf8.Valid(data) {
			t.Fatalf("structured: %v\nbinary: %v", wrong, wrongToo)
		}
		if wrong == nil && wrongToo == nil && structured != binary {
			t.Fatalf("structured %+v\nbinary %+v", structured, binary)
		}
		for _, err := range []error{wrong, wrongToo} {
			if err != nil {
				refused(t, err)
			}
		}
	})
}
