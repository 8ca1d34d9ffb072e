package roster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/pkg/event"
)

const (
	copyTasks = `
COPY task_rows (tenant_id, task_id, account_id, title, status, source, role, priority, url, due_at, created_at,
                holding, closed_assignee, own_revision, base_assignee, assigned_at, effective_at, base_revision, synced_assignee) FROM STDIN (FORMAT binary)`
	updateTasks = `
UPDATE task_rows t SET
  account_id = w.account_id, title = w.title, status = w.status, source = w.source, role = w.role, priority = w.priority, url = w.url,
  due_at = w.due_at, created_at = w.created_at, holding = w.holding, closed_assignee = w.closed_assignee, own_revision = w.own_revision, base_assignee = w.base_assignee,
  assigned_at = w.assigned_at, effective_at = w.effective_at, base_revision = w.base_revision, synced_assignee = w.synced_assignee, updated_at = now()
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::timestamptz[],
            $12::bigint[], $13::text[], $14::bigint[], $15::text[], $16::timestamptz[], $17::timestamptz[], $18::bigint[], $19::text[])
  AS w(task_id, account_id, title, status, source, role, priority, url, due_at, created_at,
       holding, closed_assignee, own_revision, base_assignee, assigned_at, effective_at, base_revision, synced_assignee)
WHERE t.tenant_id = $1 AND t.task_id = w.task_id`
	raiseAssigned = `
UPDATE account_heads h SET assigned_at = a.at FROM unnest($2::text[], $3::timestamptz[]) AS a(account_id, at)
WHERE h.tenant_id = $1 AND h.account_id = a.account_id AND h.assigned_at < a.at`
	rememberAccounts = `
INSERT INTO former_accounts (tenant_id, task_id, account_id)
SELECT $1, task_id, account_id FROM unnest($2::text[], $3::text[]) AS f(task_id, account_id)
ON CONFLICT DO NOTHING`
)

// write writes what was decided: the tasks and what holds them, the moves and their announcements.
func (s *taskSync) write(ctx context.Context, changes []*taskChange) ([]journal.Entry, error) {
	// In one order, since tasks that are new may be so to two at once.
	slices.SortFunc(changes, func(a, b *taskChange) int { return cmp.Compare(a.now.ID, b.now.ID) })
	var fresh, present, taken []*taskChange
	for _, c := range changes {
		if c.known {
			present = append(present, c)
		} else {
			fresh = append(fresh, c)
		}
		if c.known && c.now.AccountID != c.was.AccountID {
			taken = append(taken, c)
		}
	}
	if err := s.writeHoldings(ctx, changes); err != nil {
		return nil, err
	}
	if err := s.writeTasks(ctx, fresh, present, taken); err != nil {
		return nil, err
	}
	moves := s.moves(changes)
	if err := recordMoves(ctx, s.tx, moves); err != nil {
		return nil, err
	}
	entries := Announcements(moves)
	if err := journal.Append(ctx, s.tx, entries); err != nil {
		return nil, err
	}
	handedOn, err := HandOn(ctx, s.tx, s.left(changes))
	return append(entries, handedOn...), err
}

// kindOf is what a holding of the task must be.
func (s *taskSync) kindOf(t *task) kind {
	return kind{Account: s.account(t.AccountID), role: t.Role, manual: t.Source == handover.SourceManual, assignee: t.Assignee}
}

// writeHoldings takes the tasks out of the holdings where they were and puts them into those where they belong.
func (s *taskSync) writeHoldings(ctx context.Context, changes []*taskChange) error {
	var concerned, joining []*taskChange
	left := map[holdingID]int{}
	for _, c := range changes {
		if !c.assigned && c.was.open() == c.now.open() && s.kindOf(&c.was) == s.kindOf(&c.now) {
			continue
		}
		concerned = append(concerned, c)
		if c.was.open() {
			left[holdingID{s.account(c.was.AccountID), c.was.holding}]++
		}
		if c.now.open() {
			joining = append(joining, c)
		} else {
			c.now.holding, c.now.ownRevision = 0, c.now.Revision
		}
	}
	if len(concerned) == 0 {
		return nil
	}
	if err := s.raiseHeads(ctx, concerned); err != nil {
		return err
	}
	// First in, then out: a holding that some leave and others join is not without tasks in between.
	if err := s.join(ctx, joining); err != nil {
		return err
	}
	return leaveHoldings(ctx, s.tx, left)
}

// join puts tasks into the holdings where they belong.
func (s *taskSync) join(ctx context.Context, joining []*taskChange) error {
	slices.SortFunc(joining, func(a, b *taskChange) int {
		if c := cmp.Compare(a.now.AccountID, b.now.AccountID); c != 0 {
			return c
		}
		return s.kindOf(&a.now).compare(s.kindOf(&b.now))
	})
	all := make([]holding, 0, len(joining))
	to := make([]int, len(joining)) // into which of them
	for i, c := range joining {
		if k := s.kindOf(&c.now); len(all) == 0 || all[len(all)-1].kind != k {
			all = append(all, holding{kind: k})
		}
		to[i] = len(all) - 1
		all[to[i]].n++
	}
	if err := joinHoldings(ctx, s.tx, all); err != nil {
		return err
	}
	for i, c := range joining {
		h := &all[to[i]]
		c.now.holding, c.now.ownRevision = h.key, c.now.Revision-h.moves
	}
	return nil
}

// raiseHeads notes from when on a role change may move whole holdings.
func (s *taskSync) raiseHeads(ctx context.Context, changes []*taskChange) error {
	latest := map[string]time.Time{}
	for _, c := range changes {
		id, at := c.now.AccountID, c.now.Base.EffectiveAt
		if c.assigned && at.After(s.heads[id].assigned) && at.After(latest[id]) {
			latest[id] = at
		}
	}
	if len(latest) == 0 {
		return nil
	}
	ids := slices.Sorted(maps.Keys(latest))
	_, err := s.tx.Exec(ctx, raiseAssigned, s.tenant, ids, column(ids, func(id string) time.Time { return latest[id] }))
	return err
}

func (s *taskSync) writeTasks(ctx context.Context, fresh, present, taken []*taskChange) error {
	if len(fresh) > 0 {
		appendTasks(&s.room.rows, s.tenant, fresh)
		if err := s.room.rows.Copy(ctx, s.tx, copyTasks); postgres.UniqueViolation(err, "task_rows_pkey") {
			// Whoever has inserted the task since it was looked for did so on another account: the locks are not the right ones.
			return errChanged
		} else if err != nil {
			return err
		}
		for _, c := range fresh {
			if s.again[c.now.ID] {
				s.found[c.now.ID] = true
			}
		}
	}
	if len(present) > 0 {
		if err := execEach(ctx, s.tx, len(present), updateTasks, columnsOfTasks(s.tenant, present)...); err != nil {
			return fmt.Errorf("write tasks: %w", err)
		}
	}
	if len(taken) > 0 {
		_, err := s.tx.Exec(ctx, rememberAccounts, s.tenant, column(taken, func(c *taskChange) string { return c.was.ID }),
			column(taken, func(c *taskChange) string { return c.was.AccountID }))
		return err
	}
	return nil
}

func appendTasks(rows *postgres.Rows, tenant string, changes []*taskChange) {
	person := func(id string) {
		if id == handover.Nobody {
			rows.Null()
		} else {
			rows.Text(id)
		}
	}
	at := func(t *time.Time) {
		if t == nil {
			rows.Null()
		} else {
			rows.Time(*t)
		}
	}
	for _, c := range changes {
		t := &c.now
		rows.Row(19)
		for _, text := range [...]string{tenant, t.ID, t.AccountID, t.Title, t.Status, t.Source, t.Role, t.Priority, t.URL} {
			rows.Text(text)
		}
		at(t.DueAt)
		at(t.CreatedAt)
		if t.open() {
			rows.Bigint(t.holding)
			rows.Null()
		} else {
			rows.Null()
			person(t.Assignee)
		}
		rows.Bigint(t.ownRevision)
		person(t.Base.Assignee)
		rows.Time(t.Base.AssignedAt)
		rows.Time(t.Base.EffectiveAt)
		rows.Bigint(t.BaseRevision)
		person(t.Synced)
	}
}

func columnsOfTasks(tenant string, changes []*taskChange) []any {
	text := func(of func(t *task) string) []string {
		return column(changes, func(c *taskChange) string { return of(&c.now) })
	}
	maybe := func(of func(t *task) string) []*string {
		return column(changes, func(c *taskChange) *string { return orNull(of(&c.now)) })
	}
	return []any{
		tenant,
		text(func(t *task) string { return t.ID }), text(func(t *task) string { return t.AccountID }), text(func(t *task) string { return t.Title }),
		text(func(t *task) string { return t.Status }), text(func(t *task) string { return t.Source }), text(func(t *task) string { return t.Role }),
		text(func(t *task) string { return t.Priority }), text(func(t *task) string { return t.URL }),
		column(changes, func(c *taskChange) *time.Time { return c.now.DueAt }), column(changes, func(c *taskChange) *time.Time { return c.now.CreatedAt }),
		column(changes, func(c *taskChange) *int64 {
			if !c.now.open() {
				return nil
			}
			return &c.now.holding
		}),
		maybe(func(t *task) string {
			if t.open() {
				return handover.Nobody
			}
			return t.Assignee
		}),
		column(changes, func(c *taskChange) int64 { return c.now.ownRevision }),
		maybe(func(t *task) string { return t.Base.Assignee }), column(changes, func(c *taskChange) time.Time { return c.now.Base.AssignedAt }),
		column(changes, func(c *taskChange) time.Time { return c.now.Base.EffectiveAt }), column(changes, func(c *taskChange) int64 { return c.now.BaseRevision }),
		maybe(func(t *task) string { return t.Synced }),
	}
}

// moves are the tasks that went to another assignee, grouped by what an announcement says of them.
func (s *taskSync) moves(changes []*taskChange) []Move {
	var moves []Move
	at := map[moveKey]int{}
	for _, c := range changes {
		if c.now.Assignee == c.was.Assignee {
			continue
		}
		key := moveKey{Account: s.account(c.now.AccountID), from: c.was.Assignee, to: c.now.Assignee, correction: c.correction}
		move := Move{Account: key.Account, Reason: cmp.Or(c.reason, bySync), By: s.by, From: key.from, To: key.to, At: s.clock}
		if c.cause != nil {
			key.cause = c.cause.Key
			move = MovedBy(c.cause, key.from, key.to, key.correction, s.clock)
			move.Account = key.Account
		}
		i, grouped := at[key]
		if !grouped {
			i = len(moves)
			at[key], moves = i, append(moves, move)
		}
		moves[i].Tasks = append(moves[i].Tasks, c.now.reassigned())
	}
	return moves
}

func (t task) reassigned() event.ReassignedTask {
	return event.ReassignedTask{ID: t.ID, Revision: t.Revision, Title: t.Title, DueAt: t.DueAt, Priority: t.Priority, Source: t.Source, URL: t.URL}
}

// left is what open tasks may have been left with people who are gone; who is known to be here is passed over.
func (s *taskSync) left(changes []*taskChange) []Left {
	seen := map[Left]bool{}
	var left []Left
	for _, c := range changes {
		p, read := s.people[c.now.Assignee]
		l := Left{Account: s.account(c.now.AccountID), Person: c.now.Assignee}
		if c.now.Assignee == "" || !c.now.open() || (read && p.leftAt == nil) || seen[l] {
			continue
		}
		seen[l] = true
		left = append(left, l)
	}
	return left
}
