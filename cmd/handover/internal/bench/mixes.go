package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

// A mix is a kind of work.
type mix struct {
	name, about string
	changes     int // that it is about unless told otherwise
	// Of how many accounts one is for a change, each of another account; 0: there may be any number of changes.
	share int
	run   func(*bench, context.Context) ([]Result, error)
}

// check refuses more changes than there are accounts for.
func (m mix) check(changes, accounts int) error {
	if m.share == 0 || changes <= accounts/m.share {
		return nil
	}
	return fmt.Errorf("--changes: %d are too many for the mix %s, which takes at most %d with %d accounts; lower it, or raise --accounts and --tasks",
		changes, m.name, accounts/m.share, accounts)
}

var mixes = []mix{
	{"unique", "every change is of another account", 10_000, 1, (*bench).runUnique},
	{"hot", "chains of changes of 1,000 accounts, a tenth of them twice, in no order", 10_000, 0, (*bench).runHot},
	{"replay", "all changes of a finished run come again: nothing to do, and nothing done", 10_000, 1, (*bench).runReplay},
	{"bulk", "one edit of a segment of so many accounts, from its acceptance to the last announcement", 10_000, 1, (*bench).runBulk},
	{"huge", "one change of an account with 100,000 open tasks (--huge)", 1, 0, (*bench).runHuge},
	{"trickle", "50 changes a second: how long until the announcement is delivered", 400, 1, (*bench).runTrickle},
	{"trickle+bulk", "the same while segments are being edited", 400, 2, (*bench).runTrickleBesideBulk},
	{"steady", "ten times unique, without starting anew: do the tables grow, does it get slower", 10_000, 1, (*bench).runSteady},
	{"read", "the first page of the open tasks of a person with 1,000 accounts; CHANGES are pages", 400, 0, (*bench).runRead},
}

// Mixes are the names of all mixes, and what they are.
func Mixes() (names []string, about string) {
	var text strings.Builder
	for _, m := range mixes {
		names = append(names, m.name)
		fmt.Fprintf(&text, "  %-13s %s\n", m.name, m.about)
	}
	return names, text.String()
}

func (b *bench) runUnique(ctx context.Context) ([]Result, error) {
	p, err := unique(b.tenTenants(), "unique", b.changes)
	if err != nil {
		return nil, err
	}
	return b.besideLimits(ctx, p)
}

func (b *bench) runHot(ctx context.Context) ([]Result, error) {
	return b.besideLimits(ctx, hot(b.tenTenants(), b.changes))
}

// besideLimits runs a plan through the product and through both limits.
func (b *bench) besideLimits(ctx context.Context, p plan) ([]Result, error) {
	if err := b.need(ctx, templateOf(p.dataset, false), templateOf(p.dataset, true)); err != nil {
		return nil, err
	}
	expected := expect(p.dataset, changesOf(p))
	ours, announced, err := b.runPlan(ctx, p, nil, expected)
	if err != nil {
		return nil, err
	}
	bare, err := b.runBare(ctx, p, nil, expected)
	if err != nil {
		return nil, err
	}
	alone, err := b.runBroker(ctx, p, announced)
	return []Result{ours, bare, alone}, err
}

// runPlan has the changes on the stream before the clock starts; it stops when all are acknowledged and every
// announcement is on its stream.
func (b *bench) runPlan(ctx context.Context, p plan, prepare prepare, expected right) (r Result, v verdict, err error) {
	t := templateOf(p.dataset, false)
	if err := b.need(ctx, t); err != nil {
		return r, v, err
	}
	err = b.with(ctx, t, prepare, func(w *world) error {
		s, err := w.apply(ctx, p)
		if err != nil {
			return err
		}
		b.say("handover: %.2f s; checking", s.seconds)
		v, err = w.check(ctx, expected)
		r = newResult(Handover, p.name, len(p.deliveries), s, v)
		return err
	})
	return r, v, err
}

// apply puts the plan on the stream and measures how the product gets through it.
func (w *world) apply(ctx context.Context, p plan) (spent, error) {
	if err := p.publish(ctx, w.client); err != nil {
		return spent{}, err
	}
	return w.measured(ctx, func() error {
		if err := w.Start(ctx); err != nil {
			return err
		}
		return w.settled(ctx, len(p.deliveries))
	})
}

func (b *bench) runBare(ctx context.Context, p plan, prepare prepare, expected right) (r Result, err error) {
	t := templateOf(p.dataset, true)
	if err := b.need(ctx, t); err != nil {
		return r, err
	}
	err = b.with(ctx, t, prepare, func(w *world) error {
		s, err := w.runLimit(ctx, p)
		if err != nil {
			return err
		}
		b.say("limit: %.2f s", s.seconds)
		v, err := w.checkLimit(ctx, expected)
		r = newResult(Limit, p.name, len(p.deliveries), s, v)
		r.ServiceCPU, r.PeakRSS = nil, nil
		return err
	})
	return r, err
}

// runReplay delivers what a database knows already from a stream that begins anew.
func (b *bench) runReplay(ctx context.Context) ([]Result, error) {
	p, err := unique(b.tenTenants(), "replay", b.changes)
	if err != nil {
		return nil, err
	}
	t, expected := templateOf(p.dataset, false), expect(p.dataset, changesOf(p))
	if err := b.need(ctx, t); err != nil {
		return nil, err
	}
	var r Result
	if err := b.with(ctx, t, nil, func(w *world) error {
		if _, err := w.apply(ctx, p); err != nil {
			return err
		}
		v, err := w.check(ctx, expected)
		if err != nil {
			return err
		}
		if err := errors.Join(w.stop(ctx), w.openBroker(ctx), w.restart(ctx)); err != nil {
			return err
		}
		s, err := w.apply(ctx, p)
		if err != nil {
			return err
		}
		b.say("handover: %.2f s; checking", s.seconds)
		if _, err := w.checkTables(ctx, &v, expected); err != nil {
			return err
		}
		if err := w.checkCounts(ctx, &v, expected); err != nil {
			return err
		}
		again, err := messagesOn(ctx, w.client, event.StreamTaskReassignments)
		if again > 0 {
			v.differs("the replay made %d announcements", again)
		}
		v.moved, v.announcements, v.largest = 0, again, 0
		r = newResult(Handover, p.name, len(p.deliveries), s, v)
		return err
	}); err != nil {
		return nil, err
	}
	alone, err := b.runBroker(ctx, p, verdict{})
	return []Result{r, alone}, err
}

// runHuge is one change of an account that has as many open tasks as a whole company.
func (b *bench) runHuge(ctx context.Context) ([]Result, error) {
	d := b.tenTenants()
	d.huge = b.Huge
	p := plan{dataset: d, name: "huge", since: changesFrom, changes: []change{{int32(d.accounts), int32(d.owner(d.accounts)), 2}}, deliveries: []int32{0}}
	expected := expect(d, changesOf(p))
	ours, _, err := b.runPlan(ctx, p, b.addHuge(d, false), expected)
	if err != nil {
		return nil, err
	}
	bare, err := b.runBare(ctx, p, b.addHuge(d, true), expected)
	return []Result{ours, bare}, err
}

func (b *bench) addHuge(d dataset, limit bool) prepare {
	return func(ctx context.Context, conn *pgx.Conn) error {
		if err := (template{d, limit}).addAccounts(ctx, conn, d.accounts, d.accounts+1, d.tasks, d.rows(), b.say); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `VACUUM (FREEZE, ANALYZE) tasks`)
		return err
	}
}

// steadyRounds is how often the mix steady runs unique.
const steadyRounds = 10

// runSteady gives a result for each round, with the size of the tasks after it; the answer is checked at the end, and is
// that of all.
func (b *bench) runSteady(ctx context.Context) ([]Result, error) {
	t := templateOf(b.tenTenants(), false)
	if err := b.need(ctx, t); err != nil {
		return nil, err
	}
	var results []Result
	err := b.with(ctx, t, nil, func(w *world) error {
		var plans []plan
		for round := range steadyRounds {
			p, err := unique(t.dataset, fmt.Sprintf("steady-%02d", round+1), b.changes, plans...)
			if err != nil {
				return err
			}
			plans = append(plans, p)
			if round > 0 {
				if err := w.restart(ctx); err != nil {
					return err
				}
			}
			s, err := w.apply(ctx, p)
			if err != nil {
				return err
			}
			r := newResult(Handover, p.name, len(p.deliveries), s, verdict{})
			if err := w.conn.QueryRow(ctx, `SELECT pg_table_size('task_rows'), pg_indexes_size('task_rows')`).Scan(&r.TasksHeap, &r.TasksIndexes); err != nil {
				return err
			}
			b.say("round %d: %.2f s", round+1, s.seconds)
			results = append(results, r)
		}
		v, err := w.check(ctx, expect(t.dataset, changesOf(plans...)))
		for i := range results {
			r := &results[i]
			r.Right, r.Differences, r.DifferenceCount = v.wrong == 0, v.differences, v.wrong
			r.TasksMoved = v.moved / steadyRounds
			r.TasksPerS = float64(r.TasksMoved) / r.Seconds
		}
		return err
	})
	return results, err
}
