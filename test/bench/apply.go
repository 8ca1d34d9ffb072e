package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/pkg/event"
)

// applyInSteps is the transaction of one change as most would write it: one statement after the other. It returns the
// announcement, without tasks when nothing moved.
func applyInSteps(ctx context.Context, pool *pgxpool.Pool, c event.AccountRoleChanged) (event.TaskReassigned, error) {
	var policy string
	var moved []event.ReassignedTask
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `INSERT INTO processed_changes (tenant_id, source, change_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			c.TenantID, c.Source, c.ID)
		if err != nil || done.RowsAffected() == 0 {
			return err
		}
		if err := tx.QueryRow(ctx, `SELECT policy FROM policies WHERE tenant_id = $1`, c.TenantID).Scan(&policy); err != nil {
			return err
		}
		if policy == "keep_tasks" {
			return nil
		}
		rows, err := tx.Query(ctx, `
			UPDATE tasks SET assignee_id = $4, revision = revision + 1, updated_at = now()
			WHERE tenant_id = $1 AND account_id = $2 AND assignee_id = $3 AND status = 'open' AND ($5 OR source <> 'manual')
			RETURNING task_id, revision, title, due_at, priority, source`,
			c.TenantID, c.AccountID, c.PreviousOwnerID, c.NewOwnerID, policy == "move_all_tasks")
		if err != nil {
			return err
		}
		if moved, err = pgx.CollectRows(rows, scanTask); err != nil {
			return err
		}
		// pgx sends a batch in one go, one INSERT a row.
		var history pgx.Batch
		for _, t := range moved {
			history.Queue(`INSERT INTO task_history (tenant_id, task_id, revision, change_id, from_id, to_id) VALUES ($1, $2, $3, $4, $5, $6)`,
				c.TenantID, t.ID, t.Revision, c.ID, c.PreviousOwnerID, c.NewOwnerID)
		}
		return tx.SendBatch(ctx, &history).Close()
	})
	return announcement(c, policy, moved), err
}

// atOnce does the same in one statement, which is a transaction by itself: one round trip, one commit, and the history
// written as one set. PostgreSQL has no shorter way to handle one change.
const atOnce = `
WITH fresh AS (
    INSERT INTO processed_changes (tenant_id, source, change_id) VALUES ($1, $5, $6) ON CONFLICT DO NOTHING RETURNING tenant_id
), moved AS (
    UPDATE tasks t SET assignee_id = $4, revision = revision + 1, updated_at = now()
    FROM fresh f JOIN policies p USING (tenant_id)
    WHERE t.tenant_id = $1 AND t.account_id = $2 AND t.assignee_id = $3 AND t.status = 'open'
        AND (p.policy = 'move_all_tasks' OR p.policy = 'move_automated_tasks' AND t.source <> 'manual')
    RETURNING t.task_id, t.revision, t.title, t.due_at, t.priority, t.source, p.policy
), history AS (
    INSERT INTO task_history (tenant_id, task_id, revision, change_id, from_id, to_id)
    SELECT $1, task_id, revision, $6, $3, $4 FROM moved
)
SELECT task_id, revision, title, due_at, priority, source, policy FROM moved`

// querier is a pool, or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// applyAtOnce is atOnce.
func applyAtOnce(ctx context.Context, db querier, c event.AccountRoleChanged) (event.TaskReassigned, error) {
	rows, err := db.Query(ctx, atOnce, c.TenantID, c.AccountID, c.PreviousOwnerID, c.NewOwnerID, c.Source, c.ID)
	if err != nil {
		return event.TaskReassigned{}, err
	}
	var policy string
	moved, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t event.ReassignedTask, err error) {
		return t, row.Scan(&t.ID, &t.Revision, &t.Title, &t.DueAt, &t.Priority, &t.Source, &policy)
	})
	return announcement(c, policy, moved), err
}

func scanTask(row pgx.CollectableRow) (t event.ReassignedTask, err error) {
	return t, row.Scan(&t.ID, &t.Revision, &t.Title, &t.DueAt, &t.Priority, &t.Source)
}

func announcement(c event.AccountRoleChanged, policy string, moved []event.ReassignedTask) event.TaskReassigned {
	return event.TaskReassigned{
		Source: event.SourceHandover, Time: time.Now(), TenantID: c.TenantID, AccountID: c.AccountID,
		FromID: c.PreviousOwnerID, ToID: c.NewOwnerID, Reason: c.Reason, InitiatedBy: c.InitiatedBy,
		RoleChange: &event.RoleChangeRef{Source: c.Source, ID: c.ID, Role: c.Role, OccurredAt: c.Time},
		Policy:     policy, Tasks: moved,
	}
}

// messages are the announcement with ids that are the same whenever it is made again, so that the broker knows a repeat.
func messages(a event.TaskReassigned) []event.Message {
	n := 0
	return a.Messages(func() string { n++; return fmt.Sprintf("%s/%d", a.RoleChange.ID, n) })
}

// messagePerTask is one message for each task of the announcement.
func messagePerTask(a event.TaskReassigned) []event.Message {
	out := make([]event.Message, 0, len(a.Tasks))
	for _, t := range a.Tasks {
		one := a
		one.Tasks = []event.ReassignedTask{t}
		out = append(out, one.Messages(func() string { return a.RoleChange.ID + "/" + t.ID })...)
	}
	return out
}
