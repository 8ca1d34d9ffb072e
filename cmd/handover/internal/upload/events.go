package upload

import (
	"encoding/hex"
	"encoding/json"
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

// Change makes a role change of an object. One without an id gets the digest of what it says, so that the same row is the
// same event however often it is published. An object that is a CloudEvent already is taken as it is.
func (p Publisher) Change(line int, object map[string]any) (event.AccountRoleChanged, error) {
	c, err := p.change(object)
	if err != nil {
		problem := &tabular.Problem{Line: line, ID: text(object["id"]), Problem: err.Error()}
		var invalid *event.Invalid
		if errors.As(err, &invalid) {
			problem.Field, problem.Problem = strings.TrimPrefix(invalid.Field, "data."), invalid.Remedy
		}
		return c, problem
	}
	return c, nil
}

func (p Publisher) change(object map[string]any) (event.AccountRoleChanged, error) {
	if _, isEvent := object["specversion"]; isEvent {
		body, err := json.Marshal(object)
		if err != nil {
			return event.AccountRoleChanged{}, err
		}
		c, err := event.DecodeAccountRoleChanged(event.Message{Body: body})
		if err == nil && c.TenantID != p.Tenant {
			err = &event.Invalid{Field: "tenant_id", Remedy: fmt.Sprintf("is not %q", p.Tenant)}
		}
		return c, err
	}
	if _, said := object["new_owner_id"]; !said {
		return event.AccountRoleChanged{}, &event.Invalid{Field: "new_owner_id", Remedy: "is required; empty means nobody"}
	}
	if object["time"] == nil {
		return event.AccountRoleChanged{}, &event.Invalid{Field: "time",
			Remedy: "is required: when the role changed; --map time=COLUMN, or --set time=2026-01-31T09:00:00Z for all"}
	}
	at, err := time.Parse(time.RFC3339Nano, text(object["time"]))
	if err != nil {
		return event.AccountRoleChanged{}, &event.Invalid{Field: "time", Remedy: "must be RFC 3339, such as 2026-01-31T09:00:00Z"}
	}
	c := event.AccountRoleChanged{
		ID: text(object["id"]), Source: or(text(object["source"]), p.Source), Sequence: text(object["sequence"]), Time: at,
		TenantID: p.Tenant, AccountID: text(object["account_id"]), Role: text(object["role"]),
		PreviousOwnerID: text(object["previous_owner_id"]), NewOwnerID: text(object["new_owner_id"]),
		Reason: or(text(object["reason"]), p.Reason), InitiatedBy: or(text(object["initiated_by"]), p.InitiatedBy), Tasks: text(object["tasks"]),
	}
	if c.ID == "" {
		content := c.Content()
		c.ID = "row-" + hex.EncodeToString(content[:])
	}
	return c, c.Validate()
}

// Next returns rows that are events of the publisher.
func (p Publisher) Next(objects func() (line int, object map[string]any, err error)) Next {
	return func() (*Row, error) {
		line, object, err := objects()
		if err != nil || object == nil {
			return nil, err
		}
		c, err := p.Change(line, object)
		if err != nil {
			return nil, err
		}
		m, err := c.Message(event.SubjectRoleBulk(p.Tenant))
		if err != nil {
			return nil, err
		}
		return &Row{Line: line, ID: c.ID, Body: m.Body}, nil
	}
}

// Message is the row as it is published straight to the stream.
func (p Publisher) Message(r Row) (event.Message, error) {
	c, err := event.DecodeAccountRoleChanged(event.Message{Body: r.Body})
	if err != nil {
		return event.Message{}, err
	}
	return c.Message(event.SubjectRoleBulk(p.Tenant))
}

func text(v any) string {
	s, _ := v.(string)
	return s
}

func or(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
