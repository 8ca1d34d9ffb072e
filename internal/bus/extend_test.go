package bus

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

func TestABatchInHandIsExtended(t *testing.T) {
	t.Parallel()
	s, err := StartServer(ServerOptions{Dir: t.TempDir(), Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	b, err := Connect(context.Background(), Options{URL: s.URL()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	answers, err := b.nc.SubscribeSync("answers")
	if err != nil {
		t.Fatal(err)
	}
	delivered, err := b.nc.SubscribeSync("messages")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.nc.PublishRequest("messages", "answers", nil); err != nil {
		t.Fatal(err)
	}
	m, err := delivered.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	stop := extend([]*nats.Msg{m}, time.Millisecond)
	for range 3 {
		answer, err := answers.NextMsg(10 * time.Second)
		if err != nil || string(answer.Data) != "+WPI" {
			t.Fatalf("got %v (%v)", answer, err)
		}
	}
	stop()
}
