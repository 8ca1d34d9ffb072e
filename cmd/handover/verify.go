package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/bus"
	"handover.io/internal/operation"
	"handover.io/internal/service"
	"handover.io/internal/verify"
)

func (a *app) verifyCommand() *cobra.Command {
	var o verify.Options
	var only []string
	var fix, apply bool
	var as string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Compare database, streams and announcements, and mend what differs",
		Long: `Looks for whatever doesn't agree: owners and assignees that aren't what the role changes make of them, changes on
the stream that the database lacks, moves that weren't announced or that nobody is told of, messages that a stream has
lost, what people who left still have, mails that are overdue, dead letters, operations that don't end. Each finding
names the command that mends it.

It only reads, in short snapshots, while everything goes on, and finds nothing on a healthy system however busy that is.
--pace is the part of the time in which the database works for it.

With --fix it shows what it would mend by itself, and with --fix --apply it does: it counts and folds accounts again,
hands on what people who left still have, announces moves that weren't, publishes again what a stream lost, and ends
operations that are complete. What it moves is recorded, announced and mailed as ever; mails themselves it never touches.

Kinds (--only, several with commas): ` + kindNames() + `.

Exit code 0 when all is right (notes are no fault) or was mended, 1 with a list of what isn't.`,
		Example: `  handover verify
  handover verify --tenant acme --account a-17
  handover verify --only owner,assignee --fix
  handover verify --fix --apply --as zoe
  handover verify --json | jq '.results[] | {kind, count, remedy}'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, k := range only {
				if !slices.Contains(verify.Kinds(), verify.Kind(k)) {
					return fmt.Errorf("--only: there is no kind %q; there are %s", k, kindNames())
				}
				o.Only = append(o.Only, verify.Kind(k))
			}
			switch {
			case o.Account != "" && o.Tenant == "":
				return fmt.Errorf("--account: give --tenant too, whose account it is")
			case apply && !fix:
				return fmt.Errorf("--apply: goes with --fix; without it nothing is written")
			case o.Duty <= 0 || o.Duty > 1:
				return fmt.Errorf("--pace: must be above 0 and at most 1")
			}
			ctx := service.Signals(cmd.Context(), func() { fmt.Fprintln(a.stderr, "stopping; a second Ctrl-C ends it at once") })
			return a.verify(ctx, o, fix, apply, as)
		},
	}
	c.Flags().StringVar(&o.Tenant, "tenant", "", "only this tenant; all by default")
	c.Flags().StringVar(&o.Account, "account", "", "only this account of the tenant: its owners, tasks and revisions")
	c.Flags().StringSliceVar(&only, "only", nil, "only these kinds")
	c.Flags().BoolVar(&o.Thorough, "thorough", false, "compare every message that the streams should have, not a sample")
	c.Flags().Float64Var(&o.Duty, "pace", 0.5, "part of the time in which the database works for this, up to 1")
	c.Flags().BoolVar(&fix, "fix", false, "show what would be mended")
	c.Flags().BoolVar(&apply, "apply", false, "with --fix: mend it")
	c.Flags().StringVar(&as, "as", "", "who does this, for the record; the user of this machine by default")
	return c
}

func kindNames() string {
	names := make([]string, 0, len(verify.Kinds()))
	for _, k := range verify.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// verified is the answer of the command.
type verified struct {
	verify.Report
	Right    bool             `json:"right"`
	Mendable *verify.Mendable `json:"mendable,omitempty"` // with --fix
	Mended   *verify.Mended   `json:"mended,omitempty"`   // with --fix --apply
}

func (a *app) verify(ctx context.Context, o verify.Options, fix, apply bool, as string) error {
	s, err := a.open(ctx, "verify", o.Account == "")
	if err != nil {
		return err
	}
	defer s.close()
	if err := nameOf(o.Tenant, o.Account).check(ctx, s.pool, nil); err != nil {
		return err
	}
	var broker verify.Broker
	if s.bus != nil {
		broker = verifiedBroker(s.bus)
	}
	if fix && len(o.Only) > 0 && s.bus != nil && !slices.Contains(o.Only, verify.MissingChange) {
		o.Only = append(o.Only, verify.MissingChange) // what is missing is to be delivered before anything is folded
	}
	bar := &stepBar{out: a.stderr}
	o.Progress = bar.show
	report, err := verify.Verify(ctx, s.pool, broker, o)
	bar.end()
	if err != nil {
		return failed(err)
	}
	answer := verified{Report: report, Right: report.Right()}
	if fix {
		m := report.Mendable()
		answer.Mendable = &m
	}
	if apply {
		done, err := verify.Mend(ctx, s.pool, report, verify.MendOptions{
			Actor: operator(as), Arguments: map[string]any{"tenant": o.Tenant, "account": o.Account, "only": o.Only, "thorough": o.Thorough},
			Finish: operation.Recount, Progress: func(done, total int64) { bar.show("mending", done, total) },
		})
		bar.end()
		if err != nil {
			return failed(err)
		}
		answer.Mended = &done
	}
	if err := a.print(answer, answer.print); err != nil {
		return failed(err)
	}
	// What was mended is right when that has been published.
	if apply && report.Mendable().Others == 0 {
		return nil
	}
	if !answer.Right {
		return &failedError{}
	}
	return nil
}

// verifiedBroker lets a verification ask the broker.
func verifiedBroker(b *bus.Bus) verify.Broker {
	return verify.Broker{
		Streams: func(ctx context.Context) ([]verify.Stream, error) {
			all, err := b.Status(ctx)
			var out []verify.Stream
			for _, s := range all {
				one := verify.Stream{Name: s.Stream, Created: s.Created, FirstSeq: s.FirstSeq, LastSeq: s.LastSeq, Consumers: map[string]verify.Consumer{}}
				for _, c := range s.Consumers {
					one.Consumers[c.Consumer] = verify.Consumer{Handled: c.AckFloor}
				}
				out = append(out, one)
			}
			return out, err
		},
		Read: streamsOf(b).Read,
	}
}

// findingsShown is how many findings of a kind are printed for a person.
const findingsShown = 20

func (v verified) print(out io.Writer) {
	l := v.Looked
	fmt.Fprintf(out, "Looked at %d accounts with %d open tasks, %d moves, %d announcements and %d role changes on the stream, in %s.\n",
		l.Accounts, l.Tasks, l.Moves, l.Announcements, l.RoleChanges, v.Took.Round(10*time.Millisecond))
	for _, u := range v.Unknown {
		fmt.Fprintf(out, "Can't be told: %s.\n", u)
	}
	for _, r := range v.Results {
		mark := "✗"
		if r.Note {
			mark = "·"
		}
		fmt.Fprintf(out, "\n%s %s (%d): %s\n", mark, r.Kind, r.Count, r.What)
		for _, f := range r.Findings[:min(findingsShown, len(r.Findings))] {
			fmt.Fprintf(out, "    %s\n", safe.Text(f.Says))
		}
		if r.Count > findingsShown {
			fmt.Fprintf(out, "    … and %d more (--json lists them)\n", r.Count-findingsShown)
		}
		fmt.Fprintf(out, "  → %s\n", safe.Text(r.Remedy))
	}
	fmt.Fprintln(out)
	switch {
	case v.Mended != nil:
		m := v.Mended
		fmt.Fprintf(out, "Mended: %d accounts looked at again, %d rows set right, %d tasks moved, %d roles and people's tasks handed on,\n"+
			"%d moves announced, %d messages owed to the streams again, %d operations ended. Give handover verify again when the\n"+
			"relay has published that; what it still lists needs the commands above.\n",
			m.Accounts, m.Written, m.TasksMoved, m.HandedOn, m.Announced, m.Republish, m.Operations)
	case v.Mendable != nil && *v.Mendable == verify.Mendable{}:
		fmt.Fprintln(out, "There is nothing to mend.")
	case v.Mendable != nil && *v.Mendable == verify.Mendable{Others: v.Mendable.Others}:
		fmt.Fprintf(out, "There is nothing that this mends; %d findings are for the commands above.\n", v.Mendable.Others)
	case v.Mendable != nil:
		m := v.Mendable
		fmt.Fprintf(out, "Would count and fold again %d accounts, hand on %d roles and people's tasks, announce %d moves, publish again %d messages,\n"+
			"end %d operations; %d findings are for the commands above. Nothing was written: give --fix --apply to do it.\n",
			m.Accounts, m.Left, m.Moves, m.Messages, m.Operations, m.Others)
	case v.Right:
		fmt.Fprintln(out, "All is right.")
	}
}

// stepBar shows a bar for one step after the other, on a terminal.
type stepBar struct {
	out  io.Writer
	step string
	bar  *progressbar.ProgressBar
}

func (b *stepBar) show(step string, done, total int64) {
	f, isFile := b.out.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) {
		return
	}
	if b.step != step {
		b.end()
		b.step = step
		b.bar = progressbar.NewOptions64(max(total, 1), progressbar.OptionSetWriter(b.out), progressbar.OptionSetDescription(step), progressbar.OptionShowCount(),
			progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true))
	}
	b.bar.ChangeMax64(max(total, done, 1))
	_ = b.bar.Set64(done)
}

func (b *stepBar) end() {
	if b.bar != nil {
		_ = b.bar.Finish()
		b.bar, b.step = nil, ""
	}
}
