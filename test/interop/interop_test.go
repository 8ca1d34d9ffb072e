// Package interop_test has publishers in other languages, with the libraries that are usual there, and tests that what
// they publish is what we read.
package interop_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

func TestNodePublisher(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, file := range []string{"package.json", "package-lock.json", "publish.js"} {
		raw, err := os.ReadFile(filepath.Join("node", file))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// Nothing that is installed here may run by itself.
	run(t, dir, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error")

	server := testkit.NATSServer(t)
	testkit.ConnectNATS(t, server)
	out := run(t, dir, "node", "publish.js", server.URL())
	const said = `{"id":"structured-1","stream":"ROLE_CHANGES","seq":1,"duplicate":false}
{"id":"structured-1","stream":"ROLE_CHANGES","seq":1,"duplicate":true}
{"id":"binary 1, 100% \"café\"","stream":"ROLE_CHANGES","seq":2,"duplicate":false}
`
	if d := cmp.Diff(said, out); d != "" {
		t.Errorf("it said (-want +got):\n%s", d)
	}

	want := event.AccountRoleChanged{
		ID: "structured-1", Source: "//crm.example.com/node", Time: time.Date(2026, 3, 1, 9, 0, 0, 123_000_000, time.UTC),
		TenantID: "demo", AccountID: "a-1", Role: "success_manager", NewOwnerID: "u-2", Reason: event.ByAPI, InitiatedBy: "u-9",
	}
	other := want
	other.ID, other.AccountID, other.Role, other.Reason = `binary 1, 100% "café"`, "Ünïcode & 中😀", "sales_manager", event.ByProfile
	other.PreviousOwnerID, other.NewOwnerID = "u-1", ""
	messages := received(t, server.URL(), 2)
	for i, want := range []event.AccountRoleChanged{want, other} {
		got, err := event.DecodeAccountRoleChanged(messages[i])
		if err != nil {
			t.Errorf("message %d: %v\n%v\n%s", i+1, err, messages[i].Header, messages[i].Body)
		} else if d := cmp.Diff(want, got); d != "" {
			t.Errorf("message %d (-want +got):\n%s", i+1, d)
		}
	}
	if mode := messages[0].Get("content-type"); !strings.HasPrefix(mode, "application/cloudevents+json") {
		t.Errorf("the first has the content type %q", mode)
	}
	if messages[1].Get("ce-specversion") != "1.0" {
		t.Errorf("the second has the headers %v", messages[1].Header)
	}
}

// run fails the test with what to install when the program isn't there.
func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var out, problem bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &problem
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v (this test needs Node.js 20 or later with npm, and npm's registry or its cache; https://nodejs.org/en/download)\n%s%s",
			name, args[0], err, out.String(), problem.String())
	}
	return out.String()
}

// received are the first n messages on the stream.
func received(t *testing.T, url string, n int) []event.Message {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, event.StreamRoleChanges)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]event.Message, n)
	for i := range out {
		m, err := stream.GetMsg(ctx, uint64(i+1))
		if err != nil {
			t.Fatal(err)
		}
		out[i] = event.Message{Subject: m.Subject, Header: m.Header, Body: m.Data}
	}
	return out
}
