package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/standing"
	"handover.io/cmd/handover/internal/target"
	"handover.io/internal/bus"
	"handover.io/internal/postgres"
)

// statusPatience is how long the broker and the database may take to answer.
const statusPatience = 10 * time.Second

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say how things stand, and what needs attention",
		Long: `Shows the streams and how far their consumers are, what waits to be published, the mail windows,
dead letters and the operations under way.

Exit code 1 when something needs attention: dead letters, overdue or ambiguous mails, a consumer
that is behind or was never run, a stream that is nearly full.`,
		Example: `  handover status
  handover status --json | jq .attention`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := a.find(target.Target.NeedDatabase, target.Target.NeedBroker)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), statusPatience)
			defer cancel()
			pool, err := postgres.Open(ctx, t.DatabaseURL, postgres.Options{MaxConns: 2})
			if err != nil {
				return err
			}
			defer pool.Close()
			broker, err := bus.Connect(ctx, bus.Options{URL: t.NATSURL, Name: "handover status"})
			if err != nil {
				return err
			}
			defer broker.Close()
			s, err := standing.Read(ctx, pool, broker.Status)
			if err != nil && t.Local != "" {
				err = fmt.Errorf("%w (is the run of %s still running?)", err, t.Local)
			}
			if err != nil {
				return failed(err)
			}
			if err := a.print(s, s.Print); err != nil {
				return failed(err)
			}
			if len(s.Attention) > 0 {
				return &failedError{}
			}
			return nil
		},
	}
}
