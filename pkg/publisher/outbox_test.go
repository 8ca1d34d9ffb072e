package publisher_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
	"handover.io/pkg/publisher"
)

var errOwn = errors.New("the service changed its mind")

func TestOnlyWhatWasCommittedIsPublished(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	pool := database(t)
	p := publisher.New(js, source)
	ctx := context.Background()
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if err := p.EnqueueTx(ctx, tx, change("a-9")); err != nil {
			t.Error(err)
		}
		return errOwn
	})
	if !errors.Is(err, errOwn) {
		t.Fatal(err)
	}
	enqueue(t, p, pool, changes(3)...)
	open, err := pool.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.EnqueueTx(ctx, open, change("a-8")); err != nil {
		t.Fatal(err)
	}
	if n, err := p.RelayOnce(ctx, pool); n != 3 || err != nil {
		t.Fatalf("%d published, %v", n, err)
	}
	expectEachOnce(t, js, 3)
	if err := open.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if n, err := p.RelayOnce(ctx, pool); n != 0 || err != nil || waiting(t, pool) != 0 {
		t.Fatalf("%d published, %v, %d waiting", n, err, waiting(t, pool))
	}
}

func TestEnqueueValidatesAtOnceAndTakesAnEventOnce(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	pool := database(t)
	p := publisher.New(js, source)
	ctx := context.Background()
	bad := change("a-1")
	bad.InitiatedBy = ""
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return p.EnqueueTx(ctx, tx, change("a-0"), bad) })
	var invalid *event.Invalid
	if !errors.As(err, &invalid) || invalid.Field != "data.initiated_by" || waiting(t, pool) != 0 {
		t.Fatal(err)
	}
	c := change("a-0")
	c.ID = "4711"
	enqueue(t, p, pool, c, c)
	enqueue(t, p, pool, c)
	enqueue(t, p, pool)
	if n := waiting(t, pool); n != 1 {
		t.Fatalf("%d waiting", n)
	}
	for range 2 {
		if _, err := p.RelayOnce(ctx, pool); err != nil {
			t.Fatal(err)
		}
		enqueue(t, p, pool, c)
	}
	expectEachOnce(t, js, 1)
}

// The relay dies after the stream has the messages and before its rows are deleted: its database connection is cut.
func TestKilledBetweenPublishAndDelete(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	pool := database(t)
	const n = 40
	enqueue(t, publisher.New(js, source), pool, changes(n)...)
	ctx := context.Background()
	config := pool.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "doomed"
	doomed, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(doomed.Close)
	kill := func() {
		if _, err := pool.Exec(ctx, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'doomed'`); err != nil {
			t.Error(err)
		}
	}
	killed := publisher.New(&interrupted{JetStream: js, after: n, do: kill}, source)
	if done, err := killed.RelayOnce(ctx, doomed); err == nil || done != 0 {
		t.Fatalf("%d published, %v", done, err)
	}
	expectEachOnce(t, js, n)
	if left := waiting(t, pool); left != n {
		t.Fatalf("%d waiting", left)
	}
	if done, err := publisher.New(js, source).RelayOnce(ctx, pool); done != n || err != nil {
		t.Fatalf("%d published, %v", done, err)
	}
	expectEachOnce(t, js, n)
	if left := waiting(t, pool); left != 0 {
		t.Fatalf("%d waiting", left)
	}
}

func TestRelaysShareTheWork(t *testing.T) {
	t.Parallel()
	_, js := broker(t)
	pool := database(t)
	p := publisher.New(js, source, publisher.WithPollInterval(5*time.Millisecond))
	const writers, each = 4, 400
	ctx, stop := context.WithCancel(context.Background())
	var relays, writing sync.WaitGroup
	for range 3 {
		relays.Go(func() {
			if err := p.Relay(ctx, pool); err != nil {
				t.Error(err)
			}
		})
	}
	all := changes(writers * each)
	for w := range writers {
		writing.Go(func() {
			for i := 0; i < each; i += 100 {
				enqueue(t, p, pool, all[w*each+i:][:100]...)
			}
		})
	}
	writing.Wait()
	testkit.Eventually(t, "the table is empty", func() (bool, string) {
		n := waiting(t, pool)
		return n == 0, "rows are waiting"
	})
	stop()
	relays.Wait()
	expectEachOnce(t, js, writers*each)
}

func TestRelayOutlivesBrokerAndTable(t *testing.T) {
	t.Parallel()
	server, js := broker(t)
	pool := testkit.Postgres(t)
	p := publisher.New(js, source, quiet(), publisher.WithPollInterval(5*time.Millisecond))
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Relay(ctx, pool) }() // the table isn't there yet
	var creating sync.WaitGroup
	for range 4 {
		creating.Go(func() {
			if err := publisher.EnsureTable(ctx, pool); err != nil {
				t.Error(err)
			}
		})
	}
	creating.Wait()
	server.Close()
	enqueue(t, p, pool, changes(5)...)
	if n, err := p.RelayOnce(ctx, pool); n != 0 || err == nil && waiting(t, pool) != 5 {
		t.Fatalf("%d published, %v", n, err)
	}
	testkit.RestartNATS(t, server)
	testkit.Eventually(t, "the table is empty", func() (bool, string) { return waiting(t, pool) == 0, "rows are waiting" })
	expectEachOnce(t, js, 5)
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
