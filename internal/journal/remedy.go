package journal

import (
	"maps"
	"slices"

	"handover.io/pkg/event"
)

// remedies say what to do about a dead letter, for every reason there is.
var remedies = map[string]string{
	event.ReasonNotCloudEvent: "No CloudEvent could be read, so it never will be. Have the publisher mended, mend the event yourself " +
		"(export, edit, publish), and drop this one.",
	event.ReasonUnknownType: "The event is of a type that this version doesn't know. If a newer version does, upgrade and retry; else have " +
		"its publisher send it elsewhere, and drop this one.",
	event.ReasonInvalid: "The event fails its schema, and will whenever it is retried. Have the publisher mended, mend the event yourself " +
		"(export, edit, publish), and drop this one.",
	event.ReasonTenantMismatch: "The tenant in the event is not that of its subject. Find out which was meant, publish it there " +
		"(export, edit, publish), and drop this one.",
	event.ReasonTenantUnknown: "There is no such tenant. If it should exist, make it (handover token create --new-tenant) and retry; else drop this one.",
	event.ReasonTimeAhead: "The event says that it occurred in what was the future when it came. When that time has come, retry. Have the " +
		"publisher's clock set right; if the time is wrong, mend it (export, edit, publish), and drop this one.",
	event.ReasonIDReused: "An event of the same source and id said something else before, and that one counts. If this one is meant too, " +
		"publish it under an id of its own (export, edit, publish), and drop this one.",
	event.ReasonOwnerUnknown: "The new owner isn't known. Sync the user: that retries this by itself. If the id is wrong, mend it " +
		"(export, edit, publish), and drop this one.",
	event.ReasonOwnerUnavailable: "The new owner had left before the change occurred. Let somebody who is here take over (by the product, or " +
		"export, edit, publish), and drop this one.",
	event.ReasonOverrideRefused: "The event carries a policy of its own, which the tenant doesn't allow. Allow it in the settings " +
		"(allow_task_override) and retry, or publish it without data.tasks (export, edit, publish), and drop this one.",
	event.ReasonRejected: "The database refused the event; the detail says for what. If a newer version mends that, upgrade and retry; else " +
		"mend the event (export, edit, publish), and drop this one.",
}

// Remedy is what to do about a dead letter of that reason.
func Remedy(reason string) string {
	if r, known := remedies[reason]; known {
		return r
	}
	return "A newer version gave this reason; use its handover command."
}

// Reasons are all that a dead letter can have, in order.
func Reasons() []string { return slices.Sorted(maps.Keys(remedies)) }
