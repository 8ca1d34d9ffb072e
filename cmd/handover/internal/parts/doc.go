// Package parts tells an operator how the parts of all processes are: which run where, how much they do, and what their
// last trouble was.
//
// A [Watch] listens to the log: whatever a part warns of is its trouble, and whatever it says at a lower level afterwards
// is the end of it. A [Reporter] writes that into the database every few seconds, in one statement for all parts of the
// process, and [Read] reads the reports of all processes.
//
// Invariant: no part waits for any of this, and no work of a part costs a statement. Times are told as ages and become
// times by the database's clock, so that processes whose clocks differ are told apart rightly.
//
// It fails by being late: without the database the troubles are remembered and written when it is there again. A process
// that is killed is one that nothing is heard of.
package parts
