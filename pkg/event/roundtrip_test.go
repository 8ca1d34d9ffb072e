package event_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"handover.io/internal/testkit/arbitrary"
	"handover.io/pkg/event"
)

func message(t interface{ Fatal(...any) }, c event.AccountRoleChanged) event.Message {
	m, err := c.Message(event.SubjectRoleChanged(c.TenantID))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// binary is the same event in binary mode, as the bindings of NATS and HTTP say.
func binary(t interface{ Fatal(...any) }, m event.Message) event.Message {
	var attributes map[string]json.RawMessage
	if err := json.Unmarshal(m.Body, &attributes); err != nil {
		t.Fatal(err)
	}
	out := event.Message{Subject: m.Subject, Header: map[string][]string{}}
	for name, raw := range attributes {
		var value string
		switch _ = json.Unmarshal(raw, &value); name {
		case "data":
			out.Body = raw
		case "datacontenttype":
			out.Header["Content-Type"] = []string{value}
		default:
			out.Header["ce-"+name] = []string{strings.ReplaceAll(url.PathEscape(value), "%2F", "/")}
		}
	}
	return out
}

func TestWhatIsWrittenReadsTheSameInBothModes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		c := arbitrary.RoleChanged().Draw(t, "change")
		m := message(t, c)
		if m.ID != c.MessageID() || event.Type(m) != event.TypeAccountRoleChanged {
			t.Fatalf("message id %s, type %s", m.ID, event.Type(m))
		}
		for mode, m := range map[string]event.Message{"structured": m, "binary": binary(t, m)} {
			got, err := event.DecodeAccountRoleChanged(m)
			if err != nil {
				t.Fatalf("%s mode: %v\n%s", mode, err, m.Body)
			}
			if d := cmp.Diff(c, got); d != "" {
				t.Fatalf("%s mode (-written +read):\n%s", mode, d)
			}
			if got.Digest() != c.Digest() || got.Content() != c.Content() {
				t.Fatal("the digests changed on the way")
			}
		}
	})
}

func TestDigestIsOfTenantSourceAndIDAndContentOfTheRest(t *testing.T) {
	t.Parallel()
	changes := map[string]func(*event.AccountRoleChanged){
		"sequence":       func(c *event.AccountRoleChanged) { c.Sequence += "1" },
		"time":           func(c *event.AccountRoleChanged) { c.Time = c.Time.Add(time.Microsecond) },
		"account":        func(c *event.AccountRoleChanged) { c.AccountID += "1" },
		"role":           func(c *event.AccountRoleChanged) { c.Role += "1" },
		"previous owner": func(c *event.AccountRoleChanged) { c.PreviousOwnerID += "1" },
		"new owner":      func(c *event.AccountRoleChanged) { c.NewOwnerID += "1" },
		"moved between fields": func(c *event.AccountRoleChanged) {
			c.PreviousOwnerID, c.NewOwnerID = c.PreviousOwnerID+"x", "x"+c.NewOwnerID
		},
		"reason":    func(c *event.AccountRoleChanged) { c.Reason += "1" },
		"initiator": func(c *event.AccountRoleChanged) { c.InitiatedBy += "1" },
		"operation": func(c *event.AccountRoleChanged) { c.OperationID += "1" },
		"tasks":     func(c *event.AccountRoleChanged) { c.Tasks += "1" },
	}
	rapid.Check(t, func(t *rapid.T) {
		c := arbitrary.RoleChanged().Draw(t, "change")
		for name, change := range changes {
			other := c
			if change(&other); other.Digest() != c.Digest() || other.Content() == c.Content() {
				t.Fatalf("another %s: another event, or the same content", name)
			}
		}
		same := c
		same.Traceparent, same.Time = "", c.Time.Add(999*time.Nanosecond).In(time.FixedZone("", 3600))
		if same.Content() != c.Content() {
			t.Fatal("a trace, a time zone or nanoseconds are no content")
		}
		for name, other := range map[string]event.AccountRoleChanged{
			"tenant": {TenantID: c.TenantID + "1", Source: c.Source, ID: c.ID},
			"source": {TenantID: c.TenantID, Source: c.Source + "1", ID: c.ID},
			"id":     {TenantID: c.TenantID, Source: c.Source, ID: c.ID + "1"},
			"border": {TenantID: c.TenantID, Source: c.Source + c.ID[:1], ID: c.ID[1:]},
		} {
			if other.Digest() == c.Digest() {
				t.Fatalf("another %s, but the same event", name)
			}
		}
	})
}

func TestAnnouncementIsSplitWithEveryTaskOnceAndWithinTheLimits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := arbitrary.Reassigned(1, 300).Draw(t, "announcement")
		ids := 0
		messages := r.Messages(func() string { ids++; return fmt.Sprintf("%s-%d", r.ID, ids) })
		all := r
		all.Tasks = nil
		for i, m := range messages {
			if len(m.Body) > event.MaxEventBytes {
				t.Fatalf("%d bytes", len(m.Body))
			}
			if !json.Valid(m.Body) || m.Subject != event.SubjectTaskReassigned(r.TenantID) {
				t.Fatalf("on %s: %.200s", m.Subject, m.Body)
			}
			part, err := event.DecodeTaskReassigned(m)
			if err != nil {
				t.Fatal(err)
			}
			if m.ID != event.MessageID(r.TenantID, r.Source, part.ID) || part.ID != fmt.Sprintf("%s-%d", r.ID, i+1) {
				t.Fatalf("message id %s of event %s", m.ID, part.ID)
			}
			// Only what doesn't fit goes into the next one.
			if i+1 < len(messages) && len(part.Tasks) < event.MaxTasksPerEvent && len(m.Body) < event.MaxEventBytes-20<<10 {
				t.Fatalf("%d tasks in %d bytes, and yet another message", len(part.Tasks), len(m.Body))
			}
			all.Tasks = append(all.Tasks, part.Tasks...)
			part.Tasks, part.ID = nil, r.ID
			head := r
			head.Tasks = nil
			same(t, head, part)
		}
		same(t, r, all)
	})
}

// same looks for the difference only if there is one, which takes far longer.
func same(t *rapid.T, written, read event.TaskReassigned) {
	t.Helper()
	if !reflect.DeepEqual(written, read) {
		t.Fatalf("(-written +read):\n%s", cmp.Diff(written, read))
	}
}

// What a table holds for some other reason must not stop the announcement, nor break a limit.
func TestAnnouncementOfTasksBeyondTheLimitsGoesOut(t *testing.T) {
	t.Parallel()
	due := time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -23*3600))
	r := event.TaskReassigned{
		Source: event.SourceHandover, Time: time.Unix(1e9, 0), TenantID: "demo", AccountID: "a-1", ToID: "u-2",
		Reason: event.ByAssigned, InitiatedBy: "u-1",
	}
	for i := range 40 {
		r.Tasks = append(r.Tasks, event.ReassignedTask{ID: fmt.Sprint(i), Revision: 1, Source: "manual", DueAt: &due,
			Title: strings.Repeat("\x01", 60_000), URL: "https://example.com/" + strings.Repeat("ü", 300_000)})
	}
	id := 0
	messages := r.Messages(func() string { id++; return fmt.Sprint(id) })
	n := 0
	for _, m := range messages {
		got, err := event.DecodeTaskReassigned(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, task := range got.Tasks {
			if len(task.Title) != event.MaxTitleLength || task.URL != "" || task.DueAt != nil {
				t.Fatalf("%d characters of title, url %.20q, due %v", len(task.Title), task.URL, task.DueAt)
			}
			n++
		}
	}
	if n != len(r.Tasks) {
		t.Fatalf("%d of %d tasks", n, len(r.Tasks))
	}
	if none := (event.TaskReassigned{}).Messages(nil); none != nil {
		t.Fatalf("no tasks: %v", none)
	}
}

func TestTimeIsCutToMicroseconds(t *testing.T) {
	t.Parallel()
	c := valid()
	c.Time = time.Date(2026, 1, 2, 3, 4, 5, 123_456_789, time.FixedZone("", 2*3600))
	m := message(t, c)
	if !bytes.Contains(m.Body, []byte(`"time":"2026-01-02T01:04:05.123456Z"`)) {
		t.Errorf("written as %s", m.Body)
	}
	for _, m := range []event.Message{m, binary(t, m)} {
		m.Body = bytes.Replace(m.Body, []byte(`05.123456Z`), []byte(`05.1234569999Z`), 1)
		got, err := event.DecodeAccountRoleChanged(m)
		if err != nil || got.Time != time.Date(2026, 1, 2, 1, 4, 5, 123_456_000, time.UTC) {
			t.Errorf("read as %v, %v", got.Time, err)
		}
	}
}

func TestTraceThatIsNoneIsLeftOut(t *testing.T) {
	t.Parallel()
	c := valid()
	c.Traceparent = "not a trace\r\n"
	got, err := event.DecodeAccountRoleChanged(message(t, c))
	if err != nil || got.Traceparent != "" {
		t.Errorf("written: %q, %v", got.Traceparent, err)
	}
	c.Traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	m := binary(t, message(t, c))
	m.Header["ce-traceparent"] = []string{"nonsense"}
	if got, err := event.DecodeAccountRoleChanged(m); err != nil || got.Traceparent != "" {
		t.Errorf("read: %q, %v", got.Traceparent, err)
	}
}
