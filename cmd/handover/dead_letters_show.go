package main

import (
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/letters"
	"handover.io/internal/journal"
)

func (a *app) deadLettersShow() *cobra.Command {
	f := chosen{state: "all"}
	return &cobra.Command{
		Use:   "show KEY",
		Short: "Show a dead letter: the original, why it is one, and what to do",
		Long: `Shows a dead letter: why it is one, since when, how often it was tried, what to do about it, and the
original. What a stranger wrote is shown with escapes for all that isn't visible, so that nothing in
it can control your terminal.`,
		Example: `  handover dead-letters show 17
  handover dead-letters show 17 --json | jq .body_json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onLetters(cmd.Context(), &f, args, func(s *servers, filter journal.LetterFilter, now time.Time) error {
				found, err := journal.Letters(cmd.Context(), s.pool, filter, true)
				if err == nil {
					err = missing(filter, found)
				}
				if err != nil {
					return err
				}
				if a.json {
					return a.line(letters.FullOf(found[0]))
				}
				letters.Show(a.stdout, found[0], now)
				return nil
			})
		},
	}
}
