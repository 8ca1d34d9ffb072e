package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Run is what an operator did by command, or is doing: it is kept for ever, and one that was cut off can go on from its
// cursor.
type Run struct {
	ID        int64           `json:"run_id"`
	Command   string          `json:"command"` // such as "replay" or "dead-letters retry"
	Actor     string          `json:"actor"`
	Arguments json.RawMessage `json:"arguments"`
	State     string          `json:"state"`            // running, done or failed; running is also one that was cut off
	Cursor    string          `json:"cursor,omitempty"` // how far it is, in the command's own words
	Counts    json.RawMessage `json:"counts"`
	Problem   string          `json:"problem,omitempty"`
	StartedAt time.Time       `json:"started_at"`
	UpdatedAt time.Time       `json:"updated_at"`
	EndedAt   *time.Time      `json:"ended_at,omitempty"`

	pool *pgxpool.Pool
}

const (
	runColumns = `run_id, command, actor, arguments, state, coalesce(cursor, ''), counts, coalesce(problem, ''), started_at, updated_at, ended_at`
	beginRun   = `INSERT INTO operator_runs (command, actor, arguments) VALUES ($1, $2, $3) RETURNING ` + runColumns
	findRun    = `SELECT ` + runColumns + ` FROM operator_runs WHERE run_id = $1`
	latestRuns = `SELECT ` + runColumns + ` FROM operator_runs WHERE $1 = '' OR command = $1 ORDER BY run_id DESC LIMIT $2`
	resumeRun  = `UPDATE operator_runs SET state = 'running', problem = NULL, ended_at = NULL, updated_at = clock_timestamp() WHERE run_id = $1 AND state <> 'done'`
	saveRun    = `UPDATE operator_runs SET cursor = $2, counts = $3, updated_at = clock_timestamp() WHERE run_id = $1`
	endRun     = `
UPDATE operator_runs SET state = CASE WHEN $3 = '' THEN 'done' ELSE 'failed' END, counts = $2, problem = nullif($3, ''),
  updated_at = clock_timestamp(), ended_at = clock_timestamp() WHERE run_id = $1`
)

// ErrNoRun says that there is no such run.
var ErrNoRun = errors.New("there is no such run")

// BeginRun writes down that an operator begins something. Arguments become JSON: what it was asked to do.
func BeginRun(ctx context.Context, pool *pgxpool.Pool, command, actor string, arguments any) (*Run, error) {
	what, err := json.Marshal(arguments)
	if err != nil {
		return nil, err
	}
	rows, err := pool.Query(ctx, beginRun, command, actor, what)
	return oneRun(pool, rows, err)
}

// FindRun is the run of that id, or [ErrNoRun].
func FindRun(ctx context.Context, pool *pgxpool.Pool, id int64) (*Run, error) {
	rows, err := pool.Query(ctx, findRun, id)
	return oneRun(pool, rows, err)
}

// Runs are the latest runs of a command, or of all when it is empty, the latest first.
func Runs(ctx context.Context, pool *pgxpool.Pool, command string, limit int) ([]Run, error) {
	rows, err := pool.Query(ctx, latestRuns, command, limit)
	if err != nil {
		return nil, fmt.Errorf("runs of operators: %w", err)
	}
	return pgx.CollectRows(rows, scanRun)
}

// Resume marks the run as running again. One that is done stays as it is.
func (r *Run) Resume(ctx context.Context) error {
	if _, err := r.pool.Exec(ctx, resumeRun, r.ID); err != nil {
		return fmt.Errorf("resume run %d: %w", r.ID, err)
	}
	return nil
}

// Save writes down how far the run is. Counts become JSON.
func (r *Run) Save(ctx context.Context, cursor string, counts any) error {
	n, err := json.Marshal(counts)
	if err == nil {
		_, err = r.pool.Exec(ctx, saveRun, r.ID, cursor, n)
	}
	if err != nil {
		return fmt.Errorf("save run %d: %w", r.ID, err)
	}
	r.Cursor, r.Counts = cursor, n
	return nil
}

// End writes down how the run ended: done, or failed with that problem. It does so also when ctx has ended.
func (r *Run) End(ctx context.Context, counts any, problem error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	said := ""
	if problem != nil {
		said = problem.Error()
	}
	n, err := json.Marshal(counts)
	if err == nil {
		_, err = r.pool.Exec(ctx, endRun, r.ID, n, said)
	}
	if err != nil {
		return fmt.Errorf("end run %d: %w", r.ID, err)
	}
	return nil
}

func oneRun(pool *pgxpool.Pool, rows pgx.Rows, err error) (*Run, error) {
	var r Run
	if err == nil {
		r, err = pgx.CollectExactlyOneRow(rows, scanRun)
	}
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoRun
	}
	if err != nil {
		return nil, fmt.Errorf("run of an operator: %w", err)
	}
	r.pool = pool
	return &r, nil
}

func scanRun(row pgx.CollectableRow) (Run, error) {
	var r Run
	err := row.Scan(&r.ID, &r.Command, &r.Actor, &r.Arguments, &r.State, &r.Cursor, &r.Counts, &r.Problem, &r.StartedAt, &r.UpdatedAt, &r.EndedAt)
	return r, err
}
