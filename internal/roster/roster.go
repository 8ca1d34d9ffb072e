package roster

import (
	"context"
	"errors"
	"fmt"

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

// missingRowsError says that a statement didn't find the rows that it is about, though their accounts are locked: somebody
// writes without the lock, or the tables contradict each other. Nothing is written then, rather than half of it.
type missingRowsError struct{ want, got int }

func (e *missingRowsError) Error() string {
	return fmt.Sprintf("found %d of %d rows; handover verify says which", e.got, e.want)
}

// execEach runs a statement that must find each of so many rows.
func execEach(ctx context.Context, tx pgx.Tx, rows int, sql string, args ...any) error {
	tag, err := tx.Exec(ctx, sql, args...)
	if err == nil && int(tag.RowsAffected()) != rows {
		err = &missingRowsError{want: rows, got: int(tag.RowsAffected())}
	}
	return err
}

// errChanged means that a row which decided what to lock was another one by the time the locks were had.
var errChanged = errors.New("roster: changed while it was being locked")

// writeAttempts is how often what changes while it is being locked is begun anew: many times what busy accounts need.
const writeAttempts = 50

// errDryRun undoes a transaction that has told what it would do.
var errDryRun = errors.New("roster: dry run")

// write runs fn in a transaction, again when what it locked by was changed meanwhile, and offers what it returned after
// the commit. A dry run does everything but commit.
func (r *Roster) write(ctx context.Context, dryRun bool, fn func(ctx context.Context, tx pgx.Tx) ([]journal.Entry, error)) error {
	for attempt := 1; ; attempt++ {
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
		case !errors.Is(err, errChanged) || ctx.Err() != nil || attempt == writeAttempts:
			return err
		}
	}
}
