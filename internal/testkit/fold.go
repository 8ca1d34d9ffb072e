package testkit

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	domain "handover.io/internal/handover"
)

// CheckFold checks what must hold at every commit: owners, and assignees of open tasks, are what internal/handover makes
// of the changes and bases in the tables; every open task is in a holding of
// its kind, which counts it; a head knows its latest task; a task's revision is the number of moves
// that name it, each revision once. It reads everything in one snapshot, and shows up to 20 differences.
func CheckFold(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	ctx := context.Background()
	var wrong []string
	err := pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		f := foldCheck{histories: map[[2]string]domain.History{}}
		for _, step := range []func(context.Context, pgx.Tx) error{f.fold, f.owners, f.assignees, f.inHoldings, f.revisions} {
			if err := step(ctx, tx); err != nil {
				return err
			}
		}
		wrong = f.wrong
		return nil
	})
	if err != nil {
		t.Fatalf("check the fold: %v", err)
	}
	if n := len(wrong); n > 0 {
		t.Fatalf("%d differences from the fold:\n%s", n, strings.Join(wrong[:min(n, 20)], "\n"))
	}
}

// CheckPolicies checks that each change is judged by the policy of the tenant's history that was in force when it occurred,
// but for those that carried their own.
func CheckPolicies(t testing.TB, pool *pgxpool.Pool) {
	t.Helper()
	var wrong []string
	err := pgx.BeginTxFunc(context.Background(), pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		histories := map[string][]domain.PolicyEntry{}
		var tenant, source, id string
		var e domain.PolicyEntry
		if err := each(context.Background(), tx, `
SELECT tenant_id, CASE WHEN effective_from > '-infinity' THEN effective_from ELSE '0001-01-01 UTC' END, policy FROM policy_history`,
			[]any{&tenant, &e.EffectiveFrom, &e.Policy}, func() error {
				histories[tenant] = append(histories[tenant], e)
				return nil
			}); err != nil {
			return err
		}
		var at time.Time
		var policy domain.Policy
		return each(context.Background(), tx, `SELECT tenant_id, source, id, occurred_at, policy FROM role_changes WHERE NOT overridden`,
			[]any{&tenant, &source, &id, &at, &policy}, func() error {
				if want := domain.PolicyAt(histories[tenant], at); policy != want {
					wrong = append(wrong, fmt.Sprintf("change %s %s of %s: is judged by %s, not %s", source, id, tenant, policy, want))
				}
				return nil
			})
	})
	if err != nil {
		t.Fatalf("check the policies: %v", err)
	}
	if n := len(wrong); n > 0 {
		t.Fatalf("%d changes are judged wrong:\n%s", n, strings.Join(wrong[:min(n, 20)], "\n"))
	}
}

type foldCheck struct {
	histories map[[2]string]domain.History // by tenant and account
	wrong     []string
}

func (f *foldCheck) differs(format string, args ...any) {
	f.wrong = append(f.wrong, fmt.Sprintf(format, args...))
}

func each(ctx context.Context, tx pgx.Tx, sql string, into []any, do func() error) error {
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return err
	}
	_, err = pgx.ForEachRow(rows, into, do)
	return err
}

// fold folds every account that anything is known of.
func (f *foldCheck) fold(ctx context.Context, tx pgx.Tx) error {
	accounts := map[[2]string]*domain.Account{}
	account := func(key [2]string) *domain.Account {
		if accounts[key] == nil {
			accounts[key] = &domain.Account{First: map[string]string{}}
		}
		return accounts[key]
	}
	var key [2]string
	var c domain.Change
	if err := each(ctx, tx, `
SELECT tenant_id, account_id, key, occurred_at, sequence, source, id, role, coalesce(from_id, ''), coalesce(to_id, ''), policy FROM role_changes`,
		[]any{&key[0], &key[1], &c.Key, &c.OccurredAt, &c.Sequence, &c.Source, &c.ID, &c.Role, &c.From, &c.To, &c.Policy}, func() error {
			a := account(key)
			a.Changes = append(a.Changes, c)
			return nil
		}); err != nil {
		return err
	}
	var role, owner string
	if err := each(ctx, tx, `SELECT tenant_id, account_id, role, coalesce(first_owner, '') FROM account_roles WHERE synced`,
		[]any{&key[0], &key[1], &role, &owner}, func() error {
			account(key).First[role] = owner
			return nil
		}); err != nil {
		return err
	}
	for key, a := range accounts {
		f.histories[key] = a.Fold()
	}
	return nil
}

func (f *foldCheck) owners(ctx context.Context, tx pgx.Tx) error {
	stored := map[[3]string]domain.RoleState{}
	var key [3]string
	var s domain.RoleState
	err := each(ctx, tx, `
SELECT tenant_id, account_id, role, coalesce(owner_id, ''), coalesce(last_person, ''), CASE WHEN since > '-infinity' THEN since ELSE '0001-01-01 UTC' END
FROM account_roles`, []any{&key[0], &key[1], &key[2], &s.Owner, &s.LastPerson, &s.Since}, func() error {
		stored[key] = s
		return nil
	})
	for account, h := range f.histories {
		for role, want := range h.Roles {
			key := [3]string{account[0], account[1], role}
			got := stored[key]
			if got.Owner != want.Owner || got.LastPerson != want.LastPerson || !got.Since.Equal(want.Since) {
				f.differs("role %v: is %+v, the fold says %+v", key, got, want)
			}
			delete(stored, key)
		}
	}
	for key, got := range stored {
		if got.Owner != "" || got.LastPerson != "" {
			f.differs("role %v: is %+v, the fold doesn't know of it", key, got)
		}
	}
	return err
}

func (f *foldCheck) assignees(ctx context.Context, tx pgx.Tx) error {
	var key [2]string
	var id, assignee string
	var t domain.Task
	return each(ctx, tx, `
SELECT tenant_id, account_id, task_id, coalesce(base_assignee, ''), effective_at, source, role, coalesce(assignee_id, '')
FROM tasks WHERE status IN ('open', 'in_progress')`,
		[]any{&key[0], &key[1], &id, &t.Base, &t.Since, &t.Source, &t.Role, &assignee}, func() error {
			want, moved := f.histories[key].Assignee(t)
			if assignee != want {
				f.differs("task %v %s: is with %q, the fold says %q (base %q since %s, %d changes)", key, id, assignee, want, t.Base, t.Since.UTC().Format(time.RFC3339Nano), len(moved))
			}
			return nil
		})
}

// inHoldings finds open tasks that aren't in a holding of their kind, and holdings that count or reach otherwise than their tasks.
func (f *foldCheck) inHoldings(ctx context.Context, tx pgx.Tx) error {
	var task, holding string
	return each(ctx, tx, `
SELECT coalesce(to_jsonb(t)::text, 'none'), coalesce(to_jsonb(h)::text, 'none')
FROM (SELECT * FROM task_rows WHERE holding IS NOT NULL) t FULL JOIN holdings h ON h.key = t.holding
LEFT JOIN account_heads a ON a.tenant_id = h.tenant_id AND a.account_id = h.account_id
WHERE (h.tenant_id, h.account_id, h.role, h.manual) IS DISTINCT FROM (t.tenant_id, t.account_id, t.role, t.source = 'manual')
   OR (a.assigned_at >= t.effective_at) IS NOT TRUE OR h.n <> (SELECT count(*) FROM task_rows o WHERE o.holding = h.key)`, []any{&task, &holding}, func() error {
		f.differs("task %s is in holding %s", task, holding)
		return nil
	})
}

func (f *foldCheck) revisions(ctx context.Context, tx pgx.Tx) error {
	moves := map[[2]string][]int64{}
	var key [2]string
	var revision int64
	if err := each(ctx, tx, `SELECT m.tenant_id, r.id, r.revision FROM moves m CROSS JOIN LATERAL unnest(m.task_ids, m.revisions) AS r(id, revision)`,
		[]any{&key[0], &key[1], &revision}, func() error {
			moves[key] = append(moves[key], revision)
			return nil
		}); err != nil {
		return err
	}
	return each(ctx, tx, `SELECT tenant_id, task_id, revision FROM tasks`, []any{&key[0], &key[1], &revision}, func() error {
		got := moves[key]
		slices.SortFunc(got, cmp.Compare[int64])
		if int64(len(got)) != revision || (revision > 0 && got[len(got)-1] != revision) || len(slices.Compact(slices.Clone(got))) != len(got) {
			f.differs("task %v: its revision is %d, its moves have %v", key, revision, got)
		}
		return nil
	})
}
