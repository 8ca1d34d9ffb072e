package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/testkit"
)

// lineWriter calls after when it has got so many lines.
type lineWriter struct {
	bytes.Buffer
	many  int
	after func()
}

func (l *lineWriter) Write(p []byte) (int, error) {
	n, err := l.Buffer.Write(p)
	if bytes.Count(l.Bytes(), []byte("\n")) >= l.many {
		l.after()
	}
	return n, err
}

// TestStatusWatch: one JSON line each time, until it is stopped; the exit code is by the last look, here at a database
// that is there and a broker that isn't.
func TestStatusWatch(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	environ := []string{"HANDOVER_DATA_DIR=" + t.TempDir(), "HANDOVER_DATABASE_URL=" + pool.Config().ConnString(), "HANDOVER_NATS_URL=nats://127.0.0.1:1"}
	ctx, cancel := context.WithCancel(t.Context())
	out := &lineWriter{many: 3, after: cancel}
	var said bytes.Buffer
	code := Main(ctx, []string{"status", "--json", "--watch", "--every", "100ms"}, environ, nil, out, &said)
	if code != 1 || said.Len() > 0 {
		t.Errorf("exit %d, %s", code, &said)
	}
	seen := 0
	for line := range strings.Lines(out.String()) {
		var s struct {
			Database, Broker struct{ Answers bool }
			Attention        []string
			Work             []struct {
				Part string
				Lag  *float64 `json:"lag_seconds"`
			}
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if !s.Database.Answers || s.Broker.Answers || len(s.Attention) != 1 || len(s.Work) != 3 || s.Work[0].Lag == nil {
			t.Errorf("got %s", line)
		}
		seen++
	}
	if seen != 3 {
		t.Errorf("%d lines", seen)
	}
	if code := Main(t.Context(), []string{"status", "--watch", "--every", "1ms"}, environ, nil, out, &said); code != 2 || !strings.Contains(said.String(), "--every: is 1ms; must be at least 100ms") {
		t.Errorf("every millisecond: exit %d, %s", code, &said)
	}
}

func TestInPlace(t *testing.T) {
	t.Parallel()
	got := string(inPlace("Needs attention:\n  - the relay is behind by two minutes\n\nPART WAITING AT WORK LAG AND SO ON\nrelay\nbelow\n", 24, 6))
	want := "\x1b[HNeeds attention:\x1b[K\r\n  - the relay is behind\x1b[K\r\n    by two minutes\x1b[K\r\n\x1b[K\r\nPART WAITING AT WORK LA…\x1b[K\r\nrelay\x1b[K\x1b[J"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
