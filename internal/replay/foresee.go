package replay

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// firstMoves is how many tasks a forecast names.
const firstMoves = 20

// Forecast is what a replay would do.
type Forecast struct {
	Counts
	Owners int    `json:"owners_differ"` // owners of roles that would be others
	Moves  []Move `json:"moves"`         // the first tasks that would move
	ReadTo uint64 `json:"read_to,omitempty"`
}

// Move is a task that would go from one person to another; empty is nobody.
type Move struct {
	TenantID  string `json:"tenant_id"`
	AccountID string `json:"account_id"`
	TaskID    string `json:"task_id"`
	From      string `json:"from_id"`
	To        string `json:"to_id"`
}

// Foresee tells what replaying the selected part of the stream, after a sequence, would do. It locks and writes nothing.
func (r *Replay) Foresee(ctx context.Context, s Selection, after uint64, report func(Progress)) (Forecast, error) {
	f := Forecast{Counts: Counts{DeadLetters: map[string]int{}}, Moves: []Move{}}
	if err := r.foreseeRestored(ctx, s, &f.Counts); err != nil {
		return f, err
	}
	missing := map[roster.Account][]roster.Change{}
	sift := r.sift(s)
	var read int64
	end, err := r.Read(ctx, s.part(after, readBatch), func(ctx context.Context, batch []event.Message, pending uint64) error {
		keep, counts, err := sift.take(ctx, batch)
		if err != nil {
			return err
		}
		f.Counts = f.plus(counts)
		for _, j := range keep {
			if j.Missing() {
				missing[j.Change.Account] = append(missing[j.Change.Account], j.Change)
			}
		}
		read += int64(len(batch))
		report(Progress{Done: read, Total: read + int64(pending), Counts: f.clone()})
		return nil
	})
	if err != nil {
		return f, err
	}
	f.ReadTo = end
	accounts := slices.SortedFunc(maps.Keys(missing), roster.CompareAccounts)
	for some := range slices.Chunk(accounts, foldBatch) {
		var extra []roster.Change
		for _, a := range some {
			extra = append(extra, missing[a]...)
		}
		if _, err := f.fold(ctx, r, some, extra); err != nil {
			return f, err
		}
	}
	return f, nil
}

// fold adds what folding accounts with these changes would change, and returns the accounts that differ.
func (f *Forecast) fold(ctx context.Context, r *Replay, accounts []roster.Account, extra []roster.Change) (differ []roster.Account, err error) {
	err = r.look(ctx, func(tx pgx.Tx) error {
		found, err := roster.Differences(ctx, tx, accounts, extra)
		if err != nil {
			return err
		}
		var moves []event.TaskReassigned
		for _, d := range found {
			if len(differ) == 0 || differ[len(differ)-1] != d.Account {
				differ = append(differ, d.Account)
			}
			if d.TaskID == "" {
				if d.Stored != d.Right {
					f.Owners++
				}
				continue
			}
			f.TasksMoved++
			if len(f.Moves) < firstMoves {
				f.Moves = append(f.Moves, Move{d.TenantID, d.AccountID, d.TaskID, d.Stored, d.Right})
			}
			if d.Cause != nil { // else upstream itself made it so, and nobody is told
				moves = append(moves, event.TaskReassigned{
					TenantID: d.TenantID, AccountID: d.AccountID, FromID: d.Stored, ToID: d.Right, InitiatedBy: d.Cause.InitiatedBy, Reason: d.Cause.Reason,
					Correction: d.Correction, Tasks: []event.ReassignedTask{{ID: d.TaskID}},
				})
			}
		}
		if r.Mails == nil || len(moves) == 0 {
			return nil
		}
		return r.Mails(ctx, tx, moves)
	})
	if err != nil {
		return nil, fmt.Errorf("fold accounts to see what would move: %w", err)
	}
	return differ, nil
}
