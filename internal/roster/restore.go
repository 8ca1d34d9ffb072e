package roster

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

const (
	revisionsOfTasks = `
SELECT k.n, t.account_id, t.revision FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k(tenant_id, task_id, n)
CROSS JOIN LATERAL (SELECT account_id, revision FROM tasks t WHERE t.tenant_id = k.tenant_id AND t.task_id = k.task_id LIMIT 1) t`
	raiseForgotten = `
UPDATE task_rows t SET own_revision = t.own_revision + k.more FROM unnest($1::text[], $2::text[], $3::bigint[]) AS k(tenant_id, task_id, more)
WHERE t.tenant_id = k.tenant_id AND t.task_id = k.task_id`
)

// forgotten are announcements of moves by task and revision, and what the database doesn't know of them.
type forgotten struct {
	told map[TaskRef]map[int64]*event.TaskReassigned
	last map[TaskRef]int64
	keys []TaskRef
}

func announcedRevisions(announced []event.TaskReassigned) forgotten {
	f := forgotten{told: map[TaskRef]map[int64]*event.TaskReassigned{}, last: map[TaskRef]int64{}}
	for i := range announced {
		a := &announced[i]
		for _, t := range a.Tasks {
			k := TaskRef{a.TenantID, t.ID}
			if f.told[k] == nil {
				f.told[k] = map[int64]*event.TaskReassigned{}
				f.keys = append(f.keys, k)
			}
			f.told[k][t.Revision], f.last[k] = a, max(f.last[k], t.Revision)
		}
	}
	return f
}

// behind are the present revisions of tasks that have been announced with a later one, and their accounts.
func (f forgotten) behind(ctx context.Context, tx pgx.Tx) (accounts []Account, of map[TaskRef]int64, err error) {
	rows, err := tx.Query(ctx, revisionsOfTasks, column(f.keys, func(k TaskRef) string { return k.TenantID }), column(f.keys, func(k TaskRef) string { return k.TaskID }))
	if err != nil {
		return nil, nil, err
	}
	of = map[TaskRef]int64{}
	var n, revision int64
	var account string
	_, err = pgx.ForEachRow(rows, []any{&n, &account, &revision}, func() error {
		if k := f.keys[n-1]; revision < f.last[k] {
			accounts, of[k] = append(accounts, Account{k.TenantID, account}), revision
		}
		return nil
	})
	return accounts, of, err
}

// ForgottenMoves are the tasks that [RestoreMoves] would restore moves of. It only reads.
func ForgottenMoves(ctx context.Context, tx pgx.Tx, announced []event.TaskReassigned) ([]TaskRef, error) {
	_, of, err := announcedRevisions(announced).behind(ctx, tx)
	return slices.Collect(maps.Keys(of)), err
}

// RestoreMoves writes down moves that were announced before the database was restored, and that it doesn't know of: as moves
// that were told to us. They say nothing of whom a task is with; but its revisions go on past those that subscribers have
// seen, who would pass over what is announced under one of them again. It returns the tasks.
func RestoreMoves(ctx context.Context, tx pgx.Tx, announced []event.TaskReassigned) ([]TaskRef, error) {
	f := announcedRevisions(announced)
	accounts, of, err := f.behind(ctx, tx)
	if err != nil || len(of) == 0 {
		return nil, err
	}
	if _, err := LockHeads(ctx, tx, accounts); err != nil {
		return nil, err
	}
	locked := map[Account]bool{}
	for _, a := range accounts {
		locked[a] = true
	}
	// Now for good.
	if accounts, of, err = f.behind(ctx, tx); err != nil {
		return nil, fmt.Errorf("restore moves: %w", err)
	}
	for _, a := range accounts {
		if !locked[a] {
			return nil, fmt.Errorf("restore moves: a task was taken to account %s just now; try again", a.AccountID)
		}
	}
	var raised []TaskRef
	var more []int64
	var moves []Move
	grouped := map[*event.TaskReassigned]int{}
	for _, k := range f.keys {
		now, is := of[k]
		if !is {
			continue
		}
		raised, more = append(raised, k), append(more, f.last[k]-now)
		var before *event.TaskReassigned
		for revision := now + 1; revision <= f.last[k]; revision++ {
			task := event.ReassignedTask{ID: k.TaskID, Revision: revision}
			if a := f.told[k][revision]; a != nil {
				i, begun := grouped[a]
				if !begun {
					i = len(moves)
					grouped[a] = i
					moves = append(moves, Move{Account: Account{a.TenantID, a.AccountID}, Reason: bySync, By: a.InitiatedBy, From: a.FromID, To: a.ToID, Correction: a.Correction, At: a.Time})
				}
				moves[i].Tasks, before = append(moves[i].Tasks, task), a
				continue
			}
			moves = append(moves, gap(f.told[k], revision, f.last[k], before, task))
		}
	}
	if err := recordMoves(ctx, tx, moves); err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, raiseForgotten, column(raised, func(k TaskRef) string { return k.TenantID }), column(raised, func(k TaskRef) string { return k.TaskID }), more)
	if err != nil {
		return nil, fmt.Errorf("restore revisions: %w", err)
	}
	return raised, nil
}

// gap is a move between others that wasn't announced, as an upstream system's aren't.
func gap(told map[int64]*event.TaskReassigned, revision, last int64, before *event.TaskReassigned, task event.ReassignedTask) Move {
	var after *event.TaskReassigned
	for r := revision + 1; after == nil && r <= last; r++ {
		after = told[r]
	}
	m := Move{Account: Account{after.TenantID, after.AccountID}, Reason: bySync, By: after.InitiatedBy, To: after.FromID, At: after.Time, Tasks: []event.ReassignedTask{task}}
	if before != nil {
		m.From = before.ToID
	}
	return m
}
