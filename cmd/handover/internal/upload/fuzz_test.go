package upload

import (
	"errors"
	"io"
	"strings"
	"testing"

	"handover.io/cmd/handover/internal/tabular"
	"handover.io/pkg/event"
)

// A row, or an exported event that was mended, is refused with its line, or becomes an event that is the same however
// often it is read.
func FuzzPublisher(f *testing.F) {
	f.Add("time,account_id,role,new_owner_id\n2026-01-31T09:00:00Z,a,r,b\n", "csv")
	f.Add(`{"specversion":"1.0","id":"1","source":"//crm","type":"io.handover.account.role.changed.v1","time":"2026-01-01T00:00:00Z","data":{"tenant_id":"acme","account_id":"a","role":"r","new_owner_id":"b","reason":"api","initiated_by":"u"},"deadletter":"7"}`, "ndjson")
	f.Add(`{"specversion":null,"time":1,"new_owner_id":[]}`, "ndjson")
	f.Add("{\"time\":\"2026-01-31\",\"new_owner_id\":null,\"account_id\":\"\u2028\",\"role\":\"r\"}\n{}", "ndjson")
	p := Publisher{Tenant: "acme", Source: "urn:x", Reason: event.ByAPI, InitiatedBy: "u"}
	f.Fuzz(func(t *testing.T, file, format string) {
		sheet, err := tabular.Open(strings.NewReader(file), "", tabular.Format{Name: format})
		if err != nil || format != "csv" && format != "ndjson" {
			return
		}
		mapping, err := tabular.Spec{Fields: tabular.RoleChanges, EmptyIsNull: true}.Compile(sheet.Columns)
		if err != nil {
			return
		}
		next := p.Next(func() (*tabular.Row, *tabular.Body, error) {
			row, err := sheet.Next()
			if err != nil {
				return nil, nil, err
			}
			object, err := mapping.Apply(row)
			return row, object, err
		})
		for range 1000 {
			_, line, err := next(nil)
			if err == io.EOF {
				return
			}
			var problem *tabular.Problem
			if errors.As(err, &problem) {
				if problem.Line == 0 || problem.Problem == "" {
					t.Fatalf("%+v", problem)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%q: %v", file, err)
			}
			if len(line) == 0 {
				continue
			}
			m, err := p.Message(line)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			c, err := event.DecodeAccountRoleChanged(m)
			if err != nil || c.TenantID != p.Tenant {
				t.Fatalf("%s is %+v, %v", m.Body, c, err)
			}
		}
	})
}
