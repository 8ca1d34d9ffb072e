package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/letters"
	"handover.io/internal/journal"
)

func (a *app) deadLettersDrop() *cobra.Command {
	because := ""
	d := &changing{verb: "dropped", column: "WHAT IS WRONG", would: letters.Detail}
	c := &cobra.Command{
		Use:   "drop [KEY…]",
		Short: "Mark dead letters as not needed, and why",
		Long: `Marks dead letters as not needed: nobody is alerted of them any more. Nothing is deleted, show and export
still have them, and retry takes a dropped one back. An operation that one belongs to goes on counting it
as refused.

Without --apply it only shows which. With it, --because is required, and kept with the letters.`,
		Example: `  handover dead-letters drop 17 --because 'published again as crm-4711b'
  handover dead-letters drop 17 --because 'published again as crm-4711b' --apply
  handover dead-letters drop --reason invalid --tenant acme --until 2026-01-31 --because 'test data' --apply`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if d.apply && strings.TrimSpace(because) == "" {
				return errors.New("--because: say why these aren't needed; it is kept with them")
			}
			return a.onLetters(cmd.Context(), &d.chosen, args, func(s *servers, filter journal.LetterFilter, now time.Time) error {
				if !d.apply {
					return d.show(cmd.Context(), a, s, filter, now)
				}
				return a.drop(cmd.Context(), d, s, filter, because)
			})
		},
	}
	d.flags(c)
	c.Flags().StringVar(&because, "because", "", "why they aren't needed")
	return c
}

func (a *app) drop(ctx context.Context, d *changing, s *servers, filter journal.LetterFilter, because string) error {
	if err := named(ctx, s, filter); err != nil {
		return err
	}
	counts := map[string]int64{}
	err := d.each(ctx, s, "dead-letters drop", filter, map[string]any{"because": because}, counts, func(page []journal.Letter) error {
		dropped, err := journal.Drop(ctx, s.pool, keysOf(page), because)
		if err != nil {
			return err
		}
		counts["dropped"] += int64(len(dropped))
		counts["left_as_they_were"] += int64(len(page) - len(dropped))
		if a.json {
			for _, key := range dropped {
				if err := a.line(map[string]any{"key": key, "state": journal.Dropped}); err != nil {
					return err
				}
			}
		}
		return nil
	})
	a.sumUp(a.stdout, "Dead letters", counts, "dropped", "left_as_they_were")
	return errors.Join(err, a.sayLeft(ctx, s, filter, a.stdout))
}
