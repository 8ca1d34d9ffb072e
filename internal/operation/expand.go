package operation

import "context"

// Run expands operations until ctx is done: what is accepted here at once, what was accepted elsewhere within a second.
// Any number may run at once, in any process.
func (o *Operations) Run(ctx context.Context) error { return nil }

// ExpandOnce expands one chunk of one operation, the next one in turn, and offers what it issued. It returns false when
// there is nothing to do, or when the outbox owes so much already that more would not help.
func (o *Operations) ExpandOnce(ctx context.Context) (bool, error) { return false, nil }
