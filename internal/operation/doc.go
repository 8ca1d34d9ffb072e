// Package operation is what a person asked for: one role change, a bulk edit, the off-boarding of a user, a policy set right
// with effect from the past. It accepts or refuses it, shows beforehand what it would do, turns it into role changes (or
// judges anew those that there are), counts what became of them, and tells the person who asked.
//
//	accept ──> expanding ──> applying ──> done      a bulk edit or a departure, chunk by chunk
//	  └─────────────────────────┘                   one role change: issued by the acceptance itself
//	                └────────────────────> done     a policy set right: its chunks are also the application
//	                └──> failed                     the database refuses the data of a chunk; what was issued stands
//
// Invariant: every account that an operation is about gets its change once, with the operation's own time and an id made
// of operation, account and role ([roster.ChangeID]); a chunk's changes, its progress and its place are one commit, so a
// crash anywhere resumes where it stopped. The end is reached once, and the initiator is told of it once, whichever of
// expansion and application comes last.
//
// It fails by refusing at acceptance, with nothing done: [*roster.Invalid] says what to mend, [roster.ErrNotFound] that
// there is no such thing, [*Conflict] that somebody must decide first. Once accepted, an operation waits for whatever is
// away and goes on.
//
// Locks are taken in one order: users, heads of accounts, operations. The expander therefore keeps others off an operation
// with an advisory lock: holding its row while waiting for heads would deadlock with [Progress]. A departure locks no heads
// at all, so that who holds heads may wait for it (roster.HandOn does).
package operation
