package operation

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

const endThose = `
UPDATE operations SET state = 'done', finished_at = clock_timestamp()
WHERE operation_id = ANY($1) AND state = 'applying' AND applied + refused >= changes
RETURNING operation_id`

// finish ends those of the operations that are at their end, and tells who asked. Expansion and application both call it
// after they have counted, holding the operation's row: whoever comes last finds it complete.
func finish(ctx context.Context, tx pgx.Tx, ids []string) error {
	rows, err := tx.Query(ctx, endThose, ids)
	if err != nil {
		return fmt.Errorf("end operations: %w", err)
	}
	ended, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("end operations: %w", err)
	}
	return tell(ctx, tx, "operation_done", ended)
}

const (
	results = `
SELECT o.operation_id, o.tenant_id, o.kind, o.initiated_by, o.accounts, o.unchanged, o.changes, o.applied, o.refused, o.tasks_moved, coalesce(o.problem, ''),
       coalesce(o.request ->> 'role', ''), coalesce(o.request ->> 'account_id', ''), coalesce(a.name, ''),
       coalesce(o.request ->> 'user_id', ''), coalesce(p.name, ''), coalesce(o.request ->> 'owner_id', ''), coalesce(w.name, ''),
       coalesce((SELECT sum(n) FROM holdings h WHERE h.tenant_id = o.tenant_id AND h.assignee_id = o.request ->> 'user_id'), 0)::bigint,
       coalesce(o.request ->> 'policy', ''), (o.request ->> 'effective_from')::timestamptz, coalesce((o.request ->> 'take_back')::boolean, false), o.tasks_kept
FROM operations o
LEFT JOIN accounts a ON a.tenant_id = o.tenant_id AND a.account_id = o.request ->> 'account_id'
LEFT JOIN users p ON p.tenant_id = o.tenant_id AND p.user_id = o.request ->> 'user_id'
LEFT JOIN users w ON w.tenant_id = o.tenant_id AND w.user_id = o.request ->> 'owner_id'
WHERE o.operation_id = ANY($1)`
	notify = `
INSERT INTO notifications (tenant_id, user_id, operation_id, kind, title, data) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (operation_id, kind) WHERE operation_id IS NOT NULL DO NOTHING`
)

// result is how an operation ended: the data of its notification.
type result struct {
	OperationID string `json:"-"`
	TenantID    string `json:"-"`
	Kind        string `json:"kind"`
	InitiatedBy string `json:"-"`
	Accounts    int64  `json:"accounts"`
	Unchanged   int64  `json:"unchanged"`
	Changes     int64  `json:"changes"`
	Applied     int64  `json:"applied"`
	Refused     int64  `json:"refused"`
	TasksMoved  int64  `json:"tasks_moved"`
	Problem     string `json:"problem,omitempty"`
	Role        string `json:"role,omitempty"`
	AccountID   string `json:"account_id,omitempty"`
	AccountName string `json:"account_name,omitempty"`
	UserID      string `json:"user_id,omitempty"`
	UserName    string `json:"user_name,omitempty"`
	OwnerID     string `json:"owner_id,omitempty"`
	OwnerName   string `json:"owner_name,omitempty"`
	// LeftBehind is how many open tasks whoever an off-boarding is about still has at its end.
	LeftBehind int64 `json:"left_behind,omitempty"`
	// Of a policy set right.
	Policy        string     `json:"policy,omitempty"`
	EffectiveFrom *time.Time `json:"effective_from,omitempty"`
	TakeBack      bool       `json:"take_back,omitempty"`
	TasksKept     int64      `json:"tasks_kept,omitempty"`
}

// tell leaves a notification for the initiators.
func tell(ctx context.Context, tx pgx.Tx, kind string, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, results, ids)
	if err != nil {
		return fmt.Errorf("results of operations: %w", err)
	}
	ended, err := pgx.CollectRows(rows, pgx.RowToStructByPos[result])
	if err != nil {
		return fmt.Errorf("results of operations: %w", err)
	}
	for _, r := range ended {
		data, err := json.Marshal(r)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, notify, r.TenantID, r.InitiatedBy, r.OperationID, kind, r.title(), data); err != nil {
			return fmt.Errorf("tell %s: %w", r.InitiatedBy, err)
		}
	}
	return nil
}

// title says in one line what came of it.
func (r result) title() string {
	account, user, owner := orID(r.AccountName, r.AccountID), orID(r.UserName, r.UserID), orID(r.OwnerName, r.OwnerID)
	tasks, changed := count(r.TasksMoved, "open task"), count(r.Accounts-r.Unchanged, "account")
	switch {
	case r.Kind == kindCorrection:
		return r.correctionTitle()
	case r.Problem != "":
		return "Stopped after " + count(r.Changes, "role change") + ": " + r.Problem
	case r.Kind == kindRoleChange && r.Refused > 0 && r.Applied == 0:
		return account + ": the new " + roleName(r.Role) + " was refused"
	case r.Kind == kindRoleChange && owner == "":
		return account + ": nobody is " + roleName(r.Role) + " now"
	case r.Kind == kindRoleChange && r.TasksMoved == 0:
		return account + ": " + owner + " is " + roleName(r.Role) + " now, no open tasks moved"
	case r.Kind == kindRoleChange:
		return account + ": " + tasks + " moved to " + owner
	case r.Kind == kindBulkEdit && r.Changes == 0:
		return "Nothing to change: " + count(r.Accounts, "account") + " already as asked"
	case r.Kind == kindBulkEdit:
		return changed + " changed hands, " + tasks + " moved" + r.butRefused()
	case r.Changes == 0 && r.LeftBehind > 0:
		return user + " still has " + count(r.LeftBehind, "open task")
	case r.Changes == 0 && r.Kind == event.ByResourcesReassigned:
		return user + " had nothing to hand over"
	case r.Changes == 0:
		return user + " left nothing behind"
	}
	return user + "'s work went to " + owner + ": " + changed + ", " + tasks + " moved" + r.butRefused() + r.butLeft()
}

func (r result) butRefused() string {
	if r.Refused == 0 {
		return ""
	}
	return "; " + count(r.Refused, "change") + " refused"
}

func (r result) butLeft() string {
	switch r.LeftBehind {
	case 0:
		return ""
	case 1:
		return "; 1 open task stays with them"
	}
	return "; " + count(r.LeftBehind, "open task") + " stay with them"
}

// correctionTitle says what came of a policy set right.
func (r result) correctionTitle() string {
	since := "Policy set right since " + r.EffectiveFrom.UTC().Format("2 Jan 2006 15:04 UTC")
	judged := count(r.Changes, "role change") + " judged anew, " + count(r.TasksMoved, "open task") + " moved"
	switch {
	case r.Problem != "":
		return since + ": stopped after " + judged + ": " + r.Problem
	case r.Changes == 0:
		return since + ": no role change was judged otherwise"
	case r.TasksKept == 1:
		return since + ": " + judged + ", 1 open task stays where it is"
	case r.TasksKept > 0:
		return since + ": " + judged + ", " + count(r.TasksKept, "open task") + " stay where they are"
	}
	return since + ": " + judged
}

func roleName(role string) string { return strings.ReplaceAll(role, "_", " ") }

func orID(name, id string) string {
	if name == "" {
		return id
	}
	return name
}

// count writes a number with what it counts: "1 account", "1,204 accounts".
func count(n int64, what string) string {
	digits := strconv.FormatInt(n, 10)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if n != 1 {
		what += "s"
	}
	return digits + " " + what
}
