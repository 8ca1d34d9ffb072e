package tabular

import "strings"

// Type is how a field's value is written.
type Type int

// The types of fields.
const (
	Text   Type = iota
	Time        // written as RFC 3339, read in a few more ways
	Object      // fields of its own: "roles.success_manager"
	Bool
)

// Field is one that the API knows.
type Field struct {
	Name string
	Type Type
}

// Fields are all fields of one kind of object, the id first.
type Fields []Field

// The kinds of objects.
var (
	Users    = Fields{{"id", Text}, {"name", Text}, {"email", Text}, {"time_zone", Text}, {"status", Text}, {"notices", Bool}}
	Accounts = Fields{{"id", Text}, {"name", Text}, {"attributes", Object}, {"roles", Object}}
	Tasks    = Fields{
		{"id", Text}, {"account_id", Text}, {"title", Text}, {"assignee_id", Text}, {"status", Text}, {"source", Text},
		{"role", Text}, {"priority", Text}, {"due_at", Time}, {"created_at", Time}, {"assigned_at", Time}, {"url", Text},
	}
	RoleChanges = Fields{
		{"id", Text}, {"time", Time}, {"sequence", Text}, {"source", Text}, {"account_id", Text}, {"role", Text},
		{"previous_owner_id", Text}, {"new_owner_id", Text}, {"reason", Text}, {"initiated_by", Text}, {"tasks", Text},
	}
)

// find returns the field that a target names, and the key inside it when it is an object's ("roles.success_manager").
func (f Fields) find(target string) (Field, string, bool) {
	name, key, inside := strings.Cut(target, ".")
	for _, field := range f {
		if field.Name == name && inside == (field.Type == Object) && inside == (key != "") {
			return field, key, true
		}
	}
	return Field{}, "", false
}

// String lists the targets that a mapping may name.
func (f Fields) String() string {
	names := make([]string, len(f))
	for i, field := range f {
		names[i] = field.Name
		if field.Type == Object {
			names[i] += ".…"
		}
	}
	return strings.Join(names, ", ")
}
