package publisher_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
	"handover.io/pkg/publisher"
)

func TestWhatIsEmptyIsFilledIn(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	before := event.Micro(time.Now())
	given := change("a-3")
	given.ID, given.Source, given.Time = "7", "/own", time.Date(2026, 1, 1, 0, 0, 0, 999, time.UTC)
	if err := publisher.New(js, source).Publish(context.Background(), change("a-1"), change("a-2"), given); err != nil {
		t.Fatal(err)
	}
	got := map[string]event.AccountRoleChanged{}
	for _, c := range arrived(t, js) {
		got[c.AccountID] = c
	}
	first, second := got["a-1"], got["a-2"]
	if len(first.ID) != 36 || first.ID[14] != '7' || first.ID == second.ID || first.Source != source {
		t.Errorf("%+v\n%+v", first, second)
	}
	if first.Time.Before(before) || !second.Time.After(first.Time) || second.Time.After(time.Now().Add(time.Second)) {
		t.Errorf("since %v: %v, %v", before, first.Time, second.Time)
	}
	if c := got["a-3"]; c.ID != "7" || c.Source != "/own" || c.Time != time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) {
		t.Errorf("%+v", c)
	}
}

func TestSameEventTwiceIsOneMessage(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	c := change("a-0")
	c.ID = "4711"
	for range 3 {
		if err := publisher.New(js, source).Publish(context.Background(), c, c); err != nil {
			t.Fatal(err)
		}
	}
	expectEachOnce(t, js, 1)
}

func TestBulkGoesToItsOwnLane(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	if err := publisher.New(js, source, publisher.WithBulk()).Publish(context.Background(), changes(3)...); err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(context.Background(), event.StreamRoleChanges)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(context.Background(), event.SubjectRoleBulk("demo"))
	if err != nil || m.Sequence != 3 {
		t.Fatalf("%+v, %v", m, err)
	}
}

func TestInvalidChangeIsNamedAndNothingIsPublished(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	p := publisher.New(js, source)
	all := changes(4)
	all[1].Reason, all[3].Source = "whim", "//Handover.io"
	err := p.Publish(context.Background(), all...)
	var failed *publisher.Error
	var invalid *event.Invalid
	if !errors.As(err, &failed) || !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	if len(failed.Failed) != 2 || failed.Failed[0].Index != 1 || failed.Failed[1].Index != 3 || invalid.Field != "data.reason" {
		t.Errorf("%+v", failed)
	}
	if want := "role change 1 (account a-1): invalid: data.reason: must be one of"; !strings.HasPrefix(err.Error(), want) || !strings.HasSuffix(err.Error(), ", and 1 more") {
		t.Errorf("got %q", err)
	}
	expectEachOnce(t, js, 0)
	if err := p.Publish(context.Background()); err != nil {
		t.Errorf("nothing: %v", err)
	}
	if err := publisher.New(js, "%").Publish(context.Background(), change("a-0")); !errors.As(err, &invalid) || invalid.Field != "source" {
		t.Errorf("bad source: %v", err)
	}
}

func TestBrokerRestartedInTheMiddle(t *testing.T) {
	t.Parallel()
	server, js := broker(t)
	const n = 1500
	restarted := make(chan struct{})
	stopped := &interrupted{JetStream: js, after: n / 3, do: func() {
		go func() {
			defer close(restarted)
			testkit.RestartNATS(t, server)
		}()
	}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := publisher.New(stopped, source).Publish(ctx, changes(n)...); err != nil {
		t.Fatal(err)
	}
	<-restarted
	expectEachOnce(t, js, n)
}

func TestBrokerAwayUntilTheDeadline(t *testing.T) {
	t.Parallel()
	server, js := broker(t)
	server.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	p := publisher.New(js, source)
	err := p.Publish(ctx, changes(3)...)
	var failed *publisher.Error
	if !errors.As(err, &failed) || !errors.Is(err, context.DeadlineExceeded) || len(failed.Failed) != 3 {
		t.Fatal(err)
	}
	testkit.RestartNATS(t, server)
	again := make([]event.AccountRoleChanged, 3)
	for i, f := range failed.Failed {
		if again[i] = f.Change; f.Change.ID == "" || f.Change.Time.IsZero() || f.Index != i {
			t.Errorf("%+v", f)
		}
	}
	for range 2 {
		if err := p.Publish(context.Background(), again...); err != nil {
			t.Fatal(err)
		}
	}
	expectEachOnce(t, js, 3)
}

func TestStreamThatIsNotThereYetIsWaitedFor(t *testing.T) {
	t.Parallel()
	server := testkit.NATSServer(t)
	js := connect(t, server)
	failed, published := make(chan struct{}), make(chan error)
	watched := &interrupted{JetStream: js, onFailed: func() { close(failed) }}
	go func() { published <- publisher.New(watched, source).Publish(context.Background(), change("a-0")) }()
	select {
	case <-failed:
	case err := <-published:
		t.Fatalf("without a stream: %v", err)
	}
	testkit.ConnectNATS(t, server)
	if err := <-published; err != nil {
		t.Fatal(err)
	}
	expectEachOnce(t, js, 1)
}

func TestClosedConnectionIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	js.Conn().Close()
	if err := publisher.New(js, source).Publish(context.Background(), change("a-0")); !errors.Is(err, nats.ErrConnectionClosed) {
		t.Fatal(err)
	}
}
