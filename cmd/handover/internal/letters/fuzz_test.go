package letters

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"
	"unicode"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

func visible(t *testing.T, text string) {
	t.Helper()
	for _, r := range text {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%U in %q", r, text)
		}
	}
}

// Nothing that a message holds controls a terminal, and what is exported is the same event when it was one.
func FuzzLetter(f *testing.F) {
	const good = `{"specversion":"1.0","id":"1","source":"//crm","type":"io.handover.account.role.changed.v1","time":"2026-01-01T00:00:00Z","data":{"tenant_id":"demo","account_id":"a","role":"r","new_owner_id":"b","reason":"api","initiated_by":"u"}}`
	f.Add("Content-Type", "application/cloudevents+json", "ce-id", "", []byte(good), "invalid: x")
	f.Add("ce-specversion", "1.0", "Ce-Id", "a%20b", []byte(`{"tenant_id":"demo"}`), "\x1b[31m")
	f.Add("ce-specversion", "1.0", "ce-DATA", "x", []byte("\xff"), "\u202e")
	f.Add("x", "\u009b2J", "deadletter", "1", []byte(`{"specversion":"1.0","deadletter":"x","specversion":"1.0","\u202e":"`+"\u202e\U000e0001"+`"}`), "")
	f.Add("", "", "", "", []byte("{\"a\":\t1,\r\n \"b\" : [] }"), "\xff")
	f.Fuzz(func(t *testing.T, name1, value1, name2, value2 string, body []byte, detail string) {
		l := journal.Letter{
			Key: 17, State: journal.Dead, TenantID: value1, Consumer: "reassigner", Reason: "invalid", Detail: detail, Stream: event.StreamRoleChanges, Subject: "handover.role.changed." + value2,
			Tries: 1, CreatedAt: time.Unix(1e9, 0), UpdatedAt: time.Unix(1e9, 0), Header: map[string][]string{name1: {value1}, name2: {value2}}, Body: body,
		}
		var shown bytes.Buffer
		Show(&shown, l, time.Unix(2e9, 0))
		Table(&shown, []journal.Letter{l}, time.Unix(2e9, 0), "WHY", Detail)
		visible(t, shown.String())
		for _, v := range []any{l, FullOf(l)} {
			line, err := safe.Line(v)
			if err != nil || bytes.Count(line, []byte("\n")) != 1 {
				t.Fatalf("%q, %v", line, err)
			}
			visible(t, string(line))
		}
		exported, err := Export(l)
		if err != nil || !json.Valid(exported) || bytes.Count(exported, []byte("\n")) != 1 {
			t.Fatalf("exported %q, %v", exported, err)
		}
		visible(t, string(exported))
		var why struct {
			Key string `json:"deadletter"`
		}
		if err := json.Unmarshal(exported, &why); err != nil || why.Key != "17" {
			t.Fatalf("exported %q, %v", exported, err)
		}
		l.Subject = ""
		was, wasErr := event.DecodeAccountRoleChanged(l.Message())
		is, isErr := event.DecodeAccountRoleChanged(event.Message{Body: exported})
		if wasErr == nil && (isErr != nil || !reflect.DeepEqual(was, is)) {
			t.Fatalf("%q\nis %+v\nexported as %s\nis %+v, %v", body, was, exported, is, isErr)
		}
	})
}

// Safe JSON says what the JSON said.
func FuzzSafeJSON(f *testing.F) {
	for _, seed := range []string{`{"a":"` + "\u202e\U000e0001\u00a0\ufffd" + `"}`, `"\ud800"`, "[1,\t2]\r\n", `"\u0000"`, "\"\x7f\""} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var was, is any
		if json.Unmarshal(text, &was) != nil {
			return
		}
		safe := safe.JSON(text)
		visible(t, string(safe))
		if err := json.Unmarshal(safe, &is); err != nil || !reflect.DeepEqual(was, is) {
			t.Fatalf("%q became %q: %v", text, safe, err)
		}
	})
}
