package roster

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
)

// Roster answers what is known and takes what is told. It is safe for concurrent use, also by several processes.
type Roster struct {
	pool  *pgxpool.Pool
	offer func([]journal.Entry)
	rooms chan *room // that are free
}

// New returns a roster on pool. Offer takes what a commit wants published ([journal.Relay.Offer]) and must not block; nil
// leaves it to the sweep.
func New(pool *pgxpool.Pool, offer func([]journal.Entry)) *Roster {
	if offer == nil {
		offer = func([]journal.Entry) {}
	}
	return &Roster{pool: pool, offer: offer, rooms: make(chan *room, 2*syncParts)}
}

// errChanged means that a row which decided what to lock was another one by the time the locks were had.
var errChanged = errors.New("roster: changed while it was being locked")

// errDryRun undoes a transaction that has told what it would do.
var errDryRun = errors.New("roster: dry run")

// write runs fn in a transaction, again when what it locked by was changed meanwhile, and offers what it returned after
// the commit. A dry run does everything but commit.
func (r *Roster) write(ctx context.Context, dryRun bool, fn func(ctx context.Context, tx pgx.Tx) ([]journal.Entry, error)) error {
	for {
		var entries []journal.Entry
		err := postgres.InWriterTx(ctx, r.pool, func(ctx context.Context, tx pgx.Tx) (err error) {
			if entries, err = fn(ctx, tx); err == nil && dryRun {
				err = errDryRun
			}
			return err
		})
		switch {
		case err == nil:
			r.offer(entries)
			return nil
		case errors.Is(err, errDryRun):
			return nil
		case !errors.Is(err, errChanged) || ctx.Err() != nil:
			return err
		}
	}
}
