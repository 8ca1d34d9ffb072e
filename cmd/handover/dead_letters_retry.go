package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"handover.io/cmd/handover/internal/letters"
	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/journal"
	"handover.io/internal/postgres"
)

// lookEvery is how often a waiting retry looks at what came of it.
const lookEvery = 100 * time.Millisecond

func (a *app) deadLettersRetry() *cobra.Command {
	var wait time.Duration
	r := &changing{verb: "retried", column: "WHAT WOULD COME OF IT", would: wouldCome}
	c := &cobra.Command{
		Use:   "retry [KEY…]",
		Short: "Deliver dead letters again, and say what came of each",
		Long: `Delivers dead letters again, the way of a first delivery: through the outbox and the stream, under an id
that the broker hasn't seen, to the same consumer. It waits for what comes of them:

  recorded         a role change that is known now; so many tasks moved
  known already    it had its effect before, by another way
  dead again       refused for the same reason
  dead otherwise   refused for another reason: another dead letter took its place
  under way        nobody has handled it within --wait: is a relay and a reassigner running?

They go in groups of up to 500, the next one when the one before is through, so that live traffic isn't
hurt; when one isn't through in time, no more are sent. One operator retries at a time. Without --apply it only shows which, and whether
one is sure to fail again. Retrying what is under way, or was dropped, is possible by its key.

Exit code 1 when any is dead again or under way.`,
		Example: `  handover dead-letters retry 17
  handover dead-letters retry 17 --apply
  handover dead-letters retry --reason override_refused --tenant acme --apply
  handover dead-letters retry --reason rejected --since 2h --wait 2m --apply`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait < 0 {
				return errors.New("--wait: can't be negative")
			}
			return a.onLetters(cmd.Context(), &r.chosen, args, func(s *servers, filter journal.LetterFilter, now time.Time) error {
				if !r.apply {
					return r.show(cmd.Context(), a, s, filter, now)
				}
				return a.retry(cmd.Context(), r, s, filter, wait)
			})
		},
	}
	r.flags(c)
	c.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for what comes of a group")
	return c
}

// wouldCome says what is sure to come of a retry, from the original alone.
func wouldCome(l journal.Letter) string {
	if l.State == journal.Resolved || l.State == journal.Superseded {
		return "nothing, it is left as it is: " + letters.Detail(l)
	}
	if err := letters.Unreadable(l); err != nil {
		return "sure to fail again: " + err.Error()
	}
	return "tried again; it was " + l.Detail
}

// retried is what came of one retry.
type retried struct {
	Key          int64  `json:"key"`
	Came         string `json:"came_of_it"`
	TasksMoved   *int64 `json:"tasks_moved,omitempty"`
	Detail       string `json:"detail,omitempty"`
	SupersededBy *int64 `json:"superseded_by,omitempty"`
}

// What can come of a retry, as it is counted.
const (
	cameRecorded  = "recorded"
	cameKnown     = "known_already"
	cameOtherwise = "handled" // by the notifier
	cameDead      = "dead_again"
	cameDeadElse  = "dead_otherwise"
	cameUnderWay  = "under_way"
	cameLeft      = "left_as_they_were"
	tasksMoved    = "tasks_moved"
)

var errStillUnderWay = errors.New("not all were handled in time; handover status says what is behind, handover dead-letters list --state retried what is still under way")

const (
	// The lock is the connection's: it ends with the process, however that ends.
	holdRetry    = `SELECT pg_try_advisory_lock(hashtextextended('handover.dead-letters.retry', 0))`
	releaseRetry = `SELECT pg_advisory_unlock(hashtextextended('handover.dead-letters.retry', 0))`
)

// alone keeps other operators from retrying until done is called: two at the same letters would send each of them twice,
// and neither could say what came of its own.
func alone(ctx context.Context, s *servers) (done func(), err error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	mine := false
	if err := conn.QueryRow(ctx, holdRetry).Scan(&mine); err != nil {
		conn.Release()
		return nil, err
	}
	if mine {
		return func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
			defer cancel()
			if _, err := conn.Exec(ctx, releaseRetry); err != nil {
				_ = conn.Conn().Close(ctx) // which releases it too
			}
			conn.Release()
		}, nil
	}
	conn.Release()
	others, err := journal.Runs(ctx, s.pool, retryCommand, 100)
	if err != nil {
		return nil, err
	}
	who := ""
	if i := slices.IndexFunc(others, func(r journal.Run) bool { return r.State == "running" }); i >= 0 {
		who = fmt.Sprintf(" (run %d by %s)", others[i].ID, others[i].Actor)
	}
	return nil, fmt.Errorf("another retry is under way%s, and nothing was done: look again when it is through", who)
}

// retryCommand is the name under which runs are kept.
const retryCommand = "dead-letters retry"

func (a *app) retry(ctx context.Context, r *changing, s *servers, filter journal.LetterFilter, wait time.Duration) error {
	if err := named(ctx, s, filter); err != nil {
		return err
	}
	done, err := alone(ctx, s)
	if err != nil {
		return err
	}
	defer done()
	counts := map[string]int64{}
	err = r.each(ctx, s, retryCommand, filter, map[string]any{"wait": wait.String()}, counts, func(page []journal.Letter) error {
		sent, err := send(ctx, s, page)
		if err != nil {
			return err
		}
		if err := a.await(ctx, s, sent, wait); err != nil {
			return err
		}
		results, err := cameOf(ctx, s, page, sent)
		if err != nil {
			return err
		}
		underWay := false
		for _, one := range results {
			counts[one.Came]++
			if one.TasksMoved != nil {
				counts[tasksMoved] += *one.TasksMoved
			}
			underWay = underWay || one.Came == cameUnderWay
			if err := a.printRetried(one); err != nil {
				return err
			}
		}
		if underWay {
			return errStillUnderWay
		}
		return nil
	})
	a.sumUp(a.stdout, "Retried", counts, cameRecorded, cameKnown, cameOtherwise, cameDead, cameDeadElse, cameUnderWay, cameLeft, tasksMoved)
	if err == nil && counts[cameDead]+counts[cameDeadElse] > 0 {
		return &failedError{}
	}
	return err
}

// send retries those of the page that can be, and returns their keys.
func send(ctx context.Context, s *servers, page []journal.Letter) ([]int64, error) {
	var keys []int64
	for _, l := range page {
		if l.State != journal.Resolved && l.State != journal.Superseded {
			keys = append(keys, l.Key)
		}
	}
	return keys, postgres.InTx(ctx, s.pool, func(ctx context.Context, tx pgx.Tx) error {
		_, err := journal.Retry(ctx, tx, keys)
		return err
	})
}

// await returns when none of the letters is under way any more, or when that took too long.
func (a *app) await(ctx context.Context, s *servers, keys []int64, wait time.Duration) error {
	if len(keys) == 0 {
		return nil
	}
	bar := a.bar("retried", len(keys))
	defer func() { _ = bar.Finish() }()
	deadline := time.Now().Add(wait)
	for {
		groups, err := journal.LetterGroups(ctx, s.pool, journal.LetterFilter{Keys: keys, State: journal.Retried})
		if err != nil {
			return err
		}
		left := int64(0)
		for _, g := range groups {
			left += g.Count
		}
		_ = bar.Set64(int64(len(keys)) - left)
		if left == 0 || time.Now().After(deadline) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookEvery):
		}
	}
}

// bar shows progress on stderr where that is a terminal, and nothing elsewhere.
func (a *app) bar(what string, n int) *progressbar.ProgressBar {
	f, ok := a.stderr.(*os.File)
	return progressbar.NewOptions(n, progressbar.OptionSetWriter(a.stderr), progressbar.OptionSetDescription(what), progressbar.OptionSetWidth(30),
		progressbar.OptionShowCount(), progressbar.OptionClearOnFinish(), progressbar.OptionSetVisibility(ok && term.IsTerminal(int(f.Fd()))))
}

// cameOf is what came of each letter of the page, of which those were sent.
func cameOf(ctx context.Context, s *servers, page []journal.Letter, sent []int64) ([]retried, error) {
	now, err := journal.Letters(ctx, s.pool, journal.LetterFilter{Keys: keysOf(page)}, false)
	if err != nil {
		return nil, err
	}
	var successors []int64
	for _, l := range now {
		if l.SupersededBy != nil {
			successors = append(successors, *l.SupersededBy)
		}
	}
	others := map[int64]journal.Letter{}
	if len(successors) > 0 {
		found, err := journal.Letters(ctx, s.pool, journal.LetterFilter{Keys: successors}, false)
		if err != nil {
			return nil, err
		}
		for _, l := range found {
			others[l.Key] = l
		}
	}
	out := make([]retried, len(now))
	for i, l := range now {
		out[i] = retried{Key: l.Key, TasksMoved: l.TasksMoved, SupersededBy: l.SupersededBy, Detail: l.Outcome}
		switch {
		case !slices.Contains(sent, l.Key):
			out[i].Came, out[i].TasksMoved, out[i].Detail = cameLeft, nil, letters.Detail(l)
		case l.State == journal.Retried:
			out[i].Came = cameUnderWay
		case l.State == journal.Dead:
			out[i].Came, out[i].Detail = cameDead, l.Detail
		case l.State == journal.Superseded:
			out[i].Came, out[i].Detail = cameDeadElse, others[*l.SupersededBy].Detail
		case l.Outcome == journal.Recorded:
			out[i].Came = cameRecorded
		case l.Outcome == journal.Known:
			out[i].Came = cameKnown
		default: // by the notifier; or dropped meanwhile, by somebody else
			out[i].Came, out[i].Detail = cameOtherwise, cmp.Or(l.Outcome, letters.Detail(l))
		}
	}
	return out, nil
}

func (a *app) printRetried(r retried) error {
	if a.json {
		return a.line(r)
	}
	said := ""
	switch r.Came {
	case cameRecorded:
		said = "recorded, " + letters.Count(*r.TasksMoved, "task") + " moved"
	case cameKnown:
		said = "known already"
	case cameOtherwise, cameLeft:
		said = r.Detail
	case cameDead:
		said = "dead again: " + r.Detail
	case cameDeadElse:
		said = fmt.Sprintf("dead letter %d now, for another reason: %s", *r.SupersededBy, r.Detail)
	case cameUnderWay:
		said = "under way"
	}
	_, err := fmt.Fprintf(a.stdout, "%d  %s\n", r.Key, safe.Text(said))
	return err
}
