package operation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Departure is the off-boarding of a user.
type Departure struct {
	// Kind is event.ByUserDisabled, ByUserDeleted or ByResourcesReassigned; with the last the person stays.
	Kind        string  `json:"kind"`
	SuccessorID *string `json:"successor_id,omitempty"`
	// Tasks hands on every open task of theirs; otherwise only those go that the policy moves with their roles.
	Tasks bool `json:"tasks"`
}

// Depart lets a user go, and hands what they hold to their successor (way 4). The user is marked at once; the expander
// issues the changes, all at the time of acceptance, which lies past everything the person's accounts have seen.
//
// Who is gone already, with a successor or without, can be let go again as long as they hold something: what was left with
// them the first time goes to the successor named now, and so does whatever comes late from then on. It fails with
// [roster.ErrNotFound] for an unknown user, with [*Conflict] while they hold something and no successor is named, or when
// they have a successor and nothing is left to hand on, and with [*roster.Invalid] for a successor who can't take over.
func (o *Operations) Depart(ctx context.Context, tenant, by, user string, req Departure, dryRun bool) (Accepted, error) {
	switch {
	case req.Kind != event.ByUserDisabled && req.Kind != event.ByUserDeleted && req.Kind != event.ByResourcesReassigned:
		return Accepted{}, invalid("kind", "must be %s, %s or %s", event.ByUserDisabled, event.ByUserDeleted, event.ByResourcesReassigned)
	case req.SuccessorID != nil && *req.SuccessorID == user:
		return Accepted{}, invalid("successor_id", "is the person themselves; name somebody else")
	case req.SuccessorID == nil && req.Kind == event.ByResourcesReassigned:
		return Accepted{}, invalid("successor_id", "is required: who takes over")
	}
	if event.CheckID(user) != "" {
		return Accepted{}, fmt.Errorf("user: %w", roster.ErrNotFound)
	}
	r := newOrder(tenant, req.Kind, by, request{UserID: user, OwnerID: req.SuccessorID, Reason: req.Kind, Tasks: req.Tasks && req.SuccessorID != nil})
	return o.accept(ctx, r.Kind, dryRun, func(ctx context.Context, tx pgx.Tx) (Accepted, []journal.Entry, error) {
		accepted, err := r.depart(ctx, tx, dryRun)
		return accepted, nil, err
	})
}

func (r order) depart(ctx context.Context, tx pgx.Tx, dryRun bool) (Accepted, error) {
	who, err := r.lockPeople(ctx, tx)
	if err != nil {
		return Accepted{}, err
	}
	left, err := r.leaves(ctx, tx, who)
	if err != nil {
		return Accepted{}, err
	}
	successor := r.Request.OwnerID
	switch {
	case successor != nil && who.Successor != "" && left.Roles+left.OpenTasks == 0:
		return Accepted{}, &Conflict{Roles: left.Roles, OpenTasks: left.OpenTasks, SuccessorID: who.Successor,
			Remedy: fmt.Sprintf("%q has left and holds nothing any more; %q is their successor", r.Request.UserID, who.Successor)}
	case successor == nil && who.Successor == "" && left.Roles+left.OpenTasks > 0:
		return Accepted{}, &Conflict{Roles: left.Roles, OpenTasks: left.OpenTasks,
			Remedy: fmt.Sprintf("%q still holds roles (%d) and has open tasks (%d); name a successor", r.Request.UserID, left.Roles, left.OpenTasks)}
	case successor == nil && who.status(r.Kind) == who.Status:
		return Accepted{Unchanged: true}, nil
	}
	r.AcceptedAt = left.At
	if err := r.markLeft(ctx, tx, who); err != nil {
		return Accepted{}, err
	}
	accepted := Accepted{OperationID: r.ID}
	if dryRun {
		preview := Preview{Tasks: []TaskMove{}}
		if successor != nil {
			if preview, err = r.previewDeparture(ctx, tx); err != nil {
				return Accepted{}, err
			}
		}
		preview.LeftBehind = max(0, left.OpenTasks-preview.TaskCount)
		accepted.Preview = &preview
		return accepted, nil
	}
	if successor == nil {
		if err := r.record(ctx, tx, stateApplying, 0); err != nil {
			return Accepted{}, err
		}
		return accepted, finish(ctx, tx, []string{r.ID})
	}
	return accepted, r.record(ctx, tx, stateExpanding, 0)
}

// leaver is who leaves, as they are while the transaction holds them.
type leaver struct {
	Status    string
	LeftAt    *time.Time
	Successor string
}

// status is what a departure of the kind makes of theirs: nobody comes back by it, or becomes less deleted.
func (l leaver) status(kind string) string {
	switch {
	case kind == event.ByResourcesReassigned || l.Status == "deleted":
		return l.Status
	case kind == event.ByUserDeleted:
		return "deleted"
	}
	return "disabled"
}

// Whoever gives the person something holds them FOR SHARE: that has either been committed or sees that they have left.
const lockLeaver = `
SELECT status, left_at, coalesce(successor_id, '') FROM users WHERE tenant_id = $1 AND user_id = $2 FOR UPDATE`

// lockPeople locks who leaves and who takes over, in the order of their ids, so that two who leave to each other don't
// deadlock.
func (r order) lockPeople(ctx context.Context, tx pgx.Tx) (leaver, error) {
	var who leaver
	people := []string{r.Request.UserID}
	if r.Request.OwnerID != nil {
		people = append(people, *r.Request.OwnerID)
		slices.Sort(people)
	}
	var unfit error
	for _, id := range people {
		if id != r.Request.UserID {
			unfit = checkReceiver(ctx, tx, r.TenantID, "successor_id", r.Request.OwnerID)
			continue
		}
		err := tx.QueryRow(ctx, lockLeaver, r.TenantID, id).Scan(&who.Status, &who.LeftAt, &who.Successor)
		if err == pgx.ErrNoRows {
			return who, fmt.Errorf("user %s: %w", id, roster.ErrNotFound)
		}
		if err != nil {
			return who, fmt.Errorf("lock who leaves: %w", err)
		}
	}
	return who, unfit
}

type leaving struct {
	Roles, OpenTasks int64
	At               time.Time
}

// Held means the latest owner issued: a role that somebody was given a moment ago isn't the person's any more, even if
// that change has not come back yet.
const whatTheyLeave = `
WITH held AS (
  SELECT account_id FROM account_roles WHERE tenant_id = $1 AND latest_owner = $2
), busy AS (
  SELECT account_id, n FROM holdings WHERE tenant_id = $1 AND assignee_id = $2
)
SELECT (SELECT count(*) FROM held), (SELECT coalesce(sum(n), 0)::bigint FROM busy),
       greatest(clock_timestamp(), $3::timestamptz, (
         SELECT max(greatest(h.newest_at, h.issued_at, h.assigned_at)) + interval '1 microsecond' FROM account_heads h
         WHERE h.tenant_id = $1 AND h.account_id IN (SELECT account_id FROM held UNION SELECT account_id FROM busy)),
       (SELECT accepted_at + interval '1 microsecond' FROM operations WHERE tenant_id = $1 ORDER BY accepted_at DESC LIMIT 1),
       (SELECT max(occurred_at) + interval '1 microsecond' FROM role_changes
        WHERE tenant_id = $1 AND to_id = $2 AND occurred_at > clock_timestamp()))`

// leaves counts what the person holds, and finds a time past all that their accounts have seen, and past every assignment
// of a task there (one that came from an account that had seen more may lie ahead of all that); and past every operation,
// since one that isn't expanded yet may name the person as receiver, at a time a little ahead of the clock; and past every
// change, itself ahead of the clock, that is to give them what they don't have yet. The heads needn't be
// locked: what is given to the person meanwhile waits for our lock on them, and what is taken from them is taken either
// before or after the time we find.
func (r order) leaves(ctx context.Context, tx pgx.Tx, who leaver) (leaving, error) {
	var l leaving
	err := tx.QueryRow(ctx, whatTheyLeave, r.TenantID, r.Request.UserID, who.LeftAt).Scan(&l.Roles, &l.OpenTasks, &l.At)
	if err != nil {
		return l, fmt.Errorf("count what %s leaves: %w", r.Request.UserID, err)
	}
	return l, nil
}

const markLeft = `
UPDATE users SET status = $3, left_at = coalesce(left_at, $4), updated_at = clock_timestamp(),
  successor_id = coalesce($5, successor_id), departure_id = CASE WHEN $5::text IS NULL THEN departure_id ELSE $6 END,
  departure_tasks = CASE WHEN $5::text IS NULL THEN departure_tasks ELSE $7 END
WHERE tenant_id = $1 AND user_id = $2`

// markLeft marks who leaves, unless they stay. Who had left before left then; only what is left is handed on now.
func (r order) markLeft(ctx context.Context, tx pgx.Tx, who leaver) error {
	if r.Kind == event.ByResourcesReassigned && who.LeftAt == nil {
		return nil
	}
	_, err := tx.Exec(ctx, markLeft, r.TenantID, r.Request.UserID, who.status(r.Kind), r.AcceptedAt, r.Request.OwnerID, r.ID, r.Request.Tasks)
	if err != nil {
		return fmt.Errorf("mark %s as gone: %w", r.Request.UserID, err)
	}
	return nil
}

const leftAccounts = `
SELECT account_id FROM (
  (SELECT DISTINCT account_id FROM account_roles
   WHERE tenant_id = $1 AND latest_owner = $2 AND latest_at <= $3 AND account_id > $5 ORDER BY account_id LIMIT $6)
  UNION
  (SELECT DISTINCT account_id FROM holdings
   WHERE $4 AND tenant_id = $1 AND assignee_id = $2 AND account_id > $5 ORDER BY account_id LIMIT $6)
) a ORDER BY account_id LIMIT $6`

// leftAccounts are the next accounts where the person leaves something, in order.
func (r order) leftAccounts(ctx context.Context, tx pgx.Tx, from place, limit int) ([]string, error) {
	rows, err := tx.Query(ctx, leftAccounts, r.TenantID, r.Request.UserID, r.AcceptedAt, r.Request.Tasks, from.Last, limit)
	if err != nil {
		return nil, fmt.Errorf("accounts of %s: %w", r.Request.UserID, err)
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

const leftThings = `
SELECT account_id, role FROM account_roles
WHERE tenant_id = $1 AND account_id = ANY($5) AND latest_owner = $2 AND latest_at <= $3
UNION ALL
SELECT DISTINCT account_id, '' FROM holdings
WHERE $4 AND tenant_id = $1 AND assignee_id = $2 AND account_id = ANY($5)
ORDER BY 1, 2`

// handovers are the changes to a chunk of accounts, whose heads are locked: each role of the person, and their tasks.
func (r order) handovers(ctx context.Context, tx pgx.Tx, accounts []string) ([]change, error) {
	rows, err := tx.Query(ctx, leftThings, r.TenantID, r.Request.UserID, r.AcceptedAt, r.Request.Tasks, accounts)
	if err != nil {
		return nil, fmt.Errorf("what %s leaves: %w", r.Request.UserID, err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[change])
}
