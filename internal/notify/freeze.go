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

// frozen tells whether an earlier try has written the mail.
func (w window) frozen() bool { return w.mime != nil && w.to != nil && w.tasks != nil }

const (
	lockClaimed = `
SELECT c.n, n.tries, n.opened_at, n.to_address, n.mime, n.tasks_told,
       u.known IS NOT NULL, coalesce(u.name, ''), coalesce(u.email, ''), coalesce(u.time_zone, ''), coalesce(u.status, ''), coalesce(u.notices, true),
       clock_timestamp()
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS c (notice_id, fence, n)
JOIN notices n ON n.notice_id = c.notice_id AND n.fence = c.fence AND n.state = 'sending'
LEFT JOIN LATERAL (
  SELECT true AS known, name, email, time_zone, status, notices FROM users u WHERE u.tenant_id = n.tenant_id AND u.user_id = n.recipient_id LIMIT 1) u ON true
ORDER BY n.notice_id
FOR UPDATE OF n`

	// What an earlier try has written stays.
	recordAttempts = `
WITH begun AS (
  UPDATE notices n SET lease_until = clock_timestamp() + $7::interval,
    message_id = coalesce(n.message_id, k.message_id), to_address = coalesce(n.to_address, k.to_address), subject = coalesce(n.subject, k.subject),
    mime = coalesce(n.mime, k.mime), tasks_told = coalesce(n.tasks_told, k.tasks_told)
  FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::int[]) AS k (notice_id, message_id, to_address, subject, mime, tasks_told)
  WHERE n.notice_id = k.notice_id
  RETURNING n.notice_id, n.fence)
INSERT INTO notice_attempts (notice_id, fence) SELECT notice_id, fence FROM begun`

	markLeftOut = `
UPDATE notice_items i SET left_out = true
FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) AS k (tenant_id, recipient_id, task_id, revision)
WHERE i.tenant_id = k.tenant_id AND i.recipient_id = k.recipient_id AND i.task_id = k.task_id AND i.revision = k.revision`
)

// begun is what became of a claim when its turn came: a mail whose attempt is recorded, or the verdict that there is
// nothing to send, or neither, when the claim isn't ours any more.
type begun struct {
	mail  *written
	early *verdict
}

// begin writes the mail down as the truth is now, unless an earlier try already did, and records the attempt: one
// transaction, so that a mail which is written was at least about to be sent, and one that isn't can't have been. When
// there is nothing to send it returns the verdict instead. The error is errClaimLost when the claim isn't ours any more.
//
// Mails whose turn comes together share the transaction. That leaves no more of them in doubt when this process dies:
// all of them are sent at once when it has committed, and none before.
func (n *Notifier) begin(ctx context.Context, c claim) (mail written, early *verdict, err error) {
	b, err := n.begins.ask(ctx, c)
	switch {
	case err == nil && b.early != nil:
		return written{}, b.early, nil
	case err == nil && b.mail != nil:
		return *b.mail, nil, nil
	case err == nil:
		err = errClaimLost
	}
	return written{}, nil, fmt.Errorf("begin notice %d: %w", c.id, err)
}

func (n *Notifier) beginAll(ctx context.Context, claims []claim) (out []begun, err error) {
	err = postgres.InTx(ctx, n.pool, func(ctx context.Context, tx pgx.Tx) error {
		windows, err := lockWindows(ctx, tx, claims)
		if err != nil {
			return err
		}
		var unwritten []claim
		for i, w := range windows {
			if w != nil && !w.frozen() {
				unwritten = append(unwritten, claims[i])
			}
		}
		truth, err := readTruth(ctx, tx, unwritten)
		if err != nil {
			return err
		}
		var a attempts
		out = make([]begun, len(claims))
		for i, w := range windows {
			switch {
			case w == nil:
			case w.frozen():
				out[i].mail = n.written(claims[i], w, *w.to, w.mime, *w.tasks)
				a.again(claims[i])
			default:
				out[i] = n.write(claims[i], w, truth[0], &a)
				truth = truth[1:]
			}
		}
		return a.record(ctx, tx)
	})
	return out, err
}

// lockWindows has a window for each claim; nil where the claim isn't ours any more.
func lockWindows(ctx context.Context, tx pgx.Tx, claims []claim) ([]*window, error) {
	ids, fences := make([]int64, len(claims)), make([]int64, len(claims))
	for i, c := range claims {
		ids[i], fences[i] = c.id, c.fence
	}
	rows, err := tx.Query(ctx, lockClaimed, ids, fences)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	windows := make([]*window, len(claims))
	for rows.Next() {
		var i int
		w := new(window)
		if err := rows.Scan(&i, &w.tries, &w.opened, &w.to, &w.mime, &w.tasks,
			&w.known, &w.name, &w.email, &w.zone, &w.status, &w.notices, &w.now); err != nil {
			return nil, err
		}
		windows[i-1] = w
	}
	return windows, rows.Err()
}

func (n *Notifier) written(c claim, w *window, to string, mime []byte, tasks int) *written {
	return &written{Frozen: Frozen{ID: c.id, From: n.writer.from.Address, To: to, MIME: mime}, tries: w.tries, tasks: tasks}
}

// write writes the mail, or says why there is none.
func (n *Notifier) write(c claim, w *window, truth []told, a *attempts) begun {
	d, leftOut := compose(w.now, truth)
	to, none := addressee(*w, d)
	if none != nil {
		return begun{early: none}
	}
	l, err := n.writer.write(w.now, envelope{
		notice: c.id, opened: w.opened, scope: c.scope, summary: c.summary, to: *to, zone: w.zone,
	}, d)
	if err != nil {
		// A mail that can't be written must not hold up the others.
		return begun{early: &verdict{state: Undeliverable, problem: "the mail could not be written: " + err.Error()}}
	}
	a.first(c, to.Address, l, d.tasks)
	for i := range leftOut {
		a.leftOut = append(a.leftOut, truth[i])
	}
	return begun{mail: n.written(c, w, to.Address, l.mime, d.tasks)}
}

// attempts are what a transaction records: each mail as it was written, nulls where an earlier try has written it, and
// the moves that they don't mention.
type attempts struct {
	ids                      []int64
	messageIDs, to, subjects []*string
	mimes                    [][]byte
	tasks                    []*int
	leftOut                  []told
}

func (a *attempts) first(c claim, to string, l letter, tasks int) {
	a.ids = append(a.ids, c.id)
	a.messageIDs, a.to, a.subjects = append(a.messageIDs, &l.messageID), append(a.to, &to), append(a.subjects, &l.subject)
	a.mimes, a.tasks = append(a.mimes, l.mime), append(a.tasks, &tasks)
}

func (a *attempts) again(c claim) {
	a.ids = append(a.ids, c.id)
	a.messageIDs, a.to, a.subjects = append(a.messageIDs, nil), append(a.to, nil), append(a.subjects, nil)
	a.mimes, a.tasks = append(a.mimes, nil), append(a.tasks, nil)
}

func (a *attempts) record(ctx context.Context, tx pgx.Tx) error {
	if len(a.ids) == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, recordAttempts, a.ids, a.messageIDs, a.to, a.subjects, a.mimes, a.tasks, lease); err != nil {
		return err
	}
	if len(a.leftOut) == 0 {
		return nil
	}
	var tenants, recipients, tasks []string
	var revisions []int64
	for _, t := range a.leftOut {
		tenants, recipients, tasks, revisions = append(tenants, t.tenant), append(recipients, t.recipient), append(tasks, t.task), append(revisions, t.revision)
	}
	_, err := tx.Exec(ctx, markLeftOut, tenants, recipients, tasks, revisions)
	return err
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
