package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

func created(t testing.TB, b *bus.Bus, stream string) time.Time {
	t.Helper()
	at, _, err := b.StreamCreated(context.Background(), stream)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestWhatIsPublishedIsStoredInOrder(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"one": 1, "a few": 15, "a batch": 16, "more than a batch": 2100} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := testkit.NATS(t)
			got := publish(t, b, messages(n, event.SubjectRoleChanged, "m"))
			want := make([]event.Stored, n)
			for i := range want {
				want[i] = event.Stored{Stream: event.StreamRoleChanges, Created: created(t, b, event.StreamRoleChanges), Sequence: uint64(i + 1)}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for i, s := range publish(t, b, messages(n, event.SubjectRoleChanged, "m")) {
				if !s.Duplicate || s.Sequence != got[i].Sequence {
					t.Fatalf("published again, message %d is %+v, before it was %+v", i, s, got[i])
				}
			}
		})
	}
}

func TestRepeatsWithinABatchAreStoredOnce(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	publish(t, b, messages(1, event.SubjectRoleChanged, "m")) // m-0, in the window already
	in := messages(20, event.SubjectRoleChanged, "m")
	in[19] = in[10]
	stored := publish(t, b, in)
	for i, s := range stored {
		again := i == 0 || i == 19
		if s.Sequence == 0 || s.Duplicate != again {
			t.Errorf("message %d: %+v", i, s)
		}
	}
	if stored[19].Sequence != stored[10].Sequence {
		t.Errorf("got %+v and %+v for one message", stored[10], stored[19])
	}
}

func TestStreamsAreToldApart(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	in := append(messages(10, event.SubjectTaskReassigned, "moves"), messages(2, event.SubjectRoleBulk, "changes")...)
	in = append(in, event.Message{ID: "dead", Subject: event.SubjectDead("notifier", "demo"), Body: []byte("x")})
	for i, s := range publish(t, b, in) {
		want := event.StreamTaskReassignments
		if i >= 10 {
			want = event.StreamRoleChanges
		}
		if i == 12 {
			want = event.StreamDeadLetters
		}
		if s.Stream != want || s.Sequence == 0 {
			t.Errorf("message %d: %+v", i, s)
		}
	}
}

func TestWhatFailsIsToldFromWhatIsStored(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	in := messages(30, event.SubjectRoleChanged, "m")
	in[3].Subject = "somewhere.else"
	in[17].Body = make([]byte, 1<<20) // with its headers, over the limit of the stream
	stored, err := b.Publish(context.Background(), in)
	if err == nil || !strings.Contains(err.Error(), "somewhere.else") || !strings.Contains(err.Error(), "1 of 29 messages") {
		t.Errorf("got %v", err)
	}
	for i, s := range stored {
		if bad := i == 3 || i == 17; bad != (s == event.Stored{}) {
			t.Errorf("message %d: %+v", i, s)
		}
	}
}

func TestAFullStreamIsBackPressure(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	if err := b.EnsureStreams(context.Background(), bus.Limits{RoleChanges: 64 << 10}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 100} {
		var err error
		stored, round := []event.Stored(nil), 0
		for ; err == nil && round < 1000; round++ {
			in := messages(n, event.SubjectRoleChanged, fmt.Sprint(n, "-", round))
			for i := range in {
				in[i].Body = make([]byte, 300)
			}
			stored, err = b.Publish(context.Background(), in)
		}
		if !errors.Is(err, bus.ErrFull) {
			t.Errorf("got %v, want that it is full", err)
		}
		for _, s := range stored {
			if s.Sequence != 0 {
				t.Errorf("stored on a full stream: %+v", s)
			}
		}
	}
	publish(t, b, messages(1, event.SubjectTaskReassigned, "others")) // are not concerned
}

func TestPublishingWithoutABrokerFailsAtOnce(t *testing.T) {
	t.Parallel()
	s := testkit.NATSServer(t)
	b := testkit.ConnectNATS(t, s)
	s.Close()
	testkit.Eventually(t, "the connection is lost", func() (bool, string) { return !b.Connected(), "connected" })
	if _, err := b.Publish(context.Background(), messages(20, event.SubjectRoleChanged, "m")); !errors.Is(err, bus.ErrDisconnected) {
		t.Errorf("got %v", err)
	}
	testkit.RestartNATS(t, s)
	testkit.Eventually(t, "it is published after all", func() (bool, string) {
		_, err := b.Publish(context.Background(), messages(20, event.SubjectRoleChanged, "m"))
		return err == nil, fmt.Sprint(err)
	})
}

func TestALostStreamIsMadeAgain(t *testing.T) {
	t.Parallel()
	s := testkit.NATSServer(t)
	b := testkit.ConnectNATS(t, s)
	before := publish(t, b, messages(3, event.SubjectRoleChanged, "before"))
	deleteStream(t, s, event.StreamRoleChanges)
	var after []event.Stored
	testkit.Eventually(t, "it is published on a new stream", func() (bool, string) {
		var err error
		after, err = b.Publish(context.Background(), messages(20, event.SubjectRoleChanged, "after"))
		return err == nil, fmt.Sprint(err)
	})
	if after[0].Sequence != 1 || !after[0].Created.After(before[0].Created) {
		t.Errorf("got %+v, before it was %+v", after[0], before[0])
	}
}
