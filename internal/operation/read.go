package operation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Operation is what was asked for and how far it is.
type Operation struct {
	ID          string     `json:"id"`
	Kind        string     `json:"kind"`
	State       string     `json:"state"`
	InitiatedBy string     `json:"initiated_by"`
	AcceptedAt  time.Time  `json:"accepted_at"`
	FinishedAt  *time.Time `json:"finished_at"`
	Accounts    int64      `json:"accounts"`  // expanded so far; of a policy set right, those where role changes were judged anew
	Unchanged   int64      `json:"unchanged"` // of these, as asked already
	Changes     int64      `json:"changes"`   // role changes issued; of a policy set right, judged anew
	Applied     int64      `json:"applied"`   // of these, recorded
	Refused     int64      `json:"refused"`   // of these, dead letters
	TasksMoved  int64      `json:"tasks_moved"`
	TasksKept   int64      `json:"tasks_kept"` // by a policy set right that takes nothing back
	Problem     *string    `json:"problem"`
}

// Notification is what a person is told in the product.
type Notification struct {
	ID          int64           `json:"id"`
	OperationID *string         `json:"operation_id"`
	Kind        string          `json:"kind"`
	Title       string          `json:"title"`
	Data        json.RawMessage `json:"data"`
	CreatedAt   time.Time       `json:"created_at"`
	ReadAt      *time.Time      `json:"read_at"`
}

const getOperation = `
SELECT operation_id, kind, state, initiated_by, accepted_at, finished_at, accounts, unchanged, changes, applied, refused, tasks_moved, tasks_kept, problem
FROM operations WHERE tenant_id = $1 AND operation_id = $2`

// Get returns an operation of the tenant, or [roster.ErrNotFound].
func (o *Operations) Get(ctx context.Context, tenant, id string) (Operation, error) {
	if event.CheckID(id) != "" {
		return Operation{}, roster.ErrNotFound
	}
	rows, err := o.pool.Query(ctx, getOperation, tenant, id)
	if err != nil {
		return Operation{}, fmt.Errorf("operation %s: %w", id, err)
	}
	found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[Operation])
	if errors.Is(err, pgx.ErrNoRows) {
		err = roster.ErrNotFound
	}
	if err != nil {
		return Operation{}, fmt.Errorf("operation %s: %w", id, err)
	}
	return found.utc(), nil
}

const listOperations = `
SELECT operation_id, kind, state, initiated_by, accepted_at, finished_at, accounts, unchanged, changes, applied, refused, tasks_moved, tasks_kept, problem
FROM operations
WHERE tenant_id = $1 AND accepted_at <= coalesce($2::timestamptz, 'infinity') AND (accepted_at < coalesce($2::timestamptz, 'infinity') OR operation_id > $3)
ORDER BY accepted_at DESC, operation_id LIMIT $4`

// List returns the tenant's operations, the newest first, and the cursor of the next page: empty on the last. A cursor
// that isn't one of ours is an [*roster.Invalid]. A limit that isn't between 1 and 1,000 is brought there.
func (o *Operations) List(ctx context.Context, tenant, cursor string, limit int) ([]Operation, string, error) {
	var before *time.Time
	var after string
	if cursor != "" {
		at, id, err := openCursor(cursor)
		if err != nil {
			return nil, "", err
		}
		before, after = &at, id
	}
	limit = within(limit)
	rows, err := o.pool.Query(ctx, listOperations, tenant, before, after, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list operations: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Operation])
	if err != nil {
		return nil, "", fmt.Errorf("list operations: %w", err)
	}
	for i := range list {
		list[i] = list[i].utc()
	}
	if len(list) <= limit {
		return list, "", nil
	}
	last := list[limit-1]
	return list[:limit], cursorAt(last.AcceptedAt, last.ID), nil
}

func cursorAt(at time.Time, id string) string { return fmt.Sprintf("%d.%s", at.UnixMicro(), id) }

// openCursor reads what cursorAt wrote, and nothing else.
func openCursor(cursor string) (time.Time, string, error) {
	micros, id, _ := strings.Cut(cursor, ".")
	n, err := strconv.ParseInt(micros, 10, 64)
	at := time.UnixMicro(n)
	// The database has no room for every time there is.
	if err != nil || event.CheckID(id) != "" || at.Year() < 1 || at.Year() > 9999 || cursorAt(at, id) != cursor {
		return at, id, errCursor
	}
	return at, id, nil
}

const listNotifications = `
SELECT notification_id, operation_id, kind, title, data, created_at, read_at FROM notifications
WHERE tenant_id = $1 AND user_id = $2 AND notification_id < $3 AND (NOT $4 OR read_at IS NULL)
ORDER BY notification_id DESC LIMIT $5`

// Notifications returns what a user has been told, the newest first; with unread only what they haven't read. Cursor and
// limit are as for [Operations.List].
func (o *Operations) Notifications(ctx context.Context, tenant, user, cursor string, limit int, unread bool) ([]Notification, string, error) {
	before := int64(math.MaxInt64)
	if cursor != "" {
		var err error
		if before, err = strconv.ParseInt(cursor, 10, 64); err != nil || before < 1 {
			return nil, "", errCursor
		}
	}
	limit = within(limit)
	rows, err := o.pool.Query(ctx, listNotifications, tenant, user, before, unread, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("list notifications: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Notification])
	if err != nil {
		return nil, "", fmt.Errorf("list notifications: %w", err)
	}
	for i := range list {
		list[i].CreatedAt, list[i].ReadAt = list[i].CreatedAt.UTC(), inUTC(list[i].ReadAt)
	}
	if len(list) <= limit {
		return list, "", nil
	}
	return list[:limit], strconv.FormatInt(list[limit-1].ID, 10), nil
}

const markRead = `
WITH marked AS (
  UPDATE notifications SET read_at = clock_timestamp()
  WHERE tenant_id = $1 AND user_id = $2 AND read_at IS NULL AND (cardinality($3::bigint[]) = 0 OR notification_id = ANY($3))
  RETURNING notification_id)
SELECT (SELECT count(*) FROM marked),
       cardinality($3) = 0 OR EXISTS (SELECT FROM notifications WHERE tenant_id = $1 AND user_id = $2 AND notification_id = ANY($3))`

// MarkRead marks notifications of the user as read, all of them when no ids are given, and returns how many weren't.
// What isn't theirs is passed over; when none of the ids is theirs, it fails with [roster.ErrNotFound].
func (o *Operations) MarkRead(ctx context.Context, tenant, user string, ids ...int64) (int64, error) {
	if ids == nil {
		ids = []int64{}
	}
	var marked int64
	var theirs bool
	err := o.pool.QueryRow(ctx, markRead, tenant, user, ids).Scan(&marked, &theirs)
	if err == nil && !theirs {
		err = roster.ErrNotFound
	}
	if err != nil {
		return 0, fmt.Errorf("mark notifications as read: %w", err)
	}
	return marked, nil
}

var errCursor = invalid("cursor", "is not one that a page ended with; leave it out to start again")

// within brings a page size into the range of the API.
func within(limit int) int { return min(max(limit, 1), 1000) }

func (op Operation) utc() Operation {
	op.AcceptedAt, op.FinishedAt = op.AcceptedAt.UTC(), inUTC(op.FinishedAt)
	return op
}

func inUTC(t *time.Time) *time.Time {
	if t == nil {
		return nil
	}
	u := t.UTC()
	return &u
}
