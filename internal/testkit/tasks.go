package testkit

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Task is an open task for the tables. Since is from when role changes apply to it.
type Task struct {
	Tenant, ID, Account, Title, Source, Role, Assignee string
	Revision                                           int64
	Since                                              time.Time
}

const putTasks = `
WITH put AS (
  SELECT *, source = 'manual' AS manual FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bigint[], $9::timestamptz[])
    AS t(tenant_id, task_id, account_id, title, source, role, assignee_id, revision, since)
), heads AS (
  INSERT INTO account_heads AS h (tenant_id, account_id, assigned_at) SELECT tenant_id, account_id, max(since) FROM put GROUP BY 1, 2
  ON CONFLICT (tenant_id, account_id) DO UPDATE SET assigned_at = greatest(h.assigned_at, excluded.assigned_at)
), kinds AS (
  SELECT k.*, (SELECT min(key) FROM holdings h WHERE (h.tenant_id, h.account_id, h.role, h.manual, coalesce(h.assignee_id, '')) = (k.tenant_id, k.account_id, k.role, k.manual, k.assignee_id)) AS present
  FROM (SELECT tenant_id, account_id, role, manual, assignee_id, count(*) AS n FROM put GROUP BY 1, 2, 3, 4, 5) k
), joined AS (
  UPDATE holdings h SET n = h.n + k.n FROM kinds k WHERE h.key = k.present RETURNING h.*
), made AS (
  INSERT INTO holdings (tenant_id, account_id, role, manual, assignee_id, n)
  SELECT tenant_id, account_id, role, manual, nullif(assignee_id, ''), n FROM kinds WHERE present IS NULL RETURNING *
)
INSERT INTO task_rows (tenant_id, task_id, account_id, title, source, role, holding, own_revision, base_assignee, assigned_at, effective_at)
SELECT p.tenant_id, p.task_id, p.account_id, p.title, p.source, p.role, h.key, p.revision - h.moves, nullif(p.assignee_id, ''), p.since, p.since
FROM put p JOIN (SELECT * FROM joined UNION ALL SELECT * FROM made) h
  ON (h.tenant_id, h.account_id, h.role, h.manual, coalesce(h.assignee_id, '')) = (p.tenant_id, p.account_id, p.role, p.manual, p.assignee_id)`

// PutTasks puts open tasks into the tables, each with its assignee as its base. The source is manual where none is given.
func PutTasks(t testing.TB, pool *pgxpool.Pool, tasks ...Task) {
	t.Helper()
	var tenants, ids, accounts, titles, sources, roles, assignees []string
	var revisions []int64
	var since []time.Time
	for _, p := range tasks {
		if p.Source == "" {
			p.Source = "manual"
		}
		tenants, ids, accounts, titles = append(tenants, p.Tenant), append(ids, p.ID), append(accounts, p.Account), append(titles, p.Title)
		sources, roles, assignees = append(sources, p.Source), append(roles, p.Role), append(assignees, p.Assignee)
		revisions, since = append(revisions, p.Revision), append(since, p.Since)
	}
	Exec(t, pool, putTasks, tenants, ids, accounts, titles, sources, roles, assignees, revisions, since)
}

const (
	closeTask = `
UPDATE task_rows t SET status = 'completed', holding = NULL, closed_assignee = h.assignee_id, own_revision = t.own_revision + h.moves
FROM holdings h WHERE t.tenant_id = $1 AND t.task_id = $2 AND h.key = t.holding`
	recount = `
WITH gone AS (DELETE FROM holdings h WHERE NOT EXISTS (SELECT FROM task_rows t WHERE t.holding = h.key))
UPDATE holdings h SET n = t.n FROM (SELECT holding, count(*) AS n FROM task_rows GROUP BY 1) t WHERE t.holding = h.key AND h.n <> t.n`
)

// CloseTask completes an open task.
func CloseTask(t testing.TB, pool *pgxpool.Pool, tenant, id string) {
	t.Helper()
	Exec(t, pool, closeTask, tenant, id)
	Exec(t, pool, recount)
}
