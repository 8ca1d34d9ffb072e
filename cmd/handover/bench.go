package main

import (
	"bytes"
	"context"
	"encoding/json"
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
	var from, chart string
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
A result is what it took from the start of the consumers until everything is acknowledged and announced.
"Service CPU" and memory are those of this process: the product, the client and the embedded broker.
CPU and memory are told on Linux only.

It needs no run and touches none. Time for the default: about a minute, most of it for the data set
(all mixes: four minutes); with --dir the data set is kept and used again, until the schema changes.
Ctrl-C stops and cleans up.

Exit code 1 when an answer was wrong: such a result counts for nothing.`,
		Example: `  handover bench
  handover bench --mix all --runs 3 --dir /var/tmp/bench --json > result.json
  handover bench --from result.json --chart result.svg
  handover bench --mix bulk --accounts 100000 --tasks 5000000 --changes 100000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := o.Check(); err != nil {
				return err
			}
			if from != "" {
				for _, measuring := range []string{"mix", "accounts", "tasks", "changes", "huge", "runs", "dir"} {
					if cmd.Flags().Changed(measuring) {
						return fmt.Errorf("--from measures nothing: leave out --%s", measuring)
					}
				}
			}
			report, err := a.bench(cmd.Context(), o, from)
			if err != nil {
				return failed(err)
			}
			// First what has taken minutes to measure: the picture can be made again from it.
			if err := a.print(report, report.Print); err != nil {
				return failed(err)
			}
			if chart != "" {
				if err := writeChart(chart, report); err != nil {
					return failed(fmt.Errorf("--chart: %w", err))
				}
			}
			if from == "" && !report.AllRight() {
				return failed(errors.New("an answer was wrong"))
			}
			return nil
		},
	}
	c.Flags().StringSliceVar(&o.Mixes, "mix", []string{"unique"}, "what to run")
	c.Flags().IntVar(&o.Accounts, "accounts", 20_000, "accounts of the data set")
	c.Flags().IntVar(&o.Tasks, "tasks", 1_000_000, "tasks of the data set, a multiple of the accounts")
	c.Flags().IntVar(&o.Changes, "changes", 0, "role changes of a run, of every mix (default 10,000; huge 1, trickle and read 400)")
	c.Flags().IntVar(&o.Huge, "huge", 100_000, "open tasks of the account of the mix huge")
	c.Flags().IntVar(&o.Runs, "runs", 1, "how often each is run; the median is shown")
	c.Flags().StringVar(&o.Dir, "dir", "", "where the data set is kept (1.5 GB by default); without it, in a temporary directory")
	c.Flags().StringVar(&chart, "chart", "", "file for a picture of the results (SVG)")
	c.Flags().StringVar(&from, "from", "", "measure nothing: show the results in this file, written by --json")
	return c
}

// bench measures, or reads what was measured before.
func (a *app) bench(ctx context.Context, o bench.Options, from string) (bench.Report, error) {
	if from != "" {
		text, err := os.ReadFile(from)
		if err != nil {
			return bench.Report{}, err
		}
		var report bench.Report
		if err := json.Unmarshal(text, &report); err != nil {
			return bench.Report{}, fmt.Errorf("--from: %s: %w; it must be what --json wrote", from, err)
		}
		if len(report.Results) == 0 {
			return bench.Report{}, fmt.Errorf("--from: %s has no results; it must be what --json wrote", from)
		}
		return report, nil
	}
	o.Progress, o.Logger = a.stderr, quietLogger()
	o.Assemble = assemble(o.Logger)
	ctx = service.Signals(ctx, func() { fmt.Fprintln(a.stderr, "stopping; a second Ctrl-C ends it at once") })
	report, err := bench.Run(ctx, o)
	if ctx.Err() != nil {
		return report, errors.New("stopped before the end; nothing was measured")
	}
	return report, err
}

func writeChart(path string, report bench.Report) error {
	var picture bytes.Buffer
	if err := report.Chart(&picture); err != nil {
		return err
	}
	return os.WriteFile(path, picture.Bytes(), 0o644)
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
