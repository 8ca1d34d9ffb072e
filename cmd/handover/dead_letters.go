package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/letters"
	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

func (a *app) deadLettersCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "dead-letters",
		Short: "Look at messages that could not be used; retry, export or drop them",
		Long: `A message that a consumer can't use becomes a dead letter: kept with its original bytes and the reason,
while the work of others goes on. It stays one until somebody decides:

  dead        waits for somebody; owner_unknown also waits for the user, and retries by itself
  retried     sent again; nobody has handled it yet
  resolved    sent again it was handled
  superseded  sent again it was refused for another reason: it is another dead letter now
  dropped     somebody decided that it isn't needed; nothing is ever deleted

After an incident: list --summary says what there is, show KEY what one says and what to do about it.
Where the cause is mended (a setting, a newer version), retry. Where the event itself is wrong, export
it, mend the file, publish that, and drop the letter:

  handover dead-letters export 17 --output mend.ndjson
  $EDITOR mend.ndjson
  handover publish mend.ndjson
  handover dead-letters drop 17 --because 'published again with the right account' --apply

What retry, drop and export take is chosen by keys or by the filters; retry and drop only show what they
would do, unless --apply is given, and then write down who did it. All of it is about the database:
HANDOVER_DATABASE_URL, or the local run's.`,
	}
	c.PersistentFlags().StringVar(&a.target.Tenant, "tenant", "", "only those of this tenant")
	c.AddCommand(a.deadLettersList(), a.deadLettersShow(), a.deadLettersRetry(), a.deadLettersDrop(), a.deadLettersExport())
	return c
}

// letterPage is how many letters are taken together.
const letterPage = 500

// chosen is how dead letters are chosen on a command line.
type chosen struct {
	reason, consumer, state, olderThan string
	since, until                       moment
	all, mustChoose                    bool
}

func (f *chosen) flags(c *cobra.Command) {
	c.Flags().StringVar(&f.reason, "reason", "", "only those of this reason, such as "+event.ReasonOwnerUnknown)
	c.Flags().StringVar(&f.consumer, "consumer", "", "only those of this consumer: "+strings.Join(consumers, ", "))
	c.Flags().StringVar(&f.olderThan, "older-than", "", "only those that are older than this age, such as 2h or 3d")
	momentFlag(c, &f.since, "since", "only those first seen since then: an age such as 2h, or a time such as 2026-01-31 09:00 or 2026-01-31T09:00:00Z")
	momentFlag(c, &f.until, "until", "only those first seen before then")
}

func (f *chosen) stateFlag(c *cobra.Command) {
	c.Flags().StringVar(&f.state, "state", journal.Dead, "only those of this state: "+strings.Join(letterStates, ", ")+" or all")
}

// allFlag is for commands that must be told which: what is done to all letters there are must be meant.
func (f *chosen) allFlag(c *cobra.Command) {
	f.mustChoose = true
	c.Flags().BoolVar(&f.all, "all", false, "all that are dead, when neither keys nor filters are given")
}

var (
	consumers    = []string{event.ConsumerReassigner, event.ConsumerReassignerBulk, event.ConsumerNotifier}
	letterStates = []string{journal.Dead, journal.Retried, journal.Resolved, journal.Superseded, journal.Dropped}
)

// filter checks the command line. Named keys are taken in whatever state they are.
func (f *chosen) filter(tenant string, args []string, now time.Time) (journal.LetterFilter, error) {
	out := journal.LetterFilter{State: f.state, TenantID: tenant, Consumer: f.consumer, Reason: f.reason}
	for _, arg := range args {
		key, err := strconv.ParseInt(arg, 10, 64)
		if err != nil || key < 1 {
			return out, fmt.Errorf("KEY: %q is no number; dead-letters list shows the keys", arg)
		}
		out.Keys = append(out.Keys, key)
	}
	switch {
	case tenant != "" && !event.ValidTenantID(tenant):
		return out, fmt.Errorf("--tenant: %q can't be a tenant", tenant)
	case f.consumer != "" && !slices.Contains(consumers, f.consumer):
		return out, fmt.Errorf("--consumer: there is no %q; the consumers are %s", f.consumer, strings.Join(consumers, ", "))
	case f.reason != "" && !slices.Contains(journal.Reasons(), f.reason):
		return out, fmt.Errorf("--reason: there is no %q; the reasons are %s", f.reason, strings.Join(journal.Reasons(), ", "))
	case f.state != "all" && !slices.Contains(letterStates, f.state):
		return out, fmt.Errorf("--state: there is no %q; give one of %s, or all", f.state, strings.Join(letterStates, ", "))
	case f.olderThan != "" && !f.until.IsZero():
		return out, errors.New("--older-than and --until say the same; give one of them")
	}
	if err := inOrder(f.since, f.until, "since", "until"); err != nil {
		return out, err
	}
	if f.state == "all" {
		out.State = ""
	}
	out.Since, out.Until = f.since.Time, f.until.Time
	if f.olderThan != "" {
		age, ok := parseAge(f.olderThan)
		if !ok {
			return out, fmt.Errorf("--older-than: %q is no age; give one such as 90m, 2h or 3d", f.olderThan)
		}
		out.Until = now.Add(-age)
	}
	if len(out.Keys) > 0 {
		if f.all || !out.Since.IsZero() || !out.Until.IsZero() || f.reason != "" || f.consumer != "" {
			return out, errors.New("give keys or filters, not both")
		}
		out.State = ""
		return out, nil
	}
	if f.mustChoose && !f.all && tenant == "" && f.reason == "" && f.consumer == "" && out.Since.IsZero() && out.Until.IsZero() {
		return out, errors.New("which dead letters? give keys, filters such as --reason, or --all")
	}
	return out, nil
}

// onLetters opens the database and hands do the letters that the command line chooses, and the database's clock.
func (a *app) onLetters(ctx context.Context, f *chosen, args []string, do func(s *servers, filter journal.LetterFilter, now time.Time) error) error {
	// What is wrong with the command line is said before anything is asked; only ages depend on the clock.
	if _, err := f.filter(a.target.Tenant, args, time.Now()); err != nil {
		return err
	}
	s, err := a.open(ctx, "dead-letters", false)
	if err != nil {
		return err
	}
	defer s.close()
	if err := (naming{tenants: nameOf(a.target.Tenant, "").tenants, letters: true}).check(ctx, s.pool, nil); err != nil {
		return err
	}
	var now time.Time
	if err := s.pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return failed(fmt.Errorf("database: %w", err))
	}
	filter, err := f.filter(a.target.Tenant, args, now)
	if err != nil {
		return err
	}
	err = do(s, filter, now)
	var said *failedError
	if errors.As(err, &said) {
		return err
	}
	return failed(err)
}

// missing is an error when a named key is no letter, or not one of the tenant.
func missing(filter journal.LetterFilter, found []journal.Letter) error {
	for _, key := range filter.Keys {
		if !slices.ContainsFunc(found, func(l journal.Letter) bool { return l.Key == key }) {
			of := ""
			if filter.TenantID != "" {
				of = " of tenant " + filter.TenantID
			}
			return fmt.Errorf("KEY %d: %w%s; handover dead-letters list --state all shows the keys", key, journal.ErrNoLetter, of)
		}
	}
	return nil
}

// line prints v as a line of JSON that no terminal obeys.
func (a *app) line(v any) error {
	text, err := safe.Line(v)
	if err == nil {
		_, err = a.stdout.Write(text)
	}
	return err
}

// changing is what retry and drop share: they show what they would do, or do it page by page and write down who did.
type changing struct {
	chosen
	as     string
	apply  bool
	verb   string // what is done to letters
	column string // last one of the table
	would  func(journal.Letter) string
}

func (c *changing) flags(cmd *cobra.Command) {
	c.state = journal.Dead
	c.chosen.flags(cmd)
	c.allFlag(cmd)
	cmd.Flags().BoolVar(&c.apply, "apply", false, "do it; without, it is only shown")
	cmd.Flags().StringVar(&c.as, "as", "", "who does it, for the record; the user of this machine unless given")
}

// lettersShown is how many letters are shown of many.
const lettersShown = 50

// show shows what would be done.
func (c *changing) show(ctx context.Context, a *app, s *servers, filter journal.LetterFilter, now time.Time) error {
	groups, err := journal.LetterGroups(ctx, s.pool, filter)
	if err != nil {
		return err
	}
	total := int64(0)
	for _, g := range groups {
		total += g.Count
	}
	filter.Limit = max(lettersShown, len(filter.Keys))
	found, err := journal.Letters(ctx, s.pool, filter, true)
	if err == nil {
		err = missing(filter, found)
	}
	if err != nil {
		return err
	}
	last := fmt.Sprintf("Nothing was done: with --apply, %s would be %s.", letters.Count(total, "dead letter"), c.verb)
	if total == 0 {
		last = fmt.Sprintf("Nothing was done, and nothing is to be done: no dead letter would be %s.", c.verb)
	}
	if a.json {
		for _, l := range found {
			if err := a.line(struct {
				journal.Letter
				Would string `json:"would"`
			}{l, c.would(l)}); err != nil {
				return err
			}
		}
		fmt.Fprintln(a.stderr, last)
		return a.sayLeft(ctx, s, filter, a.stderr)
	}
	if len(found) > 0 {
		letters.Table(a.stdout, found, now, c.column, c.would)
	}
	if n := total - int64(len(found)); n > 0 {
		fmt.Fprintf(a.stdout, "… and %d more; dead-letters list shows them.\n", n)
	}
	if err := a.sayLeft(ctx, s, filter, a.stdout); err != nil {
		return err
	}
	_, err = fmt.Fprintln(a.stdout, last)
	return err
}

// leftUnderWay is how many letters the filters would choose but for their state: retried, so that nobody knows yet what
// comes of them, they are neither taken nor gone.
func leftUnderWay(ctx context.Context, s *servers, filter journal.LetterFilter) (n int64, err error) {
	if filter.State != journal.Dead {
		return 0, nil
	}
	filter.State = journal.Retried
	groups, err := journal.LetterGroups(ctx, s.pool, filter)
	for _, g := range groups {
		n += g.Count
	}
	return n, err
}

// sayLeft says to w, and with --json as the last line, what was left because it is under way.
func (a *app) sayLeft(ctx context.Context, s *servers, filter journal.LetterFilter, w io.Writer) error {
	n, err := leftUnderWay(ctx, s, filter)
	if err != nil || n == 0 {
		return err
	}
	if a.json {
		if err := a.line(map[string]int64{"left_under_way": n}); err != nil {
			return err
		}
		w = a.stderr
	}
	_, err = fmt.Fprintln(w, underWay(n))
	return err
}

func underWay(n int64) string {
	are, were := "are", "were"
	if n == 1 {
		are, were = "is", "was"
	}
	return fmt.Sprintf("%d %s under way (retried) and %s left; look again: handover dead-letters list --state retried", n, are, were)
}

// each hands do the letters in pages, and keeps the record of it. What do counts goes there.
func (c *changing) each(ctx context.Context, s *servers, command string, filter journal.LetterFilter, arguments map[string]any, counts map[string]int64, do func([]journal.Letter) error) (err error) {
	arguments["filter"] = filter
	run, err := journal.BeginRun(ctx, s.pool, command, operator(c.as), arguments)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, run.End(ctx, counts, err)) }()
	filter.Limit = letterPage
	for {
		page, err := journal.Letters(ctx, s.pool, filter, false)
		if err != nil || len(page) == 0 {
			return err
		}
		filter.After = page[len(page)-1].Key
		if err := do(page); err != nil {
			return err
		}
		if err := run.Save(ctx, strconv.FormatInt(filter.After, 10), counts); err != nil {
			return err
		}
	}
}

// named checks that all keys on the command line are letters, before anything is done.
func named(ctx context.Context, s *servers, filter journal.LetterFilter) error {
	if len(filter.Keys) == 0 {
		return nil
	}
	found, err := journal.Letters(ctx, s.pool, filter, false)
	if err != nil {
		return err
	}
	return missing(filter, found)
}

func keysOf(found []journal.Letter) []int64 {
	keys := make([]int64, len(found))
	for i, l := range found {
		keys[i] = l.Key
	}
	return keys
}

// sumUp prints the counts, the last thing a command says.
func (a *app) sumUp(w io.Writer, what string, counts map[string]int64, order ...string) {
	if a.json {
		w = a.stderr
	}
	var parts []string
	for _, name := range order {
		if n := counts[name]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ReplaceAll(name, "_", " ")))
		}
	}
	if len(parts) == 0 {
		parts = []string{"none"}
	}
	fmt.Fprintf(w, "%s: %s.\n", what, strings.Join(parts, ", "))
}
