package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"handover.io/internal/bus"
)

// Options of a bench. The zero value of a field is its default.
type Options struct {
	Mixes    []string // of Mixes; unique by default
	Accounts int      // 20,000 by default
	Tasks    int      // 1,000,000 by default
	Changes  int      // of each mix; as many as the mix says by default
	Huge     int      // open tasks of the account of the mix huge; 100,000 by default
	Runs     int      // of which the median counts; 1 by default
	// Dir holds the servers; what is made there is kept. By default it is a temporary one that is removed.
	Dir string
	// Assemble makes the product on a database, whose schema is there, and a broker.
	Assemble func(ctx context.Context, databaseURL string, broker *bus.Server) (System, error)
	Progress io.Writer // lines for a person who waits
	Logger   *zap.Logger
}

// Check says what is wrong with the options, or returns them with the defaults set.
func (o Options) Check() (Options, error) {
	if len(o.Mixes) == 0 {
		o.Mixes = []string{"unique"}
	}
	names, _ := Mixes()
	if slices.Contains(o.Mixes, "all") {
		o.Mixes = names
	}
	for _, m := range o.Mixes {
		if !slices.Contains(names, m) {
			return o, fmt.Errorf("--mix: there is no mix %q; there are %s, and all", m, strings.Join(names, ", "))
		}
	}
	for _, n := range []struct {
		flag    string
		value   *int
		missing int
	}{{"--accounts", &o.Accounts, 20_000}, {"--tasks", &o.Tasks, 1_000_000}, {"--huge", &o.Huge, 100_000}, {"--runs", &o.Runs, 1}} {
		if *n.value < 0 {
			return o, fmt.Errorf("%s must not be negative (0 is %d)", n.flag, n.missing)
		}
		if *n.value == 0 {
			*n.value = n.missing
		}
	}
	switch {
	case o.Changes < 0:
		return o, errors.New("--changes must not be negative (0 is as many as the mix says)")
	case o.Accounts%10 != 0 || o.Accounts < 40:
		return o, errors.New("--accounts must be a multiple of ten, at least 40: the tenants share them evenly")
	case o.Tasks%o.Accounts != 0:
		return o, errors.New("--tasks must be a multiple of --accounts: each has as many")
	case o.Accounts > 1_000_000 || o.Tasks > 50_000_000:
		return o, errors.New("at most 1,000,000 --accounts and 50,000,000 --tasks")
	}
	for _, m := range mixes {
		if slices.Contains(o.Mixes, m.name) {
			if err := m.check(cmp.Or(o.Changes, m.changes), o.Accounts); err != nil {
				return o, err
			}
		}
	}
	return o, nil
}

// bench is one at work.
type bench struct {
	Options
	servers
	began   time.Time
	changes int // of the mix at work
}

// Run measures. Cancelling ctx stops everything, removes what is not to be kept, and returns its error.
func Run(ctx context.Context, o Options) (report Report, err error) {
	if o, err = o.Check(); err != nil {
		return Report{}, err
	}
	b := &bench{Options: o, began: time.Now()}
	b.servers = servers{dir: o.Dir, log: o.Logger}
	if o.Dir == "" {
		if b.dir, err = os.MkdirTemp("", "handover-bench-"); err != nil {
			return Report{}, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
		// Others may pass through: where root runs this, its PostgreSQL belongs to somebody else.
		err = os.Chmod(b.dir, 0o711)
	} else {
		err = os.MkdirAll(b.dir, 0o711)
	}
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, b.stopPostgres(context.WithoutCancel(ctx))) }()
	var all []Result
	for _, m := range mixes {
		if !slices.Contains(o.Mixes, m.name) {
			continue
		}
		b.changes = cmp.Or(o.Changes, m.changes)
		for run := range o.Runs {
			b.say("%s, run %d of %d", m.name, run+1, o.Runs)
			results, err := m.run(b, ctx)
			if err != nil {
				return Report{}, fmt.Errorf("%s: %w", m.name, err)
			}
			all = append(all, results...)
		}
	}
	machine, err := b.machine(ctx)
	return Report{Machine: machine, Results: medians(all)}, err
}

// say tells whoever waits where things are.
func (b *bench) say(format string, args ...any) {
	if b.Progress != nil {
		fmt.Fprintf(b.Progress, "%5.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

func (b *bench) machine(ctx context.Context) (Machine, error) {
	m := Machine{
		Cores: runtime.NumCPU(), OS: runtime.GOOS + "/" + runtime.GOARCH, Go: runtime.Version(),
		Accounts: b.Accounts, Tasks: b.Tasks, Runs: b.Runs, At: b.began.UTC().Truncate(time.Second),
	}
	m.CPU, m.Memory = hardware()
	err := b.admin(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT split_part(current_setting('server_version'), ' ', 1)`).Scan(&m.PostgreSQL)
	})
	return m, err
}

// need makes the templates that aren't there, and leaves PostgreSQL running as the product would run it.
func (b *bench) need(ctx context.Context, templates ...template) error {
	if b.postgres == nil {
		if err := b.startPostgres(ctx, nil); err != nil {
			return err
		}
	}
	var missing []template
	for _, t := range templates {
		found, err := b.exists(ctx, t.name())
		if err != nil {
			return err
		}
		if !found {
			missing = append(missing, t)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	if err := errors.Join(b.stopPostgres(ctx), b.startPostgres(ctx, loading())); err != nil {
		return err
	}
	for _, t := range missing {
		what := "the data set"
		if t.limit {
			what = "the limit's data set"
		}
		if err := b.make(ctx, t, func(format string, args ...any) { b.say("making "+what+": "+format, args...) }); err != nil {
			return fmt.Errorf("make %s: %w", what, err)
		}
	}
	if err := b.stopPostgres(ctx); err != nil {
		return err
	}
	flushDisks() // which a server that may lose everything has not done
	b.say("the data set is made")
	return b.startPostgres(ctx, nil)
}

// tenTenants is the data set of most mixes.
func (b *bench) tenTenants() dataset {
	return dataset{accounts: b.Accounts, tasks: b.Tasks, tenants: 10}
}

// oneTenant is that of the mixes with bulk edits: all accounts may be of one segment.
func (b *bench) oneTenant() dataset {
	return dataset{accounts: b.Accounts, tasks: b.Tasks, tenants: 1}
}
