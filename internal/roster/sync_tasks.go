package roster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
)

// SyncTasks takes what upstream says of tasks, as [Roster.SyncUsers] does of users, but many rows in several transactions
// at a time: rows of one id always in the same, and in order. Their accounts, assignees and roles must be known. After an
// error some of the rows may have been taken; taking all of them again does no harm.
func (r *Roster) SyncTasks(ctx context.Context, tenant, by string, rows []TaskSaid, dryRun bool) ([]RowResult, error) {
	results, rounds, err := prepare(rows, MaxSyncTasks, func(t *TaskSaid) string { return t.ID })
	if err != nil || len(rounds) == 0 {
		return results, err
	}
	parts := apart(rows, rounds)
	errs := make([]error, len(parts))
	var group sync.WaitGroup
	for n, rounds := range parts {
		group.Go(func() {
			room := r.takeRoom()
			defer r.leaveRoom(room)
			errs[n] = r.takeRounds(ctx, dryRun, results, rounds, func(ctx context.Context, tx pgx.Tx) (round, error) {
				s := taskSync{tx: tx, tenant: tenant, by: by, rows: rows, results: results, room: room}
				return s.take, s.lock(ctx, rounds)
			})
		})
	}
	group.Wait()
	if err := errors.Join(errs...); err != nil {
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
	room       *room

	again  map[string]bool // ids of more than one row
	idle   map[int]bool    // rows that say nothing new
	clock  time.Time       // of the database: after the locks, once they are had
	heads  map[string]taskHead
	people map[string]person
	roles  map[string]bool
	found  map[string]bool // tasks that are known; should another be so by now, inserting it tells

	// Of one round.
	present   map[string]*task
	histories map[string]*knownAccount
	holders   map[string][]string // of tasks, since their base
	wanting   struct {
		histories map[string]bool // accounts
		holders   []task
		people    map[string]bool
	}
}

// taskHead is what the locked head of an account tells.
type taskHead struct {
	seen     time.Time // the latest that it has seen or been issued
	assigned time.Time // the latest assignment of a task that it has been raised to
	known    bool      // the account itself
}

// lock passes over the rows that say nothing new. For the others it locks the people concerned, then the heads of the
// accounts where the tasks are and where they are to be.
func (s *taskSync) lock(ctx context.Context, rounds [][]int) error {
	indexes := slices.Concat(rounds...)
	if slices.ContainsFunc(indexes, func(i int) bool { return s.rows[i].Role.Value != "" }) {
		var err error
		if s.roles, err = readRoles(ctx, s.tx, s.tenant); err != nil {
			return err
		}
	}
	var err error
	if s.clock, err = readClock(ctx, s.tx); err != nil {
		return err
	}
	tasks, err := s.readTasks(ctx, column(indexes, func(i int) string { return s.rows[i].ID }))
	if err != nil {
		return err
	}
	s.passOver(rounds, tasks)
	s.found = map[string]bool{}
	people, accounts := map[string]bool{}, map[string]bool{}
	for _, i := range indexes {
		if s.idle[i] {
			continue
		}
		row := &s.rows[i]
		if row.AccountID.Given {
			accounts[row.AccountID.Value] = true
		}
		if present := tasks[row.ID]; present != nil {
			accounts[present.AccountID], s.found[row.ID] = true, true
		}
		people[row.AssigneeID.Value] = true
	}
	if len(people)+len(accounts) == 0 {
		return nil
	}
	if s.people, err = readPeople(ctx, s.tx, s.tenant, people); err != nil {
		return err
	}
	return s.lockHeads(ctx, accounts)
}

const lockHeadsOfTasks = `
SELECT h.account_id, greatest(h.newest_at, h.issued_at), h.assigned_at, h.assigned_at > '-infinity'
FROM unnest($2::text[]) WITH ORDINALITY AS a(account_id, n)
JOIN account_heads h ON h.tenant_id = $1 AND h.account_id = a.account_id
ORDER BY a.n
FOR UPDATE OF h`

// lockHeads is [LockHeads] where accounts must be known: every one that is has a head, so none is made.
func (s *taskSync) lockHeads(ctx context.Context, accounts map[string]bool) error {
	ids := slices.Sorted(maps.Keys(accounts))
	rows, err := s.tx.Query(ctx, lockHeadsOfTasks, s.tenant, ids)
	if err != nil {
		return fmt.Errorf("lock account heads: %w", err)
	}
	s.heads = make(map[string]taskHead, len(ids))
	var id string
	var seen, assigned maybeInfinite
	var known bool
	if _, err := pgx.ForEachRow(rows, []any{&id, &seen, &assigned, &known}, func() error {
		s.heads[id] = taskHead{seen.Time, assigned.Time, known}
		return nil
	}); err != nil {
		return fmt.Errorf("lock account heads: %w", err)
	}
	if err := s.lookForAccounts(ctx, ids); err != nil {
		return err
	}
	s.clock, err = readClock(ctx, s.tx)
	return err
}

// lookForAccounts tells which of the accounts are known: those where tasks have been before, and those that are there by now.
// The statement that waited for the locks sees what was there before them.
func (s *taskSync) lookForAccounts(ctx context.Context, ids []string) error {
	ids = slices.DeleteFunc(ids, func(id string) bool { return s.heads[id].known })
	if len(ids) == 0 {
		return nil
	}
	known, err := knownAccounts(ctx, s.tx, s.tenant, ids)
	if err != nil {
		return err
	}
	for id := range known {
		head, locked := s.heads[id]
		if !locked {
			return errChanged // it has got its head since
		}
		head.known = true
		s.heads[id] = head
	}
	return nil
}

// now is the time of something that happens now on the account: past everything it has seen or been issued.
func (s *taskSync) now(account string) time.Time {
	return handover.Next(s.clock, s.heads[account].seen)
}

// passOver marks the rows that say nothing new of tasks as they were read without a lock: nothing is to be written, so
// they have been taken, at that moment. Of an id that comes again only the locks tell what is new.
func (s *taskSync) passOver(rounds [][]int, tasks map[string]*task) {
	s.again, s.idle = map[string]bool{}, map[int]bool{}
	for _, later := range rounds[1:] {
		for _, i := range later {
			s.again[s.rows[i].ID] = true
		}
	}
	if len(tasks) == 0 {
		return
	}
	s.wantNothing()
	var c taskChange
	for _, i := range rounds[0] {
		row := &s.rows[i]
		t := tasks[row.ID]
		if t == nil || s.again[row.ID] {
			continue
		}
		c = taskChange{was: *t, known: true}
		if s.check(row, t) == nil {
			s.decide(&c, row)
			s.idle[i] = !c.differs()
		}
	}
	s.wantNothing()
}

func (s *taskSync) take(ctx context.Context, indexes []int) (entries []journal.Entry, err error) {
	var found []string
	var news []int
	for _, i := range indexes {
		if s.idle[i] {
			s.results[i].Outcome = Unchanged
			continue
		}
		news = append(news, i)
		if id := s.rows[i].ID; s.found[id] {
			found = append(found, id)
		}
	}
	if s.present, err = s.readTasks(ctx, found); err != nil {
		return nil, err
	}
	for _, t := range s.present {
		if _, locked := s.heads[t.AccountID]; !locked {
			return nil, errChanged
		}
	}
	s.histories, s.holders = map[string]*knownAccount{}, map[string][]string{}
	for {
		changes := s.decideAll(news)
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

func (s *taskSync) wantNothing() {
	s.wanting.histories, s.wanting.holders, s.wanting.people = map[string]bool{}, nil, map[string]bool{}
}

func (s *taskSync) decideAll(indexes []int) []*taskChange {
	s.wantNothing()
	all := s.room.of(len(indexes))
	changes := make([]*taskChange, 0, len(indexes))
	for n, i := range indexes {
		row, result := &s.rows[i], &s.results[i]
		was := s.present[row.ID]
		if result.Problem = s.check(row, was); result.Problem != nil {
			continue
		}
		c := &all[n]
		if was != nil {
			c.was, c.known = *was, true
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

// check says why a row can't be taken; was is nil for a task that isn't known yet. What a task has already was known when
// it came, and nobody forgets people or accounts.
func (s *taskSync) check(row *TaskSaid, was *task) *Invalid {
	ahead := s.clock.Add(handover.MaxAhead)
	switch {
	case was == nil && !row.Title.Given:
		return invalid("title", "is required for a task that isn't known yet")
	case was == nil && !row.AccountID.Given:
		return invalid("account_id", "is required for a task that isn't known yet")
	case row.AccountID.Given && (was == nil || row.AccountID.Value != was.AccountID) && !s.heads[row.AccountID.Value].known:
		return invalid("account_id", "there is no account %q; sync the account first", row.AccountID.Value)
	case row.Role.Value != "" && !s.roles[row.Role.Value]:
		return invalid("role", "there is no role %q; add it to the tenant's roles first", row.Role.Value)
	case row.AssignedAt.Value != nil && row.AssignedAt.Value.After(ahead):
		return invalid("assigned_at", "is more than %s ahead of our clock; set the upstream system's clock right", handover.MaxAhead)
	case row.CreatedAt.Value != nil && row.CreatedAt.Value.After(ahead):
		return invalid("created_at", "is more than %s ahead of our clock; set the upstream system's clock right", handover.MaxAhead)
	case row.AssigneeID.Value == "" || (was != nil && row.AssigneeID.Value == was.Synced):
		return nil
	}
	if _, ok := s.people[row.AssigneeID.Value]; !ok {
		return invalid("assignee_id", "there is no user %q; sync the user first", row.AssigneeID.Value)
	}
	return nil
}

func (s *taskSync) account(id string) Account { return Account{s.tenant, id} }

const presentTasks = `
SELECT t.task_id, t.account_id, t.title, t.status, t.source, t.role, t.priority, t.url, coalesce(t.assignee_id, ''), coalesce(t.base_assignee, ''), coalesce(t.synced_assignee, ''),
       t.due_at, t.created_at, t.assigned_at, t.effective_at, t.revision, t.base_revision, coalesce(t.holding, 0), t.own_revision
FROM unnest($2::text[]) AS i(task_id)
CROSS JOIN LATERAL (SELECT * FROM tasks t WHERE t.tenant_id = $1 AND t.task_id = i.task_id LIMIT 1) t`

func (s *taskSync) readTasks(ctx context.Context, ids []string) (map[string]*task, error) {
	tasks := map[string]*task{}
	if len(ids) == 0 {
		return tasks, nil
	}
	found, err := s.tx.Query(ctx, presentTasks, s.tenant, ids)
	if err != nil {
		return nil, err
	}
	var t task
	_, err = pgx.ForEachRow(found, []any{&t.ID, &t.AccountID, &t.Title, &t.Status, &t.Source, &t.Role, &t.Priority, &t.URL, &t.Assignee, &t.Base.Assignee, &t.Synced,
		&t.DueAt, &t.CreatedAt, &t.Base.AssignedAt, &t.Base.EffectiveAt, &t.Revision, &t.BaseRevision, &t.holding, &t.ownRevision}, func() error {
		read := t
		tasks[t.ID] = &read
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
