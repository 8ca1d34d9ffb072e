package soak_test

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"handover.io/internal/bus"
	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
)

// world is the running program in parts, what they stand on, and what befalls them.
type world struct {
	*testing.T
	dir      string
	seed     uint64
	length   time.Duration // of the faults
	short    bool
	database *database // of the soak
	broker   *broker   // likewise
	sink     *testkit.Sink
	pool     *pgxpool.Pool // of the test; nobody cuts its way
	bus      *bus.Bus      // likewise
	js       jetstream.JetStream
	parts    []*part
	tenants  []*tenant
	env      []string // of the program's commands

	tally         *tally
	recoveries    sync.WaitGroup
	upstreamAgain atomic.Bool

	mu      sync.Mutex
	wrongs  []string
	sizes   map[string][]size
	accepts map[string]int // mails by Message-ID
}

// noticeWindow is as short as it may be.
const noticeWindow = "2s"

func newWorld(t *testing.T, seed uint64, length time.Duration, short bool) *world {
	w := &world{T: t, seed: seed, length: length, short: short, tally: newTally(), sizes: map[string][]size{}, accepts: map[string]int{}}
	w.makeDir()
	w.database = newDatabase(t, filepath.Join(w.dir, "database"))
	w.broker = newBroker(t, filepath.Join(w.dir, "broker"))
	w.connect(w.database.url, w.broker.url)
	// Two of each: one that is killed, and one that is killed in the beginning only, but meets all else.
	for _, kind := range [][2]string{{"api", "api"}, {"mover", "reassigner,relay"}, {"notifier", "notifier"}} {
		for _, twin := range []string{"a", "b"} {
			w.addPart(kind[0]+"-"+twin, kind[1], twin == "b")
		}
	}
	w.awaitReady()
	for n := range 3 {
		w.tenants = append(w.tenants, w.newTenant(fmt.Sprintf("t%d", n+1)))
	}
	return w
}

// connect makes the test's own connections, the mail server and the schema.
func (w *world) connect(databaseURL, natsURL string, options ...string) {
	w.Helper()
	w.env = append(options, "HANDOVER_DATABASE_URL="+databaseURL, "HANDOVER_NATS_URL="+natsURL)
	w.sink = testkit.SMTP(w, testkit.SMTPOK)
	var err error
	if w.pool, err = postgres.Open(w.Context(), databaseURL, postgres.Options{}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.pool.Close)
	if out, err := w.command("migrate"); err != nil {
		w.Fatal(err, out)
	}
	if w.bus, err = bus.Connect(w.Context(), bus.Options{URL: natsURL, Name: "soak", Logger: zap.NewNop()}); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(w.bus.Close)
	nc, err := nats.Connect(natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(nc.Close)
	if w.js, err = jetstream.New(nc); err != nil {
		w.Fatal(err)
	}
}

func (w *world) awaitReady() {
	w.Helper()
	for _, p := range w.parts {
		await(w, time.Minute, p.name+" is ready", func() (bool, string) {
			err := p.ready()
			return err == nil, fmt.Sprint(err, "\n", tail(p.log))
		})
	}
}

// those are the parts of a kind.
func (w *world) those(kind string) (out []*part) {
	for _, p := range w.parts {
		if strings.HasPrefix(p.name, kind) {
			out = append(out, p)
		}
	}
	return out
}

// makeDir makes the directory of everything, which stays when the test fails.
func (w *world) makeDir() {
	w.Helper()
	var err error
	if w.dir = os.Getenv("SOAK_DIR"); w.dir != "" {
		w.dir, err = filepath.Abs(w.dir)
		err = cmp.Or(err, os.MkdirAll(w.dir, 0o755))
	} else {
		w.dir, err = os.MkdirTemp("", "handover-soak-")
	}
	// Run by root, PostgreSQL belongs to another user, who must be able to get there.
	if err := cmp.Or(err, os.Chmod(w.dir, 0o755)); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if w.Failed() || os.Getenv("SOAK_DIR") != "" {
			w.Logf("the logs are in %s", w.dir)
		} else {
			_ = os.RemoveAll(w.dir)
		}
	})
}

// addPart starts a part whose ways to the servers can be cut.
func (w *world) addPart(name, only string, steady bool) {
	w.Helper()
	database, broker := newLink(w, name+" to PostgreSQL", w.database.addr), newLink(w, name+" to the broker", w.broker.addr)
	p := w.startPart(name, only, "HANDOVER_DATABASE_URL="+database.through(w, w.database.url), "HANDOVER_NATS_URL="+broker.through(w, w.broker.url))
	p.database, p.broker, p.steady = database, broker, steady
}

func (w *world) startPart(name, only string, env ...string) *part {
	w.Helper()
	env = append(append(slices.Clone(w.env), env...), "HANDOVER_SMTP_URL="+w.sink.URL(), "HANDOVER_NOTICE_WINDOW="+noticeWindow, "HANDOVER_LOG_FORMAT=json")
	p := newPart(w, w.dir, name, only, env)
	if err := p.start(); err != nil {
		w.Fatal(err)
	}
	w.parts = append(w.parts, p)
	return p
}

// wrong notes something that must not be. The soak goes on, since there may be more.
func (w *world) wrong(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.wrongs) < 100 {
		w.wrongs = append(w.wrongs, fmt.Sprintf(format, args...))
		w.Errorf(format, args...)
	}
}

func (w *world) command(args ...string) (string, error) {
	cmd := exec.Command(built, args...)
	cmd.Env = append(append(os.Environ(), w.env...), "HANDOVER_DATA_DIR="+w.dir)
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("handover %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (w *world) ensureStreams(l bus.Limits) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for {
		err := w.bus.EnsureStreams(ctx, l)
		if err == nil || ctx.Err() != nil {
			return err
		}
	}
}

// patiently asks the broker until it is there to answer; what is gone already is gone.
func patiently(do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if poll(time.Minute, func() bool {
		err = do(ctx)
		return err == nil || err == jetstream.ErrConsumerNotFound || err == jetstream.ErrStreamNotFound
	}) {
		return nil
	}
	return err
}

func (w *world) deleteConsumer(stream, durable string) error {
	return patiently(func(ctx context.Context) error { return w.js.DeleteConsumer(ctx, stream, durable) })
}

func (w *world) deleteStream(stream string) error {
	return patiently(func(ctx context.Context) error { return w.js.DeleteStream(ctx, stream) })
}

// gather takes what the mail server has got, and how large the steady parts are.
func (w *world) gather(watched bool) {
	for _, m := range w.sink.Take() {
		w.accepted(m)
	}
	if !watched {
		return
	}
	for _, p := range w.parts {
		if !p.steady {
			continue
		}
		if s, err := p.size(); err == nil && s.Bytes > 0 {
			w.sizes[p.name] = append(w.sizes[p.name], s)
		}
	}
}

func (w *world) accepted(m testkit.Mail) {
	if len(m.To) == 0 {
		return // a mail to nobody, after a refused recipient
	}
	id := ""
	for line := range strings.SplitSeq(string(m.Data), "\r\n") {
		if line == "" {
			break
		}
		if name, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(name, "Message-ID") {
			id = strings.Trim(value, " <>")
		}
	}
	w.accepts[id]++
}

func (w *world) progress(since time.Time) {
	kills, injected, survived := w.tally.sum()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var changes, moved, sent int64
	database := "PostgreSQL is away"
	if err := w.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM role_changes), (SELECT count(*) FROM moves), (SELECT count(*) FROM notices WHERE state = 'sent')`).
		Scan(&changes, &moved, &sent); err == nil {
		database = fmt.Sprintf("%d role changes, %d moves, %d mails", changes, moved, sent)
	}
	w.Logf("%4.0f s  %d kills, %d faults, %d survived so far; %d requests; %s", time.Since(since).Seconds(), kills, injected, survived, w.requests(), database)
}

func (w *world) requests() (n int64) {
	for _, t := range w.tenants {
		n += t.requests.Load()
	}
	return n
}
