package event

import (
	"encoding/json"
	"time"
)

// Limits of one TaskReassigned: more tasks than fit go into further events.
const (
	MaxTasksPerEvent = 256
	MaxEventBytes    = 256 << 10
)

// ByAssigned is the reason of a move that no role change caused: somebody assigned the task on purpose.
const ByAssigned = "assigned"

// TaskReassigned announces that tasks of one account went from one assignee to another. A subscriber that keeps the
// highest revision of each task ends with the truth, whatever order the events arrive in.
type TaskReassigned struct {
	ID, Source, Traceparent string
	Time                    time.Time // when the tasks were moved

	TenantID  string
	AccountID string
	FromID    string // empty: the tasks had no assignee
	ToID      string // empty: they have none now
	Reason    string // of the role change behind it, or "assigned"
	// InitiatedBy is the user who made the change.
	InitiatedBy string
	// RoleChange is the change behind the move; nil with the reason "assigned".
	RoleChange *RoleChangeRef
	Policy     string // that judged the change; empty with the reason "assigned"
	// Correction is true when a late change revised an earlier move.
	Correction bool
	Tasks      []ReassignedTask
}

// RoleChangeRef names a role change and says what it was.
type RoleChangeRef struct {
	Source      string    `json:"source"`
	ID          string    `json:"id"`
	Role        string    `json:"role,omitempty"`
	OccurredAt  time.Time `json:"occurred_at"`
	OperationID string    `json:"operation_id,omitempty"`
}

// ReassignedTask is one moved task, as it was when it moved.
type ReassignedTask struct {
	ID       string     `json:"id"`
	Revision int64      `json:"revision"` // counts the task's moves
	Title    string     `json:"title"`
	DueAt    *time.Time `json:"due_at,omitempty"`
	Priority string     `json:"priority,omitempty"`
	Source   string     `json:"source"`
	URL      string     `json:"url,omitempty"`
}

type taskReassignedData struct {
	TenantID    string           `json:"tenant_id"`
	AccountID   string           `json:"account_id"`
	FromID      *string          `json:"from_id"`
	ToID        *string          `json:"to_id"`
	Reason      string           `json:"reason"`
	InitiatedBy string           `json:"initiated_by"`
	RoleChange  *RoleChangeRef   `json:"role_change,omitempty"`
	Policy      string           `json:"policy,omitempty"`
	Correction  bool             `json:"correction"`
	Tasks       []ReassignedTask `json:"tasks"`
}

func (r TaskReassigned) data(tasks []ReassignedTask) taskReassignedData {
	return taskReassignedData{
		TenantID: r.TenantID, AccountID: r.AccountID, FromID: present(r.FromID), ToID: present(r.ToID), Reason: r.Reason,
		InitiatedBy: r.InitiatedBy, RoleChange: r.RoleChange, Policy: r.Policy, Correction: r.Correction, Tasks: tasks,
	}
}

// Messages is the announcement as it is published: as many structured-mode messages as the limits ask for, each with an
// id from newID.
func (r TaskReassigned) Messages(newID func() string) ([]Message, error) {
	var out []Message
	// Room for the envelope and everything but the tasks: ids of 128 characters of up to 12 escaped bytes each.
	const envelopeRoom = 24 << 10
	for rest := r.Tasks; len(rest) > 0; {
		n, size := 0, envelopeRoom
		for n < len(rest) && n < MaxTasksPerEvent {
			b, err := json.Marshal(rest[n])
			if err != nil {
				return nil, err
			}
			if size += len(b) + 1; size > MaxEventBytes && n > 0 {
				break
			}
			n++
		}
		m, err := envelope{
			ID: newID(), Source: r.Source, Type: TypeTaskReassigned, Time: r.Time, Subject: r.AccountID,
			Traceparent: r.Traceparent, tenant: r.TenantID,
		}.message(SubjectTaskReassigned(r.TenantID), r.data(rest[:n]))
		if err != nil {
			return nil, err
		}
		out, rest = append(out, m), rest[n:]
	}
	return out, nil
}

// DecodeTaskReassigned reads and validates one message. The error is an *Invalid.
func DecodeTaskReassigned(m Message) (TaskReassigned, error) {
	e, err := decodeEnvelope(m, TypeTaskReassigned)
	if err != nil {
		return TaskReassigned{}, err
	}
	var d taskReassignedData
	if err := decodeData(e.Data, &d); err != nil {
		return TaskReassigned{}, err
	}
	r := TaskReassigned{
		ID: e.ID, Source: e.Source, Traceparent: e.Traceparent, Time: Micro(e.Time),
		TenantID: d.TenantID, AccountID: d.AccountID, FromID: value(d.FromID), ToID: value(d.ToID), Reason: d.Reason,
		InitiatedBy: d.InitiatedBy, RoleChange: d.RoleChange, Policy: d.Policy, Correction: d.Correction, Tasks: d.Tasks,
	}
	switch {
	case !ValidTenantID(r.TenantID):
		return TaskReassigned{}, invalid("data.tenant_id", "must match [a-z0-9][a-z0-9-]{0,62}")
	case CheckID(r.AccountID) != "":
		return TaskReassigned{}, invalid("data.account_id", "%s", CheckID(r.AccountID))
	case len(r.Tasks) == 0 || len(r.Tasks) > MaxTasksPerEvent:
		return TaskReassigned{}, invalid("data.tasks", "must be 1 to %d tasks", MaxTasksPerEvent)
	case r.Time.IsZero():
		return TaskReassigned{}, invalid("time", "is required: when the tasks moved, RFC 3339")
	case m.Subject != "" && TenantOf(m.Subject) != r.TenantID:
		return TaskReassigned{}, &Invalid{Reason: ReasonTenantMismatch, Field: "data.tenant_id",
			Remedy: "is not the tenant of the subject " + m.Subject + ", which wins"}
	}
	for _, t := range r.Tasks {
		if CheckID(t.ID) != "" || t.Revision < 1 {
			return TaskReassigned{}, invalid("data.tasks", "each needs an id and a revision of 1 or more")
		}
	}
	return r, nil
}
