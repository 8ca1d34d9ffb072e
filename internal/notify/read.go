package notify

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// States of a notice.
const (
	Open          = "open"
	Closed        = "closed" // due, or waiting for its next try
	Sending       = "sending"
	Sent          = "sent"
	Suppressed    = "suppressed"    // nothing was left to tell, or the recipient takes no mails
	Undeliverable = "undeliverable" // see Problem
	Ambiguous     = "ambiguous"     // it may have been delivered; see Problem
	Merged        = "merged"        // told by the mail of the notice MergedInto
)

// Notice is a window as it is shown.
type Notice struct {
	ID          int64
	TenantID    string
	RecipientID string
	AccountID   string // empty: all accounts of the recipient
	State       string
	OpenedAt    time.Time
	CloseAt     time.Time
	FinishedAt  *time.Time
	NextTryAt   *time.Time // only when closed
	Subject     string     // empty until the mail is written
	Tasks       int        // that the mail told, or until then that moved
	Problem     string
	MergedInto  *int64
}

// Filter narrows List; empty fields don't.
type Filter struct {
	RecipientID, AccountID, State string
	Cursor                        string // next of the page before
	Limit                         int    // 1 to 1000; 0 means 100
}

// InvalidFilterError says which part of a Filter can't be used.
type InvalidFilterError struct{ Field, Remedy string }

func (e *InvalidFilterError) Error() string { return e.Field + " " + e.Remedy }

const (
	defaultPage = 100
	maxPage     = 1000
)

const listNotices = `
SELECT n.notice_id, n.tenant_id, n.recipient_id, n.account_id, n.state, n.opened_at, n.close_at, n.finished_at,
       CASE WHEN n.state = 'closed' THEN n.next_try_at END, coalesce(n.subject, ''), coalesce(n.problem, ''), n.merged_into,
       coalesce(n.tasks_told, (SELECT count(DISTINCT t.task_id) FROM notice_moves m, unnest(m.task_ids) AS t (task_id) WHERE m.notice_id = n.notice_id))::int
FROM notices n
WHERE n.tenant_id = @tenant
  AND (@recipient = '' OR n.recipient_id = @recipient)
  AND (@account = '' OR n.account_id = @account)
  AND (@state = '' OR n.state = @state)
  AND (@before = 0 OR n.notice_id < @before)
ORDER BY n.notice_id DESC
LIMIT @limit`

// List is a tenant's notices, the latest first, and the cursor of the next page, empty on the last. The error is an
// *InvalidFilterError when the filter is to blame.
func (n *Notifier) List(ctx context.Context, tenant string, f Filter) (page []Notice, next string, err error) {
	before, limit := int64(0), f.Limit
	if f.Cursor != "" {
		if before, err = strconv.ParseInt(f.Cursor, 10, 64); err != nil || before < 1 {
			return nil, "", &InvalidFilterError{"cursor", "is not one that a page ended with"}
		}
	}
	if limit == 0 {
		limit = defaultPage
	}
	if limit < 1 || limit > maxPage {
		return nil, "", &InvalidFilterError{"limit", "must be 1 to 1000"}
	}
	rows, err := n.pool.Query(ctx, listNotices, pgx.NamedArgs{
		"tenant": tenant, "recipient": f.RecipientID, "account": f.AccountID, "state": f.State, "before": before, "limit": limit + 1,
	})
	if err != nil {
		return nil, "", fmt.Errorf("list notices: %w", err)
	}
	page, err = pgx.CollectRows(rows, scanNotice)
	if err != nil {
		return nil, "", fmt.Errorf("list notices: %w", err)
	}
	if len(page) > limit {
		page = page[:limit]
		next = strconv.FormatInt(page[limit-1].ID, 10)
	}
	return page, next, nil
}

func scanNotice(row pgx.CollectableRow) (v Notice, err error) {
	err = row.Scan(&v.ID, &v.TenantID, &v.RecipientID, &v.AccountID, &v.State, &v.OpenedAt, &v.CloseAt, &v.FinishedAt,
		&v.NextTryAt, &v.Subject, &v.Problem, &v.MergedInto, &v.Tasks)
	return v, err
}

// Counts is how things stand, over all tenants.
type Counts struct {
	Open      int       // windows still gathering
	Due       int       // closed, or past their close, and not finished
	Ambiguous int       // waiting for a person
	OldestDue time.Time // when the oldest of the due was to close; zero without any
}

const countNotices = `
SELECT (SELECT count(*) FROM notices WHERE state = 'open' AND close_at > clock_timestamp()),
       count(*),
       (SELECT count(*) FROM notices WHERE state = 'ambiguous'),
       min(close_at)
FROM (SELECT close_at FROM notices WHERE state = 'open' AND close_at <= clock_timestamp()
      UNION ALL SELECT close_at FROM notices WHERE state = 'closed'
      UNION ALL SELECT close_at FROM notices WHERE state = 'sending') due`

// Counts reads how things stand; it costs an index scan of the unfinished windows.
func (n *Notifier) Counts(ctx context.Context) (Counts, error) {
	var c Counts
	var oldest *time.Time
	if err := n.pool.QueryRow(ctx, countNotices).Scan(&c.Open, &c.Due, &c.Ambiguous, &oldest); err != nil {
		return Counts{}, fmt.Errorf("count notices: %w", err)
	}
	if oldest != nil {
		c.OldestDue = *oldest
	}
	return c, nil
}
