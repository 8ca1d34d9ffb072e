package roster

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

// Refold folds accounts again and corrects what differs: owners of roles, and assignees of open tasks, with their moves
// recorded and announced. The accounts' heads are locked. Fresh are the keys of the changes that this transaction
// recorded: where the fold gives a task back to its base, they are the cause.
//
// It returns the moves and the outbox entries to offer after the commit.
func Refold(ctx context.Context, tx pgx.Tx, accounts []Account, fresh map[int64]bool) ([]Move, []journal.Entry, error) {
	if len(accounts) == 0 {
		return nil, nil, nil
	}
	f := fold{tx: tx, fresh: fresh, known: map[Account]*knownAccount{}}
	f.tenants, f.ids = columns(sorted(accounts))
	for _, step := range []func(context.Context) error{f.readChanges, f.readFirstOwners, f.decideOwners, f.decideAssignees, f.writeAssignees} {
		if err := step(ctx); err != nil {
			return nil, nil, fmt.Errorf("fold accounts again: %w", err)
		}
	}
	entries := Announcements(f.moves)
	if err := journal.Append(ctx, tx, entries); err != nil {
		return nil, nil, err
	}
	handedOn, err := HandOn(ctx, tx, f.left)
	return f.moves, append(entries, handedOn...), err
}

type fold struct {
	tx           pgx.Tx
	fresh        map[int64]bool
	tenants, ids []string
	known        map[Account]*knownAccount
	wanted       map[moveKey][]string // task ids
	moves        []Move
	left         []Left
}

type knownAccount struct {
	handover.Account
	changes map[int64]*Change
	history handover.History
}

// moveKey groups the tasks of one move. A cause of 0 is none.
type moveKey struct {
	Account
	cause      int64
	from, to   string
	correction bool
}

func (f *fold) account(a Account) *knownAccount {
	k := f.known[a]
	if k == nil {
		k = &knownAccount{Account: handover.Account{First: map[string]string{}}, changes: map[int64]*Change{}}
		f.known[a] = k
	}
	return k
}

const changesOfAccounts = `
SELECT c.tenant_id, c.account_id, c.key, c.occurred_at, c.sequence, c.source, c.id, c.role, coalesce(c.from_id, ''), coalesce(c.to_id, ''),
       c.policy, c.reason, c.initiated_by, coalesce(c.operation_id, ''), c.traceparent
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT * FROM role_changes c WHERE c.tenant_id = a.tenant_id AND c.account_id = a.account_id OFFSET 0) c`

func (f *fold) readChanges(ctx context.Context) error {
	rows, err := f.tx.Query(ctx, changesOfAccounts, f.tenants, f.ids)
	if err != nil {
		return err
	}
	var c Change
	_, err = pgx.ForEachRow(rows, []any{&c.TenantID, &c.AccountID, &c.Key, &c.OccurredAt, &c.Sequence, &c.Source, &c.ID, &c.Role, &c.From, &c.To,
		&c.Policy, &c.Reason, &c.InitiatedBy, &c.OperationID, &c.Traceparent}, func() error {
		k := f.account(c.Account)
		read := c
		k.changes[c.Key] = &read
		k.Changes = append(k.Changes, c.Change)
		return nil
	})
	return err
}

const firstOwners = `
SELECT r.tenant_id, r.account_id, r.role, coalesce(r.first_owner, '')
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
JOIN account_roles r ON r.tenant_id = a.tenant_id AND r.account_id = a.account_id
WHERE r.synced`

func (f *fold) readFirstOwners(ctx context.Context) error {
	rows, err := f.tx.Query(ctx, firstOwners, f.tenants, f.ids)
	if err != nil {
		return err
	}
	var a Account
	var role, owner string
	_, err = pgx.ForEachRow(rows, []any{&a.TenantID, &a.AccountID, &role, &owner}, func() error {
		f.account(a).First[role] = owner
		return nil
	})
	return err
}

const upsertOwners = `
INSERT INTO account_roles AS r (tenant_id, account_id, role, owner_id, last_person, since, latest_owner, latest_at)
SELECT tenant_id, account_id, role, owner_id, last_person, coalesce(since, '-infinity'), owner_id, coalesce(since, '-infinity')
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::timestamptz[]) AS f(tenant_id, account_id, role, owner_id, last_person, since)
ON CONFLICT (tenant_id, account_id, role) DO UPDATE SET
  owner_id = excluded.owner_id, last_person = excluded.last_person, since = excluded.since,
  latest_owner = CASE WHEN excluded.since >= r.latest_at THEN excluded.owner_id ELSE r.latest_owner END,
  latest_at = greatest(r.latest_at, excluded.since)
WHERE (r.owner_id, r.last_person, r.since) IS DISTINCT FROM (excluded.owner_id, excluded.last_person, excluded.since)`

func (f *fold) decideOwners(ctx context.Context) error {
	var tenants, ids, roles []string
	var owners, lastPersons []*string
	var since []*time.Time
	for a, k := range f.known {
		k.history = k.Fold()
		for role, state := range k.history.Roles {
			tenants, ids, roles = append(tenants, a.TenantID), append(ids, a.AccountID), append(roles, role)
			owners, lastPersons = append(owners, orNull(state.Owner)), append(lastPersons, orNull(state.LastPerson))
			since = append(since, finite(state.Since))
			if state.Owner != handover.Nobody {
				f.left = append(f.left, Left{Account: a, Role: role, Person: state.Owner})
			}
		}
	}
	_, err := f.tx.Exec(ctx, upsertOwners, tenants, ids, roles, owners, lastPersons, since)
	return err
}

const openTasksOfAccounts = `
SELECT t.tenant_id, t.account_id, t.task_id, coalesce(t.base_assignee, ''), t.effective_at, t.source, t.role, coalesce(t.assignee_id, '')
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (
  SELECT * FROM tasks t WHERE t.tenant_id = a.tenant_id AND t.account_id = a.account_id AND t.status IN ('open', 'in_progress') OFFSET 0) t`

func (f *fold) decideAssignees(ctx context.Context) error {
	rows, err := f.tx.Query(ctx, openTasksOfAccounts, f.tenants, f.ids)
	if err != nil {
		return err
	}
	f.wanted = map[moveKey][]string{}
	holders := map[Left]bool{}
	var a Account
	var id, present string
	var t handover.Task
	_, err = pgx.ForEachRow(rows, []any{&a.TenantID, &a.AccountID, &id, &t.Base, &t.Since, &t.Source, &t.Role, &present}, func() error {
		k := f.account(a)
		assignee, moved := k.history.Assignee(t)
		if assignee != handover.Nobody {
			holders[Left{Account: a, Person: assignee}] = true
		}
		if assignee != present {
			key := moveKey{Account: a, cause: f.cause(k, moved), from: present, to: assignee, correction: handover.Corrects(present, t, moved)}
			f.wanted[key] = append(f.wanted[key], id)
		}
		return nil
	})
	for l := range holders {
		f.left = append(f.left, l)
	}
	return err
}

// cause is the change behind a move: the last that moved the task; where the fold gives it back to its base, the change
// that has just become known; failing that the account's latest.
func (f *fold) cause(k *knownAccount, moved []handover.Change) int64 {
	if len(moved) > 0 {
		return moved[len(moved)-1].Key
	}
	var latest *Change
	for key, c := range k.changes {
		if f.fresh[key] && (latest == nil || c.Compare(latest.Change) > 0) {
			latest = c
		}
	}
	if latest != nil {
		return latest.Key
	}
	last, _ := k.history.Last()
	return last.Key
}

const moveTasks = `
UPDATE tasks t SET assignee_id = w.to_id, revision = t.revision + 1, updated_at = now()
FROM unnest($1::int[], $2::text[], $3::text[], $4::text[]) AS w(n, tenant_id, task_id, to_id)
WHERE t.tenant_id = w.tenant_id AND t.task_id = w.task_id
RETURNING w.n, t.task_id, t.revision, t.title, t.due_at, t.priority, t.source, t.url, clock_timestamp()`

func (f *fold) writeAssignees(ctx context.Context) error {
	if len(f.wanted) == 0 {
		return nil
	}
	var n []int32
	var tenants, ids []string
	var to []*string
	counts := openTasks{}
	for key, tasks := range f.wanted {
		move := Move{Account: key.Account, Reason: bySync, From: key.from, To: key.to, Correction: key.correction}
		if c := f.known[key.Account].changes[key.cause]; c != nil {
			move = MovedBy(c, key.from, key.to, key.correction, time.Time{})
		}
		counts.add(key.Account, key.from, -len(tasks))
		counts.add(key.Account, key.to, len(tasks))
		for _, id := range tasks {
			n, tenants, ids, to = append(n, int32(len(f.moves))), append(tenants, key.TenantID), append(ids, id), append(to, orNull(key.to))
		}
		f.moves = append(f.moves, move)
	}
	rows, err := f.tx.Query(ctx, moveTasks, n, tenants, ids, to)
	if err != nil {
		return err
	}
	var i int32
	var t event.ReassignedTask
	var at time.Time
	if _, err := pgx.ForEachRow(rows, []any{&i, &t.ID, &t.Revision, &t.Title, &t.DueAt, &t.Priority, &t.Source, &t.URL, &at}, func() error {
		f.moves[i].Tasks, f.moves[i].At = append(f.moves[i].Tasks, t), at
		return nil
	}); err != nil {
		return err
	}
	if err := recordMoves(ctx, f.tx, f.moves); err != nil {
		return err
	}
	return counts.write(ctx, f.tx)
}

func finite(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
