package bench

import (
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"handover.io/internal/handover"
)

// dataset is a company's worth of accounts and tasks, every row of which follows from its number: the bench can say what
// must come out without having kept what it put in.
//
// Account i is of tenant i mod tenants. Row r of the tasks is of account r mod accounts, so the rows of one account lie
// on different pages. Of 50 tasks 20 are open, and 8 of these were made by hand.
type dataset struct {
	accounts, tasks, tenants int
	// huge is the number of open tasks of one more account, of the last tenant; 0: there is none.
	huge int
}

const (
	role = "success_manager"
	// Accounts of one person: the first of a tenant has many, everybody else as many as a person can know.
	accountsOfFirst = 1000
	accountsOfOther = 50
)

var (
	// assignedAt is the base of every task; changesFrom is when the first role change occurs.
	assignedAt  = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	changesFrom = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
)

func (d dataset) tenant(i int) int {
	if i == d.accounts {
		return d.tenants - 1
	}
	return i % d.tenants
}

func tenantID(t int) string { return "tenant-" + strconv.Itoa(t) }

// policy: of ten tenants two keep their tasks, four move those that nobody made by hand, four move all.
func (d dataset) policy(t int) handover.Policy {
	switch {
	case d.tenants == 1 || t >= d.tenants*6/10:
		return handover.MoveAllTasks
	case t >= d.tenants*2/10:
		return handover.MoveAutomatedTasks
	}
	return handover.KeepTasks
}

// accountID is unique and in no order that the rows are in.
func accountID(i int) string { return fmt.Sprintf("acc-%08d", i*48271069%100000000) }

func userID(u int) string { return fmt.Sprintf("user-%05d", u) }

// ofTenant is how many accounts a tenant has, without the huge one.
func (d dataset) ofTenant() int { return d.accounts / d.tenants }

func (d dataset) ofFirst() int { return min(accountsOfFirst, d.ofTenant()/2) }

// users is how many people each tenant has.
func (d dataset) users() int { return 4 + (d.ofTenant()-d.ofFirst())/accountsOfOther }

// owner is who has the account, and its tasks, at first.
func (d dataset) owner(i int) int {
	if i == d.accounts {
		return 1
	}
	j := i / d.tenants
	if j < d.ofFirst() {
		return 0
	}
	return 1 + (j-d.ofFirst())/accountsOfOther
}

// next is somebody else: step from 1 to less than users.
func (d dataset) next(user, step int) int { return (user + step) % d.users() }

// rows is the number of tasks, those of the huge account included.
func (d dataset) rows() int { return d.tasks + d.huge }

func (d dataset) accountOf(row int) int {
	if row >= d.tasks {
		return d.accounts
	}
	return row % d.accounts
}

// kind is a task's source and whether it is open. The SQL that makes the rows says the same.
func (d dataset) kind(row int) (source string, open bool) {
	k := row / d.accounts
	if row >= d.tasks {
		k = row - d.tasks
	}
	switch nth := k/5*2 + k%5; {
	case nth%5 < 2:
		source = handover.SourceManual
	case nth%5 < 4:
		source = "success_play"
	default:
		source = "integration"
	}
	return source, row >= d.tasks || k%5 < 2
}

// openTasks is how many each account has, the huge one apart.
func (d dataset) openTasks() int {
	n := 0
	for row := 0; row < d.tasks; row += d.accounts {
		if _, open := d.kind(row); open {
			n++
		}
	}
	return n
}

// taskID begins at random, like the ids of most systems, and ends with the row.
func taskID(row int) string {
	sum := md5.Sum([]byte(strconv.Itoa(row)))
	h := hex.EncodeToString(sum[:10])
	return fmt.Sprintf("%s-%s-%s-%s-%012x", h[:8], h[8:12], h[12:16], h[16:20], row)
}

// rowOf is the row of a task id, or -1.
func (d dataset) rowOf(id string) int {
	if len(id) != 36 {
		return -1
	}
	row, err := strconv.ParseInt(id[24:], 16, 64)
	if err != nil || row < 0 || row >= int64(d.rows()) || taskID(int(row)) != id {
		return -1
	}
	return int(row)
}

// The SQL of the data set. It and the reading of what came out of it (check.go) are all that knows the tables.
const (
	makeSeed = `CREATE TABLE bench_accounts (number bigint PRIMARY KEY, tenant_id text NOT NULL, account_id text NOT NULL, owner_id text NOT NULL)`
	// taskRows are the rows from $1 to before $2; $3 is the number of accounts, $4 that of the tasks without the huge account's.
	taskRows = `
SELECT a.number, a.tenant_id, a.account_id, a.owner_id, open,
       substr(h, 1, 8) || '-' || substr(h, 9, 4) || '-' || substr(h, 13, 4) || '-' || substr(h, 17, 4) || '-' || lpad(to_hex(r), 12, '0') AS task_id,
       (ARRAY['Prepare the renewal call', 'Send the usage report', 'Agree on next quarter''s goals', 'Follow up on the open ticket'])[1 + r % 4] || ' (' || r || ')' AS title,
       CASE WHEN NOT open THEN 'completed' WHEN nth % 3 = 0 THEN 'in_progress' ELSE 'open' END AS status,
       CASE WHEN nth % 5 < 2 THEN 'manual' WHEN nth % 5 < 4 THEN 'success_play' ELSE 'integration' END AS source,
       CASE WHEN r % 7 = 0 THEN 'high' ELSE '' END AS priority,
       CASE WHEN nth % 5 = 4 THEN 'https://crm.example/tasks/' || r ELSE '' END AS url,
       timestamptz '2025-07-01 UTC' + (r % 9973) * interval '1 hour' AS due_at
FROM generate_series($1::bigint, $2::bigint - 1) AS r
CROSS JOIN LATERAL (SELECT r >= $4::bigint AS huge, CASE WHEN r >= $4 THEN r - $4 ELSE r / $3::bigint END AS k) n
CROSS JOIN LATERAL (SELECT md5(r::text) AS h, k / 5 * 2 + k % 5 AS nth, huge OR k % 5 < 2 AS open) f
JOIN bench_accounts a ON a.number = CASE WHEN huge THEN $3 ELSE r % $3 END`
	insertTasks = `
INSERT INTO task_rows (tenant_id, account_id, task_id, title, status, source, priority, url, due_at, created_at,
                       holding, closed_assignee, base_assignee, synced_assignee, assigned_at, effective_at)
SELECT r.tenant_id, r.account_id, r.task_id, r.title, r.status, r.source, r.priority, r.url, r.due_at, timestamptz '2025-01-01 UTC',
       CASE WHEN r.open THEN 2 * r.number + (r.source = 'manual')::int END, CASE WHEN NOT r.open THEN r.owner_id END, r.owner_id, r.owner_id,
       timestamptz '2025-01-01 UTC', timestamptz '2025-01-01 UTC'
FROM (` + taskRows + `) r`
	insertUsers = `
INSERT INTO users (tenant_id, user_id, name, email)
SELECT t, 'user-' || lpad(u::text, 5, '0'), 'Person ' || u, 'person' || u || '@example.com'
FROM unnest($1::text[]) AS t, generate_series(0, $2 - 1) AS u`
)

// aroundAccounts is what a sync leaves of the accounts numbered $1 to before $2 and of their tasks.
var aroundAccounts = []string{
	`INSERT INTO accounts (tenant_id, account_id, name) SELECT tenant_id, account_id, 'Account ' || number FROM bench_accounts WHERE number >= $1 AND number < $2 ORDER BY number`,
	`INSERT INTO account_heads (tenant_id, account_id, assigned_at) SELECT tenant_id, account_id, timestamptz '2025-01-01 UTC' FROM bench_accounts WHERE number >= $1 AND number < $2 ORDER BY number`,
	`INSERT INTO account_roles (tenant_id, account_id, role, owner_id, last_person, latest_owner, first_owner, synced_owner, synced)
	 SELECT tenant_id, account_id, '` + role + `', owner_id, owner_id, owner_id, owner_id, owner_id, true
	 FROM bench_accounts WHERE number >= $1 AND number < $2 ORDER BY number`,
	`INSERT INTO holdings (tenant_id, account_id, key, role, manual, assignee_id, n) OVERRIDING SYSTEM VALUE
	 SELECT a.tenant_id, a.account_id, t.holding, '', t.holding % 2 = 1, a.owner_id, t.n
	 FROM (SELECT holding, count(*) AS n FROM task_rows WHERE holding >= 2 * $1::bigint AND holding < 2 * $2::bigint GROUP BY 1) t
	 JOIN bench_accounts a ON a.number = t.holding / 2 ORDER BY t.holding`,
	`SELECT setval(pg_get_serial_sequence('holdings', 'key'), 2 * $2::bigint) WHERE $1::bigint IS NOT NULL`,
}

// The limit's tables: the same tasks under ordinary indexes, and a row of history for each move.
const (
	limitTables = `
CREATE TABLE tasks (
    tenant_id text COLLATE "C" NOT NULL, task_id text COLLATE "C" NOT NULL, account_id text COLLATE "C" NOT NULL, title text NOT NULL,
    status text NOT NULL, source text COLLATE "C" NOT NULL, priority text NOT NULL, url text NOT NULL, due_at timestamptz,
    assignee_id text COLLATE "C", updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (tenant_id, task_id));
CREATE INDEX tasks_account ON tasks (tenant_id, account_id, assignee_id) WHERE status IN ('open', 'in_progress');
CREATE INDEX tasks_assignee ON tasks (tenant_id, assignee_id, due_at) WHERE status IN ('open', 'in_progress');
CREATE TABLE history (
    change bigint NOT NULL, task_id text COLLATE "C" NOT NULL, tenant_id text COLLATE "C" NOT NULL, account_id text COLLATE "C" NOT NULL,
    from_id text COLLATE "C", to_id text COLLATE "C", moved_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (change, task_id))`
	insertLimitTasks = `
INSERT INTO tasks (tenant_id, account_id, task_id, title, status, source, priority, url, due_at, assignee_id)
SELECT r.tenant_id, r.account_id, r.task_id, r.title, r.status, r.source, r.priority, r.url, r.due_at, r.owner_id FROM (` + taskRows + `) r`
)

// taskStates is what there is to check of every task, ours and the limit's: with whom it is.
const taskStates = `SELECT tenant_id, task_id, coalesce(assignee_id, '') FROM tasks`
