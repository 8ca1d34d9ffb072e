package bus_test

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"handover.io/internal/bus"
	"handover.io/pkg/event"
)

// A cluster that elects a leader has nobody who hears a question. The next leader answers only what it is asked itself, so
// waiting for the first answer is in vain.
func TestAQuestionThatNobodyHeardIsAskedAgain(t *testing.T) {
	t.Parallel()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	defer s.Shutdown()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker is not ready")
	}
	nc, err := nats.Connect(s.ClientURL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	asked := atomic.Int32{}
	born := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	if _, err := nc.Subscribe("$JS.API.STREAM.INFO."+event.StreamRoleChanges, func(m *nats.Msg) {
		if asked.Add(1) == 1 {
			return // by the leader that has just died
		}
		b, err := json.Marshal(jetstream.StreamInfo{Created: born, State: jetstream.StreamState{LastSeq: 7}})
		if err == nil {
			err = m.Respond(b)
		}
		if err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	b, err := bus.Connect(t.Context(), bus.Options{URL: s.ClientURL(), Name: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	at, last, err := b.StreamCreated(context.Background(), event.StreamRoleChanges)
	if err != nil || !at.Equal(born) || last != 7 || asked.Load() != 2 {
		t.Errorf("asked %d times: %v %d %v", asked.Load(), at, last, err)
	}
}
