package operation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

const (
	// chunkSize is how many accounts one transaction expands: it bounds how long their heads are locked.
	chunkSize = 1000
	// maxOwed is how many unpublished messages the outbox may hold before expanding waits: more would only push other
	// people's changes further back.
	maxOwed = 20_000
	// pollEvery is how soon an operation accepted by another process is seen, and an error tried again.
	pollEvery = time.Second
)

// Run expands operations until ctx is done: what is accepted here at once, what was accepted elsewhere within a second.
// Any number may run at once, in any process.
func (o *Operations) Run(ctx context.Context) error {
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	for {
		worked, err := o.ExpandOnce(ctx)
		if err != nil && ctx.Err() == nil {
			o.log.Warn("operation not expanded yet; trying again", zap.String("part", "expander"), zap.Error(err))
		}
		if worked && ctx.Err() == nil {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-o.wake:
		case <-ticker.C:
		}
	}
}

const (
	owesTooMuch = `SELECT EXISTS (SELECT FROM outbox_owed ORDER BY key OFFSET $1)`
	// Ids are ordered by time: whose turn was last comes last.
	toExpand = `SELECT operation_id, kind FROM operations WHERE state = 'expanding' ORDER BY operation_id <= $1, operation_id LIMIT 100`
)

// ExpandOnce expands one chunk of one operation, the next one in turn, and offers what it issued. It returns false when
// there is nothing to do, or when the outbox owes so much already that more would not help.
func (o *Operations) ExpandOnce(ctx context.Context) (bool, error) {
	var enough bool
	if err := o.pool.QueryRow(ctx, owesTooMuch, maxOwed).Scan(&enough); err != nil || enough {
		return false, err
	}
	o.mu.Lock()
	last := o.last
	o.mu.Unlock()
	rows, err := o.pool.Query(ctx, toExpand, last)
	if err != nil {
		return false, err
	}
	waiting, err := pgx.CollectRows(rows, pgx.RowToStructByPos[struct{ ID, Kind string }])
	if err != nil {
		return false, err
	}
	for _, next := range waiting {
		o.mu.Lock()
		o.last = next.ID
		o.mu.Unlock()
		worked, err := o.expand(ctx, next.ID, next.Kind)
		if worked || err != nil {
			return worked, err
		}
	}
	return false, nil
}

// expand expands one chunk of an operation, unless another expander is at it.
func (o *Operations) expand(ctx context.Context, id, kind string) (bool, error) {
	start := time.Now()
	var done chunk
	inTx, expandChunk := postgres.InTx, expandChunk
	if kind == kindCorrection {
		inTx, expandChunk = postgres.InWriterTx, correctChunk
	}
	err := inTx(ctx, o.pool, func(ctx context.Context, tx pgx.Tx) (err error) {
		done, err = expandChunk(ctx, tx, id)
		return err
	})
	var badRequest *roster.Invalid
	var badEvent *event.Invalid
	switch {
	case postgres.BadData(err) || errors.As(err, &badRequest) || errors.As(err, &badEvent):
		o.log.Error("operation failed", zap.String("part", "expander"), zap.String("operation_id", id), zap.Error(err))
		return true, o.fail(ctx, id, err)
	case err != nil || !done.taken:
		return false, err
	}
	o.offer(done.entries)
	o.metrics.issued.Add(float64(done.issued))
	o.metrics.chunk.Observe(time.Since(start).Seconds())
	o.log.Info("operation expanded", zap.String("part", "expander"), zap.String("operation_id", id),
		zap.Int("accounts", done.accounts), zap.Int("changes", done.issued), zap.Bool("last", done.last), zap.Duration("took", time.Since(start)))
	return true, nil
}

// chunk is what one transaction of the expander did.
type chunk struct {
	taken, last       bool
	accounts          int
	unchanged, issued int
	entries           []journal.Entry
}

// place is how far an expansion is: the last account, and how many there have been.
type place struct {
	Last     string
	Accounts int64
}

func (p place) after(accounts []string) place {
	if len(accounts) == 0 {
		return p
	}
	return place{accounts[len(accounts)-1], p.Accounts + int64(len(accounts))}
}

const (
	// Released with the transaction, however that ends.
	tryOperation  = `SELECT pg_try_advisory_xact_lock(hashtextextended('handover operation ' || $1::text, 0))`
	readOperation = `
SELECT operation_id, tenant_id, kind, initiated_by, accepted_at, request - 'account_ids', coalesce(cursor, ''), accounts
FROM operations WHERE operation_id = $1 AND state = 'expanding'`
)

// takeOperation takes the operation for the rest of the transaction. It is false when another expander is at it, or has
// just done the last of it.
func takeOperation(ctx context.Context, tx pgx.Tx, id string) (r order, from place, taken bool, err error) {
	if err := tx.QueryRow(ctx, tryOperation, id).Scan(&taken); err != nil || !taken {
		return r, from, false, err
	}
	err = tx.QueryRow(ctx, readOperation, id).Scan(&r.ID, &r.TenantID, &r.Kind, &r.InitiatedBy, &r.AcceptedAt, &r.Request, &from.Last, &from.Accounts)
	if err == pgx.ErrNoRows {
		return r, from, false, nil
	}
	if err != nil {
		return r, from, false, fmt.Errorf("read operation %s: %w", id, err)
	}
	return r, from, true, nil
}

func expandChunk(ctx context.Context, tx pgx.Tx, id string) (chunk, error) {
	r, from, taken, err := takeOperation(ctx, tx, id)
	if err != nil || !taken {
		return chunk{}, err
	}
	c := chunk{taken: true}
	next, changes := r.accounts, r.edits
	if r.Kind != kindBulkEdit {
		next, changes = r.leftAccounts, r.handovers
	}
	accounts, err := next(ctx, tx, from, chunkSize)
	if err != nil {
		return c, err
	}
	c.accounts, c.last = len(accounts), len(accounts) < chunkSize
	if len(accounts) > 0 {
		if err := r.lockHeads(ctx, tx, accounts); err != nil {
			return c, err
		}
		// Only now, under the locks, it is decided what changes.
		todo, err := changes(ctx, tx, accounts)
		if err != nil {
			return c, err
		}
		c.unchanged = len(accounts) - countAccounts(todo)
		if c.entries, c.issued, err = r.issue(ctx, tx, event.SubjectRoleBulk(r.TenantID), todo); err != nil {
			return c, err
		}
	}
	return c, c.record(ctx, tx, id, from.after(accounts))
}

func (r order) lockHeads(ctx context.Context, tx pgx.Tx, accounts []string) error {
	list := make([]roster.Account, len(accounts))
	for i, id := range accounts {
		list[i] = roster.Account{TenantID: r.TenantID, AccountID: id}
	}
	_, err := roster.LockHeads(ctx, tx, list)
	return err
}

// countAccounts counts those that are named; changes are in the order of accounts.
func countAccounts(changes []change) int {
	n := 0
	for i, c := range changes {
		if i == 0 || c.AccountID != changes[i-1].AccountID {
			n++
		}
	}
	return n
}

const advance = `
UPDATE operations SET cursor = $2, accounts = $3, unchanged = unchanged + $4, changes = changes + $5,
  state = CASE WHEN $6 THEN 'applying' ELSE state END
WHERE operation_id = $1`

// record moves the operation on. After the last chunk it may be at its end already: the reassigner can be faster, and
// there may have been nothing to change.
func (c chunk) record(ctx context.Context, tx pgx.Tx, id string, to place) error {
	if _, err := tx.Exec(ctx, advance, id, to.Last, to.Accounts, c.unchanged, c.issued, c.last); err != nil {
		return fmt.Errorf("move operation %s on: %w", id, err)
	}
	if !c.last {
		return nil
	}
	return finish(ctx, tx, []string{id})
}

const markFailed = `
UPDATE operations SET state = 'failed', problem = $2, finished_at = clock_timestamp() WHERE operation_id = $1 AND state = 'expanding'`

// fail ends an operation that can't go on; what it has issued stands.
func (o *Operations) fail(ctx context.Context, id string, problem error) error {
	return postgres.InTx(ctx, o.pool, func(ctx context.Context, tx pgx.Tx) error {
		marked, err := tx.Exec(ctx, markFailed, id, problem.Error())
		if err != nil || marked.RowsAffected() == 0 {
			return err
		}
		return tell(ctx, tx, "operation_failed", []string{id})
	})
}
