package event_test

import (
	"fmt"
	"testing"
	"time"

	"handover.io/pkg/event"
)

func BenchmarkWriteRoleChanged(b *testing.B) {
	c := valid()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Message("handover.role.changed.demo"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadRoleChanged(b *testing.B) {
	structured := message(b, valid())
	for name, m := range map[string]event.Message{"structured": structured, "binary": binary(b, structured)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(m.Body)))
			for b.Loop() {
				if _, err := event.DecodeAccountRoleChanged(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func tasksReassigned(n int) event.TaskReassigned {
	due := time.Date(2026, 4, 1, 0, 0, 0, 0, time.UTC)
	r := event.TaskReassigned{
		ID: "1", Source: event.SourceHandover, Time: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), TenantID: "demo", AccountID: "a-1",
		FromID: "u-1", ToID: "u-2", Reason: event.ByAssigned, InitiatedBy: "u-9",
	}
	for i := range n {
		r.Tasks = append(r.Tasks, event.ReassignedTask{ID: fmt.Sprintf("t-%d", i), Revision: 1, Title: "Call about renewal", DueAt: &due,
			Priority: "high", Source: "success_play", URL: "https://crm.example.com/tasks/" + fmt.Sprint(i)})
	}
	return r
}

func BenchmarkTaskReassigned(b *testing.B) {
	for _, n := range []int{1, event.MaxTasksPerEvent} {
		r := tasksReassigned(n)
		var messages []event.Message
		b.Run(fmt.Sprintf("write/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				messages = r.Messages(func() string { return "1" })
			}
		})
		b.Run(fmt.Sprintf("read/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(messages[0].Body)))
			for b.Loop() {
				if _, err := event.DecodeTaskReassigned(messages[0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
