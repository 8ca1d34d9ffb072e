package notify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	netmail "net/mail"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// overdueAfter is how long after its close a window may be unfinished before a person should know.
const overdueAfter = 5 * time.Minute

// Search picks notices of any tenant; empty fields don't narrow it.
type Search struct {
	IDs          []int64   `json:"notice_ids,omitempty"`
	States       []string  `json:"states,omitempty"`
	Attention    bool      `json:"attention,omitempty"` // those that need a person: ambiguous, undeliverable, or overdue
	TenantID     string    `json:"tenant_id,omitempty"`
	RecipientID  string    `json:"recipient_id,omitempty"`
	Account      string    `json:"account_id,omitempty"`
	ClosedSince  time.Time `json:"closed_since,omitzero"` // when the window closes
	ClosedBefore time.Time `json:"closed_before,omitzero"`
	Limit        int       `json:"limit,omitempty"` // 0: all
}

const findNotices = `
SELECT n.notice_id, n.tenant_id, n.recipient_id, n.account_id, n.state, n.opened_at, n.close_at, n.finished_at,
       CASE WHEN n.state = 'closed' THEN n.next_try_at END, coalesce(n.subject, ''), coalesce(n.problem, ''), n.merged_into,
       coalesce(n.tasks_told, (SELECT count(DISTINCT t.task_id) FROM notice_moves m, unnest(m.task_ids) AS t (task_id) WHERE m.notice_id = n.notice_id))::int
FROM notices n
WHERE (@ids::bigint[] IS NULL OR n.notice_id = ANY(@ids))
  AND (@states::text[] IS NULL OR n.state = ANY(@states))
  AND (NOT @attention OR n.state IN ('ambiguous', 'undeliverable') OR n.state IN ('open', 'closed', 'sending') AND n.close_at < clock_timestamp() - @overdue::interval)
  AND (@tenant = '' OR n.tenant_id = @tenant)
  AND (@recipient = '' OR n.recipient_id = @recipient)
  AND (@account = '' OR n.account_id = @account)
  AND (@since::timestamptz IS NULL OR n.close_at >= @since)
  AND (@before::timestamptz IS NULL OR n.close_at < @before)
ORDER BY n.notice_id DESC
LIMIT CASE WHEN @limit > 0 THEN @limit END`

// Find returns the notices that s picks, the latest first.
func (n *Notifier) Find(ctx context.Context, s Search) ([]Notice, error) {
	rows, err := n.pool.Query(ctx, findNotices, pgx.NamedArgs{
		"ids": s.IDs, "states": s.States, "attention": s.Attention, "overdue": overdueAfter, "tenant": s.TenantID, "recipient": s.RecipientID,
		"account": s.Account, "since": orNull(s.ClosedSince), "before": orNull(s.ClosedBefore), "limit": s.Limit,
	})
	if err != nil {
		return nil, fmt.Errorf("find notices: %w", err)
	}
	found, err := pgx.CollectRows(rows, scanNotice)
	if err != nil {
		return nil, fmt.Errorf("find notices: %w", err)
	}
	return found, nil
}

// Attempt is one try to send a mail; without an outcome nobody knows how it ended, or it is under way.
type Attempt struct {
	StartedAt time.Time  `json:"started_at"`
	EndedAt   *time.Time `json:"ended_at"`
	Outcome   string     `json:"outcome"`
	Code      *int       `json:"code"`
	Response  string     `json:"response"`
}

// Told is one move that a window gathered.
type Told struct {
	Kind      string    `json:"kind"`
	AccountID string    `json:"account_id"`
	FromID    string    `json:"from_id"`
	MovedBy   string    `json:"moved_by"`
	Reason    string    `json:"reason"`
	MovedAt   time.Time `json:"moved_at"`
	Tasks     []string  `json:"tasks"`
}

// Detail is everything about one notice.
type Detail struct {
	Notice
	Tries, Resends int
	To             string // of the written mail
	Attempts       []Attempt
	Moves          []Told
	// The frozen mail: its header as written, and its text. Empty before it is written, and once its end is known.
	Header, Text string
}

// ErrNoNotice says that there is no such notice.
var ErrNoNotice = errors.New("there is no such notice")

const (
	mailParts  = `SELECT coalesce(to_address, ''), mime, tries, resends FROM notices WHERE notice_id = $1`
	attemptsOf = `SELECT started_at, ended_at, coalesce(outcome, ''), code, coalesce(response, '') FROM notice_attempts WHERE notice_id = $1 ORDER BY fence`
	toldBy     = `
SELECT kind, account_id, coalesce(from_id, ''), moved_by, reason, moved_at, task_ids FROM notice_moves
WHERE notice_id = $1 OR notice_id IN (SELECT notice_id FROM notices WHERE merged_into = $1) ORDER BY moved_at`
)

// Show is one notice with its attempts, its moves and its mail, or [ErrNoNotice].
func (n *Notifier) Show(ctx context.Context, id int64) (Detail, error) {
	found, err := n.Find(ctx, Search{IDs: []int64{id}})
	if err == nil && len(found) == 0 {
		err = ErrNoNotice
	}
	if err != nil {
		return Detail{}, err
	}
	d := Detail{Notice: found[0]}
	var raw []byte
	if err := n.pool.QueryRow(ctx, mailParts, id).Scan(&d.To, &raw, &d.Tries, &d.Resends); err != nil {
		return Detail{}, fmt.Errorf("notice %d: %w", id, err)
	}
	if d.Attempts, err = list[Attempt](ctx, n, attemptsOf, id); err != nil {
		return Detail{}, fmt.Errorf("attempts of notice %d: %w", id, err)
	}
	if d.Moves, err = list[Told](ctx, n, toldBy, id); err != nil {
		return Detail{}, fmt.Errorf("moves of notice %d: %w", id, err)
	}
	if len(raw) > 0 {
		d.Header, d.Text = read(string(raw))
	}
	return d, nil
}

func list[T any](ctx context.Context, n *Notifier, sql string, args ...any) ([]T, error) {
	rows, err := n.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[T])
	if out == nil {
		out = []T{}
	}
	return out, err
}

// read is the header and the text of a mail of ours.
func read(raw string) (header, text string) {
	header, _, _ = strings.Cut(raw, "\r\n\r\n")
	header = strings.ReplaceAll(header, "\r\n", "\n")
	m, err := netmail.ReadMessage(strings.NewReader(raw))
	if err != nil {
		return header, ""
	}
	_, parameters, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil {
		return header, ""
	}
	part, err := multipart.NewReader(m.Body, parameters["boundary"]).NextRawPart()
	if err != nil {
		return header, ""
	}
	body, _ := io.ReadAll(quotedprintable.NewReader(part))
	return header, strings.ReplaceAll(string(body), "\r\n", "\n")
}
