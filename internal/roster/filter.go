package roster

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"
)

// Filter says which accounts are meant; all that is set must hold. The zero value means every account.
//
// As JSON it is {"attributes": {…}, "name": "…", "role": "…", "owner_id": "…" or null}, every field optional; it is read
// strictly, with an [*Invalid] as error, and written back to the same.
type Filter struct {
	// Attributes is an object that the account's attributes must contain; nil for any.
	Attributes json.RawMessage
	// Name is a part of the name, whatever its case; "" for any.
	Name string
	// Role narrows Owner to one role; without Owner, it means that somebody holds the role.
	Role string
	// Owner is who holds the role, or any role; "" means nobody does. Not given: whoever.
	Owner Maybe[string]
}

// MarshalJSON implements [json.Marshaler].
func (f Filter) MarshalJSON() ([]byte, error) { panic("not yet") }

// UnmarshalJSON implements [json.Unmarshaler]. The error is an [*Invalid].
func (f *Filter) UnmarshalJSON(b []byte) error { panic("not yet") }

// MatchAccounts returns the ids of up to limit accounts that f means, in order, after the id after ("" from the start).
func MatchAccounts(ctx context.Context, tx pgx.Tx, tenant string, f Filter, after string, limit int) ([]string, error) {
	panic("not yet")
}

// CountAccounts counts the accounts that f means.
func CountAccounts(ctx context.Context, tx pgx.Tx, tenant string, f Filter) (int64, error) {
	panic("not yet")
}
