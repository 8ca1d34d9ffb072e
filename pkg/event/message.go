package event

import (
	"fmt"
	"strings"
	"time"
)

// The streams, and the types of the events that live on them.
const (
	StreamRoleChanges       = "ROLE_CHANGES"
	StreamTaskReassignments = "TASK_REASSIGNMENTS"
	StreamDeadLetters       = "DEAD_LETTERS"

	TypeAccountRoleChanged = "io.handover.account.role.changed.v1"
	TypeTaskReassigned     = "io.handover.task.reassigned.v1"
)

// SourceHandover is the CloudEvents source of the events that Handover itself writes. Nobody else may use it.
const SourceHandover = "//handover.io"

// The durable consumers, by the names that operators see.
const (
	ConsumerReassigner     = "reassigner"
	ConsumerReassignerBulk = "reassigner-bulk"
	ConsumerNotifier       = "notifier"
)

// Prefixes of the subjects; the last token of a subject is always the tenant.
const (
	prefixRoleChanged    = "handover.role.changed."
	prefixRoleBulk       = "handover.role.bulk."
	prefixTaskReassigned = "handover.task.reassigned."
	prefixDead           = "handover.dead."
)

// SubjectRoleChanged is where a person's single role change goes.
func SubjectRoleChanged(tenant string) string { return prefixRoleChanged + tenant }

// SubjectRoleBulk is where the changes of bulk work go, so that a single change never waits behind them.
func SubjectRoleBulk(tenant string) string { return prefixRoleBulk + tenant }

// SubjectTaskReassigned is where moves are announced.
func SubjectTaskReassigned(tenant string) string { return prefixTaskReassigned + tenant }

// SubjectDead is where a consumer puts what it can't use.
func SubjectDead(consumer, tenant string) string { return prefixDead + consumer + "." + tenant }

// ConsumerOf is the durable consumer that what is on a subject of ours goes to, or "" when it isn't one.
func ConsumerOf(subject string) string {
	switch {
	case strings.HasPrefix(subject, prefixRoleChanged):
		return ConsumerReassigner
	case strings.HasPrefix(subject, prefixRoleBulk):
		return ConsumerReassignerBulk
	case strings.HasPrefix(subject, prefixTaskReassigned):
		return ConsumerNotifier
	}
	return ""
}

// TenantOf is the last token of a subject of ours, or "" when the subject has none that is a valid tenant id.
func TenantOf(subject string) string {
	tenant := subject[strings.LastIndexByte(subject, '.')+1:]
	if !ValidTenantID(tenant) {
		return ""
	}
	return tenant
}

// Message is one message as a broker or an HTTP request carries it, before or after it is an event.
type Message struct {
	// ID is what the broker removes repeats by (Nats-Msg-Id). Empty on messages that were read.
	ID      string
	Subject string
	// Header keys are compared without case; values are as they were on the wire.
	Header map[string][]string
	Body   []byte

	// Where and when a message that was read stood; zero on messages to be published.
	Stream   string
	Sequence uint64
	StoredAt time.Time
}

// Reasons for which an event is refused; the reason of a dead letter is one of these.
const (
	ReasonNotCloudEvent    = "not_cloudevent"    // no CloudEvent could be read
	ReasonUnknownType      = "unknown_type"      // a CloudEvent, of a type that this consumer doesn't know
	ReasonInvalid          = "invalid"           // it fails its schema
	ReasonTenantMismatch   = "tenant_mismatch"   // the tenant in the body is not the one in the subject
	ReasonTenantUnknown    = "tenant_unknown"    // no such tenant
	ReasonTimeAhead        = "time_ahead"        // its time is more than five minutes ahead of ours
	ReasonIDReused         = "id_reused"         // an event of the same source and id has another content
	ReasonOwnerUnknown     = "owner_unknown"     // the new owner is not known; tried again when the user is synced
	ReasonOwnerUnavailable = "owner_unavailable" // the new owner had left before the change occurred
	ReasonOverrideRefused  = "override_refused"  // it carries its own policy, which the tenant doesn't allow
	ReasonRejected         = "rejected"          // the database refused it
)

// Invalid says why an event can't be used. Field and Remedy are for the person who published it.
type Invalid struct {
	Reason string // one of the Reason constants
	Field  string // for example "data.account_id"; empty when it is about the whole
	Remedy string // what is wrong and what to do
}

func (e *Invalid) Error() string {
	if e.Field == "" {
		return e.Reason + ": " + e.Remedy
	}
	return e.Reason + ": " + e.Field + ": " + e.Remedy
}

func invalid(field, format string, args ...any) *Invalid {
	return &Invalid{Reason: ReasonInvalid, Field: field, Remedy: fmt.Sprintf(format, args...)}
}
