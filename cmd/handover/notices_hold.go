package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
)

func (a *app) noticesHold() *cobra.Command {
	because, as, apply := "", "", false
	c := &cobra.Command{
		Use:   "hold --because TEXT",
		Short: "Put all mails on hold",
		Long: `Puts mails on hold: none goes out any more, from any process, until they are released. Windows go on
gathering and closing, and nothing is lost. Mails that are just being sent go out.`,
		Example: `  handover notices hold --because 'the wrong segment was reassigned' --apply`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if because == "" {
				return errors.New("--because: say why, for those who find mails on hold")
			}
			return a.onNotices(cmd.Context(), "", func(s *servers, n *notify.Notifier) error {
				if !apply {
					hold, err := n.Held(cmd.Context())
					if err != nil {
						return err
					}
					return a.print(map[string]any{"hold": hold, "applied": false}, func(w io.Writer) {
						sayHold(w, hold)
						fmt.Fprintln(w, "Nothing was done: with --apply, mails would be put on hold.")
					})
				}
				run, err := journal.BeginRun(cmd.Context(), s.pool, "notices hold", operator(as), map[string]string{"because": because})
				if err != nil {
					return err
				}
				err = n.Hold(cmd.Context(), because, run.Actor)
				if err := errors.Join(err, run.End(cmd.Context(), struct{}{}, err)); err != nil {
					return err
				}
				hold, err := n.Held(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(map[string]any{"hold": hold, "applied": true, "run_id": run.ID}, func(w io.Writer) {
					fmt.Fprintf(w, "Mails are on hold (run %d).\n", run.ID)
				})
			})
		},
	}
	c.Flags().StringVar(&because, "because", "", "why")
	c.Flags().BoolVar(&apply, "apply", false, "do it; without, it is only shown")
	c.Flags().StringVar(&as, "as", "", "who does it, for the record; the user of this machine unless given")
	return c
}

func (a *app) noticesRelease() *cobra.Command {
	var before moment
	as, apply := "", false
	c := &cobra.Command{
		Use:   "release",
		Short: "Say what would go out when mails are released, and release them",
		Long: `Shows what waits while mails are on hold, and with --apply lets it go.

After a restore give --sent-before with the time up to which mails had been going out before: when the
service went down, or now. Every unfinished window that was to close before that becomes ambiguous: it is
shown and never sent by itself, since it may have been sent; resend is possible. Windows that close later
go out as ever.

` + momentHelp,
		Example: `  handover notices release
  handover notices release --apply
  handover notices release --sent-before 2026-03-01T09:40:00Z --apply     # restored; down since 9:40`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.onNotices(cmd.Context(), "", func(s *servers, n *notify.Notifier) error {
				hold, err := n.Held(cmd.Context())
				if err != nil {
					return err
				}
				waiting, err := n.Unfinished(cmd.Context(), before.Time)
				if err != nil {
					return err
				}
				if !apply {
					return a.print(map[string]any{"hold": hold, "waiting": waiting, "applied": false}, func(w io.Writer) {
						sayWaiting(w, hold, waiting)
						fmt.Fprintln(w, wouldRelease(hold, before.Time, waiting))
					})
				}
				return a.release(cmd.Context(), s, n, hold, before.Time, as)
			})
		},
	}
	momentFlag(c, &before, "sent-before", "hold back, as ambiguous, what was to close before then: it may have been sent")
	c.Flags().BoolVar(&apply, "apply", false, "do it; without, it is only shown")
	c.Flags().StringVar(&as, "as", "", "who does it, for the record; the user of this machine unless given")
	return c
}

func (a *app) release(ctx context.Context, s *servers, n *notify.Notifier, hold *notify.MailHold, before time.Time, as string) error {
	if hold == nil {
		return errors.New("mails aren't on hold, so there is nothing to release")
	}
	arguments := map[string]any{"hold": hold}
	if !before.IsZero() {
		arguments["sent_before"] = before
	}
	run, err := journal.BeginRun(ctx, s.pool, "notices release", operator(as), arguments)
	if err != nil {
		return err
	}
	settled, err := n.Release(ctx, before)
	if err := errors.Join(err, run.End(ctx, map[string]int{"ambiguous": settled}, err)); err != nil {
		return err
	}
	return a.print(map[string]any{"ambiguous": settled, "applied": true, "run_id": run.ID}, func(w io.Writer) {
		if settled > 0 {
			fmt.Fprintf(w, "%s may have been sent before, and %s held back as ambiguous: handover notices list --state ambiguous\n",
				countOf(settled, "mail"), map[bool]string{true: "is", false: "are"}[settled == 1])
		}
		fmt.Fprintf(w, "Mails are released (run %d).\n", run.ID)
	})
}

func sayWaiting(w io.Writer, hold *notify.MailHold, waiting []notify.Unfinished) {
	if hold == nil {
		fmt.Fprintln(w, "Mails aren't on hold.")
	} else {
		fmt.Fprintf(w, "Mails are on hold since %s, by %s: %s.\n\n", minute(&hold.Since), safe.Text(hold.By), safe.Brief(hold.Reason))
	}
	if len(waiting) == 0 {
		fmt.Fprintln(w, "No window is unfinished.")
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STATE\tWINDOWS\tRECIPIENTS\tOLDEST CLOSE\tWHAT WOULD BECOME OF IT")
	for _, u := range waiting {
		becomes := map[string]string{notify.Open: "goes on gathering, then a mail", notify.Closed: "a mail", notify.Sending: "a mail that is being sent, or was when the dump was made"}[u.State]
		if u.SentBefore {
			becomes = "ambiguous, not sent"
		}
		fmt.Fprintf(table, "%s\t%d\t%d\t%s\t%s\n", u.State, u.Windows, u.Recipients, minute(u.OldestDue), becomes)
	}
	_ = table.Flush()
}

func wouldRelease(hold *notify.MailHold, before time.Time, waiting []notify.Unfinished) string {
	if hold == nil {
		return "Nothing was done, and nothing is to be done."
	}
	held, out := 0, 0
	for _, u := range waiting {
		if u.SentBefore {
			held += u.Windows
		} else {
			out += u.Windows
		}
	}
	what := fmt.Sprintf("mails would be released: %s", countOf(out, "window"))
	if !before.IsZero() {
		what += fmt.Sprintf(", while %d held back as ambiguous", held)
	}
	return "Nothing was done: with --apply, " + what + "."
}
