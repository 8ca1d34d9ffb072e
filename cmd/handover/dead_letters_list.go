package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/letters"
	"handover.io/internal/journal"
)

func (a *app) deadLettersList() *cobra.Command {
	var f chosen
	summary := false
	limit, after := 0, int64(0)
	c := &cobra.Command{
		Use:   "list",
		Short: "List dead letters, the oldest first",
		Long: `Lists dead letters one a line, the oldest first, or with --summary how many there are of each kind.
There may be many: 50 are shown at once, and the last line says how to see the next.

With --json a line of JSON for each.`,
		Example: `  handover dead-letters list --summary
  handover dead-letters list --reason owner_unknown --tenant acme --older-than 1d
  handover dead-letters list --state resolved --since 2h
  handover dead-letters list --state all --json --limit 1000 | jq -r .detail`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 || limit > 10_000 {
				return errors.New("--limit: give 1 to 10000")
			}
			return a.onLetters(cmd.Context(), &f, args, func(s *servers, filter journal.LetterFilter, now time.Time) error {
				if summary {
					groups, err := journal.LetterGroups(cmd.Context(), s.pool, filter)
					if err != nil {
						return err
					}
					return a.showGroups(groups, filter, now)
				}
				filter.After, filter.Limit = after, limit+1
				found, err := journal.Letters(cmd.Context(), s.pool, filter, false)
				if err != nil {
					return err
				}
				more := len(found) > limit
				found = found[:min(len(found), limit)]
				if a.json {
					for _, l := range found {
						if err := a.line(l); err != nil {
							return err
						}
					}
				} else if len(found) == 0 {
					fmt.Fprintln(a.stdout, none(filter))
				} else {
					letters.Table(a.stdout, found, now, "WHAT IS WRONG", letters.Detail)
				}
				if more {
					fmt.Fprintf(a.stderr, "There are more: give --after %d for the next.\n", found[limit-1].Key)
				}
				return nil
			})
		},
	}
	f.flags(c)
	f.stateFlag(c)
	c.Flags().BoolVar(&summary, "summary", false, "how many of each tenant, consumer and reason")
	c.Flags().IntVar(&limit, "limit", lettersShown, "how many at most")
	c.Flags().Int64Var(&after, "after", 0, "only keys after this one")
	return c
}

func (a *app) showGroups(groups []journal.LetterGroup, filter journal.LetterFilter, now time.Time) error {
	if a.json {
		for _, g := range groups {
			if err := a.line(g); err != nil {
				return err
			}
		}
		return nil
	}
	if len(groups) == 0 {
		_, err := fmt.Fprintln(a.stdout, none(filter))
		return err
	}
	letters.Groups(a.stdout, groups, now)
	return nil
}

func none(filter journal.LetterFilter) string {
	if filter.State == "" {
		return "There are no such dead letters."
	}
	return "There are no such dead letters in the state " + filter.State + "; --state all looks at the others too."
}
