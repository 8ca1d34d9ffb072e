package bench

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
)

// moveAndRemember is all that PostgreSQL must do at least: move the open tasks of a batch of changes, and write a row of
// history for each. Who the changes are about, and by which policy, is given.
const moveAndRemember = `
WITH moved AS (
  UPDATE tasks t SET assignee_id = w.to_id, updated_at = now()
  FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[]) AS w(change, tenant_id, account_id, from_id, to_id, all_tasks)
  WHERE t.tenant_id = w.tenant_id AND t.account_id = w.account_id AND t.assignee_id = w.from_id AND t.status IN ('open', 'in_progress')
    AND (w.all_tasks OR t.source <> 'manual')
  RETURNING w.change, t.task_id, t.tenant_id, t.account_id, w.from_id, w.to_id)
INSERT INTO history (change, task_id, tenant_id, account_id, from_id, to_id) SELECT * FROM moved`

// limitSettings have the statement planned once, by probing the indexes.
const limitSettings = `
SET plan_cache_mode = force_generic_plan; SET jit = off; SET timezone = 'UTC';
SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_bitmapscan = off`

const (
	limitSessions = 2
	limitBatch    = 512
)

// runLimit applies the changes of the plan with nothing around: two sessions, which share no account, each a statement
// and a commit for every 512 changes of as many accounts.
func (w *world) runLimit(ctx context.Context, p plan) (spent, error) {
	var batches [limitSessions][][]any
	var sessions [limitSessions]*pgx.Conn
	for i := range sessions {
		conn, err := pgx.Connect(ctx, w.databaseURL(w.name))
		if err != nil {
			return spent{}, err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		if _, err := conn.Exec(ctx, limitSettings); err != nil {
			return spent{}, err
		}
		empty := p.limitBatch(nil)
		if _, err := conn.Exec(ctx, moveAndRemember, empty...); err != nil {
			return spent{}, fmt.Errorf("limit: %w", err)
		}
		sessions[i] = conn
		for _, round := range p.rounds(i) {
			for from := 0; from < len(round); from += limitBatch {
				batches[i] = append(batches[i], p.limitBatch(round[from:min(from+limitBatch, len(round))]))
			}
		}
	}
	return w.measured(ctx, func() error {
		var wait sync.WaitGroup
		var errs [limitSessions]error
		for i, conn := range sessions {
			wait.Go(func() {
				for _, args := range batches[i] {
					if _, err := conn.Exec(ctx, moveAndRemember, args...); err != nil {
						errs[i] = fmt.Errorf("limit: %w", err)
						return
					}
				}
			})
		}
		wait.Wait()
		return errors.Join(errs[:]...)
	})
}

// rounds are the changes of a session's accounts: first the first of each account, then the second, and so on, since a
// statement can move a row once.
func (p plan) rounds(session int) [][]int {
	var rounds [][]int
	nth := map[int32]int{}
	for i, c := range p.changes {
		if int(c.account)/p.tenants%limitSessions != session {
			continue
		}
		n := nth[c.account]
		nth[c.account]++
		if n == len(rounds) {
			rounds = append(rounds, nil)
		}
		rounds[n] = append(rounds[n], i)
	}
	return rounds
}

// limitBatch are the parameters for some changes; those whose policy moves nothing need none.
func (p plan) limitBatch(changes []int) []any {
	keys, all := []int64{}, []bool{}
	tenants, accounts, from, to := []string{}, []string{}, []string{}, []string{}
	for _, i := range changes {
		c := p.changes[i]
		tenant := p.tenant(int(c.account))
		policy := p.policy(tenant)
		if policy == handover.KeepTasks {
			continue
		}
		keys, all = append(keys, int64(i)), append(all, policy == handover.MoveAllTasks)
		tenants, accounts = append(tenants, tenantID(tenant)), append(accounts, accountID(int(c.account)))
		from, to = append(from, userID(int(c.from))), append(to, userID(int(c.to)))
	}
	return []any{keys, tenants, accounts, from, to, all}
}

// checkLimit holds the limit's answer against the fold too.
func (w *world) checkLimit(ctx context.Context, r right) (verdict, error) {
	var v verdict
	if _, err := w.checkTasks(ctx, &v, r); err != nil {
		return v, err
	}
	err := w.conn.QueryRow(ctx, `SELECT count(*) FROM history`).Scan(&v.moved)
	return v, err
}
