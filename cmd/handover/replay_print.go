package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/journal"
	"handover.io/internal/replay"
)

// replayed is what a replay that was done prints.
type replayed struct {
	Run     int64        `json:"run_id"`
	Seconds float64      `json:"seconds"`
	Order   replay.Order `json:"order"`
	replay.Counts
	Owed   journal.Backlog `json:"owed"`
	Beyond *beyond         `json:"not_brought_back,omitempty"` // where the database was restored
}

// told are the counts in words.
func told(c replay.Counts) []string {
	out := []string{count(c.Messages, "change") + " selected", fmt.Sprintf("%s known", thousands(c.Known)), fmt.Sprintf("%s missing and recorded", thousands(c.Missing))}
	if c.Accounts > 0 {
		out = []string{count(c.Messages, "recorded change") + " selected", count(c.Accounts, "account") + " folded, " + thousands(c.Differed) + " differed"}
	}
	if n := c.NewDeadLetters(); n > 0 {
		out = append(out, count(n, "new dead letter")+" ("+reasons(c.DeadLetters)+")")
	}
	if c.DeadAlready > 0 {
		out = append(out, thousands(c.DeadAlready)+" dead letters before")
	}
	if c.Restored > 0 {
		out = append(out, "revisions of "+count(c.Restored, "task")+" restored from announcements")
	}
	return append(out, count(c.TasksMoved, "task")+" moved")
}

func reasons(of map[string]int) string {
	var out []string
	for _, reason := range slices.Sorted(maps.Keys(of)) {
		out = append(out, fmt.Sprintf("%s %s", thousands(of[reason]), reason))
	}
	return strings.Join(out, ", ")
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousands(n) + " " + what
}

// thousands writes 1234567 as 1,234,567.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func (r replayed) print(w io.Writer) {
	if r.Beyond != nil {
		defer r.Beyond.print(w)
	}
	fmt.Fprintf(w, "Run %d is done, in %s: %s.\n", r.Run, (time.Duration(r.Seconds * float64(time.Second))).Round(100*time.Millisecond), strings.Join(told(r.Counts), ", "))
	if r.Order.NoMail && r.TasksMoved > 0 {
		fmt.Fprintln(w, "Nobody is mailed about what moved (--no-mail).")
	}
	if r.NewDeadLetters() > 0 {
		fmt.Fprintln(w, "handover dead-letters list shows what couldn't be used, and why.")
	}
	if r.Owed.Unpublished == 0 {
		fmt.Fprintln(w, "All announcements are published.")
		return
	}
	fmt.Fprintf(w, "%s still to be published, the oldest since %s: does a relay run? handover run, or handover run --only relay, publishes them.\n",
		count(int(r.Owed.Unpublished), "message"), r.Owed.OldestAt.UTC().Format(time.DateTime))
}

func (f forecast) print(w io.Writer) {
	what := "the stream of role changes"
	if f.Order.From == replay.FromDatabase {
		what = "the changes that the database has"
	}
	fmt.Fprintf(w, "A replay from %s would do this:\n\n", what)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name string, n int, about string) { fmt.Fprintf(table, "%s\t%s\t%s\n", name, thousands(n), about) }
	if f.Order.From == replay.FromDatabase {
		line("Recorded changes", f.Messages, "selected")
		line("Accounts", f.Accounts, fmt.Sprintf("would be folded again, %s of them differ", thousands(f.Differed)))
	} else {
		line("Changes", f.Messages, "selected")
		line("Known", f.Known, "have no effect again")
		line("Missing", f.Missing, "would be recorded")
		about := "would be new"
		if f.NewDeadLetters() > 0 {
			about += ": " + reasons(f.DeadLetters)
		}
		if f.DeadAlready > 0 {
			about += fmt.Sprintf("; %s more there are already", thousands(f.DeadAlready))
		}
		line("Dead letters", f.NewDeadLetters(), about)
	}
	if f.Restored > 0 {
		line("Revisions", f.Restored, "of tasks would be restored from announcements, which the database has forgotten")
	}
	line("Owners", f.Owners, "of roles would be others")
	line("Tasks", f.TasksMoved, "would move")
	mails := 0
	for _, m := range f.Mailed {
		mails += m.Mails
	}
	about := "would be mailed, " + count(mails, "mail")
	if f.Order.NoMail {
		about = "would be mailed (--no-mail)"
	}
	line("People", len(f.Mailed), about)
	line("Owed", int(f.Owed.Unpublished), "messages wait to be published anyway")
	_ = table.Flush()
	if len(f.Moves) > 0 {
		fmt.Fprintln(w)
		table = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "TENANT\tACCOUNT\tTASK\tFROM\tTO")
		for _, m := range f.Moves {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", m.TenantID, safe.Text(m.AccountID), safe.Text(m.TaskID), safe.Text(orNobody(m.From)), safe.Text(orNobody(m.To)))
		}
		_ = table.Flush()
		if more := f.TasksMoved - len(f.Moves); more > 0 {
			fmt.Fprintf(w, "… and %s more\n", thousands(more))
		}
	}
	if f.idle() {
		fmt.Fprintln(w, "\nNothing was done, and nothing is to be done.")
		return
	}
	fmt.Fprintln(w, "\nNothing was done. Give the same command with --apply to do it.")
}

// idle tells whether the replay would change nothing.
func (f forecast) idle() bool {
	return f.Missing+f.NewDeadLetters()+f.Restored+f.Differed+f.Owners+f.TasksMoved == 0
}

func orNobody(person string) string {
	if person == "" {
		return "(nobody)"
	}
	return person
}

// replayBar shows how far a replay is, to a person at a terminal.
type replayBar struct{ bar *progressbar.ProgressBar }

func (a *app) replayBar(what string) *replayBar {
	if !terminal(a.stderr) {
		return &replayBar{}
	}
	return &replayBar{progressbar.NewOptions64(-1, progressbar.OptionSetWriter(a.stderr), progressbar.OptionSetDescription(what), progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionSetPredictTime(true))}
}

func (b *replayBar) show(p replay.Progress) {
	if b.bar == nil {
		return
	}
	b.bar.ChangeMax64(max(p.Total, p.Done, 1))
	_ = b.bar.Set64(p.Done)
}

func (b *replayBar) end() {
	if b.bar != nil {
		_ = b.bar.Clear()
	}
}

func (a *app) replayList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the replays that were done, the latest first",
		Example: "  handover replay list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.open(cmd.Context(), "replay list", false)
			if err != nil {
				return err
			}
			defer s.close()
			runs, err := journal.Runs(cmd.Context(), s.pool, replay.Command, 100)
			if err != nil {
				return failed(err)
			}
			return failed(a.print(map[string]any{"items": append([]journal.Run{}, runs...)}, func(w io.Writer) { printRuns(w, runs) }))
		},
	}
}

func (a *app) replayShow() *cobra.Command {
	return &cobra.Command{
		Use:     "show RUN",
		Short:   "Show a replay: who did it, what it was asked to do, and what came of it",
		Example: "  handover replay show 12",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil {
				return fmt.Errorf("%q is no number of a run; handover replay list shows them", args[0])
			}
			s, err := a.open(cmd.Context(), "replay show", false)
			if err != nil {
				return err
			}
			defer s.close()
			run, err := journal.FindRun(cmd.Context(), s.pool, id)
			if err == nil && run.Command != replay.Command {
				err = fmt.Errorf("it is one of %s", run.Command)
			}
			if errors.Is(err, journal.ErrNoRun) {
				err = fmt.Errorf("%w; handover replay list shows them", err)
			}
			if err != nil {
				return failed(fmt.Errorf("run %d: %w", id, err))
			}
			return failed(a.print(run, func(w io.Writer) {
				printRuns(w, []journal.Run{*run})
				fmt.Fprintf(w, "\nAsked for  %s\nCame to    %s\n", safe.Text(string(run.Arguments)), safe.Text(string(run.Counts)))
				if run.Cursor != "" {
					fmt.Fprintf(w, "Is at      %s\n", run.Cursor)
				}
				if run.Problem != "" {
					fmt.Fprintf(w, "Problem    %s\n", safe.Text(run.Problem))
				}
				if run.State != "done" {
					fmt.Fprintf(w, "\nGo on with: handover replay --resume=%d --apply\n", run.ID)
				}
			}))
		},
	}
}

func printRuns(w io.Writer, runs []journal.Run) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RUN\tSTATE\tBY\tSTARTED\tENDED\tARGUMENTS")
	for _, r := range runs {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\n", r.ID, r.State, safe.Text(r.Actor), minute(&r.StartedAt), minute(r.EndedAt), safe.Text(string(r.Arguments)))
	}
	_ = table.Flush()
}

// terminal tells whether somebody looks at what is written there.
func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
