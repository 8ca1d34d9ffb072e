package contract_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"handover.io/internal/testkit/arbitrary"
	"handover.io/pkg/event"
	"handover.io/schemas"
)

// written is the body of any event that our code can produce.
func written(t *rapid.T, eventType string) event.Message {
	if eventType == event.TypeAccountRoleChanged {
		c := arbitrary.RoleChanged().Draw(t, "change")
		m, err := c.Message(event.SubjectRoleChanged(c.TenantID))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	r := arbitrary.Reassigned(1, 5).Draw(t, "announcement")
	return r.Messages(func() string { return r.ID })[0]
}

func TestWhatWeWriteSatisfiesItsSchema(t *testing.T) {
	t.Parallel()
	for _, eventType := range eventTypes {
		t.Run(eventType, func(t *testing.T) {
			t.Parallel()
			schema := schemaOf(t, eventType)
			rapid.Check(t, func(t *rapid.T) {
				m := written(t, eventType)
				if err := schema.Validate(parse(t, m.Body).(map[string]any)["data"]); err != nil {
					t.Fatalf("%v\n%s", err, m.Body)
				}
			})
		})
	}
}

func TestExamplesOfTheSchemasSatisfyThemAndDecode(t *testing.T) {
	t.Parallel()
	for _, eventType := range eventTypes {
		schema := schemaOf(t, eventType)
		raw, _ := schemas.Files.ReadFile(schemas.FileOf(eventType))
		examples := parse(t, raw).(map[string]any)["examples"].([]any)
		if len(examples) < 2 {
			t.Errorf("%s has %d examples", eventType, len(examples))
		}
		for i, data := range examples {
			if err := schema.Validate(data); err != nil {
				t.Errorf("%s, example %d: %v", eventType, i, err)
			}
			if _, err := decode(eventType, envelope(t, eventType, data)); err != nil {
				t.Errorf("%s, example %d: %v", eventType, i, err)
			}
		}
	}
}

// Mutated data is accepted by the schema and by the decoder, or refused by both.
func TestSchemaAndDecoderAgree(t *testing.T) {
	t.Parallel()
	for _, eventType := range eventTypes {
		t.Run(eventType, func(t *testing.T) {
			t.Parallel()
			schema := schemaOf(t, eventType)
			var accepted, refused int
			rapid.Check(t, func(t *rapid.T) {
				data := parse(t, written(t, eventType).Body).(map[string]any)["data"]
				for range rapid.IntRange(1, 3).Draw(t, "mutations") {
					data = mutate(t, data)
				}
				bySchema := schema.Validate(data)
				_, byDecoder := decode(eventType, envelope(t, eventType, data))
				if (bySchema == nil) != (byDecoder == nil) {
					t.Fatalf("schema: %v\ndecoder: %v\n%.2000s", bySchema, byDecoder, write(t, data))
				}
				if bySchema == nil {
					accepted++
				} else {
					refused++
				}
			})
			t.Logf("both accepted %d and refused %d", accepted, refused)
		})
	}
}

// What every member is tried with.
var values = []any{
	nil, true, false, "", "x", " ", ".", "..", "\x00", "\x1f", "\u0085", "\u00a0", "line\nbreak", "Demo", "-demo", "demo", strings.Repeat("d", 63), strings.Repeat("d", 64),
	strings.Repeat("é", 128), strings.Repeat("é", 129), strings.Repeat("\U0001f600", 500), strings.Repeat("x", 501),
	strings.Repeat("x", 512), strings.Repeat("é", 513), strings.Repeat("x", 2000), strings.Repeat("é", 2001),
	"api", "user_disabled", "assigned", "synced", "keep_tasks", "move_all_tasks", "KEEP_TASKS",
	json.Number("0"), json.Number("1"), json.Number("-1"), json.Number("1.0"), json.Number("1e2"), json.Number("1.5"),
	json.Number("9007199254740991"), json.Number("9007199254740992"), json.Number("1e400"), json.Number("-0"),
	"2026-03-01T09:00:00Z", "2026-03-01T09:00:00.123456789+05:30", "2026-03-01t09:00:00z", "2026-03-01 09:00:00Z", "2026-03-01T9:00:00Z",
	"2026-02-30T00:00:00Z", "2026-03-01T24:00:00Z", "2026-03-01T23:59:60Z", "2026-03-01T09:00:00+24:00", "2026-03-01T09:00:00,5Z",
	"2026-03-01T09:00:00", "1969-06-01T00:00:00Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "2026-03-01",
	[]any{}, []any{"x"}, map[string]any{}, map[string]any{"id": "t", "revision": json.Number("1"), "title": "", "source": "manual"},
	map[string]any{"source": "/", "id": "1", "occurred_at": "2026-03-01T09:00:00Z"},
}

// mutate changes one thing somewhere in data.
func mutate(t *rapid.T, data any) any {
	switch v := data.(type) {
	case map[string]any:
		names := slices.Sorted(maps.Keys(v))
		if len(names) == 0 {
			return rapid.SampledFrom(values).Draw(t, "in place of {}")
		}
		name := rapid.SampledFrom(names).Draw(t, "member")
		out := maps.Clone(v)
		switch rapid.IntRange(0, 5).Draw(t, "what") {
		case 0:
			delete(out, name)
		case 1:
			out[strings.ToUpper(name)] = out[name]
			delete(out, name)
		case 2:
			all := []string{"role", "previous_owner_id", "operation_id", "tasks", "policy", "role_change", "due_at", "url", "priority", "more"}
			out[rapid.SampledFrom(all).Draw(t, "new member")] = rapid.SampledFrom(values).Draw(t, "value")
		case 3:
			out[name] = mutate(t, out[name])
		default:
			out[name] = rapid.SampledFrom(values).Draw(t, "value")
		}
		return out
	case []any:
		out := slices.Clone(v)
		switch n := rapid.IntRange(0, 3).Draw(t, "what"); {
		case n == 0 || len(out) == 0:
			return append(out, rapid.SampledFrom(values).Draw(t, "element"))
		case n == 1:
			for len(out) < rapid.SampledFrom([]int{256, 257}).Draw(t, "length") {
				out = append(out, map[string]any{"id": fmt.Sprint(len(out)), "revision": json.Number("1"), "title": "x", "source": "manual"})
			}
			return out
		default:
			i := rapid.IntRange(0, len(out)-1).Draw(t, "element")
			out[i] = mutate(t, out[i])
			return out
		}
	default:
		return rapid.SampledFrom(values).Draw(t, "value")
	}
}

func TestSchemasAreSchemasThatOthersCanUse(t *testing.T) {
	t.Parallel()
	for _, eventType := range eventTypes {
		c := jsonschema.NewCompiler()
		addResource(t, c, schemas.FileOf(eventType))
		// Patterns must mean the same in Go and in ECMAScript, which most other validators have.
		raw, _ := schemas.Files.ReadFile(schemas.FileOf(eventType))
		walk(parse(t, raw), func(name string, v any) {
			if s, ok := v.(string); ok && name == "pattern" && (strings.Contains(s, `\x{`) || strings.Contains(s, `(?`) || strings.Contains(s, `\u`)) {
				t.Errorf("%s: the pattern %s is not portable", eventType, s)
			}
		})
	}
}

// walk visits every member of every object.
func walk(v any, visit func(name string, value any)) {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			visit(name, value)
			walk(value, visit)
		}
	case []any:
		for _, value := range v {
			walk(value, visit)
		}
	}
}
