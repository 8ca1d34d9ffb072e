package notify

import (
	"context"
	"errors"
	"fmt"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/postgres"
)

var errClaimLost = errors.New("the claim has ended")

// written is a mail that is frozen, with its attempt recorded.
type written struct {
	Frozen
	tries, tasks int
}

// window is a claimed notice with its recipient, as they are now.
type window struct {
	tries   int
	opened  time.Time
	to      *string // of the frozen mail
	mime    []byte
	tasks   *int
	known   bool // the recipient has a user row
	name    string
	email   string
	zone    string
	status  string
	notices bool
	now     time.Time
}

const lockClaimed = `
SELECT n.tries, n.opened_at, n.to_address, n.mime, n.tasks_told,
       u.user_id IS NOT NULL, coalesce(u.name, ''), coalesce(u.email, ''), coalesce(u.time_zone, ''), coalesce(u.status, ''), coalesce(u.notices, true),
       clock_timestamp()
FROM notices n LEFT JOIN users u ON u.tenant_id = n.tenant_id AND u.user_id = n.recipient_id
WHERE n.notice_id = $1 AND n.fence = $2 AND n.state = 'sending'
FOR UPDATE OF n`

const recordAttempt = `
WITH renewed AS (
  UPDATE notices SET lease_until = clock_timestamp() + $3::interval WHERE notice_id = $1 AND fence = $2 AND state = 'sending' RETURNING notice_id)
INSERT INTO notice_attempts (notice_id, fence) SELECT notice_id, $2 FROM renewed`

// begin writes the mail down as the truth is now, unless an earlier try already did, and records the attempt: one
// transaction, so that a mail which is written was at least about to be sent, and one that isn't can't have been. When
// there is nothing to send it returns the verdict instead. The error is errClaimLost when the claim isn't ours any more.
func (n *Notifier) begin(ctx context.Context, c claim) (mail written, early *verdict, err error) {
	err = postgres.InTx(ctx, n.pool, func(ctx context.Context, tx pgx.Tx) error {
		mail, early = written{}, nil
		w, err := lockWindow(ctx, tx, c)
		if err != nil {
			return err
		}
		mail = written{tries: w.tries, Frozen: Frozen{ID: c.id, From: n.writer.from.Address}}
		if w.mime != nil && w.to != nil && w.tasks != nil {
			mail.To, mail.MIME, mail.tasks = *w.to, w.mime, *w.tasks
		} else if early, err = n.freeze(ctx, tx, c, w, &mail); err != nil || early != nil {
			return err
		}
		tag, err := tx.Exec(ctx, recordAttempt, c.id, c.fence, lease)
		if err == nil && tag.RowsAffected() != 1 {
			return errClaimLost
		}
		return err
	})
	if err != nil {
		return written{}, nil, fmt.Errorf("begin notice %d: %w", c.id, err)
	}
	return mail, early, nil
}

func lockWindow(ctx context.Context, tx pgx.Tx, c claim) (window, error) {
	var w window
	err := tx.QueryRow(ctx, lockClaimed, c.id, c.fence).Scan(&w.tries, &w.opened, &w.to, &w.mime, &w.tasks,
		&w.known, &w.name, &w.email, &w.zone, &w.status, &w.notices, &w.now)
	if errors.Is(err, pgx.ErrNoRows) {
		return w, errClaimLost
	}
	return w, err
}

const (
	freezeMail  = `UPDATE notices SET message_id = $2, to_address = $3, subject = $4, mime = $5, tasks_told = $6 WHERE notice_id = $1`
	flipLeftOut = `
UPDATE notice_items i SET left_out = NOT i.left_out
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS k (tenant_id, recipient_id, task_id, revision)
WHERE i.tenant_id = k.tenant_id AND i.recipient_id = k.recipient_id AND i.task_id = k.task_id AND i.revision = k.revision`
)

// freeze writes the mail, or says why there is none.
func (n *Notifier) freeze(ctx context.Context, tx pgx.Tx, c claim, w window, mail *written) (*verdict, error) {
	items, err := readTruth(ctx, tx, c)
	if err != nil {
		return nil, err
	}
	d, leftOut := compose(w.now, items)
	var flipped []item
	for i, t := range items {
		if t.leftOut != leftOut[i] {
			flipped = append(flipped, t.item)
		}
	}
	if len(flipped) > 0 {
		tenants, recipients, tasks, revisions := keys(flipped)
		if _, err := tx.Exec(ctx, flipLeftOut, tenants, recipients, tasks, revisions); err != nil {
			return nil, err
		}
	}
	to, none := addressee(w, d)
	if none != nil {
		return none, nil
	}
	letter, err := n.writer.write(w.now, envelope{
		notice: c.id, opened: w.opened, scope: c.scope, summary: c.summary, to: *to, zone: w.zone,
	}, d)
	if err != nil {
		// A mail that can't be written must not hold up the others.
		return &verdict{state: Undeliverable, problem: "the mail could not be written: " + err.Error()}, nil
	}
	mail.To, mail.MIME, mail.tasks = to.Address, letter.mime, d.tasks
	_, err = tx.Exec(ctx, freezeMail, c.id, letter.messageID, mail.To, letter.subject, letter.mime, d.tasks)
	return nil, err
}

// addressee is whom to write to, or the verdict that nobody is written to.
func addressee(w window, d digest) (*netmail.Address, *verdict) {
	switch {
	case d.tasks == 0:
		return nil, &verdict{state: Suppressed, problem: "nothing was left to tell: the tasks had moved on or were closed"}
	case !w.known:
		return nil, &verdict{state: Undeliverable, problem: "the recipient is not known here"}
	case w.status != "active":
		return nil, &verdict{state: Suppressed, problem: "the recipient has left"}
	case !w.notices:
		return nil, &verdict{state: Suppressed, problem: "the recipient takes no e-mails"}
	case w.email == "":
		return nil, &verdict{state: Undeliverable, problem: "the recipient has no e-mail address"}
	}
	address, err := netmail.ParseAddress(w.email)
	if err != nil || address.Address != strings.TrimSpace(w.email) || len(address.Address) > 254 || strings.ContainsAny(address.Address, "<>\" \r\n") {
		return nil, &verdict{state: Undeliverable, problem: "the recipient's e-mail address can't be used"}
	}
	address.Name = cut(clean(w.name), maxName)
	return address, nil
}
