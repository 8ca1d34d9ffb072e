package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"handover.io/internal/bus"
	"handover.io/internal/postgres"
	"handover.io/pkg/event"
)

// contender does the reassigner's work in its own way.
type contender struct {
	name string
	// fewer is the part of the changes that is enough to know the rate of a slow one: 20 for a twentieth; 0: all of them.
	fewer int
	// load puts the changes where the contender takes them from; it is not timed.
	load func(context.Context, *arena, []event.AccountRoleChanged) error
	// run handles them all. It stops the clock when everything is handled, acknowledged and announced, and then cleans up.
	run func(context.Context, *arena) error
}

func peers() []contender {
	return []contender{asDocumented(), tuned(), riverJobs(), natsWorkers(8), natsWorkers(1)}
}

// arena is what a contender gets for one run: a database, and a broker.
type arena struct {
	pool       *pgxpool.Pool
	nc         *nats.Conn
	js         jetstream.JetStream
	natsURL    string
	deliveries int
	stopClock  func()
}

// errorsOnly is for peers that tell of every step.
var errorsOnly = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))

// connections of the pool: all are open before the clock starts, and nobody waits for one.
const connections = 16

// bench is one database server, and the data on it.
type bench struct {
	dir      string
	size     size
	server   *postgres.Server
	admin    *pgxpool.Pool
	template string
	say      func(string, ...any)
}

// open starts the database server in dir, with the settings that the product gives it (everything durable), and makes
// the data there, unless it has been made before.
func open(ctx context.Context, dir string, s size, say func(string, ...any)) (_ *bench, err error) {
	b := &bench{dir: dir, size: s, say: say}
	// Others may pass through: where root runs this, its PostgreSQL belongs to somebody else.
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, err
	}
	b.server, err = postgres.StartServer(ctx, postgres.ServerOptions{Dir: filepath.Join(dir, "postgres")})
	if err != nil {
		return nil, err
	}
	if b.admin, err = pgxpool.New(ctx, b.server.URL()); err == nil {
		b.template, err = template(ctx, b.admin, s, say)
	}
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) close() error {
	if b.admin != nil {
		b.admin.Close()
	}
	return b.server.Stop(context.Background())
}

// measure lets the contender handle n changes of the mix, and checks the outcome.
func (b *bench) measure(ctx context.Context, c contender, mix string, n int, seed uint64) (result, error) {
	r := result{Contender: c.name, Mix: mix, Changes: n}
	w := mixes[mix](b.size, n, rand.New(rand.NewPCG(seed, 0)))
	err := b.withArena(ctx, n, func(a *arena) error {
		if err := c.load(ctx, a, w.changes); err != nil {
			return fmt.Errorf("load: %w", err)
		}
		if err := b.settle(ctx, a.pool); err != nil {
			return err
		}
		if err := b.clock(ctx, c, a, &r); err != nil {
			return err
		}
		return a.check(ctx, w, &r)
	})
	if err != nil {
		err = fmt.Errorf("%s, %s: %w", c.name, mix, err)
	}
	return r, err
}

// withArena makes a database from the template and a broker with empty streams, and takes both away again.
func (b *bench) withArena(ctx context.Context, n int, do func(*arena) error) (err error) {
	const database = "peer"
	copying := fmt.Sprintf("CREATE DATABASE %s TEMPLATE %s", database, b.template)
	var version int
	if err := b.admin.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return err
	}
	if version >= 150000 {
		copying += " STRATEGY file_copy" // the default since then writes all of it to the log
	}
	drop := "DROP DATABASE IF EXISTS " + database + " WITH (FORCE)"
	for _, sql := range []string{drop, copying} {
		if _, err := b.admin.Exec(ctx, sql); err != nil {
			return err
		}
	}
	defer func() {
		_, dropped := b.admin.Exec(context.WithoutCancel(ctx), drop)
		err = errors.Join(err, dropped)
	}()
	pool, err := connect(ctx, b.server.URL(), database)
	if err != nil {
		return err
	}
	defer pool.Close()

	dir, err := os.MkdirTemp(b.dir, "nats-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	broker, err := bus.StartServer(bus.ServerOptions{Dir: dir, Addr: "127.0.0.1:0", SyncAlways: true})
	if err != nil {
		return err
	}
	defer broker.Close()
	nc, err := nats.Connect(broker.URL())
	if err != nil {
		return err
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		return err
	}
	streams, err := bus.Connect(ctx, bus.Options{URL: broker.URL()})
	if err != nil {
		return err
	}
	defer streams.Close()
	if err := streams.EnsureStreams(ctx, bus.Limits{}); err != nil {
		return err
	}
	return do(&arena{pool: pool, nc: nc, js: js, natsURL: broker.URL(), deliveries: n})
}

// connect opens all connections of a pool at once.
func connect(ctx context.Context, server, database string) (*pgxpool.Pool, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, err
	}
	u.Path = database
	config, err := pgxpool.ParseConfig(u.String())
	if err != nil {
		return nil, err
	}
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	for range connections {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		defer conn.Release()
	}
	return pool, nil
}

// settle writes everything dirty to disk, so that what is measured is the contender's own, and reads the tasks once, as a
// database that has been running for a while has. In exchange each page's first change writes the whole page to the log,
// for everybody. handover bench does the same.
func (b *bench) settle(ctx context.Context, pool *pgxpool.Pool) error {
	for _, sql := range []string{`CHECKPOINT`, `SELECT count(*) FROM tasks`} {
		if _, err := pool.Exec(ctx, sql); err != nil {
			return fmt.Errorf("settle: %w", err)
		}
	}
	debug.FreeOSMemory()
	return nil
}

// clock runs the contender, and notes what it took.
func (b *bench) clock(ctx context.Context, c contender, a *arena, r *result) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	resetPeak()
	before, start := b.spent(ctx), time.Now()
	stopped := false
	a.stopClock = func() {
		r.Seconds = time.Since(start).Seconds()
		after := b.spent(ctx)
		r.WAL, r.PeakRSS = after.wal-before.wal, peakRSS()
		r.ServiceCPU, r.PostgresCPU = after.service-before.service, after.postgres-before.postgres
		stopped = true
	}
	if err := c.run(ctx, a); err != nil {
		return err
	}
	if !stopped {
		return errors.New("the clock was never stopped")
	}
	r.ChangesPerS = float64(r.Changes) / r.Seconds
	return nil
}

// putOnStream publishes the changes. Each delivery has an id of its own, so that the broker doesn't take repeats away: it
// wouldn't, either, if they came after its two minutes.
func putOnStream(ctx context.Context, a *arena, changes []event.AccountRoleChanged) error {
	publisher, err := bus.Connect(ctx, bus.Options{URL: a.natsURL})
	if err != nil {
		return err
	}
	defer publisher.Close()
	out := make([]event.Message, len(changes))
	for i, c := range changes {
		if out[i], err = c.Message(event.SubjectRoleChanged(c.TenantID)); err != nil {
			return err
		}
		out[i].ID = fmt.Sprintf("delivery-%d", i)
	}
	if err := publisher.EnsureStreams(ctx, bus.Limits{}); err != nil {
		return err
	}
	_, err = publisher.Publish(ctx, out)
	return err
}
