package roster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
)

// Foresight is what a correction would do to some accounts.
type Foresight struct {
	Accounts, Changes int             // that are judged otherwise until now
	Tasks             []ForeseenTasks // in order of account
}

// ForeseenTasks are open tasks of an account that a correction concerns alike.
type ForeseenTasks struct {
	AccountID, From, To string
	// TakenBack tells that they should never have been with From: that they go only if they are to be taken back.
	TakenBack bool
	N         int

	alike []basis
}

// ForeseenTask is one of them.
type ForeseenTask struct {
	Of        int // the index of those that it is one of
	ID, Title string
}

// Foresee tells what [Rejudge] would do to accounts by these policies. It writes nothing and takes no lock, so that it is
// right in a snapshot only. The tasks it counts without reading them: [ReadForeseen] does.
func Foresee(ctx context.Context, tx pgx.Tx, c Correction, policies []handover.PolicyEntry, accounts []string) (Foresight, error) {
	r := newRejudging(tx, c, accounts)
	r.policies = policies
	if err := r.judge(ctx); err != nil {
		return Foresight{}, fmt.Errorf("judge accounts anew: %w", err)
	}
	out := Foresight{Accounts: len(r.known), Changes: len(r.fresh)}
	if out.Accounts == 0 {
		return out, nil
	}
	for _, step := range []func(context.Context) error{r.decide, r.supposeHandingOn} {
		if err := step(ctx); err != nil {
			return Foresight{}, fmt.Errorf("foresee what judging anew does: %w", err)
		}
	}
	type kind struct {
		account, from, to string
		takenBack         bool
	}
	at := map[kind]int{}
	for b, g := range r.goes {
		k := kind{g.AccountID, g.from, g.to, g.correction}
		i, grouped := at[k]
		if !grouped {
			i = len(out.Tasks)
			at[k], out.Tasks = i, append(out.Tasks, ForeseenTasks{AccountID: g.AccountID, From: g.from, To: g.to, TakenBack: g.correction})
		}
		out.Tasks[i].N += g.n
		out.Tasks[i].alike = append(out.Tasks[i].alike, b)
	}
	slices.SortFunc(out.Tasks, func(a, b ForeseenTasks) int { return cmp.Compare(a.AccountID, b.AccountID) })
	return out, nil
}

const foreseenTasks = `
SELECT b.i, t.task_id, t.title FROM unnest($1::int[], $2::bigint[], $3::text[], $4::timestamptz[]) AS b(i, holding, base, since)
CROSS JOIN LATERAL (SELECT * FROM task_rows t WHERE t.holding = b.holding AND coalesce(t.base_assignee, '') = b.base AND t.effective_at = b.since OFFSET 0) t`

// ReadForeseen reads tasks that are foreseen, in no order.
func ReadForeseen(ctx context.Context, tx pgx.Tx, foreseen []ForeseenTasks) ([]ForeseenTask, error) {
	var at []int32
	var holdings []int64
	var bases []string
	var since []time.Time
	for i, t := range foreseen {
		for _, b := range t.alike {
			at, holdings, bases, since = append(at, int32(i)), append(holdings, b.holding), append(bases, b.base), append(since, time.UnixMicro(b.since))
		}
	}
	if len(at) == 0 {
		return nil, nil
	}
	rows, err := tx.Query(ctx, foreseenTasks, at, holdings, bases, since)
	if err != nil {
		return nil, fmt.Errorf("read tasks: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[ForeseenTask])
}

// supposeHandingOn supposes the changes by which a departure hands on what comes to somebody who has left ([HandOn]).
func (r *rejudging) supposeHandingOn(ctx context.Context) error {
	asked := map[Left]bool{}
	var supposed []Change
	for {
		var left []Left
		for _, g := range r.goes {
			if l := (Left{Account: g.Account, Person: g.to}); g.to != handover.Nobody && !asked[l] {
				asked[l] = true
				left = append(left, l)
			}
		}
		tenants, people := peopleOf(left)
		of, err := readDepartures(ctx, r.tx, tenants, people)
		if err != nil {
			return err
		}
		before := len(supposed)
		for _, l := range left {
			if d, gone := of[Account{l.TenantID, l.Person}]; gone && d.Tasks {
				e := d.change(l)
				supposed = append(supposed, Change{Account: l.Account, Reason: e.Reason, InitiatedBy: e.InitiatedBy, OperationID: e.OperationID, Change: handover.Change{
					OccurredAt: e.Time, Source: e.Source, ID: e.ID, From: e.PreviousOwnerID, To: e.NewOwnerID, Policy: handover.MoveAllTasks,
				}})
			}
		}
		if len(supposed) == before {
			return nil
		}
		r.suppose(supposed)
		r.foldAll()
		if err := r.decide(ctx); err != nil {
			return err
		}
	}
}
