// Package replay gets a database back to right from what else is kept: it delivers role changes from their stream again,
// through the code that delivered them first, or folds accounts again from the changes that the database has.
//
// What it would do it can tell before, by the same judgement and the same fold, without locking or writing anything.
//
// Invariant: replaying is the same as first delivery. A change that is recorded has no effect again, a move is announced
// once, and a message that is a dead letter is that one dead letter; so a replay may be of anything, at any time, beside
// live traffic, cut off anywhere, and repeated.
//
// It fails by stopping: what it has done stays done, the run says how far it is, and goes on from there.
package replay
