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
)

// Rejudged is what judging the changes of some accounts anew did.
type Rejudged struct {
	Accounts, Changes int // that were judged otherwise before
	Moved, Kept       int // open tasks
	Entries           []journal.Entry
}

// Rejudge gives the recorded changes of accounts, from the time of the correction on, the policy that is in force for when
// they occurred, folds those accounts, and announces what moves. Their heads it locks itself. Repeats do nothing.
//
// Without TakeBack, a task that the fold would take from who has it, because by what is right now it should never have been
// with them, stays: its base becomes who has it, as of just after the latest change that is known of the account. So an
// assignee is the fold also of what stayed, and a judged value is always that of the policy in force: a change that comes
// late, or a replay, meets no exception. What occurs afterwards moves those tasks as any other. Closed tasks that had come
// to somebody so are kept likewise: they come back to them when they are reopened.
func Rejudge(ctx context.Context, tx pgx.Tx, c Correction, accounts []string) (Rejudged, error) {
	if _, err := tx.Exec(ctx, HoldPolicies, []string{c.TenantID}); err != nil {
		return Rejudged{}, fmt.Errorf("hold the policy: %w", err)
	}
	r := newRejudging(tx, c, accounts)
	var err error
	if r.heads, err = LockHeads(ctx, tx, r.list()); err != nil {
		return Rejudged{}, err
	}
	if r.policies, err = c.policies(ctx, tx); err != nil {
		return Rejudged{}, err
	}
	if err := r.judge(ctx); err != nil || len(r.known) == 0 {
		return Rejudged{}, err
	}
	for _, step := range []func(context.Context) error{r.write, r.decideAssignees, r.keep, r.writeAssignees} {
		if err := step(ctx); err != nil {
			return Rejudged{}, fmt.Errorf("judge accounts anew: %w", err)
		}
	}
	out := Rejudged{Accounts: len(r.known), Changes: len(r.fresh), Kept: r.kept, Entries: Announcements(r.moves)}
	for _, m := range r.moves {
		out.Moved += len(m.Tasks)
	}
	if err := journal.Append(ctx, tx, out.Entries); err != nil {
		return Rejudged{}, err
	}
	handedOn, err := HandOn(ctx, tx, r.left)
	out.Entries = append(out.Entries, handedOn...)
	return out, err
}

// rejudging is a fold of accounts whose changes are judged anew; fresh are these changes.
type rejudging struct {
	fold
	Correction
	heads    Heads
	policies []handover.PolicyEntry
	was      map[Account]handover.Account // as it is judged until now
	kept     int
}

func newRejudging(tx pgx.Tx, c Correction, accounts []string) *rejudging {
	r := &rejudging{
		fold:       fold{tx: tx, by: c.By, fresh: map[int64]bool{}, known: map[Account]*knownAccount{}},
		Correction: c, was: map[Account]handover.Account{},
	}
	for _, id := range accounts {
		r.tenants, r.ids = append(r.tenants, c.TenantID), append(r.ids, id)
	}
	return r
}

func (r *rejudging) list() []Account {
	accounts := make([]Account, len(r.ids))
	for i, id := range r.ids {
		accounts[i] = Account{r.TenantID, id}
	}
	return accounts
}

// judge judges the changes, and folds. Accounts where that makes no difference are put aside.
func (r *rejudging) judge(ctx context.Context) error {
	if err := r.readChanges(ctx); err != nil {
		return err
	}
	if err := r.readFirstOwners(ctx); err != nil {
		return err
	}
	for a, k := range r.known {
		judged, anew := k.Judge(r.policies, r.From)
		if len(anew) == 0 {
			delete(r.known, a)
			continue
		}
		r.was[a], k.Account = k.Account, judged
		for _, c := range anew {
			r.fresh[c.Key], k.changes[c.Key].Policy = true, c.Policy
		}
	}
	r.tenants, r.ids = columns(slices.SortedFunc(maps.Keys(r.known), CompareAccounts))
	r.foldAll()
	return nil
}

const rewritePolicies = `
UPDATE role_changes c SET policy = j.policy FROM unnest($1::bigint[], $2::text[]) AS j(key, policy) WHERE c.key = j.key`

func (r *rejudging) write(ctx context.Context) error {
	var keys []int64
	var policies []handover.Policy
	for _, k := range r.known {
		for key, c := range k.changes {
			if r.fresh[key] {
				keys, policies = append(keys, key), append(policies, c.Policy)
			}
		}
	}
	return execEach(ctx, r.tx, len(keys), rewritePolicies, keys, policies)
}

const (
	rebaseTasks = `
UPDATE task_rows t SET base_assignee = k.assignee, assigned_at = k.assigned_at, effective_at = k.effective_at, base_revision = k.revision
FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::bigint[])
  AS k(tenant_id, task_id, assignee, assigned_at, effective_at, revision)
WHERE t.tenant_id = k.tenant_id AND t.task_id = k.task_id`
	raiseAssignedTo = `
UPDATE account_heads h SET assigned_at = a.at FROM unnest($1::text[], $2::text[], $3::timestamptz[]) AS a(tenant_id, account_id, at)
WHERE h.tenant_id = a.tenant_id AND h.account_id = a.account_id AND h.assigned_at < a.at`
)

// keptTask is a task whose base becomes who has it, or, closed, had it.
type keptTask struct {
	Account
	id, assignee string
	revision     int64
}

// keep leaves with who has them the tasks that should never have been with them, unless they are to be taken back.
func (r *rejudging) keep(ctx context.Context) error {
	if r.TakeBack {
		return nil
	}
	kept, err := r.closed(ctx)
	if err != nil {
		return err
	}
	for h, tasks := range r.moved {
		for _, t := range tasks {
			if t.move.correction {
				kept = append(kept, keptTask{h.Account, t.ID, h.assignee, t.Revision - 1})
				r.kept++
			}
		}
	}
	if len(kept) == 0 {
		return nil
	}
	if err := r.rebase(ctx, kept); err != nil {
		return err
	}
	// Decided again, by the bases that they have now.
	r.left = nil
	return r.decideAssignees(ctx)
}

func (r *rejudging) rebase(ctx context.Context, kept []keptTask) error {
	slices.SortFunc(kept, func(a, b keptTask) int { return cmp.Compare(a.id, b.id) })
	who := map[string]bool{}
	for _, t := range kept {
		who[t.assignee] = true
	}
	people, err := readPeople(ctx, r.tx, r.TenantID, who)
	if err != nil {
		return err
	}
	bases, latest := make([]handover.Assignment, len(kept)), map[Account]time.Time{}
	for i, t := range kept {
		base := r.known[t.Account].history.Keep(t.assignee, r.heads.Now(t.Account)).BeforeLeaving(people[t.assignee].leftAt)
		bases[i] = base
		if base.EffectiveAt.After(latest[t.Account]) {
			latest[t.Account] = base.EffectiveAt
		}
	}
	if err := execEach(ctx, r.tx, len(kept), rebaseTasks,
		column(kept, func(t keptTask) string { return t.TenantID }), column(kept, func(t keptTask) string { return t.id }),
		column(kept, func(t keptTask) string { return t.assignee }), column(bases, func(a handover.Assignment) time.Time { return a.AssignedAt }),
		column(bases, func(a handover.Assignment) time.Time { return a.EffectiveAt }), column(kept, func(t keptTask) int64 { return t.revision })); err != nil {
		return err
	}
	accounts := slices.SortedFunc(maps.Keys(latest), CompareAccounts)
	tenants, ids := columns(accounts)
	_, err = r.tx.Exec(ctx, raiseAssignedTo, tenants, ids, column(accounts, func(a Account) time.Time { return latest[a] }))
	return err
}

const closedTasks = `
SELECT t.account_id, t.task_id, coalesce(t.base_assignee, ''), t.effective_at, t.source, t.role, t.closed_assignee, t.own_revision
FROM unnest($2::text[], $3::timestamptz[]) AS a(account_id, latest)
CROSS JOIN LATERAL (
  SELECT * FROM task_rows t WHERE t.tenant_id = $1 AND t.account_id = a.account_id AND t.status IN ('completed', 'cancelled')
    AND t.effective_at <= a.latest AND t.closed_assignee IS DISTINCT FROM t.base_assignee OFFSET 0) t
WHERE t.closed_assignee IS NOT NULL`

// closed are the closed tasks that were moved to who had them last, and that would be taken from them when reopened.
func (r *rejudging) closed(ctx context.Context) ([]keptTask, error) {
	latest := make([]time.Time, len(r.ids))
	for i, id := range r.ids {
		for key, c := range r.known[Account{r.TenantID, id}].changes {
			if r.fresh[key] && c.OccurredAt.After(latest[i]) {
				latest[i] = c.OccurredAt
			}
		}
	}
	rows, err := r.tx.Query(ctx, closedTasks, r.TenantID, r.ids, latest)
	if err != nil {
		return nil, err
	}
	var kept []keptTask
	before := map[Account]handover.History{}
	t := keptTask{Account: Account{TenantID: r.TenantID}}
	var of handover.Task
	_, err = pgx.ForEachRow(rows, []any{&t.AccountID, &t.id, &of.Base, &of.Since, &of.Source, &of.Role, &t.assignee, &t.revision}, func() error {
		was, folded := before[t.Account]
		if !folded {
			was = r.was[t.Account].Fold()
			before[t.Account] = was
		}
		if had, _ := was.Assignee(of); had != t.assignee {
			return nil // it went on after it was closed
		}
		if has, moved := r.known[t.Account].history.Assignee(of); has != t.assignee && handover.Corrects(t.assignee, of, moved) {
			kept = append(kept, t)
		}
		return nil
	})
	return kept, err
}
