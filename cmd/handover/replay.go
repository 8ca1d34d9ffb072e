package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/internal/postgres"
	"handover.io/internal/reassign"
	"handover.io/internal/replay"
	"handover.io/internal/roster"
	"handover.io/internal/service"
	"handover.io/pkg/event"
)

// replayFlags are the flags of handover replay.
type replayFlags struct {
	since, until, occurredSince, occurredUntil moment

	of     replay.Selection // the rest of the selection
	from   string
	apply  bool
	noMail bool
	rate   float64
	resume string // a run, or latestRun; empty: none
	as     string
}

const latestRun = "latest"

// selecting are the flags that say what is replayed: of a run that is resumed they are given already.
var selecting = []string{"since", "until", "occurred-since", "occurred-until", "from-seq", "to-seq", "tenant", "account", "role", "operation", "from", "no-mail"}

func (a *app) replayCommand() *cobra.Command {
	var f replayFlags
	c := &cobra.Command{
		Use:   "replay",
		Short: "Deliver role changes from the stream again, where they are missing",
		Long: `Reads role changes from the stream and delivers those that the database lacks, through the code that
delivers them first. What is recorded has no effect again; a move is announced once, a mail sent once.
Without --apply it only tells what it would do, without locking anything.

What it is about: any of --since and --until (when a change arrived on the stream), --occurred-since and
--occurred-until, --from-seq and --to-seq, --tenant, --account, --role, --operation; those that name
something can be given several times. Without any of them, all that the stream has.
` + momentHelp + `

--no-mail is for old history: moves are announced, marked as silent, and nobody is mailed about them. Where
the database was restored, the revisions of tasks first go past those that subscribers have seen.

--from database is for when the stream is gone: the accounts of the changes that the database has (--since
and --until: when they were recorded) are folded again; what differs is corrected and announced.

A replay that was cut off goes on with --resume. Each one with --apply is kept: replay list, replay show.`,
		Example: `  handover replay --since 2h                              # what would happen?
  handover replay --since 2h --apply                      # do it
  handover replay --since 2026-03-01T02:00:00Z --no-mail --apply   # the database was restored from a dump of that time
  handover replay --tenant acme --account acc-001 --json
  handover replay --resume --apply                        # go on with the latest that was cut off
  handover replay --from database --tenant acme           # the stream is gone
  handover replay list`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd, args); err != nil {
				return err
			}
			return a.replay(cmd.Context(), f)
		},
	}
	momentFlag(c, &f.since, "since", "changes that arrived from then on")
	momentFlag(c, &f.until, "until", "changes that arrived before then")
	momentFlag(c, &f.occurredSince, "occurred-since", "changes that occurred from then on")
	momentFlag(c, &f.occurredUntil, "occurred-until", "changes that occurred before then")
	flags := c.Flags()
	flags.Uint64Var(&f.of.FromSeq, "from-seq", 0, "from this sequence of the stream on")
	flags.Uint64Var(&f.of.ToSeq, "to-seq", 0, "up to this sequence, included")
	flags.StringArrayVar(&f.of.Tenants, "tenant", nil, "of this tenant; all unless given")
	flags.StringArrayVar(&f.of.Accounts, "account", nil, "of this account")
	flags.StringArrayVar(&f.of.Roles, "role", nil, "of this role")
	flags.StringArrayVar(&f.of.Operations, "operation", nil, "of this operation of ours")
	flags.StringVar(&f.from, "from", replay.FromStream, "stream or database")
	flags.BoolVar(&f.apply, "apply", false, "do it; without it, only tell")
	flags.BoolVar(&f.noMail, "no-mail", false, "mail nobody about what moves")
	flags.Float64Var(&f.rate, "rate", replay.DefaultRate, "changes a second, at most")
	flags.StringVar(&f.resume, "resume", "", "go on with this run, or with the latest that was cut off")
	flags.Lookup("resume").NoOptDefVal = latestRun
	flags.StringVar(&f.as, "as", "", "who does it, for the record; the user of this machine unless given")
	c.AddCommand(a.replayList(), a.replayShow())
	return c
}

// check refuses what doesn't go together.
func (f *replayFlags) check(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		if f.resume != latestRun {
			return fmt.Errorf("unknown command or argument %q for handover replay", args[0])
		}
		f.resume = args[0] // --resume 12
	}
	if f.resume != "" {
		if _, err := strconv.ParseInt(f.resume, 10, 64); f.resume != latestRun && err != nil {
			return fmt.Errorf("--resume %q is no number of a run; handover replay list shows them", f.resume)
		}
		for _, name := range selecting {
			if cmd.Flags().Changed(name) {
				return fmt.Errorf("--resume goes on with what the run was asked to do: leave out --%s, or begin a new one without --resume", name)
			}
		}
	}
	if f.from != replay.FromStream && f.from != replay.FromDatabase {
		return fmt.Errorf("--from is %q; it must be %s or %s", f.from, replay.FromStream, replay.FromDatabase)
	}
	if f.from == replay.FromDatabase && f.of.FromSeq+f.of.ToSeq > 0 {
		return errors.New("--from-seq and --to-seq are about the stream; with --from database give --since and --until")
	}
	if f.of.ToSeq != 0 && f.of.ToSeq < f.of.FromSeq {
		return fmt.Errorf("--to-seq (%d) is before --from-seq (%d)", f.of.ToSeq, f.of.FromSeq)
	}
	if f.rate <= 0 {
		return fmt.Errorf("--rate is %g; it must be more than 0", f.rate)
	}
	for _, tenant := range f.of.Tenants {
		if !event.ValidTenantID(tenant) {
			return fmt.Errorf("--tenant %q is no tenant id: [a-z0-9][a-z0-9-]{0,62}", tenant)
		}
	}
	for name, ids := range map[string][]string{"account": f.of.Accounts, "role": f.of.Roles, "operation": f.of.Operations} {
		for _, id := range ids {
			if wrong := event.CheckID(id); wrong != "" {
				return fmt.Errorf("--%s %q: %s", name, id, wrong)
			}
		}
	}
	slices.Sort(f.of.Tenants)
	f.of.Tenants = slices.Compact(f.of.Tenants)
	f.of.Since, f.of.Until, f.of.OccurredSince, f.of.OccurredUntil = f.since.UTC(), f.until.UTC(), f.occurredSince.UTC(), f.occurredUntil.UTC()
	return errors.Join(inOrder(f.since, f.until, "since", "until"), inOrder(f.occurredSince, f.occurredUntil, "occurred-since", "occurred-until"))
}

// replay tells what would be done, or does it.
func (a *app) replay(ctx context.Context, f replayFlags) error {
	s, err := a.open(ctx, "replay", f.from == replay.FromStream)
	if err != nil {
		return err
	}
	defer s.close()
	if pending, err := postgres.Pending(ctx, s.DatabaseURL); err != nil || pending > 0 {
		if err == nil {
			err = fmt.Errorf("the database lacks %d migrations: give handover migrate first", pending)
		}
		return failed(err)
	}
	order := replay.Order{Selection: f.of, From: f.from, NoMail: f.noMail}
	var run *journal.Run
	if f.resume != "" {
		if run, order, err = resumed(ctx, s.pool, f.resume); err != nil {
			return failed(err)
		}
		if order.From == replay.FromStream && s.bus == nil {
			return fmt.Errorf("run %d replays the stream", run.ID)
		}
	}
	if run == nil {
		of := naming{tenants: f.of.Tenants, accounts: f.of.Accounts}
		if err := of.check(ctx, s.pool, onStream(ctx, s, order)); err != nil {
			return err
		}
	}
	writers, err := postgres.Open(ctx, s.DatabaseURL, postgres.Options{MaxConns: 3, Writer: true})
	if err != nil {
		return err
	}
	defer writers.Close()
	if f.apply {
		return a.applyReplay(ctx, f, replaying(writers, s.bus, order, nil), order, run)
	}
	return a.foreseeReplay(ctx, writers, s.bus, order, run)
}

// onStream tells whether the part of the stream that is replayed knows an account. A database that was restored may not.
func onStream(ctx context.Context, s *servers, o replay.Order) func(account string) (bool, error) {
	if o.From != replay.FromStream {
		return nil
	}
	r := replaying(s.pool, s.bus, replay.Order{}, nil)
	return func(account string) (bool, error) {
		of := o.Selection
		of.Accounts = []string{account}
		said, err := r.Foresee(ctx, of, 0, func(replay.Progress) {})
		return said.Messages > 0, err
	}
}

// resumed is a run that isn't done, and what it was asked to do.
func resumed(ctx context.Context, pool *pgxpool.Pool, which string) (run *journal.Run, order replay.Order, err error) {
	if which != latestRun {
		id, _ := strconv.ParseInt(which, 10, 64) // checked
		if run, err = journal.FindRun(ctx, pool, id); err != nil {
			return nil, order, fmt.Errorf("--resume %d: %w; handover replay list shows them", id, err)
		}
		if run.State == "done" {
			return nil, order, fmt.Errorf("--resume %d: that run is done", id)
		}
	} else {
		runs, err := journal.Runs(ctx, pool, replay.Command, 100)
		if err != nil {
			return nil, order, err
		}
		i := slices.IndexFunc(runs, func(r journal.Run) bool { return r.State != "done" })
		if i < 0 {
			return nil, order, errors.New("--resume: no replay was cut off; handover replay list shows them all")
		}
		if run, err = journal.FindRun(ctx, pool, runs[i].ID); err != nil {
			return nil, order, err
		}
	}
	order, err = replay.OrderOf(run)
	return run, order, err
}

// replaying joins a replay.
func replaying(pool *pgxpool.Pool, b *bus.Bus, o replay.Order, mailed *notify.Forecast) *replay.Replay {
	r := &replay.Replay{Pool: pool, Judge: reassign.Judge, Refold: roster.Refold}
	if o.NoMail {
		r.Refold = roster.RefoldSilently
	}
	if mailed != nil {
		r.Mails = mailed.Add
	}
	// What it owes, the relay of the running service publishes: with a consumer, a reassigner's moves are in the outbox.
	reassigner := reassign.New(pool, reassign.Config{Silent: o.NoMail, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	r.Apply = func(ctx context.Context, messages []event.Message) (replay.Applied, error) {
		messages, err := journal.AsRetries(ctx, pool, messages) // what was refused once and is taken now is no dead letter any more
		if err != nil {
			return replay.Applied{}, err
		}
		done, err := reassigner.Apply(ctx, messages)
		applied := replay.Applied{Recorded: done.Recorded, Known: done.Known, DeadLetters: map[string]int{}, Moves: done.Moves}
		for _, l := range done.Refused {
			applied.DeadLetters[l.Reason]++
		}
		return applied, err
	}
	if b != nil {
		r.Read = func(ctx context.Context, part replay.Range, handle func(context.Context, []event.Message, uint64) error) (uint64, error) {
			return b.Read(ctx, event.StreamRoleChanges, bus.Range(part), handle)
		}
		if o.NoMail {
			r.Announced = func(ctx context.Context, since time.Time, handle func(context.Context, []event.Message) error) error {
				_, err := b.Read(ctx, event.StreamTaskReassignments, bus.Range{Since: since, Batch: 256}, func(ctx context.Context, batch []event.Message, _ uint64) error {
					return handle(ctx, batch)
				})
				return err
			}
		}
		r.Stream = func(ctx context.Context) (time.Time, uint64, error) {
			return b.StreamCreated(ctx, event.StreamRoleChanges)
		}
	}
	return r
}

// forecast is what a dry run prints.
type forecast struct {
	replay.Forecast
	Order  replay.Order       `json:"order"`
	Resume int64              `json:"resumes_run,omitempty"`
	Mailed []notify.Recipient `json:"mailed"`
	Owed   journal.Backlog    `json:"owed"`
}

func (a *app) foreseeReplay(ctx context.Context, pool *pgxpool.Pool, b *bus.Bus, order replay.Order, run *journal.Run) error {
	out := forecast{Order: order, Mailed: []notify.Recipient{}}
	var mailed *notify.Forecast
	if !order.NoMail {
		mailed = &notify.Forecast{}
	}
	r := replaying(pool, b, order, mailed)
	var after uint64
	var account roster.Account
	if run != nil {
		out.Resume, after, account = run.ID, replay.After(run), replay.AfterAccount(run)
	}
	bar := a.replayBar("reading")
	var err error
	if order.From == replay.FromDatabase {
		out.Forecast, err = r.ForeseeRecorded(ctx, order.Selection, account, bar.show)
	} else {
		out.Forecast, err = r.Foresee(ctx, order.Selection, after, bar.show)
	}
	bar.end()
	if err == nil && mailed != nil {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) (err error) {
			out.Mailed, err = mailed.Recipients(ctx, tx)
			return err
		})
	}
	if err == nil {
		out.Owed, err = journal.Owed(ctx, pool)
	}
	if err != nil {
		return failed(err)
	}
	return failed(a.print(out, out.print))
}

// applyReplay does it, under a run that is kept.
func (a *app) applyReplay(ctx context.Context, f replayFlags, r *replay.Replay, order replay.Order, run *journal.Run) (err error) {
	if run == nil {
		if run, err = r.Begin(ctx, order, operator(f.as)); err != nil {
			return failed(err)
		}
	}
	bar := a.replayBar("replaying")
	working := service.Signals(ctx, func() {
		bar.end()
		fmt.Fprintln(a.stderr, "Stopping after what is under way; a second Ctrl-C ends it at once.")
	})
	began := time.Now()
	counts, err := r.Run(working, run, f.rate, bar.show)
	bar.end()
	if err != nil {
		return failed(fmt.Errorf("run %d: %w; so far %s recorded and %s moved, which stays so. Go on with: handover replay --resume=%d --apply",
			run.ID, err, count(counts.Missing, "change"), count(counts.TasksMoved, "task"), run.ID))
	}
	out := replayed{Run: run.ID, Seconds: time.Since(began).Seconds(), Order: order, Counts: counts}
	if out.Owed, err = awaitPublished(ctx, r.Pool); err != nil {
		return failed(err)
	}
	if out.Beyond, err = lookBeyond(ctx, r.Pool, run, counts.Restored); err != nil {
		return failed(err)
	}
	if err := a.print(out, out.print); err != nil {
		return failed(err)
	}
	if out.Owed.Unpublished > 0 {
		return &failedError{}
	}
	return nil
}

// publishPatience is how long the relay of a running service may take: it sweeps every second what is two seconds old.
const publishPatience = 15 * time.Second

// awaitPublished waits until what is owed now is published, and returns what isn't.
func awaitPublished(ctx context.Context, pool *pgxpool.Pool) (journal.Backlog, error) {
	ctx, cancel := context.WithTimeout(ctx, publishPatience)
	defer cancel()
	var now time.Time
	if err := pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		return journal.Backlog{}, err
	}
	for {
		owed, err := journal.Owed(ctx, pool)
		if err != nil || owed.OldestAt == nil || owed.OldestAt.After(now) {
			return journal.Backlog{}, err
		}
		select {
		case <-ctx.Done():
			return owed, nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}
