package bus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// A stream that has lost its end, in the middle of which its consumer is: what comes then must not count as read.
func TestAConsumerPastTheEndOfItsStreamMissesNothing(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ before, lost, after int }{{100, 50, 30}, {100, 50, 200}, {0, 60, 40}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			t.Parallel()
			server := testkit.NATSServer(t)
			b := testkit.ConnectNATS(t, server)
			var got seen
			stop := consume(t, b, live, func(_ context.Context, batch []event.Message) error {
				got.add(batch)
				return nil
			})
			publish(t, b, messages(c.before, event.SubjectRoleChanged, "before"))
			settled(t, b)
			messagesOf := filepath.Join(server.Dir(), "jetstream", "$G", "streams", event.StreamRoleChanges, "msgs")
			copied := filepath.Join(t.TempDir(), "msgs")
			server.Close()
			testkit.Eventually(t, "disconnected", func() (bool, string) { return !b.Connected(), "" })
			if err := os.CopyFS(copied, os.DirFS(messagesOf)); err != nil {
				t.Fatal(err)
			}
			server = testkit.RestartNATS(t, server)
			testkit.Eventually(t, "connected", func() (bool, string) { return b.Connected(), "" })
			publish(t, b, messages(c.lost, event.SubjectRoleChanged, "lost"))
			settled(t, b)
			testkit.Eventually(t, "all read", func() (bool, string) { return got.count() == c.before+c.lost, fmt.Sprint(got.count()) })
			stop()
			b.Close()
			server.Close()
			if err := errors.Join(os.RemoveAll(messagesOf), os.CopyFS(messagesOf, os.DirFS(copied))); err != nil {
				t.Fatal(err)
			}
			server = testkit.RestartNATS(t, server)
			b = testkit.ConnectNATS(t, server)
			if s, err := b.StreamState(t.Context(), event.StreamRoleChanges); err != nil || s.LastSeq != uint64(c.before) {
				t.Fatalf("%+v %v", s, err)
			}
			consumer := status(t, b)
			t.Logf("consumer after the loss: %+v", consumer)
			consume(t, b, live, func(_ context.Context, batch []event.Message) error {
				got.add(batch)
				return nil
			})
			publish(t, b, messages(c.after, event.SubjectRoleChanged, "after"))
			testkit.Eventually(t, "what came after the loss is read", func() (bool, string) {
				return got.count() == c.before+c.lost+c.after, fmt.Sprint(got.count())
			})
		})
	}
}

func TestAReadOfAStreamThatIsMadeAgainEnds(t *testing.T) {
	t.Parallel()
	server := testkit.NATSServer(t)
	b := testkit.ConnectNATS(t, server)
	publish(t, b, messages(3000, event.SubjectRoleChanged, "m"))
	_, err := b.Read(t.Context(), event.StreamRoleChanges, bus.Range{Batch: 10}, func(_ context.Context, batch []event.Message, _ uint64) error {
		if batch[0].Sequence == 1 {
			deleteStream(t, server, event.StreamRoleChanges)
			if _, err := b.StreamState(t.Context(), event.StreamRoleChanges); err != nil {
				t.Error(err)
			}
			publish(t, b, messages(5, event.SubjectRoleChanged, "again"))
		}
		return nil
	})
	if err != nil && !errors.Is(err, bus.ErrAnotherStream) {
		t.Errorf("ended with %v", err)
	}
}

func TestWhatAStreamIsAndHolds(t *testing.T) {
	t.Parallel()
	server := testkit.NATSServer(t)
	b := testkit.ConnectNATS(t, server)
	before, err := b.StreamState(t.Context(), event.StreamRoleChanges)
	if err != nil || before.LastSeq != 0 || before.MaxAge != 30*24*time.Hour || before.Created.IsZero() {
		t.Fatalf("%+v %v", before, err)
	}
	publish(t, b, messages(3, event.SubjectRoleChanged, "m"))
	for sequence, want := range map[uint64]string{0: "", 1: "m-0", 3: "m-2", 4: ""} {
		if id, found, err := b.MessageIDAt(t.Context(), event.StreamRoleChanges, sequence); id != want || found != (want != "") || err != nil {
			t.Errorf("at %d: %q %t %v", sequence, id, found, err)
		}
	}
	changed := b.NextChange()
	deleteStream(t, server, event.StreamRoleChanges)
	after, err := b.StreamState(t.Context(), event.StreamRoleChanges)
	if err != nil || after.LastSeq != 0 || after.Created.Equal(before.Created) {
		t.Errorf("%+v %v", after, err)
	}
	select {
	case <-changed:
	default:
		t.Error("nobody was told that a stream was made")
	}
}
