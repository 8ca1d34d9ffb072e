package roster

import (
	"encoding/json"
	"time"
)

// Maybe is a field of a row: absent (not Given: it stays as it is) or given; null gives the value that empties the field.
type Maybe[T any] struct {
	Given bool
	Value T
}

// or is the value, or what it is without one.
func (m Maybe[T]) or(present T) T {
	if m.Given {
		return m.Value
	}
	return present
}

// UserSaid is what an upstream system says of a user.
type UserSaid struct {
	ID       string
	Name     Maybe[string] // required at first sight
	Email    Maybe[string] // "" for none
	TimeZone Maybe[string] // UTC for null
	Status   Maybe[string] // active, disabled or deleted
	Notices  Maybe[bool]   // whether they get e-mails; true for null
}

// AccountSaid is what an upstream system says of an account.
type AccountSaid struct {
	ID         string
	Name       Maybe[string]          // required at first sight
	Attributes Maybe[json.RawMessage] // an object; replaces the one before
	Roles      map[string]string      // role to user, "" for nobody; a role that isn't named stays as it is
}

// TaskSaid is what an upstream system says of a task.
type TaskSaid struct {
	ID         string
	AccountID  Maybe[string] // required at first sight
	Title      Maybe[string] // required at first sight
	AssigneeID Maybe[string] // "" for nobody
	Status     Maybe[string] // open, in_progress, completed or cancelled
	Source     Maybe[string] // manual for null
	Role       Maybe[string] // "" for none
	Priority   Maybe[string]
	URL        Maybe[string]
	DueAt      Maybe[*time.Time]
	CreatedAt  Maybe[*time.Time]
	AssignedAt Maybe[*time.Time] // when AssigneeID was assigned, by upstream's clock
}

// At gives the row the id of the path it was sent to; the body must name the same or none. The error is an [*Invalid].
func (u UserSaid) At(id string) (UserSaid, error) {
	err := at(&u.ID, id)
	return u, err
}

// At gives the row the id of the path it was sent to; the body must name the same or none. The error is an [*Invalid].
func (a AccountSaid) At(id string) (AccountSaid, error) {
	err := at(&a.ID, id)
	return a, err
}

// At gives the row the id of the path it was sent to; the body must name the same or none. The error is an [*Invalid].
func (t TaskSaid) At(id string) (TaskSaid, error) {
	err := at(&t.ID, id)
	return t, err
}

func at(said *string, path string) error {
	if *said != "" && *said != path {
		return invalid("id", "is not the id of the path; leave it out, or send the row to its own path")
	}
	*said = path
	return nil
}
