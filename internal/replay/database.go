package replay

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
)

const (
	recordedChanges = `
FROM role_changes c
WHERE ($1::timestamptz IS NULL OR c.recorded_at >= $1) AND ($2::timestamptz IS NULL OR c.recorded_at < $2)
  AND ($3::timestamptz IS NULL OR c.occurred_at >= $3) AND ($4::timestamptz IS NULL OR c.occurred_at < $4)
  AND ($5::text[] IS NULL OR c.tenant_id = ANY($5)) AND ($6::text[] IS NULL OR c.account_id = ANY($6))
  AND ($7::text[] IS NULL OR c.role = ANY($7)) AND ($8::text[] IS NULL OR c.operation_id = ANY($8))`
	countRecorded    = `SELECT count(*), count(DISTINCT (c.tenant_id, c.account_id))` + recordedChanges
	recordedAccounts = `SELECT c.tenant_id, c.account_id, count(*)` + recordedChanges + `
  AND (c.tenant_id, c.account_id) > ($9, $10)
GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $11`
)

// parameters are those of recordedChanges.
func (s Selection) parameters() []any {
	var times []any
	for _, t := range []time.Time{s.Since, s.Until, s.OccurredSince, s.OccurredUntil} {
		if t.IsZero() {
			times = append(times, nil)
			continue
		}
		times = append(times, t)
	}
	return append(times, orNull(s.Tenants), orNull(s.Accounts), orNull(s.Roles), orNull(s.Operations))
}

func orNull(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

// eachAccounts gives the accounts of the selected recorded changes to do, in order after a cursor, with how many changes
// they have, and how many accounts there are in all.
func (r *Replay) eachAccounts(ctx context.Context, s Selection, after roster.Account, do func(accounts []roster.Account, changes int, total int64) error) error {
	var changes, total int64
	if err := r.Pool.QueryRow(ctx, countRecorded, s.parameters()...).Scan(&changes, &total); err != nil {
		return fmt.Errorf("recorded changes: %w", err)
	}
	for {
		rows, err := r.Pool.Query(ctx, recordedAccounts, append(s.parameters(), after.TenantID, after.AccountID, foldBatch)...)
		if err != nil {
			return fmt.Errorf("accounts of recorded changes: %w", err)
		}
		var accounts []roster.Account
		var a roster.Account
		var n, of int
		if _, err := pgx.ForEachRow(rows, []any{&a.TenantID, &a.AccountID, &n}, func() error {
			accounts, of = append(accounts, a), of+n
			return nil
		}); err != nil {
			return fmt.Errorf("accounts of recorded changes: %w", err)
		}
		if len(accounts) == 0 {
			return nil
		}
		if err := do(accounts, of, total); err != nil {
			return err
		}
		after = accounts[len(accounts)-1]
	}
}

// ForeseeRecorded tells what folding the accounts of the selected recorded changes again would correct. It locks and
// writes nothing.
func (r *Replay) ForeseeRecorded(ctx context.Context, s Selection, after roster.Account, report func(Progress)) (Forecast, error) {
	f := Forecast{Counts: Counts{DeadLetters: map[string]int{}}, Moves: []Move{}}
	err := r.eachAccounts(ctx, s, after, func(accounts []roster.Account, changes int, total int64) error {
		differ, err := f.fold(ctx, r, accounts, nil)
		if err != nil {
			return err
		}
		f.Accounts, f.Differed = f.Accounts+len(accounts), f.Differed+len(differ)
		f.Messages, f.Known = f.Messages+changes, f.Known+changes
		report(Progress{Done: int64(f.Accounts), Total: total, Counts: f.clone()})
		return nil
	})
	return f, err
}

// AfterAccount is the account up to which a run over the database is done.
func AfterAccount(run *journal.Run) (a roster.Account) {
	var key [2]string
	if json.Unmarshal([]byte(run.Cursor), &key) == nil {
		a = roster.Account{TenantID: key[0], AccountID: key[1]}
	}
	return a
}

// refold corrects the accounts of recorded changes. Only those that differ are locked.
func (d *delivery) refold(ctx context.Context, o Order) error {
	return d.eachAccounts(ctx, o.Selection, AfterAccount(d.run), func(accounts []roster.Account, changes int, total int64) error {
		var f Forecast
		look := *d.Replay
		look.Mails = nil
		differ, err := f.fold(ctx, &look, accounts, nil)
		if err != nil {
			return err
		}
		for len(differ) > 0 {
			n := min(len(differ), deliverBatch)
			if err := d.wait(ctx, n); err != nil {
				return err
			}
			if err := d.correct(ctx, differ[:n]); err != nil {
				return err
			}
			differ = differ[n:]
		}
		d.counts = d.counts.plus(Counts{Messages: changes, Known: changes, Accounts: len(accounts)})
		d.progress.Total, d.progress.Done = max(total, int64(d.counts.Accounts)), int64(d.counts.Accounts)
		d.progress.Counts = d.counts.clone()
		d.report(d.progress)
		last := accounts[len(accounts)-1]
		cursor, err := json.Marshal([2]string{last.TenantID, last.AccountID})
		if err != nil {
			return err
		}
		return d.run.Save(context.WithoutCancel(ctx), string(cursor), d.counts)
	})
}

func (d *delivery) correct(ctx context.Context, accounts []roster.Account) error {
	var moves []roster.Move
	err := postgres.InTx(context.WithoutCancel(ctx), d.Pool, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := roster.LockHeads(ctx, tx, accounts); err != nil {
			return err
		}
		var err error
		moves, _, err = d.Refold(ctx, tx, accounts, nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("fold accounts again: %w", err)
	}
	c := counted(Applied{Moves: moves})
	c.Differed = len(accounts)
	d.counts = d.counts.plus(c)
	return nil
}
