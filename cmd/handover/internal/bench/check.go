package bench

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/bus"
	"handover.io/internal/handover"
	"handover.io/pkg/event"
)

// verdict is what a check found: what was moved and announced, and what is wrong.
type verdict struct {
	moved         int // tasks, each as often as it moved
	announcements int
	bytes         int64 // of the announcements
	largest       int   // of them
	wrong         int
	differences   []string // the first of what is wrong
}

// maxDifferences are shown; the rest are counted.
const maxDifferences = 20

func (v *verdict) differs(format string, args ...any) {
	if v.wrong++; v.wrong <= maxDifferences {
		v.differences = append(v.differences, fmt.Sprintf(format, args...))
	}
}

// right is what must come out: the fold of the changes over the bases of the data set.
type right struct {
	dataset
	histories map[int]handover.History // of the accounts that changed
}

func expect(d dataset, changes map[int][]handover.Change) right {
	r := right{dataset: d, histories: make(map[int]handover.History, len(changes))}
	for account, list := range changes {
		r.histories[account] = handover.Account{First: map[string]string{role: userID(d.owner(account))}, Changes: list}.Fold()
	}
	return r
}

// changesOf are the changes of the plans, by account.
func changesOf(plans ...plan) map[int][]handover.Change {
	out := map[int][]handover.Change{}
	for _, p := range plans {
		for i, c := range p.changes {
			out[int(c.account)] = append(out[int(c.account)], p.expected(i))
		}
	}
	return out
}

// assignee is with whom the task of a row must be.
func (r right) assignee(row int) string {
	account := r.accountOf(row)
	base := userID(r.owner(account))
	source, open := r.kind(row)
	h, changed := r.histories[account]
	if !open || !changed {
		return base
	}
	assignee, _ := h.Assignee(handover.Task{Base: base, Since: assignedAt, Source: source})
	return assignee
}

func (r right) ownerOf(account int) string {
	if h, changed := r.histories[account]; changed {
		return h.Roles[role].Owner
	}
	return userID(r.owner(account))
}

// check holds everything that came out of a run against what must have.
func (w *world) check(ctx context.Context, r right) (verdict, error) {
	var v verdict
	assignees, err := w.checkTables(ctx, &v, r)
	if err != nil {
		return v, err
	}
	if err := w.checkAnnouncements(ctx, &v, r, assignees); err != nil {
		return v, err
	}
	return v, w.checkCounts(ctx, &v, r)
}

// checkTables returns with whom each task is, too.
func (w *world) checkTables(ctx context.Context, v *verdict, r right) ([]string, error) {
	if err := w.checkOwners(ctx, v, r); err != nil {
		return nil, err
	}
	return w.checkTasks(ctx, v, r)
}

func (w *world) checkTasks(ctx context.Context, v *verdict, r right) ([]string, error) {
	assignees := make([]string, r.rows())
	seen := 0
	people := map[string]string{} // each name is kept once
	var tenant, id, assignee string
	rows, err := w.conn.Query(ctx, taskStates)
	if err != nil {
		return nil, err
	}
	_, err = pgx.ForEachRow(rows, []any{&tenant, &id, &assignee}, func() error {
		row := r.rowOf(id)
		if row < 0 || tenant != tenantID(r.tenant(r.accountOf(row))) {
			v.differs("task %s of %s: nobody made it", id, tenant)
			return nil
		}
		if want := r.assignee(row); assignee != want {
			v.differs("task %s of %s, account %s: is with %q, must be with %q", id, tenant, accountID(r.accountOf(row)), assignee, want)
		}
		if _, known := people[assignee]; !known {
			people[assignee] = assignee
		}
		assignees[row] = people[assignee]
		seen++
		return nil
	})
	if err == nil && seen != r.rows() {
		v.differs("there are %d tasks, must be %d", seen, r.rows())
	}
	return assignees, err
}

func (w *world) checkOwners(ctx context.Context, v *verdict, r right) error {
	accounts := r.accounts
	if r.huge > 0 {
		accounts++
	}
	numbers := make(map[string]int, accounts)
	for i := range accounts {
		numbers[accountID(i)] = i
	}
	var id, owner string
	rows, err := w.conn.Query(ctx, `SELECT account_id, coalesce(owner_id, '') FROM account_roles WHERE role = $1`, role)
	if err != nil {
		return err
	}
	seen := 0
	_, err = pgx.ForEachRow(rows, []any{&id, &owner}, func() error {
		seen++
		number, known := numbers[id]
		if !known {
			v.differs("account %s: nobody made it", id)
		} else if want := r.ownerOf(number); owner != want {
			v.differs("account %s: its owner is %q, must be %q", id, owner, want)
		}
		return nil
	})
	if err == nil && seen != accounts {
		v.differs("%d accounts have an owner, must be %d", seen, accounts)
	}
	return err
}

// told is one task in an announcement.
type told struct {
	row      int32
	revision int32
	from, to string
}

// checkAnnouncements reads the whole stream: each task's revisions must be there once and without a gap, each from where
// the one before ended, from the base to where the task is.
func (w *world) checkAnnouncements(ctx context.Context, v *verdict, r right, assignees []string) error {
	all, err := w.readAnnouncements(ctx, v, r)
	if err != nil {
		return err
	}
	v.moved = len(all)
	slices.SortFunc(all, func(a, b told) int { return cmp.Or(cmp.Compare(a.row, b.row), cmp.Compare(a.revision, b.revision)) })
	told := 0
	for row, assignee := range assignees {
		at, revision := userID(r.owner(r.accountOf(row))), int32(0)
		for ; told < len(all) && int(all[told].row) == row; told++ {
			t := all[told]
			if revision++; t.revision != revision || t.from != at {
				v.differs("task %s: announced as revision %d, from %q to %q; must be revision %d, from %q", taskID(row), t.revision, t.from, t.to, revision, at)
				revision = t.revision
			}
			at = t.to
		}
		if assignee != "" && at != assignee {
			v.differs("task %s: is with %q, the last of %d announcements says %q", taskID(row), assignee, revision, at)
		}
	}
	return nil
}

func (w *world) readAnnouncements(ctx context.Context, v *verdict, r right) ([]told, error) {
	people := map[string]string{}
	kept := func(name string) string {
		if _, known := people[name]; !known {
			people[name] = name
		}
		return people[name]
	}
	var all []told
	err := drain(ctx, w.client, event.StreamTaskReassignments, func(m event.Message) {
		v.announcements++
		v.bytes += int64(len(m.Body))
		v.largest = max(v.largest, len(m.Body))
		e, err := event.DecodeTaskReassigned(m)
		if err != nil {
			v.differs("announcement %d on the stream: %v", m.Sequence, err)
			return
		}
		for _, t := range e.Tasks {
			row := r.rowOf(t.ID)
			if row < 0 || accountID(r.accountOf(row)) != e.AccountID || tenantID(r.tenant(r.accountOf(row))) != e.TenantID {
				v.differs("announcement %s: task %s isn't one of account %s of %s", e.ID, t.ID, e.AccountID, e.TenantID)
				continue
			}
			all = append(all, told{int32(row), int32(t.Revision), kept(e.FromID), kept(e.ToID)})
		}
	})
	return all, err
}

// drain hands over every message of a stream that nothing is written to, each once.
func drain(ctx context.Context, b *bus.Bus, stream string, take func(event.Message)) error {
	left, err := messagesOn(ctx, b, stream)
	if err != nil {
		return err
	}
	if left == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	seen := make(map[uint64]bool, left)
	name := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	return b.Consume(ctx, bus.Consumer{Stream: stream, Durable: name, Batch: 1000}, func(_ context.Context, messages []event.Message) error {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range messages {
			if !seen[m.Sequence] {
				seen[m.Sequence] = true
				take(m)
			}
		}
		if len(seen) >= left {
			cancel()
		}
		return nil
	})
}

// checkCounts holds against each other what must be equally many.
func (w *world) checkCounts(ctx context.Context, v *verdict, r right) error {
	var changes, moves, dead int
	err := w.conn.QueryRow(ctx, `
SELECT (SELECT count(*) FROM role_changes), (SELECT coalesce(sum(cardinality(task_ids)), 0) FROM moves), (SELECT count(*) FROM dead_letters)`).Scan(&changes, &moves, &dead)
	want := 0
	for _, h := range r.histories {
		want += len(h.Changes())
	}
	if changes != want {
		v.differs("%d role changes are recorded, must be %d", changes, want)
	}
	if moves != v.moved {
		v.differs("%d moves of tasks are recorded, %d announced", moves, v.moved)
	}
	if dead > 0 {
		v.differs("there are %d dead letters", dead)
	}
	return err
}
