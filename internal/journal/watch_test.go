package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// watched is an outbox, a real broker, a relay between them, and a watch.
type watched struct {
	*testing.T
	url    string
	pool   *pgxpool.Pool
	server *bus.Server
	bus    *bus.Bus
	relay  *journal.Relay
	watch  *journal.Watch
	older  []string
	refuse error // of the one who is told of an older database
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{T: t, server: testkit.NATSServer(t)}
	w.url, w.pool = testkit.NewDatabase(t)
	w.bus = testkit.ConnectNATS(t, w.server)
	w.on(w.pool)
	return w
}

// on has the relay and the watch work with another pool.
func (w *watched) on(pool *pgxpool.Pool) {
	w.relay = journal.NewRelay(pool, w.bus.Publish, zap.NewNop())
	w.watch = journal.NewWatch(pool, journal.WatchConfig{
		Streams: streams(w.bus), Logger: testkit.Logger(w),
		Older: func(_ context.Context, reason string) error {
			if w.refuse == nil {
				w.older = append(w.older, reason)
			}
			return w.refuse
		},
	})
}

func streams(b *bus.Bus) journal.Streams {
	return journal.Streams{
		State: func(ctx context.Context, stream string) (journal.StreamState, error) {
			s, err := b.StreamState(ctx, stream)
			return journal.StreamState(s), err
		},
		IDAt: b.MessageIDAt,
		Read: func(ctx context.Context, stream string, from, to uint64, handle func(context.Context, []event.Message) error) error {
			_, err := b.Read(ctx, stream, bus.Range{FromSeq: from, ToSeq: to, Batch: 100}, func(ctx context.Context, batch []event.Message, _ uint64) error {
				for i := range batch {
					batch[i].ID = bus.MessageID(batch[i])
				}
				return handle(ctx, batch)
			})
			return err
		},
		NextChange: b.NextChange,
	}
}

// announcements are what a reassigner would commit.
func announcements(prefix string, n int) []journal.Entry {
	out := make([]journal.Entry, n)
	for i := range out {
		id := fmt.Sprintf("%s-%05d", prefix, i)
		out[i] = journal.Entry{Stream: event.StreamTaskReassignments, Message: event.Message{
			ID: id, Subject: event.SubjectTaskReassigned("acme"), Header: map[string][]string{"Content-Type": {"application/cloudevents+json"}},
			Body: fmt.Appendf(nil, `{"id":%q,"source":%q}`, id, event.SourceHandover),
		}}
	}
	return out
}

// commit has the outbox owe the announcements.
func (w *watched) commit(prefix string, n int) []journal.Entry {
	w.Helper()
	return appendTo(w.T, w.pool, announcements(prefix, n)...)
}

// sweep publishes what is owed, as the relay does.
func (w *watched) sweep() (published int) {
	w.Helper()
	for {
		n, err := w.relay.Sweep(w.Context(), 0)
		if err != nil {
			w.Fatal(err)
		}
		if published += n; n == 0 {
			return published
		}
	}
}

// look returns what was found, as "stream what owed unknown".
func (w *watched) look() []string {
	w.Helper()
	found, err := w.watch.Look(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return said(found)
}

func said(found []journal.Finding) (out []string) {
	for _, f := range found {
		out = append(out, fmt.Sprintf("%s %s %d %d", f.Stream, f.What, f.Owed, f.Unknown))
	}
	return out
}

func (w *watched) expect(what string, got, want any) {
	w.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		w.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// ids are those of the messages on the stream of announcements, in order.
func (w *watched) ids() (ids []string) {
	w.Helper()
	if _, err := w.bus.Read(w.Context(), event.StreamTaskReassignments, bus.Range{}, func(_ context.Context, batch []event.Message, _ uint64) error {
		for _, m := range batch {
			ids = append(ids, bus.MessageID(m))
		}
		return nil
	}); err != nil {
		w.Fatal(err)
	}
	return ids
}

func idsOf(entries ...[]journal.Entry) (ids []string) {
	for _, of := range entries {
		for _, e := range of {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

// holdsAll checks that the stream has these and no other, in any order, and that all of them have their place.
func (w *watched) holdsAll(entries ...[]journal.Entry) {
	w.Helper()
	w.expect("on the stream", slices.Sorted(slices.Values(w.ids())), slices.Sorted(slices.Values(idsOf(entries...))))
	w.expect("owed", unpublished(w.T, w.pool), int64(0))
	w.expect("messages that the outbox doesn't know to be where they are", testkit.One[int](w, w.pool, `
SELECT count(*) FROM outbox o WHERE NOT EXISTS (SELECT FROM outbox_published p WHERE o.key = ANY(p.keys))`), 0)
}

func (w *watched) jetStream() jetstream.JetStream {
	w.Helper()
	nc, err := nats.Connect(w.server.URL())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		w.Fatal(err)
	}
	return js
}

func (w *watched) deleteStream() {
	w.Helper()
	if err := w.jetStream().DeleteStream(w.Context(), event.StreamTaskReassignments); err != nil {
		w.Fatal(err)
	}
}

// store is where the broker keeps its streams.
func (w *watched) store() string { return filepath.Join(w.server.Dir(), "jetstream") }

// restart ends the broker, does something to its files, and starts it again.
func (w *watched) restart(between func()) {
	w.Helper()
	next := w.bus.NextChange()
	w.server.Close()
	between()
	w.server = testkit.RestartNATS(w, w.server)
	select {
	case <-next:
	case <-time.After(20 * time.Second):
		w.Fatal("not connected again")
	}
}

func (w *watched) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// backup copies the broker's files; the function that it returns puts them back.
func (w *watched) backup() (restore func()) {
	w.Helper()
	copied := filepath.Join(w.TempDir(), "copy")
	w.restart(func() { w.must(os.CopyFS(copied, os.DirFS(w.store()))) })
	return func() {
		w.must(os.RemoveAll(w.store()))
		w.must(os.CopyFS(w.store(), os.DirFS(copied)))
		w.must(filepath.WalkDir(w.store(), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(path, 0o700)
			}
			return err
		}))
	}
}

func TestAStreamThatIsAsItWasIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.expect("found on an empty stream", w.look(), nothing)
	all := w.commit("m", 1500)
	w.sweep()
	for range 2 {
		w.expect("found", w.look(), nothing)
	}
	w.restart(func() {})
	w.expect("found after a restart", w.look(), nothing)
	w.expect("published again", w.sweep(), 0)
	w.holdsAll(all)
}

func TestADeletedStreamIsFilledAgain(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	all := w.commit("m", 2500)
	old := w.commit("old", 3)
	w.sweep()
	// What is older than the stream keeps messages is gone by itself.
	testkit.Exec(t, w.pool, `UPDATE outbox_published SET published_at = published_at - interval '40 days' WHERE keys && $1`, []int64{old[0].Key, old[1].Key, old[2].Key})
	testkit.Exec(t, w.pool, `UPDATE outbox_published SET published_at = clock_timestamp() WHERE NOT keys && $1`, []int64{old[0].Key, old[1].Key, old[2].Key})
	all = slices.DeleteFunc(append(all, old...), func(e journal.Entry) bool {
		return testkit.One[bool](t, w.pool, `SELECT EXISTS (SELECT FROM outbox_published WHERE $1 = ANY(keys) AND published_at < now() - interval '35 days')`, e.Key)
	})
	w.deleteStream()
	w.expect("found", w.look(), []string{fmt.Sprintf("TASK_REASSIGNMENTS recreated %d 0", len(all))})
	w.sweep()
	w.holdsAll(all)
	w.expect("found again", w.look(), nothing)
	w.holdsAll(all)
}

func TestABrokerWhoseFilesAreGoneIsFilledAgain(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	all := w.commit("m", 1200)
	w.sweep()
	w.expect("found", w.look(), nothing)
	w.restart(func() { w.must(os.RemoveAll(w.store())) })
	w.expect("found", w.look(), []string{"TASK_REASSIGNMENTS recreated 1200 0"})
	w.sweep()
	w.holdsAll(all)
}

func TestAPurgeIsNoLoss(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.commit("m", 300)
	w.sweep()
	w.look()
	s, err := w.jetStream().Stream(t.Context(), event.StreamTaskReassignments)
	w.must(err)
	w.must(s.Purge(t.Context(), jetstream.WithPurgeSequence(200)))
	w.expect("found after a purge of the oldest", w.look(), nothing)
	w.must(s.DeleteMsg(t.Context(), 300))
	w.expect("found after the newest was deleted", w.look(), nothing)
	w.must(s.Purge(t.Context()))
	w.expect("found after a purge of all", w.look(), nothing)
	more := w.commit("n", 20)
	w.expect("published", w.sweep(), 20)
	w.expect("found after that", w.look(), nothing)
	w.expect("on the stream", w.ids(), idsOf(more))
}

func TestAStreamThatLostItsEndIsFilledAgain(t *testing.T) {
	t.Parallel()
	for _, looked := range []bool{false, true} {
		w := newWatched(t)
		first := w.commit("a", 700)
		w.sweep()
		restore := w.backup()
		second := w.commit("b", 450)
		w.sweep()
		if looked {
			w.expect("found", w.look(), nothing)
		}
		w.restart(restore)
		w.expect("found", w.look(), []string{"TASK_REASSIGNMENTS truncated 450 0"})
		w.sweep()
		w.holdsAll(first, second)
		w.expect("found again", w.look(), nothing)
	}
}

// The relay is faster than the watch: it puts messages where lost ones stood before anybody has noticed.
func TestAStreamThatLostItsEndAndGrewAgainIsFilledAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		looked bool
		after  int
		found  string
	}{
		"not as far as before":                 {true, 100, "TASK_REASSIGNMENTS truncated 350 0, TASK_REASSIGNMENTS regrown 100 0"},
		"just as far":                          {true, 450, "TASK_REASSIGNMENTS regrown 450 0"},
		"further":                              {true, 900, "TASK_REASSIGNMENTS regrown 450 0"},
		"further, and nobody had looked":       {false, 900, "TASK_REASSIGNMENTS regrown 450 0"},
		"just as far, and nobody had looked":   {false, 450, "TASK_REASSIGNMENTS regrown 450 0"},
		"only a little, and nobody had looked": {false, 20, "TASK_REASSIGNMENTS truncated 430 0, TASK_REASSIGNMENTS regrown 20 0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWatched(t)
			first := w.commit("a", 700)
			w.sweep()
			restore := w.backup()
			second := w.commit("b", 450)
			w.sweep()
			if c.looked {
				w.expect("found", w.look(), nothing)
			}
			w.restart(restore)
			third := w.commit("c", c.after)
			w.sweep()
			w.expect("found", strings.Join(w.look(), ", "), c.found)
			w.sweep()
			w.holdsAll(first, second, third)
			w.expect("found again", w.look(), nothing)
		})
	}
}

func TestAnOldCopyOfAStreamThatWasMadeAgainIsAnotherStream(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	first := w.commit("a", 300)
	w.sweep()
	restore := w.backup()
	w.deleteStream()
	w.expect("found", w.look(), []string{"TASK_REASSIGNMENTS recreated 300 0"})
	second := w.commit("b", 200)
	w.sweep()
	w.holdsAll(first, second)
	w.restart(restore) // with the first 300, under the older identity
	found, err := w.watch.Look(t.Context())
	w.must(err)
	if len(found) != 1 || found[0].What != journal.Recreated || found[0].Owed != 500 {
		t.Fatalf("%+v", found)
	}
	// What the copy has is on the stream already, and isn't sent again.
	w.expect("published again", w.sweep(), 200)
	w.holdsAll(first, second)
}

func TestWhatIsDeletedUnderLoadArrives(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	ctx, stop := context.WithCancel(t.Context())
	var parts sync.WaitGroup
	parts.Go(func() { _ = w.relay.Run(ctx) })
	parts.Go(func() { _ = w.watch.Run(ctx) })
	var all []journal.Entry
	for round := range 60 {
		entries := w.commit(fmt.Sprintf("r%d", round), 50)
		w.relay.Offer(entries)
		all = append(all, entries...)
		if round == 20 || round == 40 {
			js := w.jetStream()
			testkit.Eventually(t, "deleted", func() (bool, string) {
				err := js.DeleteStream(t.Context(), event.StreamTaskReassignments)
				return err == nil, fmt.Sprint(err)
			})
		}
	}
	stop()
	parts.Wait()
	for range 2 {
		w.look()
		w.sweep()
	}
	got := w.ids()
	slices.Sort(got)
	w.expect("on the stream, some of them twice perhaps", slices.Compact(got), slices.Sorted(slices.Values(idsOf(all))))
	w.expect("older", w.older, nothing)
}

// cutting cuts the connection at the n-th statement of a look.
type cutting struct {
	mu   sync.Mutex
	left int
	cut  bool
}

func (c *cutting) TraceQueryStart(ctx context.Context, conn *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left--; c.left == 0 {
		c.cut = true
		_ = conn.PgConn().Conn().Close()
	}
	return ctx
}

func (c *cutting) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func TestALookThatIsCutOffAnywhereGoesOn(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	var all []journal.Entry
	for n := 1; ; n++ {
		all = append(all, w.commit(fmt.Sprintf("n%d", n), 40)...)
		w.sweep()
		switch n % 3 {
		case 0:
			w.deleteStream()
		case 1: // on the stream and not marked
			entries := w.commit(fmt.Sprintf("u%d", n), 5)
			_, err := w.bus.Publish(t.Context(), messagesOf(entries))
			w.must(err)
			all = append(all, entries...)
		}
		c := &cutting{left: n}
		pool, err := postgres.Open(t.Context(), w.url, postgres.Options{Tracer: c})
		w.must(err)
		w.on(pool)
		_, err = w.watch.Look(t.Context())
		pool.Close()
		w.on(w.pool)
		if c.cut && err == nil && n > 1 {
			t.Logf("statement %d was cut, and the look was none the worse", n)
		}
		w.look()
		w.sweep()
		w.holdsAll(all)
		w.expect("older", w.older, nothing)
		if !c.cut {
			break
		}
	}
}

func messagesOf(entries []journal.Entry) (out []event.Message) {
	for _, e := range entries {
		out = append(out, e.Message)
	}
	return out
}

var errRefused = errors.New("refused")

var nothing []string
