package notify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"handover.io/internal/postgres"
)

const (
	// lease is how long a claim lasts without a sign of life. It is renewed when the mail's turn comes, so it need not
	// cover the whole batch, only one mail: dialing, sending, and writing the outcome again and again for a while.
	lease = 5 * time.Minute
	// claimLimit is how many mails one RunOnce takes: few, so that several senders share the work.
	claimLimit = 128
	// mergeAbove is how many mails of one recipient may be due together before they go as one.
	mergeAbove = 10
	// settle is how long the windows that close together are waited for before they are merged, so that a bulk change,
	// whose windows opened over some seconds, is one mail; and settleAtMost is how long in all.
	settle       = 2 * time.Second
	settleAtMost = 10 * time.Second
	closeLimit   = 2000
)

// Locked rows are skipped: an intake holds them, and when it meets a window that is overdue it closes it itself. The clock
// is read once, in a subquery: an index can't be asked by a function that may answer otherwise for each row, and then a
// pass that closes nothing goes through all that is open.
const closeWindows = `
UPDATE notices SET state = 'closed'
WHERE notice_id = ANY (ARRAY(
  SELECT notice_id FROM notices WHERE state = 'open' AND close_at <= (SELECT clock_timestamp()) ORDER BY close_at LIMIT $1 FOR UPDATE SKIP LOCKED))`

// closeDue closes every window whose time is up.
func (n *Notifier) closeDue(ctx context.Context) error {
	for {
		tag, err := n.pool.Exec(ctx, closeWindows, closeLimit)
		if err != nil {
			return fmt.Errorf("close windows: %w", err)
		}
		if tag.RowsAffected() < closeLimit {
			return nil
		}
	}
}

// The beginning of an attempt renews the lease of the same row, so a row that passes the check of its lease under the
// lock has no attempt that this statement's snapshot doesn't see.
const reapLeases = `
UPDATE notices n
SET state = CASE WHEN x.attempted THEN 'ambiguous' ELSE 'closed' END,
    problem = CASE WHEN x.attempted THEN 'the sender stopped before the mail server''s answer was known' ELSE n.problem END,
    finished_at = CASE WHEN x.attempted THEN clock_timestamp() END,
    lease_until = NULL
FROM (SELECT l.notice_id,
        EXISTS (SELECT FROM notice_attempts a WHERE a.notice_id = l.notice_id AND a.fence = l.fence) AS attempted
      FROM notices l WHERE l.state = 'sending' AND l.lease_until < clock_timestamp() LIMIT 1000 FOR UPDATE SKIP LOCKED) x
WHERE n.notice_id = x.notice_id AND n.state = 'sending' AND n.lease_until < clock_timestamp()
RETURNING n.notice_id, n.tenant_id, n.recipient_id, n.account_id, n.state`

// reap takes claims back whose sender is gone. Without an attempt nothing was sent, and the mail is due again; with one,
// nobody knows.
func (n *Notifier) reap(ctx context.Context) error {
	rows, err := n.pool.Query(ctx, reapLeases)
	if err != nil {
		return fmt.Errorf("reap claims: %w", err)
	}
	var id int64
	var s scope
	var state string
	_, err = pgx.ForEachRow(rows, []any{&id, &s.tenant, &s.recipient, &s.account, &state}, func() error {
		if state == Ambiguous {
			n.finished(id, s, Ambiguous, zap.String("problem", "the sender stopped before the answer was known"))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reap claims: %w", err)
	}
	return nil
}

// hold is a claim on a notice: the fence is raised by the next one.
type hold struct{ id, fence int64 }

// claim is a mail that is ours to send while the fence holds.
type claim struct {
	hold
	scope
	summary bool // it tells of more windows than its own, or of all accounts
}

// waiting is a window that is closed and due, or about to close.
type waiting struct {
	id int64
	scope
	state              string
	closeAt, nextTryAt time.Time
	written            bool // its mail is frozen: such a window isn't merged into another
	others             int  // windows that it speaks for already
}

const (
	// One claim at a time, so that the windows of one recipient are never split among senders.
	lockClaims = `SELECT pg_advisory_xact_lock(hashtext('handover.notices.claim'))`
	dueFor     = `SELECT tenant_id, recipient_id FROM notices WHERE state = 'closed' AND next_try_at <= (SELECT clock_timestamp()) ORDER BY next_try_at LIMIT $1`
	waitingOf  = `
SELECT n.notice_id, n.tenant_id, n.recipient_id, n.account_id, n.state, n.close_at, n.next_try_at,
       n.mime IS NOT NULL, (SELECT count(*)::int FROM notices c WHERE c.merged_into = n.notice_id), clock_timestamp()
FROM (SELECT DISTINCT * FROM unnest($1::text[], $2::text[]) AS d (tenant_id, recipient_id)) d
CROSS JOIN LATERAL (
  SELECT * FROM notices n
  WHERE n.tenant_id = d.tenant_id AND n.recipient_id = d.recipient_id AND n.state IN ('open', 'closed') AND n.close_at <= clock_timestamp() + $3::interval
  OFFSET 0) n`
	// The state is a parameter: where it is known the planner takes the index of all in that state for a shorter way.
	mergeWindows = `
UPDATE notices SET state = 'merged', merged_into = $2, finished_at = clock_timestamp() WHERE notice_id = ANY($1) AND state = $3`
	// Those for which a merged one spoke, its mail not being written yet, are spoken for by the same as it is.
	mergeOthers  = `UPDATE notices SET merged_into = $2 WHERE merged_into = ANY($1)`
	claimWindows = `
UPDATE notices n SET state = 'sending', fence = fence + 1, lease_until = clock_timestamp() + $2
WHERE notice_id = ANY($1) AND state = $3
RETURNING n.notice_id, n.fence, n.tenant_id, n.recipient_id, n.account_id,
  n.account_id = '' OR EXISTS (SELECT FROM notices c WHERE c.merged_into = n.notice_id)`
)

// claim takes the mails that are due, the longest waiting first; none while mails are on hold.
func (n *Notifier) claim(ctx context.Context) ([]claim, error) {
	var claims []claim
	var p plan
	err := postgres.InTx(ctx, n.pool, func(ctx context.Context, tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, lockClaims); err != nil {
			return err
		}
		if held, err := n.held(ctx, tx); err != nil || held {
			return err
		}
		windows, now, err := due(ctx, tx)
		if err != nil || len(windows) == 0 {
			return err
		}
		p = planClaims(now, windows)
		if err := p.merge(ctx, tx); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, claimWindows, p.claim, lease, Closed)
		if err != nil {
			return err
		}
		claims, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c claim, err error) {
			err = row.Scan(&c.id, &c.fence, &c.tenant, &c.recipient, &c.account, &c.summary)
			return c, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claim notices: %w", err)
	}
	n.metrics.finished.WithLabelValues(Merged).Add(float64(len(p.merged)))
	return claims, nil
}

func due(ctx context.Context, tx pgx.Tx) (windows []waiting, now time.Time, err error) {
	rows, err := tx.Query(ctx, dueFor, 2*claimLimit)
	if err != nil {
		return nil, now, err
	}
	var tenants, recipients []string
	var tenant, recipient string
	_, err = pgx.ForEachRow(rows, []any{&tenant, &recipient}, func() error {
		tenants, recipients = append(tenants, tenant), append(recipients, recipient)
		return nil
	})
	if err != nil || len(tenants) == 0 {
		return nil, now, err
	}
	if rows, err = tx.Query(ctx, waitingOf, tenants, recipients, settle); err != nil {
		return nil, now, err
	}
	windows, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (w waiting, err error) {
		err = row.Scan(&w.id, &w.tenant, &w.recipient, &w.account, &w.state, &w.closeAt, &w.nextTryAt, &w.written, &w.others, &now)
		return w, err
	})
	return windows, now, err
}

// plan is which windows to send, and which to merge first: merged[i] into heads[i].
type plan struct {
	claim         []int64
	merged, heads []int64
}

func (p plan) merge(ctx context.Context, tx pgx.Tx) error {
	into := make(map[int64][]int64)
	for i, head := range p.heads {
		into[head] = append(into[head], p.merged[i])
	}
	var batch pgx.Batch
	for head, windows := range into {
		batch.Queue(mergeWindows, windows, head, Closed)
		batch.Queue(mergeOthers, windows, head)
	}
	return tx.SendBatch(ctx, &batch).Close()
}

// planClaims decides for each recipient: up to ten windows go as they are; more become one mail, once no other of theirs
// is about to close. A window whose mail is written keeps it.
func planClaims(now time.Time, windows []waiting) plan {
	type person struct{ tenant, recipient string }
	byPerson := make(map[person][]waiting)
	for _, w := range windows {
		p := person{w.tenant, w.recipient}
		byPerson[p] = append(byPerson[p], w)
	}
	var p plan
	var single []waiting
	for _, of := range byPerson {
		slices.SortFunc(of, func(a, b waiting) int { return cmp.Compare(a.id, b.id) })
		var fresh, written []waiting
		closing, many, oldest := 0, 0, now
		for _, w := range of {
			switch {
			case w.state == Open:
				closing++
			case w.nextTryAt.After(now):
			case w.written:
				written = append(written, w)
			default:
				fresh, many = append(fresh, w), many+1+w.others
				if w.closeAt.Before(oldest) {
					oldest = w.closeAt
				}
			}
		}
		single = append(single, written...)
		switch {
		case many+closing <= mergeAbove:
			single = append(single, fresh...)
		case closing > 0 && oldest.After(now.Add(-settleAtMost)):
			// wait for the rest
		case len(fresh) > 0:
			single = append(single, fresh[0])
			for _, w := range fresh[1:] {
				p.merged, p.heads = append(p.merged, w.id), append(p.heads, fresh[0].id)
			}
		}
	}
	slices.SortFunc(single, func(a, b waiting) int { return cmp.Or(a.nextTryAt.Compare(b.nextTryAt), cmp.Compare(a.id, b.id)) })
	for _, w := range single[:min(len(single), claimLimit)] {
		p.claim = append(p.claim, w.id)
	}
	return p
}
