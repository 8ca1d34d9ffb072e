package roster

import (
	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

// Judged is what delivering a message of ROLE_CHANGES now would come to: recorded, unless it is known or refused.
type Judged struct {
	Message event.Message
	// Change is as it would be recorded, with the policy that would judge it, and no key. Of a refused message it is what
	// could be read of it.
	Change          Change
	Digest, Content [16]byte            // of the event; zero when it can't be read
	Known           bool                // its effect has been had
	Refused         *journal.DeadLetter // it would be this dead letter
}

// Missing tells whether delivering it would have an effect on tasks and owners.
func (j Judged) Missing() bool { return !j.Known && j.Refused == nil }
