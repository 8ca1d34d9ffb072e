// Package journal is what every part writes beside its own tables so that nothing is lost between a commit and the
// broker: the outbox with its relay and the watch over the streams, and the dead letters.
//
// Invariant: a message is in the outbox if and only if the transaction that decided it committed; it is published at
// least once, under an id that lets the broker and every consumer see a repeat; and after the acknowledgement its row
// says where on which stream it stands, for longer than the stream keeps it. A message that can't be used is a dead
// letter, kept with its original bytes and the reason, once per reason however often it is delivered. One that is tried again
// ends in the transaction that handles it: resolved, dead again, or superseded by the one that it is now; so a change counts
// as refused exactly while one of its dead letters stands.
//
// A stream can be lost, and so can the newest part of the database; the watch notices either. What a stream has lost is
// owed again. What a stream has and the database doesn't know is reported, once.
//
// It fails by waiting: without the broker the outbox grows and the relay tries again; without the database nothing is
// decided, so nothing is owed.
package journal
