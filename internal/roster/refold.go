package roster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
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
	return refold(ctx, tx, accounts, fresh, false)
}

// RefoldSilently is [Refold] with moves that nobody is mailed about.
func RefoldSilently(ctx context.Context, tx pgx.Tx, accounts []Account, fresh map[int64]bool) ([]Move, []journal.Entry, error) {
	return refold(ctx, tx, accounts, fresh, true)
}

func refold(ctx context.Context, tx pgx.Tx, accounts []Account, fresh map[int64]bool, silent bool) ([]Move, []journal.Entry, error) {
	if len(accounts) == 0 {
		return nil, nil, nil
	}
	f := fold{tx: tx, fresh: fresh, known: map[Account]*knownAccount{}}
	f.tenants, f.ids = columns(sorted(accounts))
	for _, step := range []func(context.Context) error{f.readChanges, f.readFirstOwners, f.writeOwners, f.decideAssignees, f.writeAssignees} {
		if err := step(ctx); err != nil {
			return nil, nil, fmt.Errorf("fold accounts again: %w", err)
		}
	}
	for i := range f.moves {
		f.moves[i].Silent = silent
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
	by           string // who causes the moves, where it isn't who made the change behind them
	tenants, ids []string
	known        map[Account]*knownAccount
	holdings     holdings
	clock        time.Time // of the database, when the tasks were read
	goes         map[basis]going
	moved        map[*holding][]movedTask
	moves        []Move
	left         []Left
}

// movedTask is an open task that the fold gives to somebody else.
type movedTask struct {
	event.ReassignedTask
	move moveKey
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
       c.policy, c.overridden, c.reason, c.initiated_by, coalesce(c.operation_id, ''), c.traceparent
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT * FROM role_changes c WHERE c.tenant_id = a.tenant_id AND c.account_id = a.account_id OFFSET 0) c`

func (f *fold) readChanges(ctx context.Context) error {
	rows, err := f.tx.Query(ctx, changesOfAccounts, f.tenants, f.ids)
	if err != nil {
		return err
	}
	var c Change
	_, err = pgx.ForEachRow(rows, []any{&c.TenantID, &c.AccountID, &c.Key, &c.OccurredAt, &c.Sequence, &c.Source, &c.ID, &c.Role, &c.From, &c.To,
		&c.Policy, &c.Overridden, &c.Reason, &c.InitiatedBy, &c.OperationID, &c.Traceparent}, func() error {
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

// foldAll folds what is known of the accounts.
func (f *fold) foldAll() {
	for _, k := range f.known {
		k.history = k.Fold()
	}
}

func (f *fold) writeOwners(ctx context.Context) error {
	f.foldAll()
	var tenants, ids, roles []string
	var owners, lastPersons []*string
	var since []*time.Time
	for a, k := range f.known {
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

// basis is what the fold needs of an open task. Tasks alike in it are alike in what becomes of them.
type basis struct {
	holding int64
	base    string
	since   int64 // in microseconds
}

// going is what becomes of so many tasks alike: they go to somebody else.
type going struct {
	moveKey
	n int
}

const (
	basesOfHoldings = `
SELECT h.key, coalesce(t.base_assignee, ''), t.effective_at, t.n
FROM unnest($1::bigint[]) AS h(key)
CROSS JOIN LATERAL (SELECT base_assignee, effective_at, count(*) AS n FROM task_rows t WHERE t.holding = h.key GROUP BY 1, 2 OFFSET 0) t`
	tasksOfHoldings = `
SELECT h.key, coalesce(t.base_assignee, ''), t.effective_at, t.task_id, t.own_revision, t.title, t.due_at, t.priority, t.source, t.url, clock_timestamp()
FROM unnest($1::bigint[]) AS h(key)
CROSS JOIN LATERAL (SELECT * FROM task_rows t WHERE t.holding = h.key OFFSET 0) t`
)

// decideAssignees folds, and only then reads the tasks that go to somebody else: most don't.
func (f *fold) decideAssignees(ctx context.Context) error {
	if err := f.decide(ctx); err != nil {
		return err
	}
	return f.readMoved(ctx)
}

// decide folds: what goes to somebody else is in goes, and everybody who has tasks then in left.
func (f *fold) decide(ctx context.Context) (err error) {
	if f.holdings, err = readHoldings(ctx, f.tx, f.tenants, f.ids); err != nil {
		return err
	}
	rows, err := f.tx.Query(ctx, basesOfHoldings, slices.Collect(maps.Keys(f.holdings.byKey)))
	if err != nil {
		return err
	}
	f.goes = map[basis]going{}
	holders := map[Left]bool{}
	var b basis
	var since time.Time
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&b.holding, &b.base, &since, &n}, func() error {
		h := f.holdings.byKey[b.holding]
		k, of := f.account(h.Account), h.task(b.base, since)
		assignee, moved := k.history.Assignee(of)
		if assignee != handover.Nobody {
			holders[Left{Account: h.Account, Person: assignee}] = true
		}
		if assignee != h.assignee {
			b.since = since.UnixMicro()
			f.goes[b] = going{moveKey{Account: h.Account, cause: f.cause(k, h.assignee, moved), from: h.assignee, to: assignee, correction: handover.Corrects(h.assignee, of, moved)}, n}
		}
		return nil
	}); err != nil {
		return err
	}
	for l := range holders {
		f.left = append(f.left, l)
	}
	return nil
}

// readMoved reads the tasks that go to somebody else.
func (f *fold) readMoved(ctx context.Context) error {
	f.moved = map[*holding][]movedTask{}
	if len(f.goes) == 0 {
		return nil
	}
	holdings := map[int64]bool{}
	for b := range f.goes {
		holdings[b.holding] = true
	}
	from := slices.Collect(maps.Keys(holdings))
	rows, err := f.tx.Query(ctx, tasksOfHoldings, from)
	if err != nil {
		return err
	}
	var b basis
	var since time.Time
	var t movedTask
	_, err = pgx.ForEachRow(rows, []any{&b.holding, &b.base, &since, &t.ID, &t.Revision, &t.Title, &t.DueAt, &t.Priority, &t.Source, &t.URL, &f.clock}, func() error {
		b.since = since.UnixMicro()
		move, goes := f.goes[b]
		if !goes {
			return nil
		}
		h := f.holdings.byKey[b.holding]
		t.Revision += h.moves + 1
		t.move = move.moveKey
		f.moved[h] = append(f.moved[h], t)
		return nil
	})
	return err
}

// cause is the change behind a move from the present assignee: the last that moved the task; where the fold gives it back
// to its base, the change that has just become known, or was judged anew, above all one that had brought it there; failing
// that the account's latest.
func (f *fold) cause(k *knownAccount, present string, moved []handover.Change) int64 {
	if len(moved) > 0 {
		return moved[len(moved)-1].Key
	}
	var latest *Change
	for key, c := range k.changes {
		if !f.fresh[key] {
			continue
		}
		if latest == nil || (c.To == present) != (latest.To == present) && c.To == present || (c.To == present) == (latest.To == present) && c.Compare(latest.Change) > 0 {
			latest = c
		}
	}
	if latest != nil {
		return latest.Key
	}
	last, _ := k.history.Last()
	return last.Key
}

// rejoin takes open tasks from one holding to another.
const rejoin = `
UPDATE task_rows t SET holding = w.holding, own_revision = w.own_revision
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS w(tenant_id, task_id, holding, own_revision)
WHERE t.tenant_id = w.tenant_id AND t.task_id = w.task_id`

// writeAssignees moves the holdings whose tasks all go to one person, and takes the other tasks that go out of theirs.
func (f *fold) writeAssignees(ctx context.Context) error {
	if len(f.moved) == 0 {
		return nil
	}
	var leave []movedTask
	var from []*holding
	for h, tasks := range f.moved {
		if to := tasks[0].move.to; len(tasks) == h.n && !slices.ContainsFunc(tasks, func(t movedTask) bool { return t.move.to != to }) {
			h.moveTo(to)
			continue
		}
		for _, t := range tasks {
			leave, from = append(leave, t), append(from, h)
		}
	}
	joined := make([]*holding, len(leave))
	for i, t := range leave {
		k := from[i].kind
		k.assignee = t.move.to
		from[i].leave()
		joined[i] = f.holdings.join(k)
	}
	if err := f.holdings.write(ctx, f.tx); err != nil {
		return err
	}
	if len(leave) > 0 {
		own := make([]int64, len(leave))
		for i, t := range leave {
			own[i] = t.Revision - joined[i].moves
		}
		err := execEach(ctx, f.tx, len(leave), rejoin, column(leave, func(t movedTask) string { return t.move.TenantID }), column(leave, func(t movedTask) string { return t.ID }),
			column(joined, func(h *holding) int64 { return h.key }), own)
		if err != nil {
			return err
		}
	}
	return recordMoves(ctx, f.tx, f.groupMoves())
}

// groupMoves makes moves of the tasks that went.
func (f *fold) groupMoves() []Move {
	at := map[moveKey]int{}
	for _, tasks := range f.moved {
		for _, t := range tasks {
			i, grouped := at[t.move]
			if !grouped {
				i = len(f.moves)
				at[t.move], f.moves = i, append(f.moves, f.move(t.move))
			}
			f.moves[i].Tasks = append(f.moves[i].Tasks, t.ReassignedTask)
		}
	}
	return f.moves
}

func (f *fold) move(key moveKey) Move {
	if c := f.known[key.Account].changes[key.cause]; c != nil {
		m := MovedBy(c, key.from, key.to, key.correction, f.clock)
		m.By = cmp.Or(f.by, m.By)
		return m
	}
	return Move{Account: key.Account, Reason: bySync, From: key.from, To: key.to, Correction: key.correction, At: f.clock}
}

func finite(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
