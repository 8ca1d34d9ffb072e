package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"handover.io/pkg/event"
)

// size is how much data there is before the first change. Accounts are spread over the tenants.
type size struct{ accounts, tasks int } // tasks of each account; two in five are open

const (
	tenants     = 10
	usersOfEach = 200
	source      = "//crm.example"
)

// Ids have the length that they have in upstream systems: account 12, user 10, task 36 characters.
func tenantID(account int) string  { return fmt.Sprintf("tenant-%d", account%tenants) }
func accountID(account int) string { return fmt.Sprintf("acc-%08d", account) }
func userID(user int) string       { return fmt.Sprintf("user-%05d", user) }
func firstOwner(account int) int   { return account / tenants % usersOfEach }

// openTasks is how many tasks of an account a change of owner moves, by the policy of its tenant: two tenants keep their
// tasks, four move the automated ones (three in five), four move all.
func (s size) openTasks(account int) int {
	open := s.tasks * 2 / 5
	switch account % tenants {
	case 0, 1:
		return 0
	case 2, 3, 4, 5:
		return open * 3 / 5
	}
	return open
}

// schema is what one would write without having measured: the indexes are those that the two questions "what does this
// person have to do" and "what is open on this account" ask for.
const schema = `
CREATE TABLE policies (tenant_id text PRIMARY KEY, policy text NOT NULL);
CREATE TABLE accounts (
    tenant_id  text NOT NULL,
    account_id text NOT NULL,
    owner_id   text NOT NULL,
    PRIMARY KEY (tenant_id, account_id)
);
CREATE TABLE tasks (
    tenant_id   text NOT NULL,
    task_id     text NOT NULL,
    account_id  text NOT NULL,
    title       text NOT NULL,
    status      text NOT NULL,
    source      text NOT NULL,
    priority    text NOT NULL,
    due_at      timestamptz,
    assignee_id text NOT NULL,
    revision    bigint NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE processed_changes (
    tenant_id    text NOT NULL,
    source       text NOT NULL,
    change_id    text NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, source, change_id)
);
CREATE TABLE task_history (
    tenant_id text NOT NULL,
    task_id   text NOT NULL,
    revision  bigint NOT NULL,
    change_id text NOT NULL,
    from_id   text NOT NULL,
    to_id     text NOT NULL,
    moved_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, task_id, revision)
)`

// fill writes the tasks in the order in which they come about: one of each account after the other, so that those of one
// account are on different pages. The first two in five are open.
const fill = `
INSERT INTO policies
SELECT 'tenant-' || t, CASE WHEN t < 2 THEN 'keep_tasks' WHEN t < 6 THEN 'move_automated_tasks' ELSE 'move_all_tasks' END
FROM generate_series(0, 9) t;
INSERT INTO accounts SELECT 'tenant-' || a %% 10, 'acc-' || lpad(a::text, 8, '0'), 'user-' || lpad((a / 10 %% 200)::text, 5, '0')
FROM generate_series(0, %[1]d - 1) a;
INSERT INTO tasks (tenant_id, task_id, account_id, title, status, source, priority, due_at, assignee_id)
SELECT 'tenant-' || a %% 10, md5(a || ' ' || n)::uuid::text, 'acc-' || lpad(a::text, 8, '0'), 'Prepare the quarterly review, part ' || n,
    CASE WHEN n < %[2]d * 2 / 5 THEN 'open' ELSE 'completed' END, CASE WHEN n %% 5 < 2 THEN 'manual' ELSE 'success_play' END,
    CASE WHEN n %% 3 = 0 THEN 'high' ELSE 'normal' END, timestamptz '2026-01-01' + n * interval '1 day',
    'user-' || lpad((a / 10 %% 200)::text, 5, '0')
FROM generate_series(0, %[2]d - 1) n, generate_series(0, %[1]d - 1) a;
ALTER TABLE tasks ADD PRIMARY KEY (tenant_id, task_id);
CREATE INDEX ON tasks (tenant_id, account_id, assignee_id) WHERE status = 'open';
CREATE INDEX ON tasks (tenant_id, assignee_id, due_at) WHERE status = 'open'`

// template is the name of the database with this much data in it, made unless there is one.
func template(ctx context.Context, admin *pgxpool.Pool, s size, say func(string, ...any)) (string, error) {
	name := fmt.Sprintf("peers_%dx%d_%x", s.accounts, s.tasks, sha256.Sum256([]byte(schema+fill)))[:40]
	var exists bool
	err := admin.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&exists)
	if err != nil || exists {
		return name, err
	}
	say("making the data: %d accounts with %d tasks each", s.accounts, s.tasks)
	// It gets its name last, so that one of that name is always complete.
	making := name + "_making"
	for _, sql := range []string{"DROP DATABASE IF EXISTS " + making, "CREATE DATABASE " + making} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return "", err
		}
	}
	if err := makeTemplate(ctx, admin, making, s); err != nil {
		return "", fmt.Errorf("make the data: %w", err)
	}
	_, err = admin.Exec(ctx, "ALTER DATABASE "+making+" RENAME TO "+name)
	return name, err
}

func makeTemplate(ctx context.Context, admin *pgxpool.Pool, database string, s size) error {
	config := admin.Config()
	config.ConnConfig.Database = database
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	// As a database of some age: no row needs a hint set at its first touch.
	for _, sql := range []string{schema, fmt.Sprintf(fill, s.accounts, s.tasks), "VACUUM (FREEZE, ANALYZE)"} {
		if _, err := pool.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	return nil
}

// workload is what a contender has to do, and what must come of it.
type workload struct {
	changes []event.AccountRoleChanged // in the order of their delivery, repeats included
	owners  map[int]int                // the last owner of each account that has changes
	moves   int                        // of tasks, over all changes
}

// perAccount is how many deliveries of an account there are in a hot mix; the last one is a repeat.
const perAccount = 10

// mixes are the orders in which changes come.
var mixes = map[string]func(size, int, *rand.Rand) workload{
	// Every change is of another account.
	"unique": func(s size, n int, r *rand.Rand) workload {
		w := workload{owners: map[int]int{}}
		for _, account := range r.Perm(s.accounts)[:n] {
			w.extend(s, account, r)
		}
		return w
	},
	// A tenth as many accounts as changes, each handed on nine times, one delivery in ten a repeat. The changes of one
	// account come in the order in which they occurred.
	"hot-ordered": chains,
	// The same in any order.
	"hot": func(s size, n int, r *rand.Rand) workload {
		w := chains(s, n, r)
		r.Shuffle(len(w.changes), func(i, j int) { w.changes[i], w.changes[j] = w.changes[j], w.changes[i] })
		return w
	},
}

func chains(s size, n int, r *rand.Rand) workload {
	accounts := max(1, n/perAccount)
	turns := make([]int, 0, n)
	chosen := r.Perm(s.accounts)[:accounts]
	for i := range n {
		turns = append(turns, chosen[i%accounts])
	}
	r.Shuffle(n, func(i, j int) { turns[i], turns[j] = turns[j], turns[i] })
	w := workload{owners: map[int]int{}}
	of := map[int][]event.AccountRoleChanged{}
	for _, account := range turns {
		if earlier := of[account]; len(earlier) == perAccount-1 {
			w.changes = append(w.changes, earlier[r.IntN(len(earlier))])
			continue
		}
		of[account] = append(of[account], w.extend(s, account, r))
	}
	return w
}

// extend hands the account on to somebody else, a minute after what was added last.
func (w *workload) extend(s size, account int, r *rand.Rand) event.AccountRoleChanged {
	from, known := w.owners[account]
	if !known {
		from = firstOwner(account)
	}
	to := (from + 1 + r.IntN(usersOfEach-1)) % usersOfEach
	c := event.AccountRoleChanged{
		ID: fmt.Sprintf("change-%08d", len(w.changes)), Source: source,
		Time:     time.Date(2025, 6, 1, 0, len(w.changes), 0, 0, time.UTC),
		TenantID: tenantID(account), AccountID: accountID(account), Role: "success_manager",
		PreviousOwnerID: userID(from), NewOwnerID: userID(to), Reason: event.BySegment, InitiatedBy: userID(0),
	}
	w.changes, w.owners[account], w.moves = append(w.changes, c), to, w.moves+s.openTasks(account)
	return c
}
