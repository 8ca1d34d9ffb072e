// Package notify is the second use case: moves of tasks come in, e-mails go out. A person who received tasks gets one
// mail per window and account that tells the truth as it is when the mail leaves.
//
//	                          ┌─ more than 10 of one recipient ─> merged (told by another notice's mail)
//	move ─> open ─ 15 min ─> closed ─ claim ─> sending ─┬─> sent | suppressed | undeliverable
//	                          ^                         ├─> ambiguous (the server never answered; a person decides)
//	                          └──── surely not accepted ┘
//
// A window ([Notifier.Handle]) is opened by the first move for its key (tenant, recipient, account; in summary mode
// without the account), closes a fixed time later by the clock of the database, and never grows. A move belongs to one
// window for ever, by a unique key, so mails don't repeat each other however often an event is delivered.
//
// A mail ([Notifier.RunOnce]) is claimed with a lease and a fence, then written, frozen and recorded as an attempt in
// one transaction, then sent with none open, then its outcome is written if the fence still holds. Mails that are at the
// same point share the transaction (see together): only one that is committed is sent, and all of them at once, so what a
// crash leaves in doubt are the mails under way, 32 at most. So:
//
// Invariant: a notice's mail is accepted by the mail server at most once; and exactly once, unless nothing was left to
// tell, it can't be delivered, or its last attempt ended without an answer. What nobody knows is shown as ambiguous and
// never sent again by itself.
//
// While mails are on hold ([Notifier.Hold]) none is claimed, in any process; windows go on gathering and closing.
//
// It fails by waiting. A mail that the server refuses for now is tried again for a day; a channel that is out of order
// is left alone for a while, and no mail pays for it. Senders and intakes may run in any number of processes.
package notify
