package replay

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// restoreMoves lets the revisions of tasks go on past those that were announced before the database was restored. It comes
// before anything is moved, and done again it does nothing.
func (d *delivery) restoreMoves(ctx context.Context, s Selection) error {
	return d.eachAnnounced(ctx, s, &d.counts, func(ctx context.Context, told []event.TaskReassigned) (tasks []roster.TaskRef, err error) {
		err = postgres.InTx(context.WithoutCancel(ctx), d.Pool, func(ctx context.Context, tx pgx.Tx) (err error) {
			tasks, err = roster.RestoreMoves(ctx, tx, told)
			return err
		})
		return tasks, err
	})
}

// foreseeRestored counts the tasks that restoreMoves would be about.
func (r *Replay) foreseeRestored(ctx context.Context, s Selection, counts *Counts) error {
	return r.eachAnnounced(ctx, s, counts, func(ctx context.Context, told []event.TaskReassigned) (tasks []roster.TaskRef, err error) {
		err = r.look(ctx, func(tx pgx.Tx) (err error) {
			tasks, err = roster.ForgottenMoves(ctx, tx, told)
			return err
		})
		return tasks, err
	})
}

// eachAnnounced gives do what was announced since the beginning of a selection, and counts the tasks it returns, each once.
func (r *Replay) eachAnnounced(ctx context.Context, s Selection, counts *Counts, do func(ctx context.Context, told []event.TaskReassigned) ([]roster.TaskRef, error)) error {
	if r.Announced == nil {
		return nil
	}
	before, seen := counts.Restored, map[roster.TaskRef]bool{}
	err := r.Announced(ctx, s.Since, func(ctx context.Context, batch []event.Message) error {
		var told []event.TaskReassigned
		for _, m := range batch {
			// What can't be read is no announcement of ours.
			if e, err := event.DecodeTaskReassigned(m); err == nil && among(s.Tenants, e.TenantID) {
				told = append(told, e)
			}
		}
		tasks, err := do(ctx, told)
		for _, t := range tasks {
			seen[t] = true
		}
		counts.Restored = before + len(seen)
		return errors.Join(err, ctx.Err())
	})
	if err != nil {
		return fmt.Errorf("restore what was announced: %w", err)
	}
	return nil
}
