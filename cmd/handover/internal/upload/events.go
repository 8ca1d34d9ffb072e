package upload

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"handover.io/cmd/handover/internal/tabular"
	"handover.io/pkg/event"
)

// Publisher makes role changes of rows.
type Publisher struct {
	Tenant string
	// Source, Reason and InitiatedBy are for rows that don't say them.
	Source, Reason, InitiatedBy string
}

// Change makes a role change of a row and the object that was made of it. One without an id gets the digest of what it
// says, so that the same row is the same event however often it is published. A row that is a CloudEvent already is taken
// as it is.
func (p Publisher) Change(row *tabular.Row, object *tabular.Body) (event.AccountRoleChanged, error) {
	c, err := p.change(row, object)
	if err != nil {
		problem := &tabular.Problem{Line: row.Line, ID: object.Text("id"), Problem: err.Error()}
		var invalid *event.Invalid
		if errors.As(err, &invalid) {
			problem.Field, problem.Problem = strings.TrimPrefix(invalid.Field, "data."), invalid.Remedy
		}
		return c, problem
	}
	return c, nil
}

func (p Publisher) change(row *tabular.Row, object *tabular.Body) (event.AccountRoleChanged, error) {
	if row.JSON() != nil && row.Has("specversion") {
		c, err := event.DecodeAccountRoleChanged(event.Message{Body: row.JSON()})
		if err == nil && c.TenantID != p.Tenant {
			err = &event.Invalid{Field: "tenant_id", Remedy: fmt.Sprintf("is not %q", p.Tenant)}
		}
		return c, err
	}
	if !object.Has("new_owner_id") {
		return event.AccountRoleChanged{}, &event.Invalid{Field: "new_owner_id", Remedy: "is required; empty means nobody"}
	}
	if object.Null("time") {
		return event.AccountRoleChanged{}, &event.Invalid{Field: "time",
			Remedy: "is required: when the role changed; --map time=COLUMN, or --set time=2026-01-31T09:00:00Z for all"}
	}
	at, err := time.Parse(time.RFC3339Nano, object.Text("time"))
	if err != nil {
		return event.AccountRoleChanged{}, &event.Invalid{Field: "time", Remedy: "must be RFC 3339, such as 2026-01-31T09:00:00Z"}
	}
	c := event.AccountRoleChanged{
		ID: object.Text("id"), Source: or(object.Text("source"), p.Source), Sequence: object.Text("sequence"), Time: at,
		TenantID: p.Tenant, AccountID: object.Text("account_id"), Role: object.Text("role"),
		PreviousOwnerID: object.Text("previous_owner_id"), NewOwnerID: object.Text("new_owner_id"),
		Reason: or(object.Text("reason"), p.Reason), InitiatedBy: or(object.Text("initiated_by"), p.InitiatedBy), Tasks: object.Text("tasks"),
	}
	if c.ID == "" {
		content := c.Content()
		c.ID = "row-" + hex.EncodeToString(content[:])
	}
	return c, c.Validate()
}

// Next makes lines that are events of the publisher.
func (p Publisher) Next(objects func() (*tabular.Row, *tabular.Body, error)) Next {
	return func(body []byte) (Row, []byte, error) {
		row, object, err := objects()
		if err != nil || object == nil {
			return Row{}, body, err
		}
		c, err := p.Change(row, object)
		if err != nil {
			return Row{}, body, err
		}
		m, err := c.Message(event.SubjectRoleBulk(p.Tenant))
		if err != nil {
			return Row{}, body, err
		}
		return Row{Line: row.Line, ID: c.ID}, append(append(body, m.Body...), '\n'), nil
	}
}

// Message is a line as it is published straight to the stream.
func (p Publisher) Message(line []byte) (event.Message, error) {
	c, err := event.DecodeAccountRoleChanged(event.Message{Body: line})
	if err != nil {
		return event.Message{}, err
	}
	return c.Message(event.SubjectRoleBulk(p.Tenant))
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
