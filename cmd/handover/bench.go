package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"handover.io/cmd/handover/internal/bench"
	"handover.io/internal/bus"
	"handover.io/internal/operation"
	"handover.io/internal/service"
)

func (a *app) benchCommand() *cobra.Command {
	var o bench.Options
	_, about := bench.Mixes()
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the reassigner on this machine, beside the database's own limit",
		Long: `Makes a data set in a private PostgreSQL, runs the reassigner over role changes from an embedded broker
(everything durable, as in handover run), checks every task, owner and announcement that comes out,
and prints a table. Beside it run two limits: the bare UPDATE that moves the same tasks, without any
of the rest, and the broker alone.

Mixes (--mix, several with commas, or all):

` + about + `
It needs no run and touches none. Time for the default: about two minutes, half of it for the data set;
with --dir the data set is kept and used again. Ctrl-C stops and cleans up.

Exit code 1 when an answer was wrong: such a result counts for nothing.`,
		Example: `  handover bench
  handover bench --runs 3 --dir /var/tmp/bench --json > result.json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := o.Check(); err != nil {
				return err
			}
			o.Progress, o.Logger = a.stderr, quietLogger()
			o.Assemble = assemble(o.Logger)
			ctx := service.Signals(cmd.Context(), func() { fmt.Fprintln(a.stderr, "stopping; a second Ctrl-C ends it at once") })
			report, err := bench.Run(ctx, o)
			if err != nil {
				return failed(err)
			}
			if err := a.print(report, report.Print); err != nil {
				return failed(err)
			}
			if !report.AllRight() {
				return failed(errors.New("an answer was wrong"))
			}
			return nil
		},
	}
	c.Flags().StringSliceVar(&o.Mixes, "mix", []string{"unique"}, "what to run")
	c.Flags().IntVar(&o.Accounts, "accounts", 20_000, "accounts of the data set")
	c.Flags().IntVar(&o.Tasks, "tasks", 1_000_000, "tasks of the data set, a multiple of the accounts")
	c.Flags().IntVar(&o.Changes, "changes", 0, "role changes of a run (default 10,000; trickle and read 400)")
	c.Flags().IntVar(&o.Huge, "huge", 100_000, "open tasks of the account of the mix huge")
	c.Flags().IntVar(&o.Runs, "runs", 1, "how often each is run; the median is shown")
	c.Flags().StringVar(&o.Dir, "dir", "", "where the data set is kept; without it, in a temporary directory")
	return c
}

// quietLogger shows only what is wrong: a line per batch would be part of what is measured.
func quietLogger() *zap.Logger {
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig()), zapcore.Lock(os.Stderr), zapcore.WarnLevel))
}

// assemble makes what moves tasks, as a run does; only the HTTP API and the notifier are left out.
func assemble(log *zap.Logger) func(context.Context, string, *bus.Server) (bench.System, error) {
	return func(ctx context.Context, databaseURL string, broker *bus.Server) (bench.System, error) {
		p := &process{
			only: []string{"api", "relay", "reassigner"}, log: log, service: service.New(log),
			databaseURL: databaseURL, registry: prometheus.NewRegistry(),
		}
		s := bench.System{Metrics: p.registry, Stop: p.service.Stop}
		if err := p.connect(ctx, broker); err != nil {
			return s, err
		}
		if err := p.prepare(ctx); err != nil {
			return s, err
		}
		operations := operation.New(p.pool, p.relay.Offer, log, p.registry)
		s.Pool, s.Bus, s.Roster, s.Operations = p.pool, p.bus, p.roster, operations
		s.Start = func(ctx context.Context) error { return p.move(ctx, operations) }
		return s, nil
	}
}
