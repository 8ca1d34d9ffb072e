package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/journal"
)

// beyond is what a replay of a restored database shows that it lacks, and that no replay brings back.
type beyond struct {
	Operations int         `json:"operations"` // of ours that the database has forgotten, while it has their changes again
	Departures []departure `json:"departures"`
}

// departure is a person who left by such an operation and is active here.
type departure struct {
	TenantID    string    `json:"tenant_id"`
	UserID      string    `json:"user_id"`
	OperationID string    `json:"operation_id"`
	Reason      string    `json:"reason"`
	LeftAt      time.Time `json:"left_at"`
}

const (
	// An operation is accepted before its changes are issued: one that isn't there was lost.
	forgotten = `
FROM role_changes c
WHERE c.operation_id IS NOT NULL AND c.recorded_at >= $1 AND NOT EXISTS (SELECT FROM operations o WHERE o.operation_id = c.operation_id)`
	forgottenOperations = `SELECT count(DISTINCT c.operation_id)` + forgotten
	forgottenDepartures = `
SELECT c.tenant_id, c.from_id, c.operation_id, c.reason, min(c.occurred_at)` + forgotten + `
  AND c.reason IN ('user_disabled', 'user_deleted')
  AND EXISTS (SELECT FROM users u WHERE u.tenant_id = c.tenant_id AND u.user_id = c.from_id AND u.status = 'active')
GROUP BY 1, 2, 3, 4 ORDER BY 5, 1, 2`
)

// lookBeyond looks at what a run has recorded. It is nil unless the run, with those counts, was of a database that was restored.
func lookBeyond(ctx context.Context, pool *pgxpool.Pool, run *journal.Run, restored int) (*beyond, error) {
	var b beyond
	if err := pool.QueryRow(ctx, forgottenOperations, run.StartedAt).Scan(&b.Operations); err != nil {
		return nil, fmt.Errorf("operations that were forgotten: %w", err)
	}
	if b.Operations == 0 && restored == 0 {
		return nil, nil
	}
	rows, err := pool.Query(ctx, forgottenDepartures, run.StartedAt)
	if err == nil {
		b.Departures, err = pgx.CollectRows(rows, pgx.RowToStructByPos[departure])
	}
	if err != nil {
		return nil, fmt.Errorf("departures that were forgotten: %w", err)
	}
	return &b, nil
}

// departuresShown is how many are shown of many.
const departuresShown = 10

func (b beyond) print(w io.Writer) {
	fmt.Fprintln(w, "\nThe stream can't bring back what else was done since the dump: departures and status of users, operations, tokens,\n"+
		"policies, settings, tasks assigned by hand, syncs (RUNBOOK.md, Database restored from yesterday's backup).")
	if b.Operations > 0 {
		fmt.Fprintf(w, "%s forgotten, whose changes are back.\n", countOf(b.Operations, "operation"))
	}
	for i, d := range b.Departures {
		if i == departuresShown {
			fmt.Fprintf(w, "… and %d more; --json lists them.\n", len(b.Departures)-i)
			break
		}
		fmt.Fprintf(w, "%s of %s left by operation %s (%s, %s), and is active here: disable them again, unless they came back since.\n",
			safe.Text(d.UserID), d.TenantID, safe.Text(d.OperationID), d.Reason, minute(&d.LeftAt))
	}
}
