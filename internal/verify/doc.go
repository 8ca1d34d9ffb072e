// Package verify says whether what the database holds, what the streams hold and what was announced agree, and sets right
// what doesn't.
//
// [Verify] lists what doesn't agree, each with the command that mends it. It reads in snapshots, chunk by chunk, without a
// lock: every commit leaves an account as it folds, and its moves announced, so in a snapshot whatever differs is wrong,
// also while traffic runs; where two things can't be seen at once (the stream and the database), only what must have
// arrived by then is asked for. It keeps no snapshot for a minute, and rests between chunks, so that live traffic and
// vacuum aren't held up. [Mend] then sets right what can be without deciding anything: under the locks that every writer
// takes, announced as usual.
//
// Invariant: on a database that nothing has damaged, verify finds nothing, whatever is under way; Mend moves a task only
// to where the fold says, and never writes a notice: what it announces reaches the notifier like any other announcement,
// which tells each move once.
//
// It fails by stopping with an error: half a comparison is no good news. What Mend has committed by then stands.
package verify
