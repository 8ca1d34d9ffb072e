package contract_test

import (
	"encoding/json"
	"strings"
	"testing"

	sdk "github.com/cloudevents/sdk-go/v2/event"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"handover.io/internal/testkit/arbitrary"
	"handover.io/pkg/event"
)

// What we write is a CloudEvent to the SDK that others use.
func TestSDKReadsWhatWeWrite(t *testing.T) {
	t.Parallel()
	for _, eventType := range eventTypes {
		rapid.Check(t, func(t *rapid.T) {
			m := written(t, eventType)
			var e sdk.Event
			if err := json.Unmarshal(m.Body, &e); err != nil {
				t.Fatal(err)
			}
			if err := e.Validate(); err != nil {
				t.Fatal(err)
			}
			var raw struct{ ID string }
			_ = json.Unmarshal(m.Body, &raw)
			if e.Type() != eventType || e.ID() != raw.ID || e.DataMediaType() != "application/json" {
				t.Fatalf("%v", e)
			}
			if d := cmp.Diff(parse(t, m.Body).(map[string]any)["data"], parse(t, e.Data())); d != "" {
				t.Fatal(d)
			}
		})
	}
}

// What others write with that SDK is what we read; the SDK itself rewrites a source, and trims an id.
func TestWhatTheSDKWritesIsRead(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := arbitrary.RoleChanged().Draw(t, "change")
		c.Source, c.ID = "//crm.example.com/eu", "x"+strings.TrimSpace(c.ID)
		m, err := c.Message("")
		if err != nil {
			t.Fatal(err)
		}
		e := sdk.New()
		e.SetID(c.ID)
		e.SetSource(c.Source)
		e.SetType(event.TypeAccountRoleChanged)
		e.SetTime(c.Time)
		for name, value := range map[string]string{"sequence": c.Sequence, "traceparent": c.Traceparent} {
			if value != "" {
				e.SetExtension(name, value)
			}
		}
		if err := e.SetData("application/json", parse(t, m.Body).(map[string]any)["data"]); err != nil {
			t.Fatal(err)
		}
		if rapid.Bool().Draw(t, "in base64") {
			e.DataBase64 = true
		}
		got, err := event.DecodeAccountRoleChanged(event.Message{Body: write(t, e)})
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(c, got); d != "" {
			t.Fatalf("(-written +read):\n%s", d)
		}
	})
}
