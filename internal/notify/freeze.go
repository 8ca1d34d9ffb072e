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
	resends int
	opened  time.Time
	closed  time.Time
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
SELECT n.notice_id, n.fence, n.tries, n.resends, n.opened_at, n.close_at, n.to_address, n.mime, n.tasks_told,
       u.known IS NOT NULL, coalesce(u.name, ''), coalesce(u.email, ''), coalesce(u.time_zone, ''), coalesce(u.status, ''), coalesce(u.notices, true),
       clock_timestamp()
FROM notices n
LEFT JOIN LATERAL (
  SELECT true AS known, name, email, time_zone, status, notices FROM users u WHERE u.tenant_id = n.tenant_id AND u.user_id = n.recipient_id LIMIT 1) u ON true
WHERE n.notice_id = ANY($1) AND n.state = 'sending'
ORDER BY n.notice_id
FOR UPDATE OF n`

	// What an earlier try has written stays. Of the two conditions on notice_id one is enough to read, but a plan made
	// while the table was small could go through all of it by the other.
	recordAttempts = `
WITH begun AS (
  UPDATE notices n SET lease_until = clock_timestamp() + $7::interval,
    message_id = coalesce(n.message_id, k.message_id), to_address = coalesce(n.to_address, k.to_address), subject = coalesce(n.subject, k.subject),
    mime = coalesce(n.mime, k.mime), tasks_told = coalesce(n.tasks_told, k.tasks_told)
  FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[], $6::int[]) AS k (notice_id, message_id, to_address, subject, mime, tasks_told)
  WHERE n.notice_id = ANY($1) AND n.notice_id = k.notice_id
  RETURNING n.notice_id, n.fence)
INSERT INTO notice_attempts (notice_id, fence) SELECT notice_id, fence FROM begun`

	markLeftOut = `
UPDATE notice_items SET left_out = true
WHERE tenant_id = $1 AND recipient_id = $2 AND task_id = $3 AND revision = $4`
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
		out = make([]begun, len(claims))
		var a attempts
		for i, w := range windows {
			switch c := claims[i]; {
			case w == nil:
			case w.frozen():
				out[i].mail = n.written(c, w, *w.to, w.mime, *w.tasks)
				a.add(c.id, nil, "", 0)
			default:
				out[i] = n.write(&a, c, w, truth[0])
				truth = truth[1:]
			}
		}
		return a.record(ctx, tx)
	})
	return out, err
}

// lockWindows has a window for each claim; nil where the claim isn't ours any more.
func lockWindows(ctx context.Context, tx pgx.Tx, claims []claim) ([]*window, error) {
	ids := make([]int64, len(claims))
	at := make(map[hold]int, len(claims))
	for i, c := range claims {
		ids[i], at[c.hold] = c.id, i
	}
	rows, err := tx.Query(ctx, lockClaimed, ids)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	windows := make([]*window, len(claims))
	for rows.Next() {
		var h hold
		w := new(window)
		if err := rows.Scan(&h.id, &h.fence, &w.tries, &w.resends, &w.opened, &w.closed, &w.to, &w.mime, &w.tasks,
			&w.known, &w.name, &w.email, &w.zone, &w.status, &w.notices, &w.now); err != nil {
			return nil, err
		}
		if i, ours := at[h]; ours {
			windows[i] = w
		}
	}
	return windows, rows.Err()
}

func (n *Notifier) written(c claim, w *window, to string, mime []byte, tasks int) *written {
	return &written{Frozen: Frozen{ID: c.id, From: n.writer.from.Address, To: to, MIME: mime}, tries: w.tries, tasks: tasks}
}

// write writes the mail and adds what is to be recorded of it, or says why there is none.
func (n *Notifier) write(a *attempts, c claim, w *window, truth []told) begun {
	d, leftOut := compose(w.now, truth)
	to, none := addressee(*w, d)
	if none != nil {
		return begun{early: none}
	}
	l, err := n.writer.write(w.now, envelope{
		notice: c.id, resends: w.resends, opened: w.opened, closed: w.closed, scope: c.scope, summary: c.summary, to: *to, zone: w.zone,
	}, d)
	if err != nil {
		// A mail that can't be written must not hold up the others.
		return begun{early: &verdict{state: Undeliverable, problem: "the mail could not be written: " + err.Error()}}
	}
	a.add(c.id, &l, to.Address, d.tasks)
	if c.fence > 1 {
		a.anew = append(a.anew, c.id)
	}
	for i := range leftOut {
		a.leftOut = append(a.leftOut, truth[i])
	}
	return begun{mail: n.written(c, w, to.Address, l.mime, d.tasks)}
}

// attempts are what a transaction records: mails with what was written, nulls where an earlier try had written it, and the
// moves that they don't mention.
type attempts struct {
	notices                  []int64
	messageIDs, to, subjects []*string
	mimes                    [][]byte
	tasks                    []*int
	anew                     []int64 // of the notices, those that may have been written before
	leftOut                  []told
}

func (a *attempts) add(notice int64, l *letter, to string, tasks int) {
	a.notices = append(a.notices, notice)
	if l == nil {
		a.messageIDs, a.to, a.subjects, a.mimes, a.tasks = append(a.messageIDs, nil), append(a.to, nil), append(a.subjects, nil), append(a.mimes, nil), append(a.tasks, nil)
		return
	}
	a.messageIDs, a.to, a.subjects = append(a.messageIDs, &l.messageID), append(a.to, &to), append(a.subjects, &l.subject)
	a.mimes, a.tasks = append(a.mimes, l.mime), append(a.tasks, &tasks)
}

func (a *attempts) record(ctx context.Context, tx pgx.Tx) error {
	if len(a.notices) == 0 {
		return nil
	}
	var batch pgx.Batch
	batch.Queue(recordAttempts, a.notices, a.messageIDs, a.to, a.subjects, a.mimes, a.tasks, lease)
	for _, id := range a.anew {
		batch.Queue(leaveNothingOut, id)
	}
	for _, t := range a.leftOut {
		batch.Queue(markLeftOut, t.tenant, t.recipient, t.task, t.revision)
	}
	return tx.SendBatch(ctx, &batch).Close()
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
