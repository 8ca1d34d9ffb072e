package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/target"
	"handover.io/internal/postgres"
)

func (a *app) migrateCommand() *cobra.Command {
	dryRun := false
	c := &cobra.Command{
		Use:   "migrate",
		Short: "Bring the database up to date",
		Long: `Brings the schema of the database up to date. A run of everything in one process does so by itself;
where the parts run apart (run --only …) give this command first, once for each new version.

It can be given at any time, also while others give it and while processes of the version before work, which go on with
the new schema: so an upgrade needs no pause. It does nothing when there is nothing to do.`,
		Example: `  HANDOVER_DATABASE_URL=postgres://handover:secret@db:5432/handover handover migrate
  handover migrate --dry-run     # says how many migrations are missing; exit code 1 if any`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := a.find(target.Target.NeedDatabase)
			if err != nil {
				return err
			}
			pending, err := postgres.Pending(cmd.Context(), t.DatabaseURL)
			if err != nil {
				return failed(err)
			}
			newer, err := postgres.Newer(cmd.Context(), t.DatabaseURL)
			if err != nil {
				return failed(err)
			}
			began := time.Now()
			if !dryRun {
				if err := postgres.Migrate(cmd.Context(), t.DatabaseURL); err != nil {
					return failed(err)
				}
			}
			result := struct {
				Migrations int     `json:"migrations"`
				Newer      int     `json:"newer"` // of the database, that this program doesn't know
				Applied    bool    `json:"applied"`
				Seconds    float64 `json:"seconds"`
			}{pending, newer, !dryRun, time.Since(began).Seconds()}
			if err := a.print(result, func(w io.Writer) {
				switch {
				case newer > 0:
					fmt.Fprintf(w, "The database is %d migrations newer than this program: a newer one has migrated it. Upgrade the program.\n", newer)
				case pending == 0:
					fmt.Fprintln(w, "The database is up to date.")
				case dryRun:
					fmt.Fprintf(w, "The database lacks %d migrations.\n", pending)
				default:
					fmt.Fprintf(w, "Applied %d migrations in %.1f s.\n", pending, result.Seconds)
				}
			}); err != nil {
				return failed(err)
			}
			if dryRun && pending > 0 {
				return &failedError{}
			}
			return nil
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only say what is missing")
	return c
}
