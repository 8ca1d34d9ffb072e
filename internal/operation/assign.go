package operation

import "context"

// Assignment is a bulk edit: one role of many accounts, named by a filter or by their ids, goes to one owner or to nobody.
type Assignment struct {
	AccountIDs []string `json:"account_ids,omitempty"`
	Role       string   `json:"role"`
	OwnerID    *string  `json:"owner_id"`
}

// Assign accepts a bulk edit (way 3). It writes down the request and no more: the expander does the work, and all changes
// share the time of acceptance. A filter is evaluated by the expander, for each account once.
//
// It fails with [*roster.Invalid] when the request names no accounts, unknown ones, or an owner who can't receive.
func (o *Operations) Assign(ctx context.Context, tenant, by string, req Assignment, dryRun bool) (Accepted, error) {
	return Accepted{}, nil
}
