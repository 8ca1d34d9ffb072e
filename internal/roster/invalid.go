package roster

import (
	"errors"
	"fmt"
)

// Invalid says what can't be taken of a request, and what to do about it.
type Invalid struct {
	Field  string // as it stands in JSON, for example "assignee_id"; empty when it is about the whole
	Remedy string
}

func (e *Invalid) Error() string {
	if e.Field == "" {
		return e.Remedy
	}
	return e.Field + ": " + e.Remedy
}

func invalid(field, format string, args ...any) *Invalid {
	return &Invalid{Field: field, Remedy: fmt.Sprintf(format, args...)}
}

// ErrNotFound is returned for what the tenant doesn't have; whether another tenant has it makes no difference.
var ErrNotFound = errors.New("not found")
