package event

import "time"

// Stored says where the broker keeps a message that was published. The zero value means that it isn't kept.
type Stored struct {
	Stream string
	// Created is when the stream was created, cut to microseconds: a stream of the same name created at another time is
	// another stream, and the sequences of one mean nothing on the other.
	Created  time.Time
	Sequence uint64
	// Duplicate means that the broker had a message with the same id already; Sequence is that one's.
	Duplicate bool
}
