package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/postgres"
)

// MailHold says that no mail goes out, from any process, and why. Windows go on gathering and closing.
type MailHold struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason"`
	By     string    `json:"by"`
}

const (
	readHold = `SELECT since, reason, held_by FROM mail_hold`
	putHold  = `
INSERT INTO mail_hold AS h (reason, held_by) VALUES ($1, $2)
ON CONFLICT (only_one) DO UPDATE SET reason = CASE WHEN position($1 IN h.reason) > 0 THEN h.reason ELSE h.reason || '; ' || $1 END`
	isHeld = `SELECT EXISTS (SELECT FROM mail_hold)`
)

// Held is the hold on mails, or nil when they go out.
func (n *Notifier) Held(ctx context.Context) (*MailHold, error) {
	var h MailHold
	err := n.pool.QueryRow(ctx, readHold).Scan(&h.Since, &h.Reason, &h.By)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the hold on mails: %w", err)
	}
	return &h, nil
}

// Hold puts mails on hold: when it has returned, no mail is claimed any more. Those claimed before, 128 for each sender at
// most, go out within seconds. On hold already, the reason is added to those before.
func (n *Notifier) Hold(ctx context.Context, reason, by string) error {
	err := postgres.InTx(ctx, n.pool, func(ctx context.Context, tx pgx.Tx) error {
		// Whoever claims holds this lock until the claim is committed.
		if _, err := tx.Exec(ctx, lockClaims); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, putHold, reason, by)
		return err
	})
	if err != nil {
		return fmt.Errorf("put mails on hold: %w", err)
	}
	return nil
}

// Unfinished are windows whose mails would go out, or do when their time comes.
type Unfinished struct {
	State      string     `json:"state"`
	SentBefore bool       `json:"sent_before"` // it was to close before that time
	Windows    int        `json:"windows"`
	Recipients int        `json:"recipients"`
	OldestDue  *time.Time `json:"oldest_due"`
}

const (
	countUnfinished = `
SELECT state, $1::timestamptz IS NOT NULL AND close_at < $1, count(*), count(DISTINCT (tenant_id, recipient_id)), min(close_at)
FROM notices WHERE state IN ('open', 'closed', 'sending') GROUP BY 1, 2 ORDER BY 2 DESC, 1`
	settleUnfinished = `
UPDATE notices SET state = 'ambiguous', problem = $2, finished_at = clock_timestamp(), lease_until = NULL
WHERE notice_id = ANY (ARRAY(
  SELECT notice_id FROM notices WHERE state IN ('open', 'closed', 'sending') AND close_at < $1 ORDER BY notice_id LIMIT 2000 FOR UPDATE))
  AND state IN ('open', 'closed', 'sending')`
	liftHold = `DELETE FROM mail_hold`
)

// restored is the problem of a window that a restored database takes for unsent.
const restored = "the database was restored; it may have been sent before"

// Unfinished counts what a release would let go, and what it would settle with sentBefore; zero: nothing.
func (n *Notifier) Unfinished(ctx context.Context, sentBefore time.Time) ([]Unfinished, error) {
	rows, err := n.pool.Query(ctx, countUnfinished, orNull(sentBefore))
	if err != nil {
		return nil, fmt.Errorf("count unfinished notices: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Unfinished])
	if err != nil {
		return nil, fmt.Errorf("count unfinished notices: %w", err)
	}
	return out, nil
}

// Release lifts the hold. Every unfinished window that was to close before sentBefore becomes ambiguous first, and is never
// sent by itself: after a restore that is what may have been mailed already. It returns how many those are. Cut off in
// between, the hold stands, and a second Release goes on.
func (n *Notifier) Release(ctx context.Context, sentBefore time.Time) (settled int, err error) {
	for !sentBefore.IsZero() {
		tag, err := n.pool.Exec(ctx, settleUnfinished, sentBefore, restored)
		if err != nil {
			return settled, fmt.Errorf("settle what may have been sent: %w", err)
		}
		if tag.RowsAffected() == 0 {
			break
		}
		settled += int(tag.RowsAffected())
		n.metrics.finished.WithLabelValues(Ambiguous).Add(float64(tag.RowsAffected()))
	}
	if _, err := n.pool.Exec(ctx, liftHold); err != nil {
		return settled, fmt.Errorf("lift the hold on mails: %w", err)
	}
	return settled, nil
}

// held is asked under the lock of claims, and says so when it changes.
func (n *Notifier) held(ctx context.Context, tx pgx.Tx) (held bool, err error) {
	if err := tx.QueryRow(ctx, isHeld).Scan(&held); err != nil {
		return false, err
	}
	switch before := n.onHold.Swap(held); {
	case held && !before:
		n.log.Warn("mails are on hold")
	case before && !held:
		n.log.Info("mails go out again")
	}
	return held, nil
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
