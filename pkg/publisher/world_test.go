package publisher_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
	"handover.io/pkg/publisher"
)

const source = "//crm.example.com"

// connect is as an upstream service connects.
func connect(t testing.TB, s *bus.Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.URL(), nats.MaxReconnects(-1), nats.ReconnectWait(10*time.Millisecond),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// broker is one with the streams, and a connection to it.
func broker(t testing.TB) (*bus.Server, jetstream.JetStream) {
	t.Helper()
	s := testkit.NATSServer(t)
	testkit.ConnectNATS(t, s)
	return s, connect(t, s)
}

// database is an upstream's own, with the table of the outbox.
func database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	pool := testkit.Postgres(t)
	if err := publisher.EnsureTable(context.Background(), pool); err != nil {
		t.Fatal(err)
	}
	return pool
}

func change(account string) event.AccountRoleChanged {
	return event.AccountRoleChanged{
		TenantID: "demo", AccountID: account, Role: "success_manager", NewOwnerID: "u-2", Reason: event.ByAPI, InitiatedBy: "u-9",
	}
}

func changes(n int) []event.AccountRoleChanged {
	out := make([]event.AccountRoleChanged, n)
	for i := range out {
		out[i] = change(fmt.Sprintf("a-%d", i))
	}
	return out
}

// arrived are the changes on the stream, in its order. What can't be decoded fails the test.
func arrived(t testing.TB, js jetstream.JetStream) []event.AccountRoleChanged {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream, err := js.Stream(ctx, event.StreamRoleChanges)
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(ctx)
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(ctx, event.StreamRoleChanges, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	var out []event.AccountRoleChanged
	for left := int(info.State.Msgs); left > 0; left = int(info.State.Msgs) - len(out) {
		batch, err := consumer.Fetch(left, jetstream.FetchContext(ctx))
		if err != nil {
			t.Fatal(err)
		}
		for m := range batch.Messages() {
			c, err := event.DecodeAccountRoleChanged(event.Message{Subject: m.Subject(), Header: m.Headers(), Body: m.Data()})
			if err != nil {
				t.Fatal(err)
			}
			if id := m.Headers().Get(nats.MsgIdHdr); id != event.MessageID(c.TenantID, c.Source, c.ID) {
				t.Fatalf("message id %q", id)
			}
			out = append(out, c)
		}
		if err := batch.Error(); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// expectEachOnce fails unless the stream has one change of each of the accounts a-0 to a-(n-1).
func expectEachOnce(t testing.TB, js jetstream.JetStream, n int) {
	t.Helper()
	got := map[string]int{}
	for _, c := range arrived(t, js) {
		got[c.AccountID]++
	}
	for i := range n {
		if account := fmt.Sprintf("a-%d", i); got[account] != 1 {
			t.Errorf("%s is there %d times", account, got[account])
		}
	}
	if len(got) != n {
		t.Errorf("%d accounts, want %d", len(got), n)
	}
}

func waiting(t testing.TB, pool *pgxpool.Pool) int {
	t.Helper()
	return testkit.One[int](t, pool, `SELECT count(*) FROM handover_outbox`)
}

// enqueue commits the changes.
func enqueue(t testing.TB, p *publisher.Publisher, pool *pgxpool.Pool, changes ...event.AccountRoleChanged) {
	t.Helper()
	ctx := context.Background()
	if err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return p.EnqueueTx(ctx, tx, changes...) }); err != nil {
		t.Fatal(err)
	}
}

// interrupted is a real connection to the broker, with something happening after the nth message was stored, or at the
// first that was not.
type interrupted struct {
	jetstream.JetStream
	mu       sync.Mutex
	after    int
	do       func()
	onFailed func()
}

func (i *interrupted) PublishMsg(ctx context.Context, m *nats.Msg, options ...jetstream.PublishOpt) (*jetstream.PubAck, error) {
	ack, err := i.JetStream.PublishMsg(ctx, m, options...)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.after--; err == nil && i.after == 0 {
		i.do()
	}
	if err != nil && i.onFailed != nil {
		i.onFailed()
		i.onFailed = nil
	}
	return ack, err
}

// quiet is a logger for what a test causes on purpose.
func quiet() publisher.Option { return publisher.WithLogger(slog.New(slog.DiscardHandler)) }

// exampleT is the test of an example, which has none of its own.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (e *exampleT) Helper()                   {}
func (e *exampleT) Name() string              { return "Example" }
func (e *exampleT) Cleanup(f func())          { e.cleanups = append(e.cleanups, f) }
func (e *exampleT) Logf(string, ...any)       {}
func (e *exampleT) Log(...any)                {}
func (e *exampleT) Fatal(v ...any)            { panic(fmt.Sprint(v...)) }
func (e *exampleT) Fatalf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }
func (e *exampleT) Errorf(f string, v ...any) { panic(fmt.Sprintf(f, v...)) }

func (e *exampleT) TempDir() string {
	dir, err := os.MkdirTemp("", "handover-example-")
	if err != nil {
		panic(err)
	}
	e.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (e *exampleT) end() {
	for i := len(e.cleanups) - 1; i >= 0; i-- {
		e.cleanups[i]()
	}
}
