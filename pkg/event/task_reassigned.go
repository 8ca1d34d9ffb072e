package event

import (
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Limits of an event. More tasks than fit into one TaskReassigned go into further ones.
const (
	MaxTasksPerEvent = 256
	MaxEventBytes    = 256 << 10
)

// ByAssigned is the reason of a move that no role change caused: somebody assigned the task on purpose.
const ByAssigned = "assigned"

var reassignedReasons = append(slices.Clone(RoleChangeReasons), ByAssigned)

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
	// Silent is true when nobody is to be mailed about it: history that was made up for long after.
	Silent bool
	Tasks  []ReassignedTask
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

// Messages is the announcement as it is published: as many structured-mode messages as the limits ask for, each with an
// id from newID; none when there are no tasks.
//
// It doesn't validate: the values are those of our own tables, checked when they came in, and an announcement must never
// stop a move. For the same reason a title or url beyond its limit is cut or left out, and so is a due date that RFC 3339
// can't write.
func (r TaskReassigned) Messages(newID func() string) []Message {
	var out []Message
	for rest := r.Tasks; len(rest) > 0; {
		m := envelope{
			ID: newID(), Source: r.Source, Type: TypeTaskReassigned, Time: r.Time, Subject: r.AccountID,
			Traceparent: r.Traceparent, tenant: r.TenantID,
		}.message(SubjectTaskReassigned(r.TenantID), func(w *objectWriter) {
			r.writeData(w)
			rest = rest[w.fill(rest):]
		})
		out = append(out, m)
	}
	return out
}

func (r TaskReassigned) writeData(w *objectWriter) {
	w.text("tenant_id", r.TenantID)
	w.text("account_id", r.AccountID)
	w.orNull("from_id", r.FromID)
	w.orNull("to_id", r.ToID)
	w.text("reason", r.Reason)
	w.text("initiated_by", r.InitiatedBy)
	if c := r.RoleChange; c != nil {
		w.member("role_change")
		w.begin()
		w.text("source", c.Source)
		w.text("id", c.ID)
		w.optional("role", c.Role)
		w.time("occurred_at", c.OccurredAt)
		w.optional("operation_id", c.OperationID)
		w.end()
	}
	w.optional("policy", r.Policy)
	w.boolean("correction", r.Correction)
	if r.Silent {
		w.boolean("silent", true)
	}
}

// fill writes the member "tasks", the last one, with as many as fit and at least one, and returns how many that were.
func (w *objectWriter) fill(tasks []ReassignedTask) int {
	const end = "]}}"
	w.member("tasks")
	w.b = append(w.b, '[')
	n := 0
	for ; n < len(tasks) && n < MaxTasksPerEvent; n++ {
		before := len(w.b)
		if n > 0 {
			w.b = append(w.b, ',')
		}
		tasks[n].write(w)
		if n > 0 && len(w.b)+len(end) > MaxEventBytes {
			w.b = w.b[:before]
			break
		}
	}
	w.b = append(w.b, ']')
	return n
}

func (t ReassignedTask) write(w *objectWriter) {
	w.begin()
	w.text("id", t.ID)
	w.whole("revision", t.Revision)
	// In bytes first: counting characters is only worth it where there may be too many.
	if len(t.Title) > MaxTitleLength && utf8.RuneCountInString(t.Title) > MaxTitleLength {
		t.Title = string([]rune(t.Title)[:MaxTitleLength])
	}
	w.text("title", t.Title)
	if t.DueAt != nil {
		if due := Micro(*t.DueAt); due.Year() >= 0 && due.Year() <= 9999 {
			w.time("due_at", due)
		}
	}
	w.optional("priority", t.Priority)
	w.text("source", t.Source)
	if len(t.URL) <= MaxURLLength || utf8.RuneCountInString(t.URL) <= MaxURLLength {
		w.optional("url", t.URL)
	}
	w.end()
}

// DecodeTaskReassigned reads and validates one message. When the message has a subject, its tenant must be the one in the
// data. The error is an *Invalid.
func DecodeTaskReassigned(m Message) (TaskReassigned, error) {
	e, data, err := decode(m, TypeTaskReassigned)
	if err != nil {
		return TaskReassigned{}, err
	}
	r := TaskReassigned{
		ID: e.ID, Source: e.Source, Traceparent: e.Traceparent, Time: e.Time,
		TenantID: data.required("tenant_id"), AccountID: data.required("account_id"),
		FromID: data.orNull("from_id", "that nobody had the tasks"), ToID: data.orNull("to_id", "that nobody has them now"),
		Reason: data.required("reason"), InitiatedBy: data.required("initiated_by"), RoleChange: decodeRoleChangeRef(data.inside("role_change")),
		Policy: data.optional("policy"), Correction: data.boolean("correction"),
		Silent: data.flag("silent"),
	}
	for _, t := range data.list("tasks") {
		r.Tasks = append(r.Tasks, decodeTask(t))
	}
	if err := data.wrong.err(); err != nil {
		return TaskReassigned{}, err
	}
	if err := r.validate(); err != nil {
		return TaskReassigned{}, err
	}
	if err := checkTenant(m, r.TenantID); err != nil {
		return TaskReassigned{}, err
	}
	return r, nil
}

func decodeRoleChangeRef(o *object) *RoleChangeRef {
	if o == nil {
		return nil
	}
	return &RoleChangeRef{
		Source: o.required("source"), ID: o.required("id"), Role: o.optional("role"), OccurredAt: o.time("occurred_at"),
		OperationID: o.optional("operation_id"),
	}
}

func decodeTask(o *object) ReassignedTask {
	t := ReassignedTask{
		ID: o.required("id"), Revision: o.whole("revision"), Title: o.required("title"), Priority: o.optional("priority"),
		Source: o.required("source"), URL: o.optional("url"),
	}
	if due := o.time("due_at"); !due.IsZero() {
		t.DueAt = &due
	}
	return t
}

func (r TaskReassigned) validate() error {
	c := checks{reason: ReasonInvalid}
	c.time("time", r.Time)
	c.tenant(r.TenantID)
	c.id("data.account_id", r.AccountID)
	c.idOrNone("data.from_id", r.FromID)
	c.idOrNone("data.to_id", r.ToID)
	c.id("data.initiated_by", r.InitiatedBy)
	c.oneOf("data.reason", r.Reason, reassignedReasons)
	switch {
	case r.Reason == ByAssigned && r.RoleChange != nil:
		c.fail("data.role_change", "must be absent with the reason %q", ByAssigned)
	case r.Reason == ByAssigned && r.Policy != "":
		c.fail("data.policy", "must be absent with the reason %q", ByAssigned)
	case r.Reason != ByAssigned && r.RoleChange == nil:
		c.fail("data.role_change", "is required with the reason %q", r.Reason)
	case r.Reason != ByAssigned:
		c.oneOf("data.policy", r.Policy, Policies)
		c.attribute("data.role_change.source", r.RoleChange.Source)
		c.attribute("data.role_change.id", r.RoleChange.ID)
		c.time("data.role_change.occurred_at", r.RoleChange.OccurredAt)
		c.idOrNone("data.role_change.role", r.RoleChange.Role)
		c.idOrNone("data.role_change.operation_id", r.RoleChange.OperationID)
	}
	if len(r.Tasks) == 0 || len(r.Tasks) > MaxTasksPerEvent {
		c.fail("data.tasks", "must be 1 to %d tasks", MaxTasksPerEvent)
	}
	for i, t := range r.Tasks {
		c.task("data.tasks["+strconv.Itoa(i)+"].", t)
	}
	return c.err()
}

func (c *checks) task(path string, t ReassignedTask) {
	if c.wrong != nil {
		return
	}
	c.id(path+"id", t.ID)
	if t.Revision < 1 || t.Revision > maxRevision {
		c.fail(path+"revision", "must be 1 to %d", int64(maxRevision))
	}
	c.text(path+"title", t.Title, MaxTitleLength)
	c.id(path+"source", t.Source)
	c.text(path+"priority", t.Priority, MaxIDLength)
	c.text(path+"url", t.URL, MaxURLLength)
}
