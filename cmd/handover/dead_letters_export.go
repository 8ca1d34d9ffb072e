package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/letters"
	"handover.io/internal/journal"
)

// exportPage is how many originals, of up to 1 MB, are in memory at once.
const exportPage = 50

func (a *app) deadLettersExport() *cobra.Command {
	var f chosen
	file := ""
	c := &cobra.Command{
		Use:   "export [KEY…]",
		Short: "Write the originals as NDJSON, to be mended and published again",
		Long: `Writes the originals of dead letters as NDJSON, one a line: CloudEvents in structured mode, in whatever
mode they came, with why they are dead letters in the extension attributes deadletter (the key),
deadreason, deaddetail, deadconsumer, deadsubject and deadsince. What was no event is an object with
"header" and "body". It changes nothing.

Mended, the file can be published as it is; handover publish says of each line what is still wrong:

  handover dead-letters export --reason invalid --tenant acme --output mend.ndjson
  $EDITOR mend.ndjson
  handover publish mend.ndjson --tenant acme
  handover dead-letters drop --reason invalid --tenant acme --because 'mended and published' --apply

What is published unmended becomes a dead letter again. What needs no mending needs no publishing either:
retry it. A mended event keeps its id, unless an event of that id was taken before (id_reused).`,
		Example: `  handover dead-letters export 17 18 > mend.ndjson
  handover dead-letters export --all --output dead-letters.ndjson
  handover dead-letters export --reason invalid | jq -c '.data.account_id = "acc-001"' | handover publish - --format ndjson`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.onLetters(cmd.Context(), &f, args, func(s *servers, filter journal.LetterFilter, _ time.Time) error {
				if err := named(cmd.Context(), s, filter); err != nil {
					return err
				}
				if file == "" {
					n, err := export(cmd.Context(), s, filter, a.stdout)
					if err != nil {
						return err
					}
					left, err := leftUnderWay(cmd.Context(), s, filter)
					if err != nil {
						return err
					}
					sayExported(a.stderr, n, left)
					return nil
				}
				n, err := exportTo(cmd.Context(), s, filter, file)
				if err != nil {
					return err
				}
				left, err := leftUnderWay(cmd.Context(), s, filter)
				if err != nil {
					return err
				}
				return a.print(map[string]any{"exported": n, "file": file, "left_under_way": left}, func(w io.Writer) {
					fmt.Fprintf(w, "Wrote %s to %s.\n", letters.Count(n, "dead letter"), file)
					sayExported(w, n, left)
				})
			})
		},
	}
	f.flags(c)
	f.stateFlag(c)
	f.allFlag(c)
	c.Flags().StringVar(&file, "output", "", "file to write, which may not exist yet; stdout unless given")
	return c
}

// sayExported is the last thing that an export says.
func sayExported(w io.Writer, n, left int64) {
	if left > 0 {
		fmt.Fprintln(w, underWay(left))
	}
	if n > 0 {
		fmt.Fprintln(w, "Mend them before handover publish: what is published unmended becomes a dead letter again.")
	}
}

func exportTo(ctx context.Context, s *servers, filter journal.LetterFilter, file string) (n int64, err error) {
	// Events name people: nobody else's business.
	out, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return 0, fmt.Errorf("--output: %s is there already", file)
	}
	if err != nil {
		return 0, fmt.Errorf("--output: %w", err)
	}
	n, err = export(ctx, s, filter, out)
	return n, errors.Join(err, out.Close())
}

func export(ctx context.Context, s *servers, filter journal.LetterFilter, to io.Writer) (int64, error) {
	out := bufio.NewWriter(to)
	n := int64(0)
	filter.Limit = exportPage
	for {
		page, err := journal.Letters(ctx, s.pool, filter, true)
		if err != nil || len(page) == 0 {
			return n, errors.Join(err, out.Flush())
		}
		for _, l := range page {
			line, err := letters.Export(l)
			if err != nil {
				return n, fmt.Errorf("dead letter %d: %w", l.Key, err)
			}
			if _, err := out.Write(line); err != nil {
				return n, err
			}
			n++
		}
		filter.After = page[len(page)-1].Key
	}
}
