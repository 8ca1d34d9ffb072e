// Package reassign is the first use case: role changes in, moves out.
//
// A reassigner takes a batch of AccountRoleChanged, and in one transaction of set-based statements records those it
// doesn't know, gives each the policy in force when it occurred, moves the open tasks that follow, and announces the
// moves through the outbox. (A large batch is two such transactions side by side, each with accounts of its own.) A change
// that is the newest of its account moves what holds the tasks by one UPDATE; any other makes its account be folded again
// (roster.Refold). Both end in the same result.
//
// Invariant: after every commit each open task is with whom the fold of internal/handover says, every move is announced
// exactly once in the outbox, and a change counts once however often, in whatever order and by however many reassigners
// at once it is delivered.
//
// It fails in two ways. What is wrong with an event makes a dead letter of it, with the reason, and the rest of the batch
// goes on. What is wrong with the world (database away, deadlock) is returned: the same batch must be delivered again.
package reassign

import (
	"context"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Config is what a reassigner needs beside the database.
type Config struct {
	Consumer   string                // the durable consumer that it works for; names its dead letters. Empty: that of each message's lane
	Silent     bool                  // nobody is mailed about its moves
	Offer      func([]journal.Entry) // takes what a commit wants published; must not block
	Logger     *zap.Logger
	Registerer prometheus.Registerer // nil: metrics are kept, but not registered
}

// Reassigner applies role changes. Any number may run at once, in any process.
type Reassigner struct {
	pool *pgxpool.Pool
	Config
	metrics *metrics
}

// New returns a reassigner on pool, whose connections should plan generically (postgres.Options.Writer).
func New(pool *pgxpool.Pool, c Config) *Reassigner {
	return &Reassigner{pool: pool, Config: c, metrics: newMetrics(c.Registerer, c.Consumer)}
}

// Handle applies a batch of messages from ROLE_CHANGES. Nil means that each of them has had its effect, now or before, or
// is a dead letter; an error means that some, or all of them, had none, and that the batch must come again.
func (r *Reassigner) Handle(ctx context.Context, messages []event.Message) error {
	_, err := r.Apply(ctx, messages)
	return err
}

// Outcome is what a batch came to.
type Outcome struct {
	Recorded, Known int
	Refused         []journal.DeadLetter // without those that were dead letters before
	Moves           []roster.Move
}

// Apply is [Reassigner.Handle] that tells what came of it.
func (r *Reassigner) Apply(ctx context.Context, messages []event.Message) (Outcome, error) {
	start := time.Now()
	batch := decode(messages)
	ctx, span := startSpan(ctx, r.Consumer, batch)
	defer span.End()
	done, err := r.apply(ctx, batch)
	r.metrics.count(done) // also what half of a batch has done, when the other failed: it is known when it comes again
	if err != nil {
		span.RecordError(err)
		return Outcome{}, err
	}
	done.took = time.Since(start)
	r.metrics.seconds.Observe(done.took.Seconds())
	r.Logger.Info("role changes handled", done.fields(r.Consumer, messages)...)
	return Outcome{Recorded: done.recorded, Known: done.known, Refused: done.refused, Moves: done.moves}, nil
}

// halveFrom is how many changes are so many that they are worth two transactions.
const halveFrom = 512

// apply applies the batch; a large one in two halves at the same time, each with the accounts of its own. So the two don't
// wait for each other, as two batches do that have accounts in common, and an account that has many changes in the batch is
// folded once for all of them.
func (r *Reassigner) apply(ctx context.Context, batch []delivery) (result, error) {
	if len(batch) < halveFrom {
		return r.applyTogether(ctx, batch)
	}
	var halves [2][]delivery
	half := make(map[[16]byte]uint64, len(batch))
	for _, d := range batch {
		// One event twice is judged together, also where its two copies name different accounts, which they may not.
		if _, seen := half[d.digest]; !seen {
			half[d.digest] = maphash.Comparable(anySeed, d.account()) % 2
		}
		halves[half[d.digest]] = append(halves[half[d.digest]], d)
	}
	var done [2]result
	var errs [2]error
	var both sync.WaitGroup
	for i, half := range halves {
		both.Go(func() { done[i], errs[i] = r.applyTogether(ctx, half) })
	}
	both.Wait()
	return done[0].plus(done[1]), errors.Join(errs[:]...)
}

var anySeed = maphash.MakeSeed()

// applyTogether applies some changes in one transaction. What the database refuses for its data is split until the bad
// event is alone.
func (r *Reassigner) applyTogether(ctx context.Context, batch []delivery) (result, error) {
	if len(batch) == 0 {
		return result{}, nil
	}
	var done result
	err := postgres.InTx(ctx, r.pool, func(ctx context.Context, tx pgx.Tx) (err error) {
		done, err = r.transact(ctx, tx, batch)
		return err
	})
	switch {
	case err == nil:
		r.Offer(done.entries)
		return done, nil
	case !postgres.BadData(err):
		return result{}, err
	case len(batch) == 1 && batch[0].problem == nil:
		batch[0].refuse(event.ReasonRejected, "", "the database refused it: "+err.Error())
		return r.applyTogether(ctx, batch)
	case len(batch) == 1:
		return result{}, err
	}
	first, err := r.applyTogether(ctx, batch[:len(batch)/2])
	if err != nil {
		return result{}, err
	}
	second, err := r.applyTogether(ctx, batch[len(batch)/2:])
	return first.plus(second), err
}

// transact is the whole of it, in the order that design demands: judge what can be judged without the accounts, lock
// their heads, and only then decide.
func (r *Reassigner) transact(ctx context.Context, tx pgx.Tx, batch []delivery) (result, error) {
	batch = slices.Clone(batch) // judged anew when the transaction is run again
	people, err := judge(ctx, tx, batch)
	if err != nil {
		return result{}, err
	}
	changes := pending(batch)
	if err := raiseHeads(ctx, tx, changes); err != nil {
		return result{}, err
	}
	recorded, err := recordAndMove(ctx, tx, changes)
	if err != nil {
		return result{}, err
	}
	moves, entries, err := r.refold(ctx, tx, recorded)
	if err != nil {
		return result{}, err
	}
	announced, err := r.announce(ctx, tx, recorded, people)
	if err != nil {
		return result{}, err
	}
	buried, err := journal.Bury(ctx, tx, r.deadLetters(batch))
	if err != nil {
		return result{}, err
	}
	done := result{
		known: len(batch) - len(recorded.fresh) - countRefused(batch), recorded: len(recorded.fresh), refused: buried.Fresh,
		folded: len(recorded.late), moves: append(recorded.moves, moves...), entries: slices.Concat(announced, entries, buried.Entries),
	}
	resolved, err := journal.Resolve(ctx, tx, retried(batch, recorded.fresh, done.moves))
	if err != nil {
		return result{}, err
	}
	return done, operation.Progress(ctx, tx, progress(recorded.fresh, done.moves, buried.Refused, resolved))
}

// retried are the dead letters in the batch that are none any more, with what came of them.
func retried(batch []delivery, fresh []roster.Change, moves []roster.Move) []journal.Done {
	var out []journal.Done
	for _, d := range batch {
		if d.problem != nil || !journal.IsRetry(d.message) {
			continue
		}
		done := journal.Done{Message: d.message, Outcome: journal.Known}
		if !d.known && slices.ContainsFunc(fresh, d.is) {
			done.Outcome = journal.Recorded
			for _, m := range moves {
				if m.Cause != nil && d.is(*m.Cause) {
					done.TasksMoved += len(m.Tasks)
				}
			}
		}
		out = append(out, done)
	}
	return out
}

// is tells whether the change is the one delivered.
func (d *delivery) is(c roster.Change) bool {
	return c.TenantID == d.change.TenantID && c.Source == d.change.Source && c.ID == d.change.ID
}

func (r *Reassigner) refold(ctx context.Context, tx pgx.Tx, recorded recorded) ([]roster.Move, []journal.Entry, error) {
	if r.Silent {
		return roster.RefoldSilently(ctx, tx, recorded.late, recorded.lateKeys)
	}
	return roster.Refold(ctx, tx, recorded.late, recorded.lateKeys)
}

// announce tells of the moves of the fast path, and hands on what it gave to people who have left since.
func (r *Reassigner) announce(ctx context.Context, tx pgx.Tx, recorded recorded, people people) ([]journal.Entry, error) {
	for i := range recorded.moves {
		recorded.moves[i].Silent = r.Silent
	}
	entries := roster.Announcements(recorded.moves)
	if err := journal.Append(ctx, tx, entries); err != nil {
		return nil, err
	}
	handedOn, err := roster.HandOn(ctx, tx, recorded.left(people))
	return append(entries, handedOn...), err
}

// progress counts for our own operations what this transaction did.
func progress(fresh []roster.Change, moves []roster.Move, refused ...map[string]int) []operation.Applied {
	counts := map[string]*operation.Applied{}
	of := func(id string) *operation.Applied {
		if counts[id] == nil {
			counts[id] = &operation.Applied{OperationID: id}
		}
		return counts[id]
	}
	for _, c := range fresh {
		of(c.OperationID).Applied++
	}
	for _, m := range moves {
		if m.Cause != nil {
			of(m.Cause.OperationID).TasksMoved += len(m.Tasks)
		}
	}
	for _, by := range refused {
		for id, n := range by {
			of(id).Refused += n
		}
	}
	delete(counts, "")
	out := make([]operation.Applied, 0, len(counts))
	for _, c := range counts {
		out = append(out, *c)
	}
	return out
}
