package event

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"time"
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

type roleChangedData struct {
	TenantID        string          `json:"tenant_id"`
	AccountID       string          `json:"account_id"`
	Role            *string         `json:"role,omitempty"`
	PreviousOwnerID *string         `json:"previous_owner_id,omitempty"`
	NewOwnerID      json.RawMessage `json:"new_owner_id"`
	Reason          string          `json:"reason"`
	InitiatedBy     string          `json:"initiated_by"`
	OperationID     *string         `json:"operation_id,omitempty"`
	Tasks           *string         `json:"tasks,omitempty"`
}

// Validate checks everything that needs neither a clock nor a database. The error is an *Invalid.
func (c AccountRoleChanged) Validate() error {
	if c.ID == "" {
		return invalid("id", "is required: a value that no other event of this source has")
	}
	if len(c.ID) > 512 {
		return invalid("id", "is longer than 512 bytes")
	}
	if c.Source == "" || len(c.Source) > 512 {
		return invalid("source", "is required: a URI reference of at most 512 bytes that names the publisher")
	}
	if len(c.Sequence) > 512 {
		return invalid("sequence", "is longer than 512 bytes")
	}
	if c.Time.IsZero() {
		return invalid("time", "is required: when the role changed, RFC 3339")
	}
	if y := c.Time.UTC().Year(); y < 1970 || y > 9999 {
		return invalid("time", "is not between the years 1970 and 9999")
	}
	if !ValidTenantID(c.TenantID) {
		return invalid("data.tenant_id", "must match [a-z0-9][a-z0-9-]{0,62}")
	}
	for _, f := range []struct {
		name, value string
		required    bool
	}{
		{"data.account_id", c.AccountID, true},
		{"data.role", c.Role, false},
		{"data.previous_owner_id", c.PreviousOwnerID, false},
		{"data.new_owner_id", c.NewOwnerID, false},
		{"data.initiated_by", c.InitiatedBy, true},
		{"data.operation_id", c.OperationID, false},
	} {
		if f.value == "" && !f.required {
			continue
		}
		if wrong := CheckID(f.value); wrong != "" {
			return invalid(f.name, "%s", wrong)
		}
	}
	if !slices.Contains(RoleChangeReasons, c.Reason) {
		return invalid("data.reason", "must be one of %v", RoleChangeReasons)
	}
	if c.Role == "" {
		switch {
		case c.Reason == ByAPI || c.Reason == ByProfile || c.Reason == BySegment:
			return invalid("data.role", "is required with the reason %q", c.Reason)
		case c.PreviousOwnerID == "":
			return invalid("data.previous_owner_id", "is required when there is no role: whose tasks move")
		}
	}
	if c.Tasks != "" && !slices.Contains(Policies, c.Tasks) {
		return invalid("data.tasks", "must be one of %v, or absent", Policies)
	}
	return nil
}

// Message is the event as it is published: structured mode on subject. The error is an *Invalid.
func (c AccountRoleChanged) Message(subject string) (Message, error) {
	if err := c.Validate(); err != nil {
		return Message{}, err
	}
	owner := json.RawMessage("null")
	if c.NewOwnerID != "" {
		owner, _ = json.Marshal(c.NewOwnerID)
	}
	return envelope{
		ID: c.ID, Source: c.Source, Type: TypeAccountRoleChanged, Time: c.Time, Subject: c.AccountID,
		Sequence: c.Sequence, Traceparent: c.Traceparent, tenant: c.TenantID,
	}.message(subject, roleChangedData{
		TenantID: c.TenantID, AccountID: c.AccountID, Role: present(c.Role), PreviousOwnerID: present(c.PreviousOwnerID),
		NewOwnerID: owner, Reason: c.Reason, InitiatedBy: c.InitiatedBy, OperationID: present(c.OperationID), Tasks: present(c.Tasks),
	})
}

// DecodeAccountRoleChanged reads and validates one message. When the message has a subject, its tenant must be the one
// in the data. The error is an *Invalid.
func DecodeAccountRoleChanged(m Message) (AccountRoleChanged, error) {
	e, err := decodeEnvelope(m, TypeAccountRoleChanged)
	if err != nil {
		return AccountRoleChanged{}, err
	}
	var d roleChangedData
	if err := decodeData(e.Data, &d); err != nil {
		return AccountRoleChanged{}, err
	}
	c := AccountRoleChanged{
		ID: e.ID, Source: e.Source, Sequence: e.Sequence, Traceparent: e.Traceparent, Time: Micro(e.Time),
		TenantID: d.TenantID, AccountID: d.AccountID, Role: value(d.Role), PreviousOwnerID: value(d.PreviousOwnerID),
		Reason: d.Reason, InitiatedBy: d.InitiatedBy, OperationID: value(d.OperationID), Tasks: value(d.Tasks),
	}
	for _, f := range []struct {
		name string
		v    *string
	}{{"role", d.Role}, {"previous_owner_id", d.PreviousOwnerID}, {"operation_id", d.OperationID}, {"tasks", d.Tasks}} {
		if f.v != nil && *f.v == "" {
			return AccountRoleChanged{}, invalid("data."+f.name, "is empty; leave it out instead")
		}
	}
	switch {
	case d.NewOwnerID == nil:
		return AccountRoleChanged{}, invalid("data.new_owner_id", "is required; null means nobody")
	case string(d.NewOwnerID) == "null":
	default:
		if json.Unmarshal(d.NewOwnerID, &c.NewOwnerID) != nil || c.NewOwnerID == "" {
			return AccountRoleChanged{}, invalid("data.new_owner_id", "must be a user id, or null for nobody")
		}
	}
	if err := c.Validate(); err != nil {
		return AccountRoleChanged{}, err
	}
	if m.Subject != "" && TenantOf(m.Subject) != c.TenantID {
		return AccountRoleChanged{}, &Invalid{Reason: ReasonTenantMismatch, Field: "data.tenant_id",
			Remedy: "is not the tenant of the subject " + m.Subject + ", which wins"}
	}
	return c, nil
}

func present(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
