package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// System is the product on a database and a broker, wired as handover run wires it. Start starts what moves tasks; Stop
// ends everything.
type System struct {
	Pool       *pgxpool.Pool
	Bus        *bus.Bus
	Roster     *roster.Roster
	Operations *operation.Operations
	Metrics    prometheus.Gatherer
	Start      func(context.Context) error
	Stop       func(context.Context) error
}

// servers are the private PostgreSQL and the folder for the brokers. Their names in dir are none that a run uses: nobody's
// data directory can be taken for a bench's.
type servers struct {
	dir      string
	log      *zap.Logger
	postgres *postgres.Server
	brokers  int
}

// loading are the settings while a data set is made: nothing has to outlive a power failure, and the indexes should fit
// into the buffers, since their keys come in no order.
func loading() map[string]string {
	_, memory := hardware()
	buffers := min(max(memory/8>>20, 256), 4096)
	return map[string]string{
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off",
		"shared_buffers": fmt.Sprintf("%dMB", buffers), "maintenance_work_mem": "256MB", "max_wal_size": "16GB",
	}
}

// startPostgres starts the server with the product's own settings, and these over them.
func (s *servers) startPostgres(ctx context.Context, settings map[string]string) (err error) {
	s.postgres, err = postgres.StartServer(ctx, postgres.ServerOptions{Dir: filepath.Join(s.dir, "bench-postgres"), Logger: s.log, Settings: settings})
	return err
}

func (s *servers) stopPostgres(ctx context.Context) error {
	if s.postgres == nil {
		return nil
	}
	err := s.postgres.Stop(ctx)
	s.postgres = nil
	return err
}

// startBroker starts an empty broker.
func (s *servers) startBroker() (*bus.Server, error) {
	s.brokers++
	dir := filepath.Join(s.dir, fmt.Sprintf("bench-nats-%d", s.brokers))
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	return bus.StartServer(bus.ServerOptions{Dir: dir, Addr: "127.0.0.1:0", Logger: s.log, SyncAlways: true})
}

// world is one run's own database and broker, and the product on them.
type world struct {
	*servers
	System
	assemble func(ctx context.Context, databaseURL string, broker *bus.Server) (System, error)
	name     string
	conn     *pgx.Conn // of the bench itself
	broker   *bus.Server
	client   *bus.Bus // of whoever publishes and subscribes
}

const runDatabase = "bench_run"

// prepare changes the data of a template before the checkpoint that every run begins with.
type prepare func(context.Context, *pgx.Conn) error

// with makes a world of a template, has it used, and takes it away.
func (b *bench) with(ctx context.Context, t template, prepare prepare, use func(*world) error) (err error) {
	w := &world{servers: &b.servers, assemble: b.Assemble, name: runDatabase}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.openDatabase(ctx, t, prepare); err != nil {
		return err
	}
	if !t.limit {
		if err := w.openBroker(ctx); err != nil {
			return err
		}
		if err := w.restart(ctx); err != nil {
			return err
		}
	}
	return use(w)
}

// openBroker gives the world an empty broker, in place of the one it had.
func (w *world) openBroker(ctx context.Context) (err error) {
	if err := w.closeBroker(); err != nil {
		return err
	}
	if w.broker, err = w.startBroker(); err != nil {
		return err
	}
	if w.client, err = bus.Connect(ctx, bus.Options{Name: "handover bench", InProcess: w.broker}); err != nil {
		return err
	}
	return w.client.EnsureStreams(ctx, bus.Limits{})
}

// restart ends the product, if it runs, and makes it anew; it doesn't start it.
func (w *world) restart(ctx context.Context) (err error) {
	if err := w.stop(ctx); err != nil {
		return err
	}
	w.System, err = w.assemble(ctx, w.databaseURL(w.name), w.broker)
	return err
}

func (w *world) stop(ctx context.Context) error {
	if w.Stop == nil {
		return nil
	}
	stop := w.Stop
	w.System = System{}
	return stop(ctx)
}

func (w *world) openDatabase(ctx context.Context, t template, prepare prepare) error {
	if err := w.create(ctx, w.name, t.name()); err != nil {
		return err
	}
	if err := w.connect(ctx); err != nil {
		return err
	}
	if prepare != nil {
		if err := prepare(ctx, w.conn); err != nil {
			return err
		}
	}
	if _, err := w.conn.Exec(ctx, `CHECKPOINT`); err != nil {
		return err
	}
	return warm(ctx, w.conn)
}

// closePatience is for a world to end.
const closePatience = 30 * time.Second

func (w *world) connect(ctx context.Context) (err error) {
	w.conn, err = pgx.Connect(ctx, w.databaseURL(w.name))
	return err
}

func (w *world) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closePatience)
	defer cancel()
	errs := []error{w.stop(ctx), w.closeBroker()}
	if w.conn != nil {
		errs = append(errs, w.conn.Close(ctx), w.drop(ctx, w.name))
	}
	return errors.Join(errs...)
}

func (w *world) closeBroker() error {
	if w.client != nil {
		w.client.Close()
		w.client = nil
	}
	if w.broker == nil {
		return nil
	}
	dir := w.broker.Dir()
	w.broker.Close()
	w.broker = nil
	return os.RemoveAll(dir)
}

// measured is what do took.
func (w *world) measured(ctx context.Context, do func() error) (spent, error) {
	clock, err := startClock(ctx, w.conn)
	if err != nil {
		return spent{}, err
	}
	if err := do(); err != nil {
		return spent{}, err
	}
	return clock.stop(ctx)
}

const (
	// look is how often the end of a run is looked for, which bounds the error of the clock; lookAtOperation is for what
	// takes seconds and costs a query.
	look, lookAtOperation = 2 * time.Millisecond, 10 * time.Millisecond
	// stuckAfter is how long nothing may happen before a run is given up.
	stuckAfter = 60 * time.Second
)

// until waits for done, looking every so often. It gives up when progress stands still.
func until(ctx context.Context, what string, every time.Duration, done func() (is bool, progress int, err error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	last, since := -1, time.Now()
	for {
		is, progress, err := done()
		if err != nil || is {
			return err
		}
		if progress != last {
			last, since = progress, time.Now()
		} else if time.Since(since) > stuckAfter {
			return fmt.Errorf("%s: nothing has happened for %v, at %d", what, stuckAfter, progress)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// settled waits until n deliveries have been handled and acknowledged, and all that they led to is on the streams.
func (w *world) settled(ctx context.Context, n int) error {
	if err := until(ctx, "changes handled", look, func() (bool, int, error) {
		handled, err := w.handled()
		return handled >= n, handled, err
	}); err != nil {
		return err
	}
	if err := w.announced(ctx); err != nil {
		return err
	}
	return w.acknowledged(ctx)
}

// acknowledged waits until the consumers of role changes have nothing left to do.
func (w *world) acknowledged(ctx context.Context) error {
	return until(ctx, "changes acknowledged", look, func() (bool, int, error) {
		left, err := unacknowledged(ctx, w.client)
		return left == 0, left, err
	})
}

// announced waits until the outbox owes nothing.
func (w *world) announced(ctx context.Context) error {
	return until(ctx, "messages published", look, func() (bool, int, error) {
		owed, err := journal.Owed(ctx, w.Pool)
		return owed.Unpublished == 0, int(owed.Unpublished), err
	})
}

// handled is how many deliveries the reassigner has seen through: what its metric says.
func (w *world) handled() (int, error) {
	families, err := w.Metrics.Gather()
	n := 0.0
	for _, f := range families {
		if f.GetName() == "handover_changes_total" {
			for _, m := range f.GetMetric() {
				n += m.GetCounter().GetValue()
			}
		}
	}
	return int(n), err
}

// messagesOn is how many messages a stream has.
func messagesOn(ctx context.Context, b *bus.Bus, stream string) (int, error) {
	status, err := b.Status(ctx)
	for _, s := range status {
		if s.Stream == stream {
			return int(s.Messages), err
		}
	}
	return 0, err
}

// unacknowledged is how much on ROLE_CHANGES the consumers have still to do.
func unacknowledged(ctx context.Context, b *bus.Bus) (int, error) {
	status, err := b.Status(ctx)
	left := 0
	for _, s := range status {
		if s.Stream == event.StreamRoleChanges {
			for _, c := range s.Consumers {
				left += int(c.Pending) + c.AckPending
			}
		}
	}
	return left, err
}
