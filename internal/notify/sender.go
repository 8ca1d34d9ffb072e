package notify

import "context"

// Frozen is a mail as it was written down before its first try: every try sends these very bytes, unless one was NotSent.
type Frozen struct {
	ID       int64  // of the notice
	From, To string // bare addresses, for the envelope
	MIME     []byte
}

// Outcome is how a try ended.
type Outcome string

// The outcomes. Only Unknown leaves open whether the mail was accepted.
const (
	Accepted       Outcome = "accepted"
	RejectedForNow Outcome = "rejected_for_now" // surely not accepted; try this mail again later
	Rejected       Outcome = "rejected"         // surely not accepted, and never will be
	NotSent        Outcome = "not_sent"         // surely not accepted, and not this mail's fault: the channel is out of order
	Unknown        Outcome = "unknown"          // the mail was handed over, but no answer came
)

// Result is a try's outcome with what the other side said.
type Result struct {
	Outcome  Outcome
	Code     int // of the SMTP reply; 0 when there was none
	Response string
	Err      error // nil when accepted
}

// Sender is a channel. Send blocks until the outcome is known or can no longer become known, in bounded time, also
// after ctx has ended: a mail that is under way is not given up. It is called from several goroutines at once.
type Sender interface {
	Send(ctx context.Context, mail Frozen) Result
}
