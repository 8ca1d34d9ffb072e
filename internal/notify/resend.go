package notify

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"handover.io/internal/postgres"
)

// Decision is what became of a notice that a person decided about.
type Decision struct {
	ID int64 `json:"notice_id"`
	// Done is false when the notice is in no state for it any more; State is the one that it is in, "" without one.
	Done  bool   `json:"done"`
	State string `json:"state"`
}

const (
	// The rows are locked in one order, so that of two persons who decide about the same one the second finds it decided.
	lockDecided = `SELECT notice_id, state, coalesce(message_id, ''), mime, resends FROM notices WHERE notice_id = ANY($1) ORDER BY notice_id FOR UPDATE`

	// The attempts and the fence go on counting; the refusals begin anew, or a single one would end it again.
	sendAgain = `
UPDATE notices SET state = 'closed', next_try_at = clock_timestamp(), tries = 0, problem = NULL, finished_at = NULL, resends = resends + 1,
  message_id = nullif($2, ''), mime = $3,
  to_address = CASE WHEN $2 = '' THEN NULL ELSE to_address END, subject = CASE WHEN $2 = '' THEN NULL ELSE subject END,
  tasks_told = CASE WHEN $2 = '' THEN NULL ELSE tasks_told END
WHERE notice_id = $1`

	// A mail that is written anew decides anew what it leaves out.
	leaveNothingOut = `
UPDATE notice_items i SET left_out = false
FROM (SELECT w.tenant_id, w.recipient_id, t.task_id, t.revision
      FROM notices w JOIN notice_moves m ON m.notice_id = w.notice_id CROSS JOIN LATERAL unnest(m.task_ids, m.revisions) AS t (task_id, revision)
      WHERE w.notice_id = ANY (ARRAY[$1::bigint] || ARRAY(SELECT notice_id FROM notices WHERE merged_into = $1))) k
WHERE i.tenant_id = k.tenant_id AND i.recipient_id = k.recipient_id AND i.task_id = k.task_id AND i.revision = k.revision AND i.left_out`

	settleAsSent = `
UPDATE notices SET state = 'sent', mime = NULL, problem = $2, finished_at = clock_timestamp() WHERE notice_id = $1`
)

// Resend has the mails of these notices sent again, each as a new mail under a new Message-ID. Only ambiguous and
// undeliverable ones are; the others are left as they are. The mail of an ambiguous one is the frozen one; one that wasn't
// written yet, or couldn't be delivered, is written anew as things are now, and may have nothing left to tell. It doesn't
// wait: a notifier sends them, once mails aren't on hold. All or none.
func (n *Notifier) Resend(ctx context.Context, ids []int64) ([]Decision, error) {
	return n.decide(ctx, "resend", ids, func(ctx context.Context, tx pgx.Tx, d decided) (bool, error) {
		if d.state != Ambiguous && d.state != Undeliverable {
			return false, nil
		}
		mail, messageID := d.mime, ""
		if mail != nil {
			messageID = again(d.messageID, d.resends+1)
			mail = bytes.Replace(mail, []byte("\r\nMessage-ID: "+d.messageID+"\r\n"), []byte("\r\nMessage-ID: "+messageID+"\r\n"), 1)
			if bytes.Equal(mail, d.mime) {
				mail, messageID = nil, "" // it isn't of ours as we write them: better written anew than sent under its old id
			}
		}
		if mail == nil {
			if _, err := tx.Exec(ctx, leaveNothingOut, d.id); err != nil {
				return false, err
			}
		}
		_, err := tx.Exec(ctx, sendAgain, d.id, messageID, mail)
		return true, err
	})
}

// Settle counts ambiguous mails as sent, without sending: somebody has asked the recipients. Others are left as they are.
// All or none.
func (n *Notifier) Settle(ctx context.Context, ids []int64, by string) ([]Decision, error) {
	return n.decide(ctx, "settle", ids, func(ctx context.Context, tx pgx.Tx, d decided) (bool, error) {
		if d.state != Ambiguous {
			return false, nil
		}
		_, err := tx.Exec(ctx, settleAsSent, d.id, "it arrived, says "+by)
		return true, err
	})
}

// decided is a notice as it is when a person decides about it.
type decided struct {
	id        int64
	state     string
	messageID string
	mime      []byte
	resends   int
}

func (n *Notifier) decide(ctx context.Context, what string, ids []int64, do func(context.Context, pgx.Tx, decided) (bool, error)) (out []Decision, err error) {
	err = postgres.InTx(ctx, n.pool, func(ctx context.Context, tx pgx.Tx) error {
		out = out[:0]
		rows, err := tx.Query(ctx, lockDecided, ids)
		if err != nil {
			return err
		}
		notices, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (d decided, err error) {
			err = row.Scan(&d.id, &d.state, &d.messageID, &d.mime, &d.resends)
			return d, err
		})
		if err != nil {
			return err
		}
		states := make(map[int64]Decision)
		for _, d := range notices {
			done, err := do(ctx, tx, d)
			if err != nil {
				return fmt.Errorf("notice %d: %w", d.id, err)
			}
			states[d.id] = Decision{ID: d.id, Done: done, State: d.state}
		}
		for _, id := range ids {
			d := states[id]
			d.ID = id
			out = append(out, d)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%s notices: %w", what, err)
	}
	for _, d := range out {
		if d.Done {
			n.log.Info("a person decided about a notice", zap.Int64("notice_id", d.ID), zap.String("decision", what), zap.String("state", d.State))
		}
	}
	n.wake()
	return out, nil
}

// again is the Message-ID of the n-th resend: the first one with a suffix, so that who looks for either finds both.
func again(messageID string, resends int) string {
	local, domain, _ := strings.Cut(strings.Trim(messageID, "<>"), "@")
	if at := strings.LastIndex(local, ".v"); at > 0 {
		if _, err := strconv.Atoi(local[at+2:]); err == nil {
			local = local[:at]
		}
	}
	return "<" + local + ".v" + strconv.Itoa(resends+1) + "@" + domain + ">"
}

// late is how a mail says that it comes long after its window closed; empty unless it does.
func late(now, closed time.Time, in *time.Location) string {
	if closed.IsZero() || now.Sub(closed) < delayedAfter {
		return ""
	}
	return "This e-mail is late: it was due on " + closed.In(in).Format("Mon 2 Jan 2006, 15:04") + ". What it says is as of now."
}

// delayedAfter is how late a mail may be without saying so.
const delayedAfter = 24 * time.Hour
