package notify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"handover.io/internal/postgres"
)

const (
	// senders is how many mails one RunOnce has under way at a time.
	senders = 16
	// recordFor is how long an outcome is held when the database doesn't take it, before it is lost and the mail becomes
	// ambiguous. With the time of a send it must stay below the lease.
	recordFor = time.Minute
)

// RunOnce closes what is due, takes back what was left behind, claims mails and sends them. It returns how many were
// accepted. It blocks until each has an outcome; several at once, in one process or many, are safe. An error is about
// the database: the channel's troubles are the mails' outcomes.
func (n *Notifier) RunOnce(ctx context.Context) (sent int, err error) {
	if n.sender == nil {
		return 0, errNoSender
	}
	if err := errors.Join(n.closeDue(ctx), n.reap(ctx)); err != nil {
		return 0, err
	}
	if n.channel.paused() {
		return 0, nil
	}
	n.metrics.paused.Set(0)
	claims, err := n.claim(ctx)
	if err != nil {
		return 0, err
	}
	states := make([]string, len(claims))
	var group errgroup.Group
	group.SetLimit(senders)
	for i, c := range claims {
		group.Go(func() (err error) {
			states[i], err = n.deliver(ctx, c)
			return err
		})
	}
	err = group.Wait()
	for _, state := range states {
		if state == Sent {
			sent++
		}
	}
	return sent, err
}

// deliver takes one claimed mail to its outcome and returns the state the notice is in then; "" when the claim was lost.
func (n *Notifier) deliver(ctx context.Context, c claim) (string, error) {
	if ctx.Err() != nil || n.channel.paused() {
		return n.record(ctx, c, verdict{state: Closed})
	}
	mail, early, err := n.begin(ctx, c)
	switch {
	case errors.Is(err, errClaimLost):
		return "", nil
	case err != nil:
		// The attempt may be recorded or not; what is sure is that nothing was sent.
		_, recordErr := n.record(ctx, c, verdict{state: Closed, result: Result{Outcome: NotSent, Response: "not begun"}, delay: pauseFirst})
		return "", errors.Join(err, recordErr)
	case early != nil:
		return n.record(ctx, c, *early)
	}
	result := n.sender.Send(ctx, mail.Frozen)
	n.metrics.attempts.WithLabelValues(string(result.Outcome)).Inc()
	return n.record(ctx, c, n.judge(mail, result))
}

// verdict is what becomes of a notice.
type verdict struct {
	state   string
	problem string
	result  Result        // of the attempt; no outcome when there was none
	delay   time.Duration // until the next try, when closed
	charge  int           // 1 when the try counts against the mail
	tasks   int
}

// judge turns a result into a verdict, and into what it means for the channel.
func (n *Notifier) judge(mail written, r Result) verdict {
	v := verdict{result: r, problem: describe(r), tasks: mail.tasks}
	switch r.Outcome {
	case Accepted:
		n.channel.works()
		v.state, v.problem = Sent, ""
	case Rejected:
		n.channel.works()
		v.state = Undeliverable
	case RejectedForNow:
		if r.Code != 0 {
			n.channel.works()
		}
		v.state, v.delay, v.charge = Closed, retryDelay(mail.tries), 1
		if mail.tries+1 >= maxTries {
			v.state, v.problem = Undeliverable, "given up after a day: "+v.problem
		}
	case NotSent:
		v.state, v.delay = Closed, n.pause(r)
	default:
		// A server that hangs after the mail would otherwise make every due mail ambiguous.
		n.pause(r)
		v.state, v.problem = Ambiguous, "the mail server never answered whether it took the mail: "+v.problem
	}
	return v
}

func (n *Notifier) pause(r Result) time.Duration {
	pause := n.channel.failed()
	n.metrics.paused.Set(1)
	n.log.Error("mail channel is out of order, sending pauses",
		zap.Duration("pause", pause), zap.Int("code", r.Code), zap.String("response", r.Response), zap.Error(r.Err))
	return pause
}

func describe(r Result) string {
	if r.Response == "" && r.Err != nil {
		return r.Err.Error()
	}
	return cut(clean(r.Response), 500)
}

// A mail that surely never left is written anew when the channel works again, as things are then, and can be one with others
// of its recipient: after hours without a mail server nobody gets a mail for each window of that time.
//
// Of the conditions on notice_id see recordAttempts, of the state as a parameter mergeWindows.
const recordOutcomes = `
WITH k AS MATERIALIZED (
  SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::int[], $6::interval[], $7::text[], $8::int[], $9::text[])
    AS k (notice_id, fence, state, problem, charge, delay, outcome, code, response)
), attempts AS (
  UPDATE notice_attempts a SET ended_at = clock_timestamp(), outcome = k.outcome, code = nullif(k.code, 0), response = k.response
  FROM k WHERE a.notice_id = ANY($1) AND a.notice_id = k.notice_id AND a.fence = k.fence AND a.outcome IS NULL AND k.outcome <> ''
)
UPDATE notices n SET state = k.state, problem = nullif(k.problem, ''), lease_until = NULL, tries = tries + k.charge,
  next_try_at = CASE WHEN k.state = 'closed' THEN clock_timestamp() + k.delay ELSE next_try_at END,
  finished_at = CASE WHEN k.state <> 'closed' THEN clock_timestamp() END,
  mime = CASE WHEN k.state IN ('sent', 'suppressed', 'undeliverable') OR k.outcome = 'not_sent' THEN NULL ELSE mime END,
  message_id = CASE WHEN k.outcome <> 'not_sent' THEN message_id END, to_address = CASE WHEN k.outcome <> 'not_sent' THEN to_address END,
  subject = CASE WHEN k.outcome <> 'not_sent' THEN subject END, tasks_told = CASE WHEN k.outcome <> 'not_sent' THEN tasks_told END
FROM k WHERE n.notice_id = ANY($1) AND n.notice_id = k.notice_id AND n.fence = k.fence AND n.state = $10
RETURNING n.notice_id, n.fence, tries, extract(epoch FROM clock_timestamp() - close_at)::float8`

// outcome is a verdict to be written down.
type outcome struct {
	claim
	verdict
}

// recorded is what the notice has become of that; not ours, when the claim had ended.
type recorded struct {
	ours  bool
	tries int
	lag   float64 // seconds from the close of the window
}

// recordAll writes outcomes down, where the claims are still ours; the attempts' own outcomes are true in any case. Those
// of mails that end together share the transaction: each was known before it began, and none of them waits for another.
func (n *Notifier) recordAll(ctx context.Context, outcomes []outcome) ([]recorded, error) {
	size := len(outcomes)
	ids, fences, states, problems, charges := make([]int64, size), make([]int64, size), make([]string, size), make([]string, size), make([]int, size)
	delays, ends, codes, responses := make([]time.Duration, size), make([]string, size), make([]int, size), make([]string, size)
	at := make(map[hold]int, size)
	for i, o := range outcomes {
		at[o.hold] = i
		ids[i], fences[i], states[i], problems[i], charges[i], delays[i] = o.id, o.fence, o.state, o.problem, o.charge, o.delay
		ends[i], codes[i], responses[i] = string(o.result.Outcome), o.result.Code, describe(o.result)
	}
	rows, err := n.pool.Query(ctx, recordOutcomes, ids, fences, states, problems, charges, delays, ends, codes, responses, Sending)
	if err != nil {
		return nil, err
	}
	out := make([]recorded, size)
	var h hold
	r := recorded{ours: true}
	_, err = pgx.ForEachRow(rows, []any{&h.id, &h.fence, &r.tries, &r.lag}, func() error {
		out[at[h]] = r
		return nil
	})
	return out, err
}

// record writes an outcome down. It tries until recordFor has passed, also after ctx has ended: an outcome that isn't
// written is a mail nobody knows about. The state is empty when the claim wasn't ours any more.
func (n *Notifier) record(ctx context.Context, c claim, v verdict) (state string, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordFor)
	defer cancel()
	var done recorded
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		done, err = n.outcomes.ask(ctx, outcome{c, v})
		if err == nil || !(postgres.Unavailable(err) || postgres.Retryable(err)) {
			break
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("outcome %s of notice %d is lost: %w", v.state, c.id, err)
		case <-time.After(wait):
		}
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("outcome %s of notice %d: %w", v.state, c.id, err)
	case !done.ours:
		n.log.Warn("outcome came after the claim had ended", zap.Int64("notice_id", c.id), zap.String("outcome", v.state))
		return "", nil
	}
	if v.state == Sent {
		n.metrics.lag.Observe(max(done.lag, 0))
	}
	if v.state != Closed {
		n.finished(c.id, c.scope, v.state, zap.Int("tasks", v.tasks), zap.Int("tries", done.tries+1-v.charge), zap.Float64("lag_seconds", done.lag),
			zap.Int("code", v.result.Code), zap.String("response", describe(v.result)), zap.String("problem", v.problem))
	}
	return v.state, nil
}

// finished is the one line and the one count of a window's end.
func (n *Notifier) finished(id int64, s scope, outcome string, more ...zap.Field) {
	n.metrics.finished.WithLabelValues(outcome).Inc()
	n.log.Info("notice finished", append([]zap.Field{
		zap.Int64("notice_id", id), zap.String("tenant_id", s.tenant), zap.String("recipient_id", s.recipient),
		zap.String("account_id", s.account), zap.String("outcome", outcome),
	}, more...)...)
}
