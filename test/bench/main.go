package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// mixNames in the order of the table.
var mixNames = []string{"unique", "hot", "hot-ordered"}

const help = `bench runs Handover and its peers over the same role changes, one after the other, and compares them.

  unique       every change is of another account
  hot          a tenth as many accounts, each handed on nine times in a row, a tenth of all deliveries repeated, in any order
  hot-ordered  the same, in order within each account; run by nats-1, which alone can be right here, and by nats-8

Exit codes: 0 done, whether or not the peers were right; 1 failed; 2 wrong usage.

`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var o options
	flag.StringVar(&o.dir, "dir", "", "where the database servers keep their data, for the next time too (required)")
	flag.StringVar(&o.handover, "handover", "", "the handover program; without it only the peers run")
	mixes := flag.String("mix", strings.Join(mixNames, ","), "mixes to run")
	only := flag.String("only", "", "contenders to run; all by default")
	flag.IntVar(&o.runs, "runs", 3, "repetitions; the table is made of medians")
	flag.IntVar(&o.changes, "changes", 10_000, "changes in each run; watermill gets a twentieth of them")
	flag.IntVar(&o.size.accounts, "accounts", 20_000, "accounts in the peers' database")
	flag.IntVar(&o.size.tasks, "tasks", 50, "tasks of each account there")
	asJSON := flag.Bool("json", false, "print JSON, for programs")
	flag.Usage = func() {
		fmt.Fprint(os.Stderr, help)
		flag.PrintDefaults()
	}
	flag.Parse()
	o.mixes, o.only = strings.Split(*mixes, ","), *only
	if err := o.check(); err != nil || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "bench:", errors.Join(err, leftover(flag.Args())))
		os.Exit(2)
	}
	report, err := o.run(ctx, func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) })
	if err == nil && *asJSON {
		err = report.writeJSON(os.Stdout)
	} else if err == nil {
		err = report.writeTable(os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func leftover(args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%q is not a flag; see --help", args[0])
}

type options struct {
	dir, handover string
	mixes         []string
	only          string
	runs, changes int
	size          size
}

func (o options) check() error {
	switch {
	case o.dir == "":
		return errors.New("--dir is required: a folder for a few GB of data")
	case o.runs < 1 || o.changes < 20 || o.size.accounts < tenants || o.size.tasks < 1:
		return errors.New("--runs and --tasks must be at least 1, --accounts at least 10, --changes at least 20")
	case o.changes > o.size.accounts:
		return errors.New("--changes must not be more than --accounts: in unique each is of another")
	}
	for _, mix := range o.mixes {
		if !slices.Contains(mixNames, mix) {
			return fmt.Errorf("--mix: there is no %q; there are %s", mix, strings.Join(mixNames, ", "))
		}
	}
	for _, name := range o.names() {
		if !o.known(name) {
			return fmt.Errorf("--only: there is no %q", name)
		}
	}
	return nil
}

func (o options) names() []string {
	if o.only == "" {
		return nil
	}
	return strings.Split(o.only, ",")
}

func (o options) known(name string) bool {
	return name == handoverName || slices.ContainsFunc(peers(), func(c contender) bool { return c.name == name })
}

// wants tells who runs a mix, unless --only says it. In order, one worker is right, and eight show what becomes of the
// order when there are more; the rest would show the same again.
func (o options) wants(name, mix string) bool {
	switch {
	case name == handoverName && (o.handover == "" || mix == "hot-ordered"):
		return false // it has no use for an order
	case o.only != "":
		return slices.Contains(o.names(), name)
	}
	return mix != "hot-ordered" || strings.HasPrefix(name, "nats-")
}

// run measures everybody, interleaved, and returns the medians.
func (o options) run(ctx context.Context, say func(string, ...any)) (all report, err error) {
	b, err := open(ctx, o.dir, o.size, say)
	if err != nil {
		return all, err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	var runs []result
	note := func(results ...result) {
		for _, r := range results {
			say("%s, %s: %.0f changes/s, right: %s", r.Mix, r.Contender, r.ChangesPerS, verdict(r))
		}
		runs = append(runs, results...)
	}
	for repetition := range o.runs {
		say("repetition %d of %d", repetition+1, o.runs)
		for _, mix := range o.mixes {
			if o.wants(handoverName, mix) {
				ours, err := runHandover(ctx, o.handover, o.dir, mix, o.changes)
				if err != nil {
					return all, err
				}
				note(ours.Results...)
				all.Machine = ours.Machine
			}
			for _, c := range peers() {
				if !o.wants(c.name, mix) {
					continue
				}
				r, err := b.measure(ctx, c, mix, o.changes/max(1, c.fewer), uint64(repetition))
				if err != nil {
					return all, err
				}
				note(r)
			}
		}
	}
	if all.Machine != nil {
		all.Machine["runs"] = o.runs // each of its own was one
	}
	all.Results = medians(runs)
	return all, nil
}
