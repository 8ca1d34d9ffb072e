package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/reassign"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// letterbox is a database with the tenant acme and the user bob, a reassigner that handles what is handed to it, and the
// command.
type letterbox struct {
	*testing.T
	pool    *pgxpool.Pool
	environ []string
	r       *reassign.Reassigner
}

func newLetterbox(t *testing.T) *letterbox {
	t.Helper()
	b := &letterbox{T: t, pool: testkit.Postgres(t)}
	b.environ = []string{"HANDOVER_DATABASE_URL=" + b.pool.Config().ConnString(), "HANDOVER_DATA_DIR=" + t.TempDir()}
	b.r = reassign.New(b.pool, reassign.Config{Consumer: event.ConsumerReassigner, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	testkit.Exec(t, b.pool, `INSERT INTO tenants (tenant_id) VALUES ('acme')`)
	testkit.Exec(t, b.pool, `INSERT INTO users (tenant_id, user_id, name) VALUES ('acme', 'bob', 'Bob')`)
	return b
}

func (b *letterbox) deliver(messages ...event.Message) {
	b.Helper()
	for i := range messages {
		messages[i].Stream, messages[i].Sequence = event.StreamRoleChanges, uint64(i+1)
		if messages[i].Subject == "" {
			messages[i].Subject = event.SubjectRoleChanged("acme")
		}
	}
	if err := b.r.Handle(b.Context(), messages); err != nil {
		b.Fatal(err)
	}
}

// handleRetries is a reassigner at work, until the returned function is called.
func (b *letterbox) handleRetries() (stop func()) {
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	relay := journal.NewRelay(b.pool, func(ctx context.Context, messages []event.Message) ([]event.Stored, error) {
		stored := make([]event.Stored, len(messages))
		var changes []event.Message
		for i, m := range messages {
			stored[i] = event.Stored{Stream: event.StreamRoleChanges, Sequence: uint64(i + 1)}
			if m.Subject == event.SubjectRoleChanged("acme") {
				changes = append(changes, m)
			}
		}
		return stored, b.r.Handle(ctx, changes)
	}, zap.NewNop())
	go func() {
		for ctx.Err() == nil {
			if _, err := relay.Sweep(ctx, 0); err != nil && ctx.Err() == nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
}

// give gives a command, wants that exit code, and returns all it printed.
func (b *letterbox) give(code int, args ...string) string {
	b.Helper()
	var out, errs bytes.Buffer
	got := Main(b.Context(), append([]string{"dead-letters"}, args...), b.environ, strings.NewReader(""), &out, &errs)
	if got != code {
		b.Errorf("%v: exit %d, want %d\n%s%s", args, got, code, &out, &errs)
	}
	for _, r := range out.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			b.Errorf("%v prints %U:\n%q", args, r, out.String())
		}
	}
	return out.String() + errs.String()
}

func (b *letterbox) says(code int, want string, args ...string) {
	b.Helper()
	if said := b.give(code, args...); !strings.Contains(said, want) {
		b.Errorf("%v: no %q in\n%s", args, want, said)
	}
}

func (b *letterbox) states() string {
	b.Helper()
	return strings.Join(testkit.All[string](b, b.pool, `SELECT format('%s %s %s', key, reason, state) FROM dead_letters ORDER BY key`), ", ")
}

func changeTo(b *letterbox, id, owner, tasks string) event.Message {
	b.Helper()
	c := event.AccountRoleChanged{
		ID: id, Source: "//crm.example", Time: testkit.One[time.Time](b, b.pool, `SELECT clock_timestamp()`), TenantID: "acme", AccountID: "a-" + id, Role: "success_manager",
		NewOwnerID: owner, Reason: event.ByAPI, InitiatedBy: "crm", Tasks: tasks,
	}
	m, err := c.Message(event.SubjectRoleChanged("acme"))
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// Everything that an operator does with dead letters, without a broker and with a reassigner that can be stopped.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	b := newLetterbox(t)
	hostile := event.Message{Header: map[string][]string{"X-\x1b[31m": {"\u202e\u009b2J"}}, Body: []byte("\x1b]0;owned\a{\xff")}
	hostileJSON := event.Message{Body: []byte("{\"specversion\":\"1.0\",\"id\":\"7\",\"subject\":\"\u009b2J\u202e\",\"source\":\"//x\",\"type\":\"\u202eevil\",\"data\":{}}")}
	b.deliver(changeTo(b, "1", "zoe", ""), changeTo(b, "2", "bob", "move_all_tasks"), hostile, hostileJSON)
	const all = "1 owner_unknown dead, 2 override_refused dead, 3 not_cloudevent dead, 4 unknown_type dead"
	if diff := cmp.Diff(all, b.states()); diff != "" {
		t.Fatal(diff)
	}
	const unknown, garbage, odd = "1", "3", "4"

	b.says(0, "owner_unknown", "list", "--summary")
	b.says(0, "There are more: give --after 1", "list", "--limit", "1")
	b.says(0, `"reason":"override_refused"`, "list", "--json", "--reason", "override_refused", "--tenant", "acme", "--since", "1h")
	b.says(0, "There are no such dead letters", "list", "--older-than", "1d")
	b.says(0, "Sync the user: that retries this by itself", "show", unknown)
	for key, last := range map[string]string{unknown: "done with it", garbage: "retry it"} {
		var offers []string
		for line := range strings.Lines(b.give(0, "show", key)) {
			if strings.Contains(line, "handover dead-letters ") && strings.HasPrefix(line, "  ") {
				offers = append(offers, line)
			}
		}
		if len(offers) != 3 || !strings.Contains(offers[2], last) {
			t.Errorf("offered for %s: %q", key, offers)
		}
	}
	b.says(0, `\x1b]0;owned\a{\xff`, "show", garbage)
	b.says(0, `"body_base64"`, "show", garbage, "--json")
	b.says(0, `"subject": "\u009b2J\u202e"`, "show", odd)
	b.says(0, `is "\u202eevil"`, "list", "--reason", "unknown_type")
	b.give(0, "export", "--all")

	// Wrong command lines do nothing and say which flag.
	for want, args := range map[string][]string{
		"--reason":                            {"list", "--reason", "nope"},
		"--state":                             {"list", "--state", "nope"},
		"--consumer":                          {"list", "--consumer", "nope"},
		"--since":                             {"list", "--since", "yesterday"},
		"--older-than":                        {"list", "--older-than", "-2h"},
		"--limit":                             {"list", "--limit", "0"},
		"--tenant":                            {"list", "--tenant", "ACME"},
		`--tenant: there is no tenant "nope"`: {"list", "--tenant", "nope"},
		"KEY":                                 {"show", "x"},
		"keys or filters":                     {"retry", "1", "--reason", "invalid"},
		"or --all":                            {"retry", "--apply"},
		"--because":                           {"drop", "--all", "--apply"},
		"which dead lette":                    {"export"},
	} {
		b.says(2, want, args...)
	}
	b.says(1, "KEY 99: there is no such dead letter; handover dead-letters list --state all shows the keys", "retry", unknown, "99", "--apply")
	b.says(1, "KEY 98: there is no such dead letter; handover", "show", "98")
	testkit.Exec(t, b.pool, `INSERT INTO tenants (tenant_id) VALUES ('other')`)
	b.says(1, "KEY 1: there is no such dead letter of tenant other; handover", "drop", unknown, "--tenant", "other")

	// Only shown.
	b.says(0, "Nothing was done: with --apply, 1 dead letter would be retried.", "retry", unknown)
	b.says(0, "sure to fail again", "retry", garbage)
	b.says(0, "Nothing was done: with --apply, 4 dead letters would be dropped.", "drop", "--all")
	if after := b.states(); after != all {
		t.Errorf("showing made of it %s", after)
	}

	// Nobody handles it.
	b.says(1, unknown+"  under way", "retry", unknown, "--apply", "--wait", "50ms")
	b.says(0, unknown, "list", "--state", "retried")
	const left = "1 is under way (retried) and was left; look again"
	b.says(0, left, "drop", "--reason", "owner_unknown", "--because", "x")
	b.says(0, left, "drop", "--reason", "owner_unknown", "--because", "x", "--apply")
	b.says(0, `{"left_under_way":1}`, "drop", "--reason", "owner_unknown", "--because", "x", "--apply", "--json")
	b.says(0, left, "export", "--reason", "owner_unknown")
	b.says(0, `"left_under_way": 1`, "export", "--reason", "owner_unknown", "--output", filepath.Join(t.TempDir(), "x"), "--json")
	if said := b.give(0, "drop", "--reason", "override_refused"); strings.Contains(said, "under way") {
		t.Errorf("none is under way: %s", said)
	}

	stop := b.handleRetries()
	b.says(1, "dead again: owner_unknown", "retry", unknown, "--apply", "--as", "ops")
	testkit.Exec(t, b.pool, `INSERT INTO users (tenant_id, user_id, name, status, left_at) VALUES ('acme', 'zoe', 'Zoe', 'disabled', '2026-01-01')`)
	b.says(1, "for another reason: owner_unavailable", "retry", unknown, "--apply")
	other := testkit.One[string](t, b.pool, `SELECT superseded_by::text FROM dead_letters WHERE key = 1`)
	testkit.Exec(t, b.pool, `UPDATE users SET status = 'active', left_at = NULL WHERE user_id = 'zoe'`)
	testkit.Exec(t, b.pool, `UPDATE tenants SET allow_task_override = true`)
	b.says(0, "Retried: 1 recorded", "retry", "--reason", "override_refused", "--tenant", "acme", "--apply")
	b.says(0, `{"key":`+other+`,"came_of_it":"recorded","tasks_moved":0`, "retry", other, "--apply", "--json")
	b.says(0, "1 left as they were", "retry", other, "--apply")
	b.says(0, "resolved", "list", "--state", "resolved")
	stop()

	b.says(0, "Dead letters: 1 dropped.", "drop", garbage, "--because", "a scanner\x1b[1m", "--apply")
	b.says(0, `a scanner\x1b[1m`, "list", "--state", "dropped")
	if n := testkit.One[int](t, b.pool, `SELECT count(*) FROM role_changes`); n != 2 {
		t.Errorf("%d role changes", n)
	}

	// Each command with --apply is on record, with who gave it.
	runs, err := journal.Runs(t.Context(), b.pool, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	var did []string
	for _, r := range runs {
		did = append(did, r.Command+" "+r.State+" "+string(r.Counts))
	}
	want := []string{
		`dead-letters drop done {"dropped": 1, "left_as_they_were": 0}`,
		`dead-letters retry done {"left_as_they_were": 1}`,
		`dead-letters retry done {"recorded": 1, "tasks_moved": 0}`,
		`dead-letters retry done {"recorded": 1, "tasks_moved": 0}`,
		`dead-letters retry done {"dead_otherwise": 1}`,
		`dead-letters retry done {"dead_again": 1}`,
		`dead-letters drop done {}`,
		`dead-letters drop done {}`,
		`dead-letters retry failed {"under_way": 1}`,
	}
	if diff := cmp.Diff(want, did); diff != "" || runs[5].Actor != "ops" {
		t.Errorf("on record, by %s:\n%s", runs[5].Actor, diff)
	}
}

// Two operators who retry the same letters at once send them once.
func TestOneRetriesAtATime(t *testing.T) {
	t.Parallel()
	b := newLetterbox(t)
	b.deliver(changeTo(b, "1", "zoe", ""))
	ended := make(chan int)
	go func() {
		var out, errs bytes.Buffer
		ended <- Main(b.Context(), []string{"dead-letters", "retry", "--all", "--apply", "--as", "ann", "--wait", "1m"}, b.environ, nil, &out, &errs)
	}()
	testkit.Eventually(t, "the first is at it", func() (bool, string) { return b.states() == "1 owner_unknown retried", b.states() })
	b.says(1, "another retry is under way (run 1 by ann), and nothing was done", "retry", "1", "--apply", "--as", "zoe")
	b.says(0, "would be retried", "retry", "1")
	stop := b.handleRetries()
	if code := <-ended; code != 1 { // dead again
		t.Errorf("the first: exit %d", code)
	}
	b.says(1, "dead again", "retry", "1", "--apply", "--as", "zoe")
	stop()
	if n := testkit.One[int](t, b.pool, `SELECT retries FROM dead_letters`); n != 2 {
		t.Errorf("sent %d times by two retries", n)
	}
}

// What is exported is written in structured mode, whatever mode it came in, and read again it says the same.
func TestExportedLetterIsTheSameEvent(t *testing.T) {
	t.Parallel()
	b := newLetterbox(t)
	structured := changeTo(b, "1", "zoe", "")
	c, err := event.DecodeAccountRoleChanged(structured)
	if err != nil {
		t.Fatal(err)
	}
	binary := event.Message{Header: map[string][]string{
		"Ce-SpecVersion": {"1.0"}, "ce-id": {"50%25 b"}, "ce-source": {"//crm.example"}, "ce-type": {event.TypeAccountRoleChanged},
		"ce-time": {c.Time.Format("2006-01-02T15:04:05.999999Z07:00")}, "Content-Type": {"application/json"}, "ce-deadletter": {"forged"},
	}, Body: []byte(`{"tenant_id": "acme", "account_id": "b", "role": "r", "new_owner_id": "zoe", "reason": "api", "initiated_by": "crm"}`)}
	wanted, err := event.DecodeAccountRoleChanged(binary)
	if err != nil {
		t.Fatal(err)
	}
	b.deliver(structured, binary)
	file := filepath.Join(t.TempDir(), "mend.ndjson")
	b.says(0, "published unmended becomes a dead letter again", "export", "--all")
	b.says(0, "published unmended becomes a dead letter again", "export", "--all", "--output", file+".too")
	b.says(0, "Wrote 2 dead letters to", "export", "--all", "--output", file)
	b.says(1, "is there already", "export", "--all", "--output", file)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []event.AccountRoleChanged
	for line := range bytes.Lines(text) {
		read, err := event.DecodeAccountRoleChanged(event.Message{Body: line})
		if err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got = append(got, read)
		var why struct{ DeadLetter, DeadReason, DeadDetail string }
		if err := json.Unmarshal(line, &why); err != nil || why.DeadReason != event.ReasonOwnerUnknown || why.DeadLetter == "forged" || why.DeadDetail == "" {
			t.Errorf("%v %+v", err, why)
		}
	}
	if diff := cmp.Diff([]event.AccountRoleChanged{c, wanted}, got); diff != "" {
		if diff := cmp.Diff([]event.AccountRoleChanged{wanted, c}, got); diff != "" {
			t.Error(diff)
		}
	}
}
