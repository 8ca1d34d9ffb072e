package event_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"handover.io/pkg/event"
)

func valid() event.AccountRoleChanged {
	return event.AccountRoleChanged{
		ID: "1", Source: "//crm.example.com", Time: time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC), TenantID: "demo",
		AccountID: "a-1", Role: "success_manager", PreviousOwnerID: "u-1", NewOwnerID: "u-2", Reason: event.ByAPI, InitiatedBy: "u-9",
	}
}

// with is the valid event as JSON with some members replaced; "data." members are those of the data, nil removes.
func with(members map[string]any) []byte {
	c := valid()
	m, err := c.Message(event.SubjectRoleChanged(c.TenantID))
	if err != nil {
		panic(err)
	}
	return replaced(m.Body, members)
}

func replaced(body []byte, members map[string]any) []byte {
	var envelope map[string]any
	if err := json.Unmarshal(body, &envelope); err != nil {
		panic(err)
	}
	for name, value := range members {
		into := envelope
		if rest, ok := strings.CutPrefix(name, "data."); ok {
			into, name = envelope["data"].(map[string]any), rest
		}
		if into[name] = value; value == nil {
			delete(into, name)
		}
	}
	out, err := json.Marshal(envelope)
	if err != nil {
		panic(err)
	}
	return out
}

type object = map[string]any

var null = json.RawMessage("null")

func TestBadRoleChangeIsRefusedWithFieldAndRemedy(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", event.MaxIDLength+1)
	for name, c := range map[string]struct {
		body   []byte
		reason string
		field  string
		remedy string
	}{
		"nothing":              {nil, event.ReasonNotCloudEvent, "", "not JSON"},
		"not JSON":             {[]byte(`hello`), event.ReasonNotCloudEvent, "", "not JSON"},
		"half":                 {[]byte(`{"specversion":"1.0"`), event.ReasonNotCloudEvent, "", "not JSON"},
		"two":                  {append(with(nil), with(nil)...), event.ReasonNotCloudEvent, "", "not JSON"},
		"byte order mark":      {append([]byte("\ufeff"), with(nil)...), event.ReasonNotCloudEvent, "", "not JSON"},
		"a list":               {[]byte(`[]`), event.ReasonNotCloudEvent, "", "must be an object, not an array"},
		"null":                 {[]byte(`null`), event.ReasonNotCloudEvent, "", "must be an object, not null"},
		"no UTF-8":             {with(object{"id": json.RawMessage("\"\xff\"")}), event.ReasonNotCloudEvent, "", "UTF-8"},
		"deep":                 {[]byte(strings.Repeat("[", 100_000)), event.ReasonNotCloudEvent, "", "not JSON"},
		"huge":                 {with(object{"note": strings.Repeat("x", 1<<20)}), event.ReasonInvalid, "", "larger than 256 KB"},
		"no specversion":       {with(object{"specversion": nil}), event.ReasonNotCloudEvent, "specversion", `must be "1.0"`},
		"old specversion":      {with(object{"specversion": "0.3"}), event.ReasonNotCloudEvent, "specversion", `must be "1.0"`},
		"specversion a number": {with(object{"specversion": 1.0}), event.ReasonNotCloudEvent, "specversion", "a string, not the number"},
		"no id":                {with(object{"id": nil}), event.ReasonNotCloudEvent, "id", "is required"},
		"blank id":             {with(object{"id": "  "}), event.ReasonNotCloudEvent, "id", "is required"},
		"id a number":          {with(object{"id": 1}), event.ReasonNotCloudEvent, "id", "a string, not the number"},
		"id twice":             {[]byte(strings.Replace(string(with(nil)), `"id":"1"`, `"id":"1","id":"1"`, 1)), event.ReasonNotCloudEvent, "id", "is there twice"},
		"long id":              {with(object{"id": strings.Repeat("x", 513)}), event.ReasonNotCloudEvent, "id", "longer than 512"},
		"id with line break":   {with(object{"id": "a\nb"}), event.ReasonNotCloudEvent, "id", "control character"},
		"no source":            {with(object{"source": nil}), event.ReasonNotCloudEvent, "source", "is required"},
		"source no URI":        {with(object{"source": "%zz"}), event.ReasonNotCloudEvent, "source", "not a URI reference"},
		"no type":              {with(object{"type": nil}), event.ReasonNotCloudEvent, "type", "is required"},
		"other type":           {with(object{"type": "io.example.other"}), event.ReasonUnknownType, "type", `is "io.example.other"`},
		"the other event":      {with(object{"type": event.TypeTaskReassigned}), event.ReasonUnknownType, "type", event.TypeAccountRoleChanged},
		"no time":              {with(object{"time": nil}), event.ReasonInvalid, "time", "is required"},
		"time no time":         {with(object{"time": "yesterday"}), event.ReasonNotCloudEvent, "time", "RFC 3339"},
		"time without zone":    {with(object{"time": "2026-03-01T09:00:00"}), event.ReasonNotCloudEvent, "time", "RFC 3339"},
		"time with comma":      {with(object{"time": "2026-03-01T09:00:00,5Z"}), event.ReasonNotCloudEvent, "time", "RFC 3339"},
		"time at one digit":    {with(object{"time": "2026-03-01T9:00:00Z"}), event.ReasonNotCloudEvent, "time", "RFC 3339"},
		"time far off":         {with(object{"time": "2026-03-01T09:00:00+24:00"}), event.ReasonNotCloudEvent, "time", "RFC 3339"},
		"time a number":        {with(object{"time": 1772355600}), event.ReasonNotCloudEvent, "time", "a string, not the number"},
		"time before 1970":     {with(object{"time": "1969-12-31T23:59:59Z"}), event.ReasonInvalid, "time", "1970"},
		"sequence a number":    {with(object{"sequence": 5}), event.ReasonNotCloudEvent, "sequence", "a string, not the number"},
		"long sequence":        {with(object{"sequence": strings.Repeat("1", 513)}), event.ReasonInvalid, "sequence", "512 bytes"},
		"data of XML":          {with(object{"datacontenttype": "text/xml"}), event.ReasonInvalid, "datacontenttype", "application/json"},
		"content type of junk": {with(object{"datacontenttype": "json; ="}), event.ReasonInvalid, "datacontenttype", "application/json"},
		"no data":              {with(object{"data": nil}), event.ReasonInvalid, "data", "is missing"},
		"data null":            {with(object{"data": null}), event.ReasonInvalid, "data", "is missing"},
		"data a text":          {with(object{"data": "{}"}), event.ReasonInvalid, "data", "must be an object, not a string"},
		"data a list":          {with(object{"data": []int{1}}), event.ReasonInvalid, "data", "must be an object, not an array"},
		"base64 a number":      {with(object{"data": nil, "data_base64": 1}), event.ReasonNotCloudEvent, "data_base64", "a string, not the number"},
		"base64 of nothing":    {with(object{"data": nil, "data_base64": "!"}), event.ReasonNotCloudEvent, "data_base64", "not Base64"},
		"base64 of no JSON":    {with(object{"data": nil, "data_base64": "AAAA"}), event.ReasonInvalid, "data", "not JSON"},
		"both data":            {with(object{"data_base64": "e30="}), event.ReasonNotCloudEvent, "data_base64", "give one of them"},

		"no tenant":             {with(object{"data.tenant_id": nil}), event.ReasonInvalid, "data.tenant_id", "is required"},
		"tenant in capitals":    {with(object{"data.tenant_id": "Demo"}), event.ReasonInvalid, "data.tenant_id", "must match"},
		"member in capitals":    {with(object{"data.tenant_id": nil, "data.Tenant_ID": "demo"}), event.ReasonInvalid, "data.tenant_id", "is required"},
		"another tenant":        {with(object{"data.tenant_id": "globex"}), event.ReasonTenantMismatch, "data.tenant_id", "which wins"},
		"no account":            {with(object{"data.account_id": nil}), event.ReasonInvalid, "data.account_id", "is required"},
		"account null":          {with(object{"data.account_id": null}), event.ReasonInvalid, "data.account_id", "a string, not null"},
		"account a list":        {with(object{"data.account_id": []string{"a"}}), event.ReasonInvalid, "data.account_id", "a string, not an array"},
		"account empty":         {with(object{"data.account_id": ""}), event.ReasonInvalid, "data.account_id", "is empty"},
		"account a path":        {with(object{"data.account_id": ".."}), event.ReasonInvalid, "data.account_id", "must not be"},
		"account too long":      {with(object{"data.account_id": long}), event.ReasonInvalid, "data.account_id", "longer than 128"},
		"account with NUL":      {with(object{"data.account_id": "a\x00"}), event.ReasonInvalid, "data.account_id", "control character"},
		"account twice":         {[]byte(strings.Replace(string(with(nil)), `"account_id"`, `"account_id":"a","account_id"`, 1)), event.ReasonInvalid, "data.account_id", "is there twice"},
		"no role":               {with(object{"data.role": nil}), event.ReasonInvalid, "data.role", "is required with the reason"},
		"role empty":            {with(object{"data.role": ""}), event.ReasonInvalid, "data.role", "leave it out"},
		"previous owner empty":  {with(object{"data.previous_owner_id": ""}), event.ReasonInvalid, "data.previous_owner_id", "leave it out"},
		"no new owner":          {with(object{"data.new_owner_id": nil}), event.ReasonInvalid, "data.new_owner_id", "null means nobody"},
		"new owner empty":       {with(object{"data.new_owner_id": ""}), event.ReasonInvalid, "data.new_owner_id", "is empty"},
		"new owner a boolean":   {with(object{"data.new_owner_id": true}), event.ReasonInvalid, "data.new_owner_id", "a string, not a boolean"},
		"no reason":             {with(object{"data.reason": nil}), event.ReasonInvalid, "data.reason", "is required"},
		"unknown reason":        {with(object{"data.reason": "whim"}), event.ReasonInvalid, "data.reason", "must be one of api,"},
		"no initiator":          {with(object{"data.initiated_by": nil}), event.ReasonInvalid, "data.initiated_by", "is required"},
		"unknown policy":        {with(object{"data.tasks": "move"}), event.ReasonInvalid, "data.tasks", "must be one of keep_tasks,"},
		"operation an object":   {with(object{"data.operation_id": object{}}), event.ReasonInvalid, "data.operation_id", "a string, not an object"},
		"nobody's tasks":        {with(object{"data.role": nil, "data.reason": event.ByUserDeleted, "data.previous_owner_id": nil}), event.ReasonInvalid, "data.previous_owner_id", "is required"},
		"nobody's tasks (null)": {with(object{"data.role": null, "data.reason": event.ByUserDeleted, "data.previous_owner_id": null}), event.ReasonInvalid, "data.previous_owner_id", "is required"},
	} {
		_, err := event.DecodeAccountRoleChanged(event.Message{Subject: event.SubjectRoleChanged("demo"), Body: c.body})
		expectInvalid(t, name, err, c.reason, c.field, c.remedy)
	}
}

func expectInvalid(t *testing.T, name string, err error, reason, field, remedy string) {
	t.Helper()
	var wrong *event.Invalid
	if !errors.As(err, &wrong) {
		t.Errorf("%s: got %v", name, err)
		return
	}
	if wrong.Reason != reason || wrong.Field != field || !strings.Contains(wrong.Remedy, remedy) {
		t.Errorf("%s: got %s of %q: %s\nwant %s of %q: …%s…", name, wrong.Reason, wrong.Field, wrong.Remedy, reason, field, remedy)
	}
	if len(wrong.Remedy) > 600 {
		t.Errorf("%s: the remedy has %d bytes", name, len(wrong.Remedy))
	}
}

func TestTolerableRoleChangeIsRead(t *testing.T) {
	t.Parallel()
	body := with(nil)
	for name, m := range map[string]event.Message{
		"without a subject":      {Body: body},
		"parameters":             {Body: body, Header: map[string][]string{"content-TYPE": {"application/cloudevents+json; charset=UTF-8"}}},
		"spaces":                 {Body: []byte("\n " + strings.ReplaceAll(strings.ReplaceAll(string(body), `":`, "\" :\t"), `,"`, " ,\r\n\"") + " \n")},
		"further members":        {Body: with(object{"my_own": object{"a": []int{1}}, "": 1, "data.colour": "red", "data.DATA": []any{"}", "\\\""}})},
		"twice, but ours is not": {Body: []byte(strings.Replace(string(body), `"data":{`, `"data":{"x":1,"x":2,`, 1))},
		"escaped names":          {Body: []byte(strings.ReplaceAll(string(body), `"tenant_id"`, `"tenan\u0074_id"`))},
		"nulls":                  {Body: with(object{"subject": null, "sequence": null, "dataschema": null, "data.operation_id": null, "data.tasks": null})},
		"base64": {Body: with(object{"data": nil, "data_base64": base64.StdEncoding.EncodeToString(
			[]byte(`{"tenant_id":"demo","account_id":"a-1","role":"success_manager","previous_owner_id":"u-1","new_owner_id":"u-2","reason":"api","initiated_by":"u-9"}`))})},
		"no content type":      {Body: with(object{"datacontenttype": nil})},
		"our own content type": {Body: with(object{"datacontenttype": "application/vnd.crm+json; v=1"})},
	} {
		got, err := event.DecodeAccountRoleChanged(m)
		if err != nil || got != valid() {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	c, err := event.DecodeAccountRoleChanged(event.Message{Body: with(object{"data.new_owner_id": null, "data.previous_owner_id": null})})
	if err != nil || c.NewOwnerID != "" || c.PreviousOwnerID != "" {
		t.Errorf("nobody: %+v, %v", c, err)
	}
}

func TestBinaryMode(t *testing.T) {
	t.Parallel()
	base := binary(t, message(t, valid()))
	header := func(changes map[string][]string) map[string][]string {
		out := maps.Clone(base.Header)
		for name, values := range changes {
			if out[name] = values; values == nil {
				delete(out, name)
			}
		}
		return out
	}
	for name, h := range map[string]map[string][]string{
		"as it is":           base.Header,
		"other case":         header(map[string][]string{"ce-id": nil, "CE-Id": {"1"}, "Content-Type": nil, "content-type": {"application/json"}}),
		"percent-encoded":    header(map[string][]string{"ce-source": {"//crm%2Eexample.com"}}),
		"twice the same":     header(map[string][]string{"CE-ID": {"1"}}),
		"no content type":    header(map[string][]string{"Content-Type": nil}),
		"charset":            header(map[string][]string{"Content-Type": {"application/json; charset=utf-8"}}),
		"further attributes": header(map[string][]string{"ce-my_own": {"x", "y"}, "Nats-Msg-Id": {"x"}}),
	} {
		got, err := event.DecodeAccountRoleChanged(event.Message{Subject: base.Subject, Header: h, Body: base.Body})
		if err != nil || got != valid() {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, c := range map[string]struct {
		header                map[string][]string
		body                  string
		reason, field, remedy string
	}{
		"no version":             {header(map[string][]string{"ce-specversion": nil}), "", event.ReasonNotCloudEvent, "Content-Type", "no ce-specversion"},
		"a batch":                {map[string][]string{"Content-Type": {"application/cloudevents-batch+json"}}, "[]", event.ReasonNotCloudEvent, "Content-Type", "send application/cloudevents+json"},
		"content type of junk":   {map[string][]string{"Content-Type": {"//"}}, "{}", event.ReasonNotCloudEvent, "Content-Type", "send application/cloudevents+json"},
		"old version":            {header(map[string][]string{"ce-specversion": {"0.3"}}), "", event.ReasonNotCloudEvent, "specversion", `must be "1.0"`},
		"two ids":                {header(map[string][]string{"ce-id": {"1", "2"}}), "", event.ReasonNotCloudEvent, "ce-id", "twice"},
		"two ids of other case":  {header(map[string][]string{"CE-ID": {"2"}}), "", event.ReasonNotCloudEvent, "ce-id", "twice"},
		"two versions":           {header(map[string][]string{"CE-Specversion": {"2"}}), "", event.ReasonNotCloudEvent, "ce-specversion", "twice"},
		"two content types":      {header(map[string][]string{"content-type": {"text/plain"}}), "", event.ReasonNotCloudEvent, "Content-Type", "twice"},
		"no UTF-8":               {header(map[string][]string{"ce-id": {"%ff"}}), "", event.ReasonNotCloudEvent, "ce-id", "UTF-8"},
		"time no time":           {header(map[string][]string{"ce-time": {"now"}}), "", event.ReasonNotCloudEvent, "time", "RFC 3339"},
		"no time":                {header(map[string][]string{"ce-time": nil}), "", event.ReasonInvalid, "time", "is required"},
		"text":                   {header(map[string][]string{"Content-Type": {"text/plain"}}), "", event.ReasonInvalid, "datacontenttype", "application/json"},
		"data of no JSON":        {base.Header, "{", event.ReasonInvalid, "data", "not JSON"},
		"data of no UTF-8":       {base.Header, "\"\xff\"", event.ReasonNotCloudEvent, "data", "UTF-8"},
		"data a structured mode": {base.Header, string(with(nil)), event.ReasonInvalid, "data.tenant_id", "is required"},
	} {
		body := base.Body
		if c.body != "" {
			body = []byte(c.body)
		}
		_, err := event.DecodeAccountRoleChanged(event.Message{Subject: base.Subject, Header: c.header, Body: body})
		expectInvalid(t, name, err, c.reason, c.field, c.remedy)
	}
	if m := (event.Message{Header: map[string][]string{"b": {}, "CE-ID": {"2"}, "Ce-Id": {"3"}}}); m.Get("ce-id") != "2" || m.Get("Ce-Id") != "3" || m.Get("x") != "" {
		t.Error("Get depends on the order of a map")
	}
}

func TestBadAnnouncementIsRefusedWithFieldAndRemedy(t *testing.T) {
	t.Parallel()
	r := event.TaskReassigned{
		Source: event.SourceHandover, Time: time.Unix(1e9, 0), TenantID: "demo", AccountID: "a-1", FromID: "u-1", ToID: "u-2",
		Reason: event.ByAPI, InitiatedBy: "u-9", Policy: "move_all_tasks",
		RoleChange: &event.RoleChangeRef{Source: "//crm", ID: "1", Role: "success_manager", OccurredAt: time.Unix(1e9, 0)},
		Tasks:      []event.ReassignedTask{{ID: "t-1", Revision: 1, Title: "Call", Source: "manual"}},
	}
	m := r.Messages(func() string { return "1" })
	task := func(members object) object {
		all := object{"id": "t-1", "revision": 1, "title": "Call", "source": "manual"}
		maps.Copy(all, members)
		return object{"data.tasks": []any{all}}
	}
	var many []any
	for i := range event.MaxTasksPerEvent + 1 {
		many = append(many, object{"id": fmt.Sprint(i), "revision": 1, "title": "", "source": "manual"})
	}
	change := func(members object) object {
		all := object{"source": "//crm", "id": "1", "occurred_at": "2026-01-01T00:00:00Z"}
		maps.Copy(all, members)
		return object{"data.role_change": all}
	}
	for name, c := range map[string]struct {
		members               object
		reason, field, remedy string
	}{
		"other type":            {object{"type": event.TypeAccountRoleChanged}, event.ReasonUnknownType, "type", event.TypeTaskReassigned},
		"no time":               {object{"time": nil}, event.ReasonInvalid, "time", "is required"},
		"no tenant":             {object{"data.tenant_id": nil}, event.ReasonInvalid, "data.tenant_id", "is required"},
		"another tenant":        {object{"data.tenant_id": "globex"}, event.ReasonTenantMismatch, "data.tenant_id", "which wins"},
		"account empty":         {object{"data.account_id": ""}, event.ReasonInvalid, "data.account_id", "is empty"},
		"no previous assignee":  {object{"data.from_id": nil}, event.ReasonInvalid, "data.from_id", "null means that nobody had"},
		"no new assignee":       {object{"data.to_id": nil}, event.ReasonInvalid, "data.to_id", "null means that nobody has"},
		"new assignee with NUL": {object{"data.to_id": "\x00"}, event.ReasonInvalid, "data.to_id", "control"},
		"unknown reason":        {object{"data.reason": "synced"}, event.ReasonInvalid, "data.reason", "must be one of api,"},
		"no initiator":          {object{"data.initiated_by": nil}, event.ReasonInvalid, "data.initiated_by", "is required"},
		"no correction":         {object{"data.correction": nil}, event.ReasonInvalid, "data.correction", "is required"},
		"correction a text":     {object{"data.correction": "true"}, event.ReasonInvalid, "data.correction", "true or false, not a string"},
		"silent a text":         {object{"data.silent": "true"}, event.ReasonInvalid, "data.silent", "true or false, not a string"},
		"no policy":             {object{"data.policy": nil}, event.ReasonInvalid, "data.policy", "must be one of keep_tasks,"},
		"no role change":        {object{"data.role_change": nil}, event.ReasonInvalid, "data.role_change", "is required with the reason"},
		"role change a text":    {object{"data.role_change": "1"}, event.ReasonInvalid, "data.role_change", "an object, not a string"},
		"assigned by a change":  {object{"data.reason": "assigned", "data.policy": nil}, event.ReasonInvalid, "data.role_change", "must be absent"},
		"assigned by a policy":  {object{"data.reason": "assigned", "data.role_change": nil}, event.ReasonInvalid, "data.policy", "must be absent"},
		"change without id":     {change(object{"id": ""}), event.ReasonInvalid, "data.role_change.id", "must be 1 to 512"},
		"change without source": {change(object{"source": ""}), event.ReasonInvalid, "data.role_change.source", "must be 1 to 512"},
		"change without time":   {change(object{"occurred_at": nil}), event.ReasonInvalid, "data.role_change.occurred_at", "is required"},
		"change at no time":     {change(object{"occurred_at": "2026-02-30T00:00:00Z"}), event.ReasonInvalid, "data.role_change.occurred_at", "RFC 3339"},
		"no tasks":              {object{"data.tasks": nil}, event.ReasonInvalid, "data.tasks", "is required"},
		"tasks null":            {object{"data.tasks": null}, event.ReasonInvalid, "data.tasks", "an array, not null"},
		"tasks empty":           {object{"data.tasks": []any{}}, event.ReasonInvalid, "data.tasks", "1 to 256"},
		"too many tasks":        {object{"data.tasks": many}, event.ReasonInvalid, "data.tasks", "1 to 256"},
		"tasks of ids":          {object{"data.tasks": []any{"t-1"}}, event.ReasonInvalid, "data.tasks[0]", "an object, not a string"},
		"task without id":       {task(object{"id": ""}), event.ReasonInvalid, "data.tasks[0].id", "is empty"},
		"revision a text":       {task(object{"revision": "1"}), event.ReasonInvalid, "data.tasks[0].revision", "whole number"},
		"revision a half":       {task(object{"revision": 1.5}), event.ReasonInvalid, "data.tasks[0].revision", "whole number"},
		"revision zero":         {task(object{"revision": 0}), event.ReasonInvalid, "data.tasks[0].revision", "must be 1 to"},
		"revision endless":      {task(object{"revision": json.RawMessage("1e999999999")}), event.ReasonInvalid, "data.tasks[0].revision", "whole number"},
		"revision not exact":    {task(object{"revision": 1 << 53}), event.ReasonInvalid, "data.tasks[0].revision", "must be 1 to"},
		"long title":            {task(object{"title": strings.Repeat("x", 501)}), event.ReasonInvalid, "data.tasks[0].title", "longer than 500"},
		"title with NUL":        {task(object{"title": "\x00"}), event.ReasonInvalid, "data.tasks[0].title", "U+0000"},
		"long url":              {task(object{"url": strings.Repeat("x", 2001)}), event.ReasonInvalid, "data.tasks[0].url", "longer than 2000"},
		"due on no day":         {task(object{"due_at": "soon"}), event.ReasonInvalid, "data.tasks[0].due_at", "RFC 3339"},
	} {
		_, err := event.DecodeTaskReassigned(event.Message{Subject: event.SubjectTaskReassigned("demo"), Body: replaced(m[0].Body, c.members)})
		expectInvalid(t, name, err, c.reason, c.field, c.remedy)
	}
	for _, whole := range []string{"7", "7.0", "7e0", "0.7e1", "70E-1"} {
		got, err := event.DecodeTaskReassigned(event.Message{Body: replaced(m[0].Body, task(object{"revision": json.RawMessage(whole)}))})
		if err != nil || got.Tasks[0].Revision != 7 {
			t.Errorf("revision %s: %v, %v", whole, got.Tasks, err)
		}
	}
}

func TestBadRoleChangeIsNotWritten(t *testing.T) {
	t.Parallel()
	for field, spoil := range map[string]func(*event.AccountRoleChanged){
		"id":                     func(c *event.AccountRoleChanged) { c.ID = "\xff" },
		"source":                 func(c *event.AccountRoleChanged) { c.Source = "%" },
		"sequence":               func(c *event.AccountRoleChanged) { c.Sequence = "\xff" },
		"time":                   func(c *event.AccountRoleChanged) { c.Time = time.Time{} },
		"data.tenant_id":         func(c *event.AccountRoleChanged) { c.TenantID = strings.Repeat("a", 64) },
		"data.account_id":        func(c *event.AccountRoleChanged) { c.AccountID = "\xff" },
		"data.role":              func(c *event.AccountRoleChanged) { c.Role = "" },
		"data.previous_owner_id": func(c *event.AccountRoleChanged) { c.PreviousOwnerID = "." },
		"data.new_owner_id":      func(c *event.AccountRoleChanged) { c.NewOwnerID = "\u0085" },
		"data.reason":            func(c *event.AccountRoleChanged) { c.Reason = "" },
		"data.initiated_by":      func(c *event.AccountRoleChanged) { c.InitiatedBy = "" },
		"data.operation_id":      func(c *event.AccountRoleChanged) { c.OperationID = "\t" },
		"data.tasks":             func(c *event.AccountRoleChanged) { c.Tasks = "none" },
	} {
		c := valid()
		spoil(&c)
		_, err := c.Message(event.SubjectRoleChanged(c.TenantID))
		expectInvalid(t, field, err, event.ReasonInvalid, field, "")
	}
}

func TestTenantIsTheLastTokenOfTheSubject(t *testing.T) {
	t.Parallel()
	for subject, want := range map[string]string{
		event.SubjectRoleChanged("demo"): "demo", event.SubjectRoleBulk("a-1"): "a-1", event.SubjectTaskReassigned("demo"): "demo",
		event.SubjectDead(event.ConsumerReassigner, "demo"): "demo", "demo": "demo", "": "", "handover.role.changed.": "", "a.B": "", "a.-b": "", "a.b c": "",
	} {
		if got := event.TenantOf(subject); got != want {
			t.Errorf("%q: %q, want %q", subject, got, want)
		}
	}
}
