package operation

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// PolicyCorrection is a policy to be set right: in force from EffectiveFrom, which lies in the past, until now and on.
// Whatever was set for later is superseded. TakeBack gives tasks back that should, by this policy, never have gone to who
// has them; otherwise those stay.
type PolicyCorrection struct {
	Policy        handover.Policy
	EffectiveFrom time.Time
	TakeBack      bool
}

// Corrected is the answer to a policy to be set right.
type Corrected struct {
	OperationID string // empty when nothing needed to be done, and on a dry run
	Unchanged   bool   // it was in force since then, and every role change is judged by it
	Policy      roster.PolicyEntry
	Preview     CorrectionPreview
	// KeptBefore is, of tasks to be taken back where all is right already, what setting it right has kept: those tasks count
	// as assigned since, so that no judging anew takes them back. Nil without any.
	KeptBefore *Kept
}

// Kept is how many tasks an operation left with who should, by the policy that it set right, never have had them.
type Kept struct {
	OperationID string
	Tasks       int64
}

// UnderWay says that a policy is being set right. Another correction must wait for its end, since what that keeps where it
// is, or takes back, depends on which of them comes first.
type UnderWay struct{ OperationID string }

func (e *UnderWay) Error() string {
	return fmt.Sprintf("the policy is being set right by operation %s; wait until that is done", e.OperationID)
}

// CorrectPolicy sets the tenant's policy right with effect from the past. The policy counts at once; the role changes that
// were recorded before are judged anew by the expander, account by account: those accounts are folded, the tasks that go to
// somebody else are announced, and their new assignees are told. A change that carried its own policy is left alone.
//
// It fails with [*roster.Invalid] for no policy or a time that isn't past, with [*UnderWay], and with [roster.ErrNotFound]
// without the tenant.
func (o *Operations) CorrectPolicy(ctx context.Context, tenant, by string, req PolicyCorrection, dryRun bool) (Corrected, error) {
	if _, err := handover.ParsePolicy(string(req.Policy)); err != nil {
		return Corrected{}, invalid("tasks", "%v", err)
	}
	from := event.Micro(req.EffectiveFrom)
	r := newOrder(tenant, kindCorrection, by, request{Policy: req.Policy, EffectiveFrom: &from, TakeBack: req.TakeBack, Reason: kindCorrection})
	var out Corrected
	err := postgres.InSnapshot(ctx, o.pool, func(ctx context.Context, tx pgx.Tx) (err error) {
		out, err = r.foresee(ctx, tx)
		return err
	})
	if err != nil || out.Unchanged || dryRun {
		return out, err
	}
	_, err = o.accept(ctx, r.Kind, false, func(ctx context.Context, tx pgx.Tx) (Accepted, []journal.Entry, error) {
		out.Policy, err = r.correct(ctx, tx)
		out.OperationID = r.ID
		return Accepted{OperationID: r.ID}, nil, err
	})
	if err != nil {
		return Corrected{}, err
	}
	return out, nil
}

func (r order) correction() roster.Correction {
	return roster.Correction{
		TenantID: r.TenantID, OperationID: r.ID, By: r.InitiatedBy,
		Policy: r.Request.Policy, From: r.Request.EffectiveFrom.UTC(), TakeBack: r.Request.TakeBack,
	}
}

const correctionUnderWay = `
SELECT clock_timestamp(), (SELECT operation_id FROM operations WHERE tenant_id = $1 AND kind = 'policy_corrected' AND state = 'expanding' ORDER BY accepted_at LIMIT 1)`

// checkCorrection refuses a time that isn't past, and a second correction. It returns the time of the database.
func (r order) checkCorrection(ctx context.Context, tx pgx.Tx) (now time.Time, err error) {
	var underWay *string
	if err := tx.QueryRow(ctx, correctionUnderWay, r.TenantID).Scan(&now, &underWay); err != nil {
		return now, fmt.Errorf("look for a correction under way: %w", err)
	}
	if !r.Request.EffectiveFrom.Before(now) {
		return now, invalid("effective_from", "must lie in the past; leave it out to set the policy from now on")
	}
	if underWay != nil {
		return now, &UnderWay{*underWay}
	}
	return now, nil
}

// foresee is what the correction would do, as things stand in the transaction's snapshot.
func (r order) foresee(ctx context.Context, tx pgx.Tx) (Corrected, error) {
	c := r.correction()
	now, err := r.checkCorrection(ctx, tx)
	if err != nil {
		return Corrected{}, err
	}
	policies, differs, err := c.SetRight(ctx, tx)
	if err != nil {
		return Corrected{}, err
	}
	out := Corrected{Policy: roster.PolicyEntry{Tasks: c.Policy, EffectiveFrom: &c.From, ChangedBy: &c.By, ChangedAt: &now}}
	out.Preview, err = r.previewCorrection(ctx, tx, c, policies)
	out.Unchanged = !differs && out.Preview.Changes == 0
	if err == nil && out.Unchanged && c.TakeBack {
		out.KeptBefore, err = r.keptBefore(ctx, tx)
	}
	return out, err
}

const keptBefore = `
SELECT o.operation_id, o.tasks_kept
FROM (SELECT operation_id FROM policy_history WHERE tenant_id = $1 AND effective_from <= $2 ORDER BY effective_from DESC LIMIT 1) p
JOIN operations o ON o.operation_id = p.operation_id WHERE o.tasks_kept > 0`

func (r order) keptBefore(ctx context.Context, tx pgx.Tx) (*Kept, error) {
	rows, err := tx.Query(ctx, keptBefore, r.TenantID, r.Request.EffectiveFrom)
	if err != nil {
		return nil, fmt.Errorf("look for what was kept: %w", err)
	}
	kept, err := pgx.CollectRows(rows, pgx.RowToAddrOfStructByPos[Kept])
	if err != nil || len(kept) == 0 {
		return nil, err
	}
	return kept[0], nil
}

// correct sets the policy and records the operation, in one commit: the expander judges anew what is recorded by then, and
// nobody records anything by the policy of before any more.
func (r order) correct(ctx context.Context, tx pgx.Tx) (set roster.PolicyEntry, err error) {
	c := r.correction()
	if err := c.Lock(ctx, tx); err != nil {
		return set, err
	}
	if r.AcceptedAt, err = r.checkCorrection(ctx, tx); err != nil {
		return set, err
	}
	if set, err = c.Write(ctx, tx); err != nil {
		return set, err
	}
	return set, r.record(ctx, tx, stateExpanding, 0)
}

// correctionSize is how many accounts one transaction judges anew: it bounds how long their heads are locked, and so how
// long a change to one of them waits.
const correctionSize = 200

const advanceCorrection = `
UPDATE operations SET cursor = $2, accounts = accounts + $3, changes = changes + $4, applied = applied + $4,
  tasks_moved = tasks_moved + $5, tasks_kept = tasks_kept + $6, state = CASE WHEN $7 THEN 'applying' ELSE state END
WHERE operation_id = $1`

// correctChunk judges the next accounts anew. Those that are have nothing left to judge, so that it can begin again anywhere.
func correctChunk(ctx context.Context, tx pgx.Tx, id string) (chunk, error) {
	r, from, taken, err := takeOperation(ctx, tx, id)
	if err != nil || !taken {
		return chunk{}, err
	}
	c := r.correction()
	accounts, err := c.Accounts(ctx, tx, from.Last, correctionSize)
	if err != nil {
		return chunk{}, fmt.Errorf("accounts to judge anew: %w", err)
	}
	done, err := roster.Rejudge(ctx, tx, c, accounts)
	if err != nil {
		return chunk{}, err
	}
	out := chunk{taken: true, last: len(accounts) < correctionSize, accounts: done.Accounts, entries: done.Entries}
	_, err = tx.Exec(ctx, advanceCorrection, id, from.after(accounts).Last, done.Accounts, done.Changes, done.Moved, done.Kept, out.last)
	if err != nil {
		return chunk{}, fmt.Errorf("move operation %s on: %w", id, err)
	}
	if !out.last {
		return out, nil
	}
	return out, finish(ctx, tx, []string{id})
}
