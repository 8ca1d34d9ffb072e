package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"time"
	"unicode/utf8"
)

// Reasons for which a role changes, as they stand in AccountRoleChanged.data.reason.
const (
	ByAPI                 = "api"
	ByProfile             = "profile"
	BySegment             = "segment"
	ByUserDisabled        = "user_disabled"
	ByUserDeleted         = "user_deleted"
	ByResourcesReassigned = "resources_reassigned"
)

// RoleChangeReasons lists them in the order of the schema.
var RoleChangeReasons = []string{ByAPI, ByProfile, BySegment, ByUserDisabled, ByUserDeleted, ByResourcesReassigned}

// rolelessReasons are about a person, and need no role.
var rolelessReasons = []string{ByUserDisabled, ByUserDeleted, ByResourcesReassigned}

// Policies lists the values of a policy in the order of the schema.
var Policies = []string{"keep_tasks", "move_automated_tasks", "move_all_tasks"}

// AccountRoleChanged says that one role of one account went from one owner to another.
type AccountRoleChanged struct {
	// The envelope. ID and Source together are unique in a tenant; Time is when the change occurred, Sequence orders the
	// changes of one source at one time (bytewise); Traceparent is the W3C trace context, if any.
	ID, Source, Sequence, Traceparent string
	Time                              time.Time

	TenantID  string
	AccountID string
	// Role is empty only with the reasons about a person: then no role changes hands, only the person's tasks do.
	Role string
	// PreviousOwnerID is empty when the publisher leaves it to us: then it is the last person who held the role before.
	PreviousOwnerID string
	// NewOwnerID is empty when nobody holds the role any more.
	NewOwnerID  string
	Reason      string
	InitiatedBy string
	OperationID string
	// Tasks is a policy value for this change alone, or empty.
	Tasks string
}

// Digest identifies the event: equal for equal tenant, source and id, whatever else differs.
func (c AccountRoleChanged) Digest() [16]byte { return digest(c.TenantID, c.Source, c.ID) }

// Content is equal for events that say the same; the trace context says nothing.
func (c AccountRoleChanged) Content() [16]byte {
	t := make([]byte, 8)
	binary.BigEndian.PutUint64(t, uint64(Micro(c.Time).UnixMicro()))
	return digest(string(t), c.Sequence, c.TenantID, c.AccountID, c.Role, c.PreviousOwnerID, c.NewOwnerID, c.Reason,
		c.InitiatedBy, c.OperationID, c.Tasks)
}

// digest hashes its parts so that no two lists of parts collide by where one ends and the next begins.
func digest(parts ...string) [16]byte {
	buf := make([]byte, 0, 256)
	for _, p := range parts {
		buf = binary.AppendUvarint(buf, uint64(len(p)))
		buf = append(buf, p...)
	}
	sum := sha256.Sum256(buf)
	return [16]byte(sum[:16])
}

// Validate checks everything that needs neither a clock nor a database. The error is an *Invalid.
func (c AccountRoleChanged) Validate() error {
	w := checks{reason: ReasonInvalid}
	w.that("id", checkEventID(c.ID))
	w.that("source", checkSource(c.Source))
	if len(c.Sequence) > maxAttribute || !utf8.ValidString(c.Sequence) {
		w.fail("sequence", "must be at most 512 bytes of UTF-8")
	}
	w.time("time", c.Time)
	w.tenant(c.TenantID)
	w.id("data.account_id", c.AccountID)
	w.idOrNone("data.role", c.Role)
	w.idOrNone("data.previous_owner_id", c.PreviousOwnerID)
	w.idOrNone("data.new_owner_id", c.NewOwnerID)
	w.oneOf("data.reason", c.Reason, RoleChangeReasons)
	w.id("data.initiated_by", c.InitiatedBy)
	w.idOrNone("data.operation_id", c.OperationID)
	if c.Tasks != "" {
		w.oneOf("data.tasks", c.Tasks, Policies)
	}
	if c.Role == "" {
		switch {
		case slices.Contains(rolelessReasons, c.Reason) && c.PreviousOwnerID == "":
			w.fail("data.previous_owner_id", "is required when there is no role: whose tasks move")
		case !slices.Contains(rolelessReasons, c.Reason):
			w.fail("data.role", "is required with the reason %q", c.Reason)
		}
	}
	return w.err()
}

// Message is the event as it is published: structured mode on subject. The error is an *Invalid.
func (c AccountRoleChanged) Message(subject string) (Message, error) {
	if err := c.Validate(); err != nil {
		return Message{}, err
	}
	m := envelope{
		ID: c.ID, Source: c.Source, Type: TypeAccountRoleChanged, Time: c.Time, Subject: c.AccountID,
		Sequence: c.Sequence, Traceparent: c.Traceparent, tenant: c.TenantID,
	}.message(subject, c.writeData)
	m.ID = c.MessageID()
	return m, nil
}

func (c AccountRoleChanged) writeData(w *objectWriter) {
	w.text("tenant_id", c.TenantID)
	w.text("account_id", c.AccountID)
	w.optional("role", c.Role)
	w.optional("previous_owner_id", c.PreviousOwnerID)
	w.orNull("new_owner_id", c.NewOwnerID)
	w.text("reason", c.Reason)
	w.text("initiated_by", c.InitiatedBy)
	w.optional("operation_id", c.OperationID)
	w.optional("tasks", c.Tasks)
}

// MessageID is what the broker removes repeats by: the same event with another content has another one, so that the
// mistake is seen and not silently dropped.
func (c AccountRoleChanged) MessageID() string {
	content := c.Content()
	return MessageID(c.TenantID, c.Source, c.ID) + "-" + hex.EncodeToString(content[:4])
}

// DecodeAccountRoleChanged reads and validates one message. When the message has a subject, its tenant must be the one
// in the data. The error is an *Invalid.
func DecodeAccountRoleChanged(m Message) (AccountRoleChanged, error) {
	e, data, err := decode(m, TypeAccountRoleChanged)
	if err != nil {
		return AccountRoleChanged{}, err
	}
	c := AccountRoleChanged{
		ID: e.ID, Source: e.Source, Sequence: e.Sequence, Traceparent: e.Traceparent, Time: e.Time,
		TenantID: data.required("tenant_id"), AccountID: data.required("account_id"), Role: data.optional("role"),
		PreviousOwnerID: data.optional("previous_owner_id"), NewOwnerID: data.orNull("new_owner_id", "nobody"),
		Reason: data.required("reason"), InitiatedBy: data.required("initiated_by"), OperationID: data.optional("operation_id"),
		Tasks: data.optional("tasks"),
	}
	if err := data.wrong.err(); err != nil {
		return AccountRoleChanged{}, err
	}
	if err := c.Validate(); err != nil {
		return AccountRoleChanged{}, err
	}
	if err := checkTenant(m, c.TenantID); err != nil {
		return AccountRoleChanged{}, err
	}
	return c, nil
}
