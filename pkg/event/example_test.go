package event_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"handover.io/pkg/event"
)

func ExampleAccountRoleChanged_Message() {
	change := event.AccountRoleChanged{
		ID: "4711", Source: "//crm.example.com", Time: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC),
		TenantID: "demo", AccountID: "a-1", Role: "success_manager", NewOwnerID: "u-2", Reason: event.ByAPI, InitiatedBy: "u-9",
	}
	m, err := change.Message(event.SubjectRoleChanged(change.TenantID))
	if err != nil {
		panic(err)
	}
	fmt.Println(m.Subject)
	fmt.Println("Content-Type:", m.Get("content-type"))
	fmt.Println("Nats-Msg-Id:", m.ID)
	var body any
	_ = json.Unmarshal(m.Body, &body)
	pretty, _ := json.MarshalIndent(body, "", "  ")
	fmt.Println(string(pretty))
	// Output:
	// handover.role.changed.demo
	// Content-Type: application/cloudevents+json
	// Nats-Msg-Id: 2b22b18a38acfacb8e7a754890d04c0f-98d09391
	// {
	//   "data": {
	//     "account_id": "a-1",
	//     "initiated_by": "u-9",
	//     "new_owner_id": "u-2",
	//     "reason": "api",
	//     "role": "success_manager",
	//     "tenant_id": "demo"
	//   },
	//   "datacontenttype": "application/json",
	//   "id": "4711",
	//   "source": "//crm.example.com",
	//   "specversion": "1.0",
	//   "subject": "a-1",
	//   "time": "2026-03-01T09:00:00Z",
	//   "type": "io.handover.account.role.changed.v1"
	// }
}

func ExampleDecodeAccountRoleChanged() {
	change, err := event.DecodeAccountRoleChanged(event.Message{
		Subject: "handover.role.changed.demo",
		Header: map[string][]string{
			"ce-specversion": {"1.0"}, "ce-type": {event.TypeAccountRoleChanged}, "ce-source": {"//crm.example.com"}, "ce-id": {"4711"},
			"ce-time": {"2026-03-01T09:00:00Z"}, "Content-Type": {"application/json"},
		},
		Body: []byte(`{"tenant_id": "demo", "account_id": "a-1", "role": "success_manager", "new_owner_id": null, "reason": "whim", "initiated_by": "u-9"}`),
	})
	var invalid *event.Invalid
	if errors.As(err, &invalid) {
		fmt.Println(invalid.Reason)
		fmt.Println(invalid.Field, invalid.Remedy)
		return
	}
	fmt.Println(change.AccountID)
	// Output:
	// invalid
	// data.reason must be one of api, profile, segment, user_disabled, user_deleted, resources_reassigned, not "whim"
}

// A subscriber that keeps the highest revision of each task ends with the truth, whatever order the events arrive in.
func ExampleDecodeTaskReassigned() {
	announce := func(to string, revision int64) event.Message {
		return event.TaskReassigned{
			Source: event.SourceHandover, Time: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), TenantID: "demo", AccountID: "a-1", ToID: to,
			Reason: event.ByAssigned, InitiatedBy: "u-9",
			Tasks: []event.ReassignedTask{{ID: "t-1", Revision: revision, Title: "Call about renewal", Source: "manual"}},
		}.Messages(func() string { return "4712" })[0]
	}
	type held struct {
		revision int64
		assignee string
	}
	tasks := map[string]held{}
	for _, m := range []event.Message{announce("u-3", 2), announce("u-2", 1)} {
		r, err := event.DecodeTaskReassigned(m)
		if err != nil {
			panic(err)
		}
		for _, t := range r.Tasks {
			if t.Revision > tasks[t.ID].revision {
				tasks[t.ID] = held{t.Revision, r.ToID}
			}
		}
	}
	fmt.Println(tasks["t-1"].assignee)
	// Output: u-3
}
