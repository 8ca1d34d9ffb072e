package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"handover.io/cmd/handover/internal/standing"
)

// statusPatience is how long the broker and the database may take to answer.
const statusPatience = 5 * time.Second

func (a *app) statusCommand() *cobra.Command {
	watch, every := false, 2*time.Second
	c := &cobra.Command{
		Use:   "status",
		Short: "Say how things stand, and what needs attention",
		Long: `Shows what needs somebody, and what to do about it; then for each part what waits for it, for how long,
what it did in the last minute, and in which processes it runs; the last trouble of each part; streams,
mail windows, dead letters, and the operations and operators' runs under way.

While the database or the broker is away it tells what the other one knows.

Exit code 1 when something needs attention, with --watch by the last look at it.`,
		Example: `  handover status
  handover status --watch                     # again every 2 seconds, in place; Ctrl-C ends it
  handover status --json | jq -r '.attention[]'
  handover status --json --watch --every 10s | jq -c '[.at, .rates_per_second]'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if every < 100*time.Millisecond {
				return fmt.Errorf("--every: is %v; must be at least 100ms", every)
			}
			servers, err := a.open(cmd.Context(), "status", true)
			if err != nil {
				return err
			}
			defer servers.close()
			look := func(ctx context.Context) standing.Standing {
				ctx, cancel := context.WithTimeout(ctx, statusPatience)
				defer cancel()
				return standing.Read(ctx, servers.pool, servers.bus.Status)
			}
			var s standing.Standing
			if watch {
				s, err = a.watchStatus(cmd.Context(), every, look)
			} else {
				s = look(cmd.Context())
				err = a.print(s, s.Print)
			}
			if err != nil {
				return failed(err)
			}
			if servers.Local != "" && !s.Database.Answers && !s.Broker.Answers {
				return failed(fmt.Errorf("neither the database nor the broker answers: is the run of %s still running?", servers.Local))
			}
			if len(s.Attention) > 0 {
				return &failedError{}
			}
			return nil
		},
	}
	c.Flags().BoolVarP(&watch, "watch", "w", false, "look again and again: on a terminal in place; with --json one line each")
	c.Flags().DurationVar(&every, "every", every, "how often to look, with --watch")
	return c
}

// watchStatus looks again and again until Ctrl-C, and returns what it saw last.
func (a *app) watchStatus(ctx context.Context, every time.Duration, look func(context.Context) standing.Standing) (standing.Standing, error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	var last standing.Standing
	for {
		s := look(ctx)
		if ctx.Err() != nil && last.Attention != nil {
			return last, nil // it was cut short
		}
		last = s
		if err := a.printAgain(s); err != nil {
			return last, err
		}
		select {
		case <-ctx.Done():
			return last, nil
		case <-ticker.C:
		}
	}
}

// printAgain prints over what it printed before on a terminal, and elsewhere below it.
func (a *app) printAgain(s standing.Standing) error {
	if a.json {
		return a.line(s)
	}
	var text bytes.Buffer
	s.Print(&text)
	file, ok := a.stdout.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		_, err := fmt.Fprintf(a.stdout, "%s\n", &text)
		return err
	}
	width, height, err := term.GetSize(int(file.Fd()))
	if err != nil {
		return errors.Join(errors.New("size of the terminal"), err)
	}
	_, err = a.stdout.Write(inPlace(text.String(), width, height))
	return err
}

// inPlace is the text over what the terminal shows: from the upper left corner, each line to its end, and as many as fit,
// since scrolling would move the corner. Sentences are folded, tables cut off.
func inPlace(text string, width, height int) []byte {
	var lines []string
	for line := range strings.Lines(text) {
		left := []rune(strings.TrimRight(line, "\n"))
		for sentence := strings.HasPrefix(line, "  - "); sentence && len(left) > width && width > 20; {
			at := width
			for at > width/2 && left[at] != ' ' {
				at--
			}
			lines, left = append(lines, string(left[:at])), append([]rune("    "), []rune(strings.TrimLeft(string(left[at:]), " "))...)
		}
		if len(left) > width {
			left = append(left[:max(0, width-1)], '…')
		}
		lines = append(lines, string(left))
	}
	lines = lines[:min(len(lines), height)]
	return []byte("\x1b[H" + strings.Join(lines, "\x1b[K\r\n") + "\x1b[K\x1b[J")
}
