package contract_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"

	"handover.io/internal/journal"
	"handover.io/pkg/event"
	"handover.io/schemas"
)

type asyncAPI struct {
	AsyncAPI string
	Channels map[string]struct {
		Address    string
		Parameters map[string]struct{ Enum []string }
		Messages   map[string]ref
		Stream     string `yaml:"x-stream"`
	}
	Operations map[string]struct {
		Action   string
		Channel  ref
		Bindings struct{ NATS struct{ Queue string } }
		Durable  string `yaml:"x-durable-consumer"`
	}
	Components struct {
		Messages map[string]struct {
			Name     string
			Headers  map[string]any
			Payload  map[string]any
			Examples []struct{ Payload any }
		}
	}
}

type ref struct {
	Ref string `yaml:"$ref"`
}

func readAsyncAPI(t *testing.T) (asyncAPI, map[string]any) {
	t.Helper()
	raw, err := schemas.Files.ReadFile("asyncapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var doc asyncAPI
	var all map[string]any
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	return doc, all
}

func TestAsyncAPINamesWhatTheCodeNames(t *testing.T) {
	t.Parallel()
	doc, _ := readAsyncAPI(t)
	streams := map[string]string{}
	for _, c := range doc.Channels {
		streams[c.Address] = c.Stream
	}
	want := map[string]string{
		event.SubjectRoleChanged("{tenant}"):        event.StreamRoleChanges,
		event.SubjectRoleBulk("{tenant}"):           event.StreamRoleChanges,
		event.SubjectTaskReassigned("{tenant}"):     event.StreamTaskReassignments,
		event.SubjectDead("{consumer}", "{tenant}"): event.StreamDeadLetters,
	}
	if d := cmp.Diff(want, streams); d != "" {
		t.Errorf("subjects and streams (-code +asyncapi):\n%s", d)
	}

	consumers := map[string]string{}
	for name, o := range doc.Operations {
		if (o.Action == "receive") != (o.Durable != "") || o.Durable != o.Bindings.NATS.Queue {
			t.Errorf("operation %s: %+v", name, o)
		}
		if o.Durable != "" {
			consumers[o.Durable] = o.Channel.Ref
		}
	}
	wantConsumers := map[string]string{
		event.ConsumerReassigner: "#/channels/roleChanged", event.ConsumerReassignerBulk: "#/channels/roleBulk",
		event.ConsumerNotifier: "#/channels/taskReassigned",
	}
	if d := cmp.Diff(wantConsumers, consumers); d != "" {
		t.Errorf("durable consumers (-code +asyncapi):\n%s", d)
	}
	dead := slices.Sorted(slices.Values(doc.Channels["deadLetters"].Parameters["consumer"].Enum))
	if d := cmp.Diff(slices.Sorted(maps.Keys(wantConsumers)), dead); d != "" {
		t.Errorf("consumers of dead letters (-code +asyncapi):\n%s", d)
	}

	var names []string
	for _, m := range doc.Components.Messages {
		names = append(names, m.Name)
	}
	if slices.Sort(names); !sameSet(slices.Compact(names), append(slices.Clone(eventTypes), "dead-letter")) {
		t.Errorf("messages: %v, in the code %v", names, eventTypes)
	}
	headers := doc.Components.Messages["DeadLetter"].Headers
	wantHeaders := []string{journal.HeaderReason, journal.HeaderDetail, journal.HeaderStream, journal.HeaderSequence, journal.HeaderSubject}
	if got := strs(headers["required"]); !sameSet(got, wantHeaders) {
		t.Errorf("headers of a dead letter: %v, in the code %v", got, wantHeaders)
	}
	properties := headers["properties"].(map[string]any)
	if got := slices.Collect(maps.Keys(properties)); !sameSet(got, wantHeaders) {
		t.Errorf("headers described of a dead letter: %v, in the code %v", got, wantHeaders)
	}
	if got, want := strs(properties[journal.HeaderReason].(map[string]any)["enum"]), reasons(t); !sameSet(got, want) {
		t.Errorf("reasons of a dead letter: %v, in the code %v", got, want)
	}
}

// reasons are the Reason constants of pkg/event, from its source: one that is added there must be added here.
func reasons(t *testing.T) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../pkg/event/message.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Reason") && len(v.Values) == 1 {
			s, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, s)
		}
		return true
	})
	return out
}

func TestAsyncAPIRefersOnlyToWhatIsThere(t *testing.T) {
	t.Parallel()
	_, all := readAsyncAPI(t)
	used := map[string]bool{}
	walk(all, func(name string, v any) {
		if name != "$ref" {
			return
		}
		target := v.(string)
		if file, ok := strings.CutPrefix(target, "./"); ok {
			used[file] = true
			if _, err := schemas.Files.ReadFile(file); err != nil {
				t.Errorf("%s: %v", target, err)
			}
			return
		}
		var at any = all
		for _, step := range strings.Split(strings.TrimPrefix(target, "#/"), "/") {
			m, _ := at.(map[string]any)
			if at = m[step]; at == nil {
				t.Errorf("%s doesn't exist", target)
				return
			}
		}
	})
	for _, eventType := range eventTypes {
		if !used[schemas.FileOf(eventType)] {
			t.Errorf("%s is not referred to", schemas.FileOf(eventType))
		}
	}
}

// What AsyncAPI says of a whole message is true of what we write, and its examples decode.
func TestAsyncAPIDescribesWholeMessages(t *testing.T) {
	t.Parallel()
	doc, all := readAsyncAPI(t)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	// The document's own URL is beside those of the schemas, so that its relative references find them.
	const url = "https://handover.io/schemas/asyncapi.json"
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.AddResource(url, parse(t, raw)); err != nil {
		t.Fatal(err)
	}
	for _, eventType := range eventTypes {
		addResource(t, c, schemas.FileOf(eventType))
	}
	for _, name := range []string{"AccountRoleChanged", "TaskReassigned"} {
		schema, err := c.Compile(url + "#/components/messages/" + name + "/payload")
		if err != nil {
			t.Fatal(err)
		}
		m := doc.Components.Messages[name]
		if len(m.Examples) == 0 {
			t.Errorf("%s has no example", name)
		}
		for _, e := range m.Examples {
			body := write(t, e.Payload)
			if err := schema.Validate(parse(t, body)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			decoded, err := decode(m.Name, event.Message{Body: body})
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			var again []event.Message
			switch d := decoded.(type) {
			case event.AccountRoleChanged:
				m, err := d.Message("")
				again = []event.Message{m}
				if err != nil {
					t.Error(err)
				}
			case event.TaskReassigned:
				again = d.Messages(func() string { return d.ID })
			}
			if d := cmp.Diff(parse(t, body), parse(t, again[0].Body)); d != "" {
				t.Errorf("%s: the example is not as we write it (-example +ours):\n%s", name, d)
			}
			if err := schema.Validate(parse(t, again[0].Body)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func strs(v any) []string {
	list, _ := v.([]any)
	out := make([]string, len(list))
	for i, s := range list {
		out[i], _ = s.(string)
	}
	return out
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
