package contract_test

import (
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// A sample is a message as it was once published. Samples are added with every version of an event, and never changed:
// streams, dead letters and outboxes of customers still hold such messages. What a sample means must not change either,
// nor the digests, which the tables keep.
func TestEveryEventEverPublishedMeansWhatItMeant(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/samples/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples: %v", err)
	}
	seen := map[string]bool{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var sample struct {
			Subject string
			Header  map[string][]string
			Body    json.RawMessage
		}
		if err := json.Unmarshal(raw, &sample); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		m := event.Message{Subject: sample.Subject, Header: sample.Header, Body: sample.Body}
		eventType := event.Type(m)
		seen[eventType] = true
		meaning := struct {
			Event           any
			Digest, Content string `json:",omitempty"`
		}{}
		if meaning.Event, err = decode(eventType, m); err != nil {
			t.Errorf("%s no longer decodes: %v", file, err)
			continue
		}
		if c, ok := meaning.Event.(event.AccountRoleChanged); ok {
			digest, content := c.Digest(), c.Content()
			meaning.Digest, meaning.Content = hex.EncodeToString(digest[:]), hex.EncodeToString(content[:])
		}
		golden, err := json.MarshalIndent(meaning, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		testkit.Golden(t, "meanings/"+strings.TrimSuffix(filepath.Base(file), ".json")+".golden", append(golden, '\n'))
	}
	for _, eventType := range eventTypes {
		if !seen[eventType] {
			t.Errorf("there is no sample of %s", eventType)
		}
	}
}
