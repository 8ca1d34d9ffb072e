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
	items, err := readItems(ctx, tx, c.id)
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

const itemsOf = `
SELECT i.tenant_id, i.recipient_id, i.task_id, i.revision, i.kind, i.account_id, coalesce(i.from_id, ''), i.moved_by, i.reason, i.role, i.moved_at, i.left_out,
  CASE WHEN i.kind = 'taken_back' THEN coalesce((
    SELECT p.kind = 'received' FROM notice_items p
    JOIN notices pw ON pw.notice_id = p.notice_id
    JOIN notices pm ON pm.notice_id = coalesce(pw.merged_into, pw.notice_id)
    WHERE p.tenant_id = i.tenant_id AND p.recipient_id = i.recipient_id AND p.task_id = i.task_id AND p.revision < i.revision
      AND NOT p.left_out AND pm.notice_id <> $1
      AND (pm.state IN ('sent', 'ambiguous') OR pm.state IN ('closed', 'sending') AND pm.mime IS NOT NULL)
    ORDER BY p.revision DESC LIMIT 1), false) ELSE false END,
  coalesce(t.title, ''), coalesce(t.priority, ''), coalesce(t.url, ''), t.due_at, coalesce(t.status IN ('open', 'in_progress'), false), coalesce(t.assignee_id, ''),
  coalesce(a.name, ''), coalesce(f.name, ''), coalesce(b.name, ''), coalesce(r.name, ''), coalesce(h.name, '')
FROM notice_items i
LEFT JOIN tasks t ON t.tenant_id = i.tenant_id AND t.task_id = i.task_id
LEFT JOIN accounts a ON a.tenant_id = i.tenant_id AND a.account_id = i.account_id
LEFT JOIN users f ON f.tenant_id = i.tenant_id AND f.user_id = i.from_id
LEFT JOIN users b ON b.tenant_id = i.tenant_id AND b.user_id = i.moved_by
LEFT JOIN roles r ON r.tenant_id = i.tenant_id AND r.role = i.role
LEFT JOIN users h ON h.tenant_id = t.tenant_id AND h.user_id = t.assignee_id
WHERE i.notice_id IN (SELECT $1::bigint UNION ALL SELECT notice_id FROM notices WHERE merged_into = $1)
ORDER BY i.task_id, i.revision`

// readItems is everything the mail of a notice is about, with the truth as it is now.
func readItems(ctx context.Context, tx pgx.Tx, notice int64) ([]told, error) {
	rows, err := tx.Query(ctx, itemsOf, notice)
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	items, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t told, err error) {
		err = row.Scan(&t.tenant, &t.recipient, &t.task, &t.revision, &t.kind, &t.accountID, &t.from, &t.movedBy, &t.reason, &t.role, &t.movedAt, &t.leftOut,
			&t.toldBefore, &t.title, &t.priority, &t.url, &t.due, &t.open, &t.holder,
			&t.accountName, &t.fromName, &t.byName, &t.roleName, &t.holderName)
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("read items: %w", err)
	}
	return items, nil
}
