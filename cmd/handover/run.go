package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"handover.io/cmd/handover/internal/parts"
	"handover.io/internal/notify"
	"handover.io/internal/service"
)

// stopPatience is what everything together may take to stop: mails under way end within ten seconds, and the private
// PostgreSQL writes to disk what it has.
const stopPatience = 30 * time.Second

var allParts = []string{"api", "relay", "reassigner", "notifier"}

func (a *app) runCommand() *cobra.Command {
	var only []string
	printConfig := false
	c := &cobra.Command{
		Use:   "run",
		Short: "Run Handover: everything in one process, or single parts of it",
		Long: `Runs the API, the reassigner, the notifier and the relay, and, unless the configuration names
others, a private PostgreSQL and an embedded NATS server. The first run on an empty data directory
makes a demo company to try things on. The first Ctrl-C stops it in order, the second at once.

With --only, one or more parts run, against a PostgreSQL and a NATS that they share with the others:

  api          HTTP: what people and upstream systems ask for; expands what is about many accounts
  relay        publishes what the others have committed but could not publish themselves
  reassigner   applies role changes: moves tasks
  notifier     gathers moves into mails and sends them

Any number of each may run. Give handover migrate before.

The configuration is environment variables; --print-config explains them.`,
		Example: `  handover run
  HANDOVER_NOTICE_WINDOW=30s handover run        # mails after 30 s instead of 15 min
  handover run --only reassigner,relay
  handover run --print-config`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if printConfig {
				return a.printConfig()
			}
			for _, part := range only {
				if !slices.Contains(allParts, part) {
					return fmt.Errorf("--only: there is no part %q; the parts are %s", part, strings.Join(allParts, ", "))
				}
			}
			config, err := a.config(len(only) > 0)
			if err != nil {
				return err
			}
			return failed(a.run(cmd.Context(), config, only))
		},
	}
	c.Flags().StringSliceVar(&only, "only", nil, "parts to run: "+strings.Join(allParts, ", "))
	c.Flags().BoolVar(&printConfig, "print-config", false, "explain the configuration, with the present values, and check it")
	return c
}

// config is the checked configuration of a run. The flag --data-dir goes over its variable.
func (a *app) config(servers bool) (service.Config, error) {
	return service.Load(a.runEnviron(), service.Needs{Servers: servers, Checks: map[string]func(string) error{
		"HANDOVER_SMTP_URL":  func(v string) error { _, err := notify.ParseSMTPURL(v); return err },
		"HANDOVER_MAIL_FROM": notify.CheckFrom,
	}})
}

func (a *app) runEnviron() []string {
	if a.target.DataDir == "" {
		return a.environ
	}
	return append(slices.Clone(a.environ), "HANDOVER_DATA_DIR="+a.target.DataDir)
}

func (a *app) printConfig() error {
	variables := service.Variables(a.runEnviron())
	if err := a.print(variables, func(w io.Writer) {
		for _, v := range variables {
			value := v.Value
			if !v.Set {
				value += " (default)"
			}
			fmt.Fprintf(w, "%s = %s\n    %s\n", v.Name, strings.TrimSpace(value), v.About)
			if v.Set && v.Default != "" {
				fmt.Fprintf(w, "    Default: %s\n", v.Default)
			}
		}
	}); err != nil {
		return failed(err)
	}
	_, err := a.config(false)
	return err
}

// run starts everything, waits for a signal, and stops everything.
func (a *app) run(ctx context.Context, config service.Config, only []string) (err error) {
	began := time.Now()
	health := parts.NewWatch()
	log := health.Listen(service.Logger(config))
	ctx = service.Signals(ctx, func() { log.Info("stopping; a second signal ends it at once") })
	svc := service.New(log)
	defer func() {
		patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopPatience)
		defer cancel()
		stopErr := svc.Stop(patience)
		if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
			err = nil
			log.Info("stopped")
		}
		err = errors.Join(err, stopErr)
		_ = log.Sync()
	}()
	p := &process{config: config, only: only, log: log, health: health, service: svc}
	if err := p.start(ctx); err != nil {
		return err
	}
	if err := p.announce(ctx, a.stdout, a.json, time.Since(began)); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.apiEnded:
		return err
	}
}

// logged is how a step of the start is told to whoever watches.
func (p *process) logged(what string, began time.Time) {
	p.log.Info(what, zap.Duration("took", time.Since(began).Round(time.Millisecond)))
}
