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
	// Owner is who holds the role, or any role; "" means that nobody does. Not given: whoever.
	Owner Maybe[string]
}

// DecodeFilter reads a filter as JSON. The error is an [*Invalid].
func DecodeFilter(b []byte) (Filter, error) {
	var f Filter
	problem := eachField("filter", b, func(in field) *Invalid {
		name := in.name
		in.name = "filter." + name
		var attributes Maybe[json.RawMessage]
		var text Maybe[string]
		var problem *Invalid
		switch name {
		case "attributes":
			problem = in.attributes(&attributes)
			f.Attributes = attributes.Value
		case "name":
			problem = in.text(&text, 0, maxName)
			f.Name = text.Value
		case "role":
			problem = in.checked(&text, maxRole, "", checkRole)
			f.Role = text.Value
		case "owner_id":
			problem = in.reference(&f.Owner)
		default:
			return in.invalid("is no field of a filter; the fields are attributes, name, role, owner_id")
		}
		return problem
	})
	return f, orNil(problem)
}

// UnmarshalJSON implements [json.Unmarshaler] by [DecodeFilter].
func (f *Filter) UnmarshalJSON(b []byte) (err error) {
	*f, err = DecodeFilter(b)
	return err
}

// MarshalJSON implements [json.Marshaler].
func (f Filter) MarshalJSON() ([]byte, error) {
	out := map[string]any{}
	if f.Attributes != nil {
		out["attributes"] = f.Attributes
	}
	if f.Name != "" {
		out["name"] = f.Name
	}
	if f.Role != "" {
		out["role"] = f.Role
	}
	if f.Owner.Given {
		out["owner_id"] = orNull(f.Owner.Value)
	}
	return json.Marshal(out)
}

// The accounts of an owner, or with any owner, are looked up once, not for each account.
const matchAccounts = `
SELECT a.account_id FROM accounts a
WHERE a.tenant_id = $1
  AND ($2::jsonb IS NULL OR a.attributes @> $2)
  AND ($3::text = '' OR position(lower($3) IN lower(a.name)) > 0)
  AND CASE
    WHEN $5::text <> '' THEN a.account_id IN (
      SELECT o.account_id FROM account_roles o WHERE o.tenant_id = $1 AND o.owner_id = $5 AND ($4::text = '' OR o.role = $4))
    WHEN $6::boolean THEN a.account_id NOT IN (
      SELECT o.account_id FROM account_roles o WHERE o.tenant_id = $1 AND o.owner_id IS NOT NULL AND ($4 = '' OR o.role = $4))
    WHEN $4 <> '' THEN a.account_id IN (
      SELECT o.account_id FROM account_roles o WHERE o.tenant_id = $1 AND o.owner_id IS NOT NULL AND o.role = $4)
    ELSE true END
  AND a.account_id > $7 ORDER BY a.account_id LIMIT $8`

// MatchAccounts returns the ids of up to limit accounts that f means, in order, after the id after ("" from the start).
func MatchAccounts(ctx context.Context, tx pgx.Tx, tenant string, f Filter, after string, limit int) ([]string, error) {
	return readTexts(ctx, tx, matchAccounts, tenant, f.Attributes, f.Name, f.Role, f.Owner.Value, f.Owner.Given && f.Owner.Value == "", after, limit)
}
