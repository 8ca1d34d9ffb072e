package testkit

import (
	"context"
	"testing"
	"time"

	"handover.io/internal/bus"
)

// NATSServer starts a broker of the test's own on a free port of this machine, without durability against power
// failures. It ends with the test; until then the test may close it and have it back with RestartNATS.
func NATSServer(t testing.TB) *bus.Server {
	t.Helper()
	return startNATS(t, t.TempDir(), "127.0.0.1:0")
}

// RestartNATS ends the broker, if the test has not, and starts it again: same address, same credentials, same streams.
func RestartNATS(t testing.TB, s *bus.Server) *bus.Server {
	t.Helper()
	s.Close()
	return startNATS(t, s.Dir(), s.Addr())
}

func startNATS(t testing.TB, dir, addr string) *bus.Server {
	t.Helper()
	s, err := bus.StartServer(bus.ServerOptions{Dir: dir, Addr: addr, Logger: Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// NATS returns a connection to a broker of the test's own, with the streams.
func NATS(t testing.TB) *bus.Bus {
	t.Helper()
	return ConnectNATS(t, NATSServer(t))
}

// ConnectNATS returns a connection to the broker, with the streams, closed when the test ends.
func ConnectNATS(t testing.TB, s *bus.Server) *bus.Bus {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	b, err := bus.Connect(ctx, bus.Options{URL: s.URL(), Name: t.Name(), Logger: Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.EnsureStreams(ctx, bus.Limits{}); err != nil {
		t.Fatal(err)
	}
	return b
}
