package roster

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
)

// SyncTasks takes what upstream says of tasks, as [Roster.SyncUsers] does of users. Their accounts, assignees and roles
// must be known.
func (r *Roster) SyncTasks(ctx context.Context, tenant, by string, rows []TaskSaid, dryRun bool) ([]RowResult, error) {
	results, rounds, err := prepare(rows, func(t TaskSaid) string { return t.ID })
	if err != nil {
		return nil, err
	}
	err = r.takeRounds(ctx, dryRun, results, rounds, func(ctx context.Context, tx pgx.Tx) (round, error) {
		s := taskSync{tx: tx, tenant: tenant, by: by, rows: rows, results: results}
		return s.take, s.lock(ctx, slices.Concat(rounds...))
	})
	if err != nil {
		return nil, fmt.Errorf("sync tasks: %w", err)
	}
	return results, nil
}

// taskSync decides by what it has read under the locks. A decision that needs the history of an account, or who has had
// a task, asks for it and is taken again when that has been read, all that is wanting at once: most need neither.
type taskSync struct {
	tx         pgx.Tx
	tenant, by string
	rows       []TaskSaid
	results    []RowResult

	heads    Heads
	people   map[string]person
	roles    map[string]bool
	accounts map[string]bool // known
	found    map[string]bool // tasks that are known; should another be so by now, inserting it tells

	// Of one round.
	present   map[string]task
	histories map[string]*knownAccount
	holders   map[string][]string // of tasks, since their base
	wanting   struct {
		histories map[string]bool // accounts
		holders   []task
		people    map[string]bool
	}
}

// lock locks the people concerned, then the heads of the accounts where the tasks are and where they are to be.
func (s *taskSync) lock(ctx context.Context, indexes []int) error {
	tasks, err := s.readTasks(ctx, column(indexes, func(i int) string { return s.rows[i].ID }))
	if err != nil {
		return err
	}
	s.found = map[string]bool{}
	people, accounts, given := map[string]bool{}, map[string]bool{}, map[string]bool{}
	bound := false
	for _, i := range indexes {
		row, present := s.rows[i], tasks[s.rows[i].ID]
		if row.AccountID.Given {
			accounts[row.AccountID.Value], given[row.AccountID.Value] = true, true
		}
		if present.ID != "" {
			accounts[present.AccountID], s.found[present.ID] = true, true
		}
		people[row.AssigneeID.Value] = true
		bound = bound || row.Role.Value != ""
	}
	if s.people, err = readPeople(ctx, s.tx, s.tenant, people); err != nil {
		return err
	}
	if bound {
		if s.roles, err = readRoles(ctx, s.tx, s.tenant); err != nil {
			return err
		}
	}
	if s.heads, err = LockHeads(ctx, s.tx, accountsOf(s.tenant, accounts)); err != nil {
		return err
	}
	s.accounts, err = knownAccounts(ctx, s.tx, s.tenant, keys(given))
	return err
}

func (s *taskSync) take(ctx context.Context, indexes []int) (entries []journal.Entry, err error) {
	var found []string
	for _, i := range indexes {
		if id := s.rows[i].ID; s.found[id] {
			found = append(found, id)
		}
	}
	if s.present, err = s.readTasks(ctx, found); err != nil {
		return nil, err
	}
	for _, t := range s.present {
		if _, locked := s.heads.seen[s.account(t.AccountID)]; !locked {
			return nil, errChanged
		}
	}
	s.histories, s.holders = map[string]*knownAccount{}, map[string][]string{}
	for {
		changes := s.decideAll(indexes)
		if len(s.wanting.histories)+len(s.wanting.holders)+len(s.wanting.people) == 0 {
			return s.write(ctx, changes)
		}
		for _, read := range []func(context.Context) error{s.readHistories, s.readHolders, s.readMorePeople} {
			if err := read(ctx); err != nil {
				return nil, err
			}
		}
	}
}

func (s *taskSync) decideAll(indexes []int) []*taskChange {
	s.wanting.histories, s.wanting.holders, s.wanting.people = map[string]bool{}, nil, map[string]bool{}
	all := make([]taskChange, len(indexes))
	changes := make([]*taskChange, 0, len(indexes))
	for n, i := range indexes {
		row, result := s.rows[i], &s.results[i]
		was, known := s.present[row.ID]
		if result.Problem = s.check(row, known); result.Problem != nil {
			continue
		}
		c := &all[n]
		if c.was, c.known = was, known; known {
			s.decide(c, row)
		} else {
			s.decideFirst(c, row)
		}
		if result.Outcome = c.outcome(); c.differs() {
			changes = append(changes, c)
		}
		result.TasksMoved = 0
		if c.now.Assignee != c.was.Assignee {
			result.TasksMoved = 1
		}
	}
	return changes
}

// check says why a row can't be taken.
func (s *taskSync) check(row TaskSaid, known bool) *Invalid {
	ahead := s.heads.Clock.Add(handover.MaxAhead)
	switch {
	case !known && !row.Title.Given:
		return invalid("title", "is required for a task that isn't known yet")
	case !known && !row.AccountID.Given:
		return invalid("account_id", "is required for a task that isn't known yet")
	case row.AccountID.Given && !s.accounts[row.AccountID.Value]:
		return invalid("account_id", "there is no account %q; sync the account first", row.AccountID.Value)
	case row.Role.Value != "" && !s.roles[row.Role.Value]:
		return invalid("role", "there is no role %q; add it to the tenant's roles first", row.Role.Value)
	case row.AssignedAt.Value != nil && row.AssignedAt.Value.After(ahead):
		return invalid("assigned_at", "is more than %s ahead of our clock; set the upstream system's clock right", handover.MaxAhead)
	case row.CreatedAt.Value != nil && row.CreatedAt.Value.After(ahead):
		return invalid("created_at", "is more than %s ahead of our clock; set the upstream system's clock right", handover.MaxAhead)
	}
	if _, ok := s.people[row.AssigneeID.Value]; !ok && row.AssigneeID.Value != "" {
		return invalid("assignee_id", "there is no user %q; sync the user first", row.AssigneeID.Value)
	}
	return nil
}

func (s *taskSync) account(id string) Account { return Account{s.tenant, id} }

const presentTasks = `
SELECT t.task_id, t.account_id, t.title, t.status, t.source, t.role, t.priority, t.url, t.due_at, t.created_at, coalesce(t.assignee_id, ''), t.revision,
       coalesce(t.base_assignee, ''), t.assigned_at, t.effective_at, t.base_revision, coalesce(t.synced_assignee, ''), coalesce(t.holding, 0), t.own_revision
FROM unnest($2::text[]) AS i(task_id)
CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.tenant_id = $1 AND t.task_id = i.task_id LIMIT 1) t`

func (s *taskSync) readTasks(ctx context.Context, ids []string) (map[string]task, error) {
	tasks := map[string]task{}
	if len(ids) == 0 {
		return tasks, nil
	}
	found, err := s.tx.Query(ctx, presentTasks, s.tenant, ids)
	if err != nil {
		return nil, err
	}
	var t task
	_, err = pgx.ForEachRow(found, []any{&t.ID, &t.AccountID, &t.Title, &t.Status, &t.Source, &t.Role, &t.Priority, &t.URL, &t.DueAt, &t.CreatedAt, &t.Assignee, &t.Revision,
		&t.Base.Assignee, &t.Base.AssignedAt, &t.Base.EffectiveAt, &t.BaseRevision, &t.Synced, &t.holding, &t.ownRevision}, func() error {
		tasks[t.ID] = t
		return nil
	})
	return tasks, err
}

// readHistories reads what is known of the accounts that decisions were wanting.
func (s *taskSync) readHistories(ctx context.Context) error {
	if len(s.wanting.histories) == 0 {
		return nil
	}
	f := fold{tx: s.tx, known: map[Account]*knownAccount{}}
	f.tenants, f.ids = columns(sorted(accountsOf(s.tenant, s.wanting.histories)))
	if err := f.readChanges(ctx); err != nil {
		return err
	}
	if err := f.readFirstOwners(ctx); err != nil {
		return err
	}
	for id := range s.wanting.histories {
		k := f.account(s.account(id))
		k.history = k.Fold()
		s.histories[id] = k
	}
	return nil
}

// readMorePeople locks assignees whom no row named. Locked after the heads they may meet another order of locking; what
// comes of that is a deadlock that is tried again.
func (s *taskSync) readMorePeople(ctx context.Context) error {
	wanted := keys(s.wanting.people)
	found, err := readPeople(ctx, s.tx, s.tenant, s.wanting.people)
	for _, id := range wanted {
		s.people[id] = found[id]
	}
	return err
}

// A task's moves since its base were all on the account where it is: going to another account makes a new base.
const holdersSinceBase = `
SELECT i.task_id, coalesce(m.from_id, ''), coalesce(m.to_id, '')
FROM unnest($2::text[], $3::text[], $4::bigint[]) AS i(task_id, account_id, base_revision)
CROSS JOIN LATERAL (
  SELECT m.from_id, m.to_id FROM moves m
  WHERE m.tenant_id = $1 AND m.account_id = i.account_id AND m.task_ids @> ARRAY[i.task_id]
    AND m.revisions[array_position(m.task_ids, i.task_id)] > i.base_revision OFFSET 0) m`

func (s *taskSync) readHolders(ctx context.Context) error {
	tasks := s.wanting.holders
	if len(tasks) == 0 {
		return nil
	}
	rows, err := s.tx.Query(ctx, holdersSinceBase, s.tenant, column(tasks, func(t task) string { return t.ID }),
		column(tasks, func(t task) string { return t.AccountID }), column(tasks, func(t task) int64 { return t.BaseRevision }))
	if err != nil {
		return err
	}
	for _, t := range tasks {
		s.holders[t.ID] = []string{t.Base.Assignee, t.Assignee}
	}
	var id, from, to string
	_, err = pgx.ForEachRow(rows, []any{&id, &from, &to}, func() error {
		s.holders[id] = append(s.holders[id], from, to)
		return nil
	})
	return err
}
