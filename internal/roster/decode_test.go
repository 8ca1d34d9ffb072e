package roster_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/roster"
)

func TestDecodeTask(t *testing.T) {
	t.Parallel()
	got, err := roster.DecodeTask([]byte(` {"id":"t\u002d1" , "account_id":"a/b c","title":"\"x\"\\","assignee_id":null,"status":"completed","source":null,
		"role":"sales_manager","priority":"","url":"https://x.example/?q={}","due_at":null,"created_at":"2026-03-01T10:00:00.123456789+01:00"} `))
	if err != nil {
		t.Fatal(err)
	}
	created := time.Date(2026, 3, 1, 9, 0, 0, 123456000, time.UTC)
	text := func(s string) roster.Maybe[string] { return roster.Maybe[string]{Given: true, Value: s} }
	want := roster.TaskSaid{
		ID: "t-1", AccountID: text("a/b c"), Title: text(`"x"\`), AssigneeID: text(""), Status: text("completed"), Source: text("manual"), Role: text("sales_manager"),
		Priority: text(""), URL: text("https://x.example/?q={}"), DueAt: roster.Maybe[*time.Time]{Given: true}, CreatedAt: roster.Maybe[*time.Time]{Given: true, Value: &created},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestWhatCanNotBeDecodedNamesTheField(t *testing.T) {
	t.Parallel()
	user := func(b []byte) error { _, err := roster.DecodeUser(b); return err }
	account := func(b []byte) error { _, err := roster.DecodeAccount(b); return err }
	task := func(b []byte) error { _, err := roster.DecodeTask(b); return err }
	filter := func(b []byte) error { _, err := roster.DecodeFilter(b); return err }
	long := strings.Repeat("é", 501)
	for _, c := range []struct {
		decode      func([]byte) error
		row, field  string
		remedyParts string
	}{
		{user, ``, "", "is not JSON"},
		{user, `{"id": "u"`, "", "is not JSON"},
		{user, `{"id": "u"} {}`, "", "is not JSON"},
		{user, `[]`, "", "must be a JSON object"},
		{user, `null`, "", "must be a JSON object"},
		{user, "{\"id\": \"\xff\"}", "", "is not valid UTF-8"},
		{user, `{"ID": "u"}`, "ID", "is no field of a user"},
		{user, `{"id": "u", "id": "v"}`, "id", "is given twice"},
		{user, `{"id": 7}`, "id", "must be a string, not a number"},
		{user, `{"id": ""}`, "id", "is empty"},
		{user, `{"id": "a\u0000"}`, "id", "NUL"},
		{user, `{"id": "a\nb"}`, "id", "control character"},
		{user, `{"name": null}`, "name", "can't be emptied"},
		{user, `{"name": ""}`, "name", "must be 1 to 500 characters, not 0"},
		{user, `{"name": "` + long + `"}`, "name", "not 501"},
		{user, `{"name": "a\u0000b"}`, "name", "NUL"},
		{user, `{"email": "Ann <ann@example.com>"}`, "email", "plain e-mail address"},
		{user, `{"email": "ann@example.com\r\nBcc: all@example.com"}`, "email", "plain e-mail address"},
		{user, `{"time_zone": "Mars/Olympus"}`, "time_zone", "IANA"},
		{user, `{"time_zone": "Local"}`, "time_zone", "IANA"},
		{user, `{"time_zone": ""}`, "time_zone", "IANA"},
		{user, `{"time_zone": "../etc/passwd"}`, "time_zone", "IANA"},
		{user, `{"status": "gone"}`, "status", "must be one of active, disabled, deleted"},
		{user, `{"status": null}`, "status", "can't be emptied"},
		{user, `{"notices": "yes"}`, "notices", "must be true or false, not a string"},
		{account, `{"attributes": []}`, "attributes", "must be an object, not an array"},
		{account, `{"attributes": {"x": "` + strings.Repeat("x", 65536) + `"}}`, "attributes", "must be at most 65536 bytes"},
		{account, `{"attributes": {"x": "a\u0000"}}`, "attributes", "NUL"},
		{account, `{"attributes": {"a\u0000": 1}}`, "attributes", "NUL"},
		{account, `{"attributes": {"x": 1e999}}`, "attributes", "number"},
		{account, `{"attributes": {"x": [0e-99999]}}`, "attributes", "number"},
		{account, `{"attributes": {"x": ` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}}`, "attributes", "nested deeper"},
		{account, `{"roles": null}`, "roles", "must be an object"},
		{account, `{"roles": {"Boss": "ann"}}`, "roles.Boss", "[a-z][a-z0-9_]{0,62}"},
		{account, `{"roles": {"boss": ["ann"]}}`, "roles.boss", "must be a string, not an array"},
		{account, `{"roles": {"boss": ""}}`, "roles.boss", "is empty"},
		{task, `{"account_id": null}`, "account_id", "must be a string, not null"},
		{task, `{"title": "` + long + `"}`, "title", "must be 1 to 500 characters, not 501"},
		{task, `{"url": "javascript:alert(1)"}`, "url", "http or https"},
		{task, `{"url": "/relative"}`, "url", "http or https"},
		{task, `{"url": "https://x.example/` + strings.Repeat("x", 2000) + `"}`, "url", "must be 0 to 2000"},
		{task, `{"priority": "` + strings.Repeat("x", 41) + `"}`, "priority", "not 41"},
		{task, `{"source": ""}`, "source", "null means manual"},
		{task, `{"role": "9"}`, "role", "must match"},
		{task, `{"status": "done"}`, "status", "open, in_progress, completed, cancelled"},
		{task, `{"due_at": "tomorrow"}`, "due_at", "RFC 3339"},
		{task, `{"due_at": 1767225600}`, "due_at", "must be a string, not a number"},
		{task, `{"due_at": "1969-12-31T23:59:59Z"}`, "due_at", "between the years 1970 and 9999"},
		{task, `{"due_at": "9999-12-31T23:59:59-01:00"}`, "due_at", "between the years 1970 and 9999"},
		{task, `{"assigned_at": "2026-03-01T09:00:00Z"}`, "assigned_at", "give both or neither"},
		{task, `{"revision": 5}`, "revision", "is no field of a task"},
		{filter, `{"attributes": 1}`, "filter.attributes", "must be an object"},
		{filter, `{"owner": "ann"}`, "filter.owner", "is no field of a filter"},
		{filter, `{"role": "'; DROP"}`, "filter.role", "must match"},
	} {
		err := c.decode([]byte(c.row))
		var invalid *roster.Invalid
		if !errors.As(err, &invalid) || invalid.Field != c.field || !strings.Contains(invalid.Remedy, c.remedyParts) {
			t.Errorf("%.80s: %v", c.row, err)
		}
	}
}

func TestTheIDOfThePathAndOfTheBodyAgree(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{`{}`: "u", `{"id": "u"}`: "u", `{"id": "v"}`: ""} {
		said, err := roster.DecodeUser([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if said, err = said.At("u"); (err == nil) != (want != "") || (err == nil && said.ID != want) {
			t.Errorf("%s: %v, %v", body, said.ID, err)
		}
	}
}

// Whatever arrives, decoding ends with a row that PostgreSQL can keep, or with an Invalid.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"id":"t","title":"x","attributes":{"a":[1,{"b":null}]},"roles":{"boss":"ann"}}`, `{"a":"\ud800","b":"\"}{"}`, `{ "due_at" : "2026-03-01T09:00:00Z" , "x":[]}`, `{"":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, row []byte) {
		a, err := roster.DecodeAccount(row)
		var invalid *roster.Invalid
		if err != nil && !errors.As(err, &invalid) {
			t.Fatal(err)
		}
		if err == nil && a.Attributes.Given && !json.Valid(a.Attributes.Value) {
			t.Fatalf("%s", a.Attributes.Value)
		}
		// Every field that encoding/json sees is seen here, by the same name.
		var fields map[string]json.RawMessage
		if err == nil && json.Unmarshal(row, &fields) == nil && len(fields) > 0 {
			_, named := fields["name"]
			if named != a.Name.Given {
				t.Fatalf("%s: name given %v", row, a.Name.Given)
			}
		}
		if _, err := roster.DecodeTask(row); err != nil && !errors.As(err, &invalid) {
			t.Fatal(err)
		}
	})
}
