package bus_test

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// jetStream is the broker as an operator with other tools sees it.
func jetStream(t testing.TB, s *bus.Server) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(s.URL())
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

func deleteStream(t testing.TB, s *bus.Server, name string) {
	t.Helper()
	if err := jetStream(t, s).DeleteStream(context.Background(), name); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyOneProcessHoldsAFolder(t *testing.T) {
	t.Parallel()
	first := testkit.NATSServer(t)
	_, err := bus.StartServer(bus.ServerOptions{Dir: first.Dir(), Addr: "127.0.0.1:0"})
	if err == nil || !strings.Contains(err.Error(), "is in use by another process") {
		t.Errorf("got %v", err)
	}
}

func TestATakenAddressIsSaid(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for addr, says := range map[string]string{l.Addr().String(): "address already in use", "nonsense": "is not host:port"} {
		s, err := bus.StartServer(bus.ServerOptions{Dir: t.TempDir(), Addr: addr})
		if err == nil {
			s.Close()
			t.Fatal("it started")
		}
		if !strings.Contains(err.Error(), says) {
			t.Errorf("got %v", err)
		}
	}
}

func TestTheServerKeepsItsStreamsAndItsURL(t *testing.T) {
	t.Parallel()
	s := testkit.NATSServer(t)
	b := testkit.ConnectNATS(t, s)
	before := created(t, b, event.StreamRoleChanges)
	publish(t, b, messages(10, event.SubjectRoleChanged, "m"))
	again := testkit.RestartNATS(t, s)
	if s.URL() != again.URL() {
		t.Errorf("got %s, before it was %s", again.URL(), s.URL())
	}
	after, last, err := testkit.ConnectNATS(t, again).StreamCreated(context.Background(), event.StreamRoleChanges)
	if err != nil || !after.Equal(before) || last != 10 {
		t.Errorf("got %v and %d (%v), before it was %v", after, last, err, before)
	}
	info, err := os.Stat(filepath.Join(s.Dir(), "password"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the password: %v %v", info.Mode(), err)
	}
	if nc, err := nats.Connect("nats://" + again.Addr()); err == nil {
		nc.Close()
		t.Error("anybody comes in without a password")
	}
}

func TestAnInProcessConnectionWorks(t *testing.T) {
	t.Parallel()
	b, err := bus.Connect(context.Background(), bus.Options{InProcess: testkit.NATSServer(t), Logger: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.EnsureStreams(context.Background(), bus.Limits{}); err != nil {
		t.Fatal(err)
	}
	publish(t, b, messages(20, event.SubjectRoleChanged, "m"))
}

func TestARefusedPasswordIsNotTheEnd(t *testing.T) {
	t.Parallel()
	s := testkit.NATSServer(t)
	b := testkit.ConnectNATS(t, s)
	s.Close()
	refused, stop := context.WithCancel(context.Background())
	other, err := bus.StartServer(bus.ServerOptions{Dir: t.TempDir(), Addr: s.Addr(), Logger: zap.New(zapcore.NewCore(
		zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zapcore.ErrorLevel,
	), zap.Hooks(func(zapcore.Entry) error { // the only thing that it has to complain of
		stop()
		return nil
	}))})
	if err != nil {
		t.Fatal(err)
	}
	<-refused.Done()
	other.Close()
	testkit.RestartNATS(t, s)
	testkit.Eventually(t, "it is connected again", func() (bool, string) { return b.Connected(), "it is not" })
}

func TestTheBrokerIsWaitedFor(t *testing.T) {
	t.Parallel()
	s := testkit.NATSServer(t)
	s.Close()
	b, err := bus.Connect(context.Background(), bus.Options{URL: s.URL(), Logger: testkit.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	soon, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := b.EnsureStreams(soon, bus.Limits{}); err == nil || b.Connected() {
		t.Error("the streams were made without a broker")
	}
	done := make(chan error, 1)
	go func() { done <- b.EnsureStreams(context.Background(), bus.Limits{}) }()
	testkit.RestartNATS(t, s)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, url := range []string{"", "nats://%zz"} {
		if _, err := bus.Connect(context.Background(), bus.Options{URL: url}); err == nil {
			t.Errorf("connected to %q", url)
		}
	}
}
