// Command bench holds Handover against its peers: programs that do the reassigner's work as one would otherwise write it,
// with Watermill, with River, and with nats.go alone.
//
// Every contender gets the same: a private PostgreSQL and an embedded JetStream, both with every commit on disk before it
// counts, the same role changes waiting, and a million tasks in a database fresh from a template. The clock runs until
// all changes are handled and acknowledged and all announcements are on their stream. Then the outcome is checked against what
// must have come out: the assignee of every task, and that each move was announced once.
//
// Handover itself takes part as a process of its own (handover bench); its result is read, not computed here. All
// contenders run one after the other within each repetition, so that a slow minute of the machine hits all of them, and
// the table is made of medians.
//
// It is a module of its own, so that what the peers need stays out of the product.
package main
