// Package contract_test holds pkg/event, the files in schemas/ and other people's libraries to each other: whatever one of
// them accepts or refuses, the others do too.
package contract_test

import (
	"bytes"
	"encoding/json"
	"path"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"handover.io/pkg/event"
	"handover.io/schemas"
)

// schemaOf is the compiled JSON Schema of the data of events of this type.
func schemaOf(t testing.TB, eventType string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	s, err := c.Compile(addResource(t, c, schemas.FileOf(eventType)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func addResource(t testing.TB, c *jsonschema.Compiler, file string) string {
	t.Helper()
	raw, err := schemas.Files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc := parse(t, raw)
	id := doc.(map[string]any)["$id"].(string)
	if path.Base(id) != file {
		t.Fatalf("%s has the $id %s", file, id)
	}
	if err := c.AddResource(id, doc); err != nil {
		t.Fatal(err)
	}
	return id
}

type fataler interface{ Fatal(...any) }

func parse(t fataler, raw []byte) any {
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func write(t fataler, v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// envelope is a CloudEvent around data.
func envelope(t fataler, eventType string, data any) event.Message {
	return event.Message{Body: write(t, map[string]any{
		"specversion": "1.0", "type": eventType, "source": "//crm.example.com", "id": "4711", "time": "2026-03-01T09:00:00Z",
		"datacontenttype": "application/json", "data": data,
	})}
}

// decode is by pkg/event, whatever the type.
func decode(eventType string, m event.Message) (any, error) {
	if eventType == event.TypeTaskReassigned {
		return event.DecodeTaskReassigned(m)
	}
	return event.DecodeAccountRoleChanged(m)
}

var eventTypes = []string{event.TypeAccountRoleChanged, event.TypeTaskReassigned}
