package operation

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
)

// Operations accepts, expands and shows what people ask for. Any number may be at work on one database.
type Operations struct {
	pool    *pgxpool.Pool
	offer   func([]journal.Entry)
	log     *zap.Logger
	metrics *metrics
	wake    chan struct{} // holds one token when something was accepted that needs expanding

	mu   sync.Mutex
	last string // the operation whose turn it was
}

// New returns operations on pool. Offer takes what a commit wants published and must not block; a nil reg keeps the
// metrics unregistered.
func New(pool *pgxpool.Pool, offer func([]journal.Entry), log *zap.Logger, reg prometheus.Registerer) *Operations {
	return &Operations{pool: pool, offer: offer, log: log, metrics: newMetrics(reg), wake: make(chan struct{}, 1)}
}

// Accepted is the answer to a request.
type Accepted struct {
	// OperationID names what was accepted; empty when nothing needed to be done, and on a dry run.
	OperationID string `json:"operation_id,omitempty"`
	// Unchanged is true when everything is as asked already: nothing was issued.
	Unchanged bool `json:"unchanged"`
	// Preview is what will happen: always for a single role change, otherwise on a dry run alone.
	Preview *Preview `json:"preview,omitempty"`
}

// Preview is what a request does to the accounts and tasks as they are now, by the policy in force.
type Preview struct {
	Accounts  int64 `json:"accounts"`  // that the request is about
	Unchanged int64 `json:"unchanged"` // of these, as asked already
	Roles     int64 `json:"roles"`     // that change hands
	TaskCount int64 `json:"task_count"`
	// LeftBehind is how many open tasks of who leaves stay with them.
	LeftBehind int64 `json:"left_behind"`
	// Tasks are the first 100 of those that move, by id; empty unless the request is about a single role.
	Tasks []TaskMove `json:"tasks"`
}

// TaskMove is a task that goes to somebody else.
type TaskMove struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// Conflict says that somebody must decide before a user can leave: who takes over, or that nothing is left to take.
type Conflict struct {
	Roles       int64  `json:"roles"`      // that the person still holds
	OpenTasks   int64  `json:"open_tasks"` // that they still have
	SuccessorID string `json:"successor_id,omitempty"`
	Remedy      string `json:"-"`
}

func (e *Conflict) Error() string { return e.Remedy }

func invalid(field, format string, args ...any) *roster.Invalid {
	return &roster.Invalid{Field: field, Remedy: fmt.Sprintf(format, args...)}
}

// errDryRun undoes a transaction whose answer is all that was wanted.
var errDryRun = fmt.Errorf("dry run")

// accept runs what accepts a request in one transaction; a dry run does everything the same and undoes it.
func (o *Operations) accept(ctx context.Context, kind string, dryRun bool, do func(ctx context.Context, tx pgx.Tx) (Accepted, []journal.Entry, error)) (Accepted, error) {
	var accepted Accepted
	var entries []journal.Entry
	err := postgres.InTx(ctx, o.pool, func(ctx context.Context, tx pgx.Tx) (err error) {
		accepted, entries, err = do(ctx, tx)
		if err == nil && dryRun {
			return errDryRun
		}
		return err
	})
	switch {
	case err == errDryRun:
		accepted.OperationID = ""
		return accepted, nil
	case err != nil:
		return Accepted{}, err
	case accepted.OperationID == "":
		return accepted, nil
	}
	o.offer(entries)
	o.metrics.accepted.WithLabelValues(kind).Inc()
	o.log.Info("operation accepted", zap.String("operation_id", accepted.OperationID), zap.String("kind", kind))
	if kind != kindRoleChange {
		select {
		case o.wake <- struct{}{}:
		default:
		}
	}
	return accepted, nil
}
