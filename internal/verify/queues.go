package verify

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

const (
	// overdue is how long a mail or a message may wait for its turn before somebody should look.
	overdue = 2 * time.Minute
	// stuck is how long an operation may stand still.
	stuck = 2 * time.Minute
)

const longOwed = `
SELECT o.stream, count(*), min(o.created_at) FROM outbox_owed w JOIN outbox o USING (key)
WHERE o.created_at < $1::timestamptz AND ($2 = '' OR o.tenant_id = $2) GROUP BY o.stream ORDER BY 1`

func (v *verifier) owed(ctx context.Context) error {
	var found []Finding
	if err := v.each(ctx, longOwed, []any{v.report.At.Add(-overdue), v.Tenant}, func(row pgx.CollectableRow) error {
		f := Finding{Kind: Owed, Remedy: "a relay has to run, and the broker to be there and not full: " + command("status")}
		var n int64
		var oldest time.Time
		if err := row.Scan(&f.Stream, &n, &oldest); err != nil {
			return err
		}
		f.Says = fmt.Sprintf("%s for %s, the oldest committed at %s", count(n, "message"), f.Stream, oldest.UTC().Format(time.RFC3339))
		found = append(found, f)
		return nil
	}, func() { found = nil }); err != nil {
		return err
	}
	for _, f := range found {
		v.found(f)
	}
	return nil
}

// each reads rows in a snapshot; again is called before it is tried again.
func (v *verifier) each(ctx context.Context, sql string, args []any, row func(pgx.CollectableRow) error, again func()) error {
	return v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		again()
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		_, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (struct{}, error) { return struct{}{}, row(r) })
		return err
	})
}

// Each part has an index of its own.
const troubledNotices = `
(SELECT notice_id, tenant_id, recipient_id, account_id, state, close_at, coalesce(problem, '') FROM notices
 WHERE state = 'open' AND close_at < $1::timestamptz AND ($2 = '' OR tenant_id = $2))
UNION ALL
(SELECT notice_id, tenant_id, recipient_id, account_id, state, next_try_at, coalesce(problem, '') FROM notices
 WHERE state = 'closed' AND next_try_at < $1::timestamptz AND ($2 = '' OR tenant_id = $2))
UNION ALL
(SELECT notice_id, tenant_id, recipient_id, account_id, state, lease_until, coalesce(problem, '') FROM notices
 WHERE state = 'sending' AND lease_until < $1::timestamptz AND ($2 = '' OR tenant_id = $2))
UNION ALL
(SELECT notice_id, tenant_id, recipient_id, account_id, state, finished_at, coalesce(problem, '') FROM notices
 WHERE state = 'ambiguous' AND ($2 = '' OR tenant_id = $2))
UNION ALL
(SELECT notice_id, tenant_id, recipient_id, account_id, state, finished_at, coalesce(problem, '') FROM notices
 WHERE state = 'undeliverable' AND finished_at > $1::timestamptz - interval '7 days' AND ($2 = '' OR tenant_id = $2))
ORDER BY 1`

const held = `SELECT since, reason, held_by FROM mail_hold`

func (v *verifier) mails(ctx context.Context) error {
	var found []Finding
	onHold := false
	if err := v.each(ctx, held, nil, func(row pgx.CollectableRow) error {
		var since time.Time
		var reason, by string
		if err := row.Scan(&since, &reason, &by); err != nil {
			return err
		}
		onHold = true
		found = append(found, Finding{Kind: OnHold, Says: fmt.Sprintf("since %s, by %s: %s", since.UTC().Format(time.RFC3339), by, reason),
			Remedy: command("notices", "release")})
		return nil
	}, func() { onHold, found = false, nil }); err != nil {
		return err
	}
	for _, f := range found {
		v.found(f)
	}
	if err := v.each(ctx, troubledNotices, []any{v.report.At.Add(-overdue), v.Tenant}, func(row pgx.CollectableRow) error {
		var f Finding
		var state, problem string
		var since time.Time
		if err := row.Scan(&f.NoticeID, &f.TenantID, &f.UserID, &f.AccountID, &state, &since, &problem); err != nil {
			return err
		}
		where := "of account " + f.AccountID
		if f.AccountID == "" {
			where = "of several accounts"
		}
		at := since.UTC().Format(time.RFC3339)
		switch state {
		case "ambiguous":
			f.Kind, f.Says = AmbiguousMail, fmt.Sprintf("notice %d to %s, %s: since %s nobody knows whether it arrived: %s", f.NoticeID, f.UserID, where, at, problem)
			f.Remedy = "ask the recipient; " + command("notices", "list", "--tenant", f.TenantID, "--state", "ambiguous")
		case "undeliverable":
			f.Kind, f.Says = Undeliverable, fmt.Sprintf("notice %d to %s, %s: given up at %s: %s", f.NoticeID, f.UserID, where, at, problem)
			f.Remedy = command("notices", "list", "--tenant", f.TenantID, "--state", "undeliverable")
		default:
			if onHold { // they wait for that
				return nil
			}
			f.Kind, f.Says = Overdue, fmt.Sprintf("notice %d to %s, %s: %s, due since %s", f.NoticeID, f.UserID, where, state, at)
			f.Remedy = "a notifier has to run, and the mail server to take mails: " + command("status")
		}
		found = append(found, f)
		return nil
	}, func() { found = nil }); err != nil {
		return err
	}
	for _, f := range found {
		v.found(f)
	}
	return nil
}

const waitingLetters = `
SELECT d.tenant_id, d.consumer, d.reason, count(*), min(d.created_at), (array_agg(d.detail ORDER BY d.key DESC))[1]
FROM dead_letters d WHERE d.state = 'dead' AND ($1 = '' OR d.tenant_id = $1) GROUP BY 1, 2, 3 ORDER BY 1, 2, 3`

func (v *verifier) deadLetters(ctx context.Context) error {
	var found []Finding
	if err := v.each(ctx, waitingLetters, []any{v.Tenant}, func(row pgx.CollectableRow) error {
		f := Finding{Kind: DeadLetters}
		var consumer, reason, newest string
		var n int64
		var oldest time.Time
		if err := row.Scan(&f.TenantID, &consumer, &reason, &n, &oldest, &newest); err != nil {
			return err
		}
		f.Says = fmt.Sprintf("%s of %s, %s, since %s; the newest: %s", count(n, "dead letter"), consumer, reason, oldest.UTC().Format(time.RFC3339), newest)
		args := []string{"dead-letters", "list", "--reason", reason}
		if f.TenantID != "" {
			args = append(args, "--tenant", f.TenantID)
		}
		f.Remedy = command(args...)
		found = append(found, f)
		return nil
	}, func() { found = nil }); err != nil {
		return err
	}
	for _, f := range found {
		v.found(f)
	}
	return nil
}

// expanding is how far an operation was when it was seen first.
type expanding struct {
	cursor string
	at     time.Time
}

const (
	expandingNow = `
SELECT operation_id, tenant_id, kind, coalesce(cursor, ''), accepted_at, clock_timestamp() FROM operations
WHERE state = 'expanding' AND ($1 = '' OR tenant_id = $1) ORDER BY operation_id`
	// The expander waits on purpose while the outbox owes a lot.
	owesALot = `SELECT count(*) >= 20000 FROM (SELECT FROM outbox_owed LIMIT 20000) w`
	applying = `
SELECT o.operation_id, o.tenant_id, o.kind, o.changes, o.applied, o.refused, r.recorded
FROM operations o
CROSS JOIN LATERAL (SELECT count(*) AS recorded FROM role_changes c WHERE c.operation_id = o.operation_id) r
WHERE o.state = 'applying' AND ($1 = '' OR o.tenant_id = $1) ORDER BY o.operation_id`
	// Those that wait or were given up; one that is sent again is under way.
	deadOfOperations = `
SELECT operation_id, subject, header, body FROM dead_letters WHERE operation_id = ANY($1) AND state IN ('dead', 'dropped')`
)

func (v *verifier) seeExpanding(ctx context.Context) error {
	v.waiting = map[string]expanding{}
	return v.each(ctx, expandingNow, []any{v.Tenant}, func(row pgx.CollectableRow) error {
		var id, tenant, kind string
		var e expanding
		var accepted time.Time
		if err := row.Scan(&id, &tenant, &kind, &e.cursor, &accepted, &e.at); err != nil {
			return err
		}
		v.waiting[id] = e
		return nil
	}, func() { clear(v.waiting) })
}

// operations finds those that are complete and haven't ended, and those whose expansion hasn't moved since the beginning.
// The reassigner counts a change in the commit that records it.
func (v *verifier) operations(ctx context.Context) error {
	var found []Finding
	if err := v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		found = nil
		rows, err := tx.Query(ctx, applying, v.Tenant)
		if err != nil {
			return err
		}
		type op struct {
			id, tenant, kind                    string
			changes, applied, refused, recorded int64
		}
		all, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o op, err error) {
			err = row.Scan(&o.id, &o.tenant, &o.kind, &o.changes, &o.applied, &o.refused, &o.recorded)
			return o, err
		})
		if err != nil || len(all) == 0 {
			return err
		}
		ids := make([]string, len(all))
		for i, o := range all {
			ids[i] = o.id
		}
		dead, err := refusedOf(ctx, tx, ids)
		for _, o := range all {
			if n := dead[o.id]; o.recorded+n >= o.changes {
				found = append(found, Finding{Kind: StuckOperation, TenantID: o.tenant, OperationID: o.id, Remedy: v.fix(StuckOperation, "--tenant", o.tenant),
					Says: fmt.Sprintf("operation %s (%s): of %s %d are recorded and %d are dead letters, but it counts %d and %d and doesn't end", o.id, o.kind, count(o.changes, "change"), o.recorded, n, o.applied, o.refused)})
			}
		}
		return err
	}); err != nil {
		return err
	}
	for _, f := range found {
		v.found(f)
		if v.wants(StuckOperation) {
			v.report.todo.operations = append(v.report.todo.operations, f.OperationID)
		}
	}
	return v.notExpanding(ctx)
}

// refusedOf counts the changes of operations that are dead letters and not recorded.
func refusedOf(ctx context.Context, tx pgx.Tx, operations []string) (map[string]int64, error) {
	rows, err := tx.Query(ctx, deadOfOperations, operations)
	if err != nil {
		return nil, err
	}
	of := map[[16]byte]string{}
	var m event.Message
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&id, &m.Subject, &m.Header, &m.Body}, func() error {
		if c, err := event.DecodeAccountRoleChanged(m); err == nil {
			of[c.Digest()] = id
		}
		m = event.Message{}
		return nil
	}); err != nil {
		return nil, err
	}
	digests := slices.Collect(maps.Keys(of))
	if rows, err = tx.Query(ctx, `SELECT k.digest FROM unnest($1::uuid[]) AS k(digest) WHERE (SELECT true FROM role_changes c WHERE c.digest = k.digest LIMIT 1)`, digests); err != nil {
		return nil, err
	}
	var recorded [16]byte
	if _, err := pgx.ForEachRow(rows, []any{&recorded}, func() error { delete(of, recorded); return nil }); err != nil {
		return nil, err
	}
	n := map[string]int64{}
	for _, id := range of {
		n[id]++
	}
	return n, nil
}

func (v *verifier) notExpanding(ctx context.Context) error {
	var full bool
	if err := v.pool.QueryRow(ctx, owesALot).Scan(&full); err != nil || full || len(v.waiting) == 0 {
		return err
	}
	var found []Finding
	var standing bool
	look := func() error {
		standing = false
		return v.each(ctx, expandingNow, []any{v.Tenant}, func(row pgx.CollectableRow) error {
			f := Finding{Kind: StuckOperation, Remedy: "an expander has to run, as part of the api: " + command("status")}
			var kind, cursor string
			var accepted, now time.Time
			if err := row.Scan(&f.OperationID, &f.TenantID, &kind, &cursor, &accepted, &now); err != nil {
				return err
			}
			before, seen := v.waiting[f.OperationID]
			if !seen || before.cursor != cursor || now.Sub(accepted) < stuck {
				return nil
			}
			standing = true
			if since := now.Sub(before.at); since > patience {
				f.Says = fmt.Sprintf("operation %s (%s), accepted at %s, hasn't moved for %s", f.OperationID, kind, accepted.UTC().Format(time.RFC3339), since.Round(time.Second))
				found = append(found, f)
			}
			return nil
		}, func() { found = nil })
	}
	for {
		if err := look(); err != nil {
			return err
		}
		if !standing || len(found) > 0 {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	for _, f := range found {
		v.found(f)
	}
	return nil
}

// patience is how long an expansion is watched.
const patience = 10 * time.Second
