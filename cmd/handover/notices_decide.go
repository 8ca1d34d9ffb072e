package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
)

// decidedAtOnce is how many notices one transaction decides about.
const decidedAtOnce = 200

// deciding is what resend and settle share.
type deciding struct {
	picked
	verb, done string   // "resend", "to be sent again"
	states     []string // of the notices that it is about
	why        map[string]string
	do         func(ctx context.Context, n *notify.Notifier, ids []int64, by string) ([]notify.Decision, error)
	note       func(notify.Notice) string
	as         string
	apply      bool
}

func (a *app) noticesResend() *cobra.Command {
	d := &deciding{
		verb: "resend", done: "to be sent again", states: []string{notify.Ambiguous, notify.Undeliverable},
		why: map[string]string{
			notify.Open: "its window is still open, and its mail goes out by itself", notify.Closed: "its mail goes out by itself",
			notify.Sending: "its mail is being sent", notify.Sent: "the mail server has taken it", notify.Suppressed: "there was nothing to send",
			notify.Merged: "it is told by the mail of another notice: resend that one",
		},
		do: func(ctx context.Context, n *notify.Notifier, ids []int64, _ string) ([]notify.Decision, error) {
			return n.Resend(ctx, ids)
		},
		note: func(n notify.Notice) string {
			if n.State == notify.Ambiguous {
				return "may arrive a second time; ask first"
			}
			return "written anew, as things are then; may have nothing left to tell"
		},
	}
	c := d.command(a)
	c.Short = "Send ambiguous or undeliverable mails again"
	c.Long = `Has mails sent again, each as a new mail under a Message-ID of its own. Only those that may not have
arrived: ambiguous ones, whose mail is the one that was written then, and undeliverable ones, which are
written anew, as things are now. An ambiguous mail may arrive a second time. Two persons who send one
again at the same time send it once. They go out within seconds, unless mails are on hold.

` + momentHelp
	c.Example = `  handover notices resend 4711
  handover notices resend 4711 4712 --apply
  handover notices resend --state undeliverable --since 2h --apply     # the mail server had refused everybody`
	return c
}

func (a *app) noticesSettle() *cobra.Command {
	d := &deciding{
		verb: "settle", done: "counted as sent", states: []string{notify.Ambiguous},
		why: map[string]string{},
		do: func(ctx context.Context, n *notify.Notifier, ids []int64, by string) ([]notify.Decision, error) {
			return n.Settle(ctx, ids, by)
		},
		note: func(notify.Notice) string { return "counts as sent; nothing is sent" },
	}
	c := d.command(a)
	c.Short = "Count ambiguous mails as sent, since they arrived"
	c.Long = `Counts ambiguous mails as sent, without sending anything: somebody has asked the persons, or found them in
the mail server's log.

` + momentHelp
	c.Example = `  handover notices settle 4711 --apply
  handover notices settle --recipient grace.kim --since 1d --apply`
	return c
}

func (d *deciding) command(a *app) *cobra.Command {
	c := &cobra.Command{
		Use: d.verb + " [ID…]",
		RunE: func(cmd *cobra.Command, args []string) error {
			search, err := d.search(a.target.Tenant, args, d.states)
			switch {
			case err != nil:
				return err
			case len(args) == 0 && !d.narrow(a.target.Tenant):
				return errors.New("which notices? give ids, or filters such as --state or --recipient")
			case len(args) > 0 && d.narrow(""):
				return errors.New("give ids or filters, not both")
			case len(args) == 0 && len(search.States) == 0:
				search.States = d.states
			}
			return a.onNotices(cmd.Context(), d.account, func(s *servers, n *notify.Notifier) error { return d.run(cmd.Context(), a, s, n, search) })
		},
	}
	d.flags(c, d.states...)
	c.Flags().BoolVar(&d.apply, "apply", false, "do it; without, it is only shown")
	c.Flags().StringVar(&d.as, "as", "", "who does it, for the record; the user of this machine unless given")
	return c
}

func (d *deciding) run(ctx context.Context, a *app, s *servers, n *notify.Notifier, search notify.Search) error {
	found, err := n.Find(ctx, search)
	if err != nil {
		return err
	}
	if err := d.check(search, found); err != nil {
		return err
	}
	if !d.apply {
		return d.show(ctx, a, n, found)
	}
	ids := make([]int64, len(found))
	for i, f := range found {
		ids[i] = f.ID
	}
	slices.Sort(ids)
	run, err := journal.BeginRun(ctx, s.pool, "notices "+d.verb, operator(d.as), search)
	if err != nil {
		return err
	}
	var all []notify.Decision
	done := 0
	for part := range slices.Chunk(ids, decidedAtOnce) {
		var decisions []notify.Decision
		if decisions, err = d.do(ctx, n, part, run.Actor); err != nil {
			break
		}
		all = append(all, decisions...)
		for _, one := range decisions {
			if one.Done {
				done++
			}
		}
		if err = run.Save(ctx, fmt.Sprint(part[len(part)-1]), map[string]int{"done": done}); err != nil {
			break
		}
	}
	if err := errors.Join(err, run.End(ctx, map[string]any{"done": done, "notices": all}, err)); err != nil {
		return err
	}
	if err := a.print(map[string]any{"run_id": run.ID, "items": all}, func(w io.Writer) {
		for _, one := range all {
			if !one.Done {
				fmt.Fprintf(w, "%d: left as it is: somebody else was faster, it is %s.\n", one.ID, one.State)
			}
		}
		fmt.Fprintf(w, "%d of %d %s (run %d).\n", done, len(all), d.done, run.ID)
	}); err != nil {
		return err
	}
	if done < len(all) {
		return &failedError{}
	}
	return nil
}

// check refuses ids that aren't there, or are in no state for it, with the reason.
func (d *deciding) check(search notify.Search, found []notify.Notice) error {
	for _, id := range search.IDs {
		at := slices.IndexFunc(found, func(n notify.Notice) bool { return n.ID == id })
		if at < 0 {
			return fmt.Errorf("ID %d: %w; handover notices list --all shows the ids", id, notify.ErrNoNotice)
		}
		if n := found[at]; !slices.Contains(d.states, n.State) {
			why := d.why[n.State]
			if why == "" {
				why = "nobody is in doubt about it"
			}
			return fmt.Errorf("ID %d: can't %s it: it is %s, %s; nothing was done", id, d.verb, n.State, why)
		}
	}
	return nil
}

func (d *deciding) show(ctx context.Context, a *app, n *notify.Notifier, found []notify.Notice) error {
	hold, err := n.Held(ctx)
	if err != nil {
		return err
	}
	return a.print(map[string]any{"items": noticesJSON(found), "hold": hold, "applied": false}, func(w io.Writer) {
		sayHold(w, hold)
		noticeTable(w, found)
		said := map[string]bool{}
		for _, f := range found {
			if note := d.note(f); !said[f.State] {
				said[f.State] = true
				fmt.Fprintf(w, "%s: %s.\n", f.State, note)
			}
		}
		if len(found) == 1 && found[0].State == notify.Ambiguous {
			if detail, err := n.Show(ctx, found[0].ID); err == nil && detail.Text != "" {
				fmt.Fprintf(w, "\nThe mail, to %s:\n\n%s\n", safe.Text(detail.To), safe.Lines(detail.Text))
			}
		}
		if len(found) == 0 {
			fmt.Fprintln(w, "Nothing was done, and nothing is to be done: there is no such notice.")
			return
		}
		fmt.Fprintf(w, "Nothing was done: with --apply, %s would be %s.\n", countOf(len(found), "notice"), strings.TrimPrefix(d.done, "to be "))
	})
}

func countOf(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
