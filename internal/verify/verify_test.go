package verify_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/testkit"
	"handover.io/internal/verify"
	"handover.io/pkg/event"
)

// damage is one way of breaking a healthy database, what verify then says, and how it is mended.
type damage struct {
	name   string
	break_ func(w *checked)
	want   []verify.Kind
	says   string // part of a finding
	remedy string // part of the first kind's
	// mend is what the remedy says; verify --fix --apply when nil.
	mend func(w *checked)
	// stays are kinds that nothing mends.
	stays []verify.Kind
}

func sql(statement string) func(*checked) {
	return func(w *checked) { w.Helper(); w.exec(statement) }
}

var damages = []damage{
	{name: "owner", break_: sql(`UPDATE account_roles SET owner_id = 'dee' WHERE account_id = 'a1' AND role = 'success_manager'`),
		want: []verify.Kind{verify.Owner}, says: "success_manager of account a1 is dee, should be ann", remedy: "handover verify --fix --apply --only owner"},
	{name: "owner without a reason", break_: sql(`INSERT INTO account_roles (tenant_id, account_id, role, owner_id) VALUES ('acme', 'a1', 'admin', 'dee')`),
		want: []verify.Kind{verify.Owner}, says: "admin of account a1 is dee, should be nobody"},
	{name: "since when", break_: sql(`UPDATE account_roles SET since = since - interval '1 day' WHERE account_id = 'a1' AND role = 'success_manager'`),
		want: []verify.Kind{verify.Owner}, says: "since when, or who held it before"},
	{name: "assignee", break_: sql(`UPDATE holdings SET assignee_id = 'dee' WHERE account_id = 'a2' AND manual`),
		want: []verify.Kind{verify.Assignee}, says: "task t2-1 (Call) of account a2 is with dee, should be with ann: by the change", remedy: "handover verify --fix --apply --only assignee"},
	{name: "count of a holding", break_: sql(`UPDATE holdings SET n = n + 1 WHERE account_id = 'a2' AND manual`),
		want: []verify.Kind{verify.Holding}, says: "says 2 tasks, has 1", remedy: "handover verify --fix --apply --only holding"},
	{name: "empty holding", break_: sql(`INSERT INTO holdings (tenant_id, account_id, role, manual, assignee_id, n) VALUES ('acme', 'a2', '', false, 'bob', 1)`),
		want: []verify.Kind{verify.Holding}, says: "says 1 task, has 0"},
	{name: "task of another kind", break_: sql(`UPDATE task_rows SET role = 'sales_manager' WHERE task_id = 't3-2'`),
		want: []verify.Kind{verify.Holding}, says: "has 1 task of another kind, role or account"},
	{name: "task of another account", break_: sql(`UPDATE task_rows SET holding = (SELECT key FROM holdings WHERE account_id = 'a4' AND manual) WHERE task_id = 't3-1'`),
		want: []verify.Kind{verify.Holding}, says: "task t3-1 of account a3 is in holding"},
	{name: "task in no holding", break_: sql(`UPDATE task_rows SET holding = 999999 WHERE task_id = 't3-3'`),
		want: []verify.Kind{verify.Holding, verify.Revision}, says: "it is with nobody"},
	{name: "head behind its tasks", break_: sql(`UPDATE account_heads SET assigned_at = '-infinity' WHERE account_id = 'a3'`),
		want: []verify.Kind{verify.Head}, says: "knows of no assignment as late", remedy: "handover verify --fix --apply --only head"},
	{name: "head behind its changes", break_: sql(`UPDATE account_heads SET newest_at = '-infinity' WHERE account_id = 'a3'`),
		want: []verify.Kind{verify.Head}, says: "one that comes late would pass for the newest"},
	{name: "no head", break_: sql(`DELETE FROM account_heads WHERE account_id = 'a3'`),
		want: []verify.Kind{verify.Head}, says: "has open tasks and no head"},
	{name: "revision", break_: sql(`UPDATE task_rows SET own_revision = own_revision - 1 WHERE task_id = 't4-1'`),
		want: []verify.Kind{verify.Revision}, says: "task t4-1 of account a4 has revision 1, its moves have [1 2]", remedy: "handover verify --fix --apply --only revision"},
	{name: "revision of a closed task", break_: func(w *checked) {
		testkit.CloseTask(w, w.pool, "acme", "t4-2")
		w.exec(`UPDATE task_rows SET own_revision = own_revision - 1 WHERE task_id = 't4-2'`)
	}, want: []verify.Kind{verify.Revision}, says: "task t4-2 of account a4 has revision 1, its moves have [1 2]"},
	{name: "closed task that claims a move", break_: sql(`UPDATE task_rows SET own_revision = 3 WHERE task_id = 't4-2'`),
		want: []verify.Kind{verify.Revision}, says: "task t4-2 of account a4 has revision 3, its moves have [1 2]", mend: sql(`UPDATE task_rows SET own_revision = 2 WHERE task_id = 't4-2'`)},
	{name: "left behind", break_: func(w *checked) {
		w.exec(`INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state, finished_at)
			VALUES ('gone-bob', 'acme', 'user_disabled', 'eve', clock_timestamp(), '{}', 'done', clock_timestamp())`)
		w.exec(`UPDATE users SET status = 'disabled', left_at = clock_timestamp(), successor_id = 'dee', departure_id = 'gone-bob', departure_tasks = true WHERE user_id = 'bob'`)
	}, want: []verify.Kind{verify.LeftBehind}, says: "sales_manager of account a1: still with bob, who left; dee is the successor", remedy: "handover verify --fix --apply --only left_behind"},
	{name: "a change that its consumer forgot", break_: func(w *checked) {
		w.forgetful[event.ConsumerReassigner].Store(true)
		w.change("a5", "success_manager", "", "dee")
		w.rest()
		w.forgetful[event.ConsumerReassigner].Store(false)
	}, want: []verify.Kind{verify.MissingChange}, says: "to account a5 is neither recorded nor a dead letter", remedy: "handover replay --from-seq ",
		mend: func(w *checked) {
			f := w.verify(verify.Options{}).Of(verify.MissingChange).Findings[0]
			w.must(w.broker().Read(w.ctx, f.Stream, f.Sequence, f.Sequence, w.reassigner.Handle))
		}},
	{name: "an event that its consumer forgot", break_: func(w *checked) {
		w.forgetful[event.ConsumerReassigner].Store(true)
		w.publish(event.Message{ID: "junk", Subject: event.SubjectRoleChanged("acme"), Body: []byte("junk")})
		w.rest()
		w.forgetful[event.ConsumerReassigner].Store(false)
	}, want: []verify.Kind{verify.MissingChange}, says: "it can't be read, and is no dead letter",
		mend: func(w *checked) {
			f := w.verify(verify.Options{}).Of(verify.MissingChange).Findings[0]
			w.must(w.broker().Read(w.ctx, f.Stream, f.Sequence, f.Sequence, w.reassigner.Handle))
			w.exec(`UPDATE dead_letters SET state = 'dropped'`)
		}},
	{name: "a stream made anew", break_: sql(`UPDATE outbox_published SET stream_created = stream_created - interval '1 hour'
		WHERE key = (SELECT max(p.key) FROM outbox_published p WHERE stream = 'TASK_REASSIGNMENTS' AND NOT EXISTS (SELECT FROM outbox_published q WHERE q.key <> p.key AND q.keys && p.keys))`),
		want: []verify.Kind{verify.Lost}, says: "was made anew at", remedy: "handover verify --fix --apply --only stream_lost"},
	{name: "a stream that ends before", break_: sql(`UPDATE outbox_published SET sequences = (SELECT array_agg(4999 + i) FROM generate_series(1, cardinality(keys)) i), last_sequence = 4999 + cardinality(keys)
		WHERE key = (SELECT min(p.key) FROM outbox_published p WHERE stream = 'TASK_REASSIGNMENTS' AND NOT EXISTS (SELECT FROM outbox_published q WHERE q.key <> p.key AND q.keys && p.keys))`),
		want: []verify.Kind{verify.Lost}, says: "stood at 5000"},
	{name: "an announcement that was lost", break_: sql(`DELETE FROM outbox WHERE key = (SELECT min(key) FROM outbox WHERE stream = 'TASK_REASSIGNMENTS')`),
		want: []verify.Kind{verify.Unannounced}, says: "from ann to cyd", remedy: "handover verify --fix --apply --only unannounced"},
	{name: "a closed task without moves", break_: sql(`INSERT INTO task_rows (tenant_id, task_id, account_id, title, status, own_revision, assigned_at, effective_at) VALUES ('acme', 't9', 'a4', 'Old', 'completed', 2, now(), now())`),
		want: []verify.Kind{verify.Revision}, says: "task t9 of account a4, which is closed, has revision 2, and no moves", mend: sql(`DELETE FROM task_rows WHERE task_id = 't9'`)},
	{name: "a move that was lost", break_: sql(`DELETE FROM moves WHERE key = (SELECT max(key) FROM moves)`),
		want: []verify.Kind{verify.Revision, verify.Unfounded}, says: "no such move is recorded", stays: []verify.Kind{verify.Revision, verify.Unfounded}},
	{name: "an announcement that its consumer forgot", break_: func(w *checked) {
		w.forgetful[event.ConsumerNotifier].Store(true)
		w.change("a6", "success_manager", "", "dee")
		w.rest()
		w.forgetful[event.ConsumerNotifier].Store(false)
	}, want: []verify.Kind{verify.Untold}, says: "of account a6 went to dee", remedy: "handover verify --fix --apply --only untold"},
	{name: "a dead letter", break_: func(w *checked) {
		w.change("a6", "success_manager", "", "fay")
		w.rest()
	}, want: []verify.Kind{verify.DeadLetters}, says: "1 dead letter of reassigner, owner_unknown", remedy: "handover dead-letters list --reason owner_unknown --tenant acme",
		mend: func(w *checked) { w.users("fay") }},
	{name: "an operation that doesn't end", break_: func(w *checked) {
		_, err := w.operations.ChangeRole(w.ctx, "acme", "eve", "a6", "success_manager", ptr("ann"), event.ByAPI, false)
		w.must(err)
		w.rest()
		w.exec(`UPDATE operations SET state = 'applying', finished_at = NULL, applied = 0 WHERE kind = 'role_change'`)
	}, want: []verify.Kind{verify.StuckOperation}, says: "of 1 change 1 are recorded", remedy: "handover verify --fix --apply --only stuck_operation"},
	{name: "messages that wait", break_: func(w *checked) {
		w.cut.Store(true)
		w.change("a6", "success_manager", "", "cyd")
		testkit.Eventually(w, "recorded", func() (bool, string) {
			return testkit.One[int](w, w.pool, `SELECT count(*) FROM outbox_owed`) > 0, "nothing owed"
		})
		w.exec(`UPDATE outbox SET created_at = created_at - interval '5 minutes' WHERE key IN (SELECT key FROM outbox_owed)`)
	}, want: []verify.Kind{verify.Owed}, says: "for TASK_REASSIGNMENTS, the oldest committed at", remedy: "handover status",
		mend: func(w *checked) { w.cut.Store(false) }},
	{name: "mails on hold", break_: sql(`INSERT INTO mail_hold (reason, held_by) VALUES ('the database is older', 'handover')`),
		want: []verify.Kind{verify.OnHold}, says: "the database is older", mend: sql(`DELETE FROM mail_hold`)},
	{name: "a mail that may have arrived", break_: sql(`UPDATE notices SET state = 'ambiguous' WHERE notice_id = (SELECT min(notice_id) FROM notices WHERE finished_at IS NOT NULL AND merged_into IS NULL)`),
		want: []verify.Kind{verify.AmbiguousMail}, says: "nobody knows whether it arrived", remedy: "handover notices list --tenant acme --state ambiguous",
		mend: sql(`UPDATE notices SET state = 'sent' WHERE state = 'ambiguous'`)},
	{name: "a mail that is overdue", break_: func(w *checked) {
		w.stopMails()
		w.exec(`UPDATE notices SET state = 'closed', finished_at = NULL, next_try_at = clock_timestamp() - interval '1 hour' WHERE notice_id = (SELECT min(notice_id) FROM notices WHERE state = 'sent')`)
	}, want: []verify.Kind{verify.Overdue}, says: "closed, due since", remedy: "handover status", mend: sql(`UPDATE notices SET state = 'sent', finished_at = clock_timestamp() WHERE state = 'closed'`)},
}

func ptr[T any](v T) *T { return &v }

// Each damage is found as what it is, and nothing else is; and what its remedy says makes all right again.
func TestEachDamageIsFoundAndMended(t *testing.T) {
	t.Parallel()
	w := newChecked(t)
	if r := w.verify(verify.Options{Thorough: true}); !r.Right() || len(r.Results) > 0 || r.Looked.Moves == 0 || r.Looked.Announcements == 0 || r.Looked.RoleChanges == 0 {
		t.Fatalf("a healthy database: %+v\n%s", r.Looked, says(r))
	}
	var stays []verify.Kind
	notes := []verify.Kind{verify.AnnouncedTwice}
	for _, d := range damages {
		if len(d.stays) > 0 {
			continue // after the others
		}
		d.test(t, w, notes)
	}
	for _, d := range damages {
		if len(d.stays) > 0 {
			d.test(t, w, append(notes, stays...))
			stays = append(stays, d.stays...)
		}
	}
	runs := testkit.All[string](t, w.pool, `SELECT DISTINCT command || ' ' || actor || ' ' || state FROM operator_runs`)
	if diff := cmp.Diff([]string{"verify --fix zoe done"}, runs); diff != "" {
		t.Error(diff)
	}
}

func (d damage) test(t *testing.T, w *checked, but []verify.Kind) {
	t.Helper()
	d.break_(w)
	found := w.verify(verify.Options{Thorough: true})
	if diff := cmp.Diff(d.want, kindsOf(found, but...)); diff != "" {
		t.Fatalf("%s: found\n%s\n%s", d.name, diff, says(found))
	}
	if !strings.Contains(says(found), d.says) {
		t.Errorf("%s: nothing says %q:\n%s", d.name, d.says, says(found))
	}
	if got := found.Of(d.want[0]).Remedy; !strings.Contains(got, d.remedy) {
		t.Errorf("%s: the remedy is %q", d.name, got)
	}
	if found.Right() {
		t.Errorf("%s: all is right?", d.name)
	}
	if d.mend != nil {
		d.mend(w)
	} else {
		w.mend(found)
	}
	if d.name != "a mail that is overdue" { // nobody sends any more
		w.rest()
	}
	if left := kindsOf(w.verify(verify.Options{Thorough: true}), but...); cmp.Diff(append([]verify.Kind{}, d.stays...), left) != "" {
		t.Fatalf("%s: mended, and still found:\n%s", d.name, says(w.verify(verify.Options{Thorough: true})))
	}
	if len(d.stays) == 0 {
		testkit.CheckFold(t, w.pool)
	}
}

// What a person only may want to know is no fault.
func TestNotesAreNoFault(t *testing.T) {
	t.Parallel()
	w := newChecked(t)
	w.exec(`UPDATE users SET status = 'disabled', left_at = clock_timestamp() WHERE user_id = 'bob'`)
	w.exec(`UPDATE notices SET state = 'undeliverable' WHERE notice_id = (SELECT min(notice_id) FROM notices)`)
	w.exec(`INSERT INTO outbox (message_id, tenant_id, stream, subject, header, body) SELECT 'again', tenant_id, stream, subject, header, body FROM outbox WHERE stream = 'TASK_REASSIGNMENTS' LIMIT 1`)
	r := w.verify(verify.Options{})
	if diff := cmp.Diff([]verify.Kind{verify.NoSuccessor, verify.AnnouncedTwice, verify.Undeliverable}, kindsOf(r)); diff != "" || !r.Right() {
		t.Errorf("%s\n%s", diff, says(r))
	}
	if !strings.Contains(says(r), "bob left with 6 roles and 0 open tasks") {
		t.Error(says(r))
	}
}

// A database that is older than its streams: they hold what it never issued.
func TestStreamAheadOfTheDatabase(t *testing.T) {
	t.Parallel()
	w := newChecked(t)
	change, err := event.AccountRoleChanged{
		ID: "lost.1", Source: event.SourceHandover, Time: time.Now().Add(-time.Hour), TenantID: "acme", AccountID: "a1", Role: "sales_manager", NewOwnerID: "dee", Reason: event.ByAPI, InitiatedBy: "eve",
	}.Message(event.SubjectRoleChanged("acme"))
	w.must(err)
	w.forgetful[event.ConsumerReassigner].Store(true) // it had handled it before
	w.publish(change)
	moved := event.TaskReassigned{Source: event.SourceHandover, Time: time.Now(), TenantID: "acme", AccountID: "a1", FromID: "ann", ToID: "dee", Reason: event.ByAssigned, InitiatedBy: "dee",
		Tasks: []event.ReassignedTask{{ID: "t1-1", Revision: 7, Title: "Call", Source: "manual"}}}.Messages(func() string { return "lost.2" })
	w.publish(moved[0])
	w.rest()
	w.forgetful[event.ConsumerReassigner].Store(false)
	r := w.verify(verify.Options{})
	if diff := cmp.Diff([]verify.Kind{verify.MissingChange, verify.Ahead}, kindsOf(r)); diff != "" || r.Of(verify.Ahead).Count != 2 {
		t.Errorf("%s\n%s", diff, says(r))
	}
	for _, kind := range []verify.Kind{verify.MissingChange, verify.Ahead} {
		if got := r.Of(kind).Remedy; !strings.HasPrefix(got, "handover replay --from-seq ") || !strings.HasSuffix(got, " --no-mail --apply") {
			t.Errorf("%s: people were told already, and the remedy is %q", kind, got)
		}
	}
	// Replayed, it is known, though it never was issued from here.
	f := r.Of(verify.MissingChange).Findings[0]
	w.must(w.broker().Read(w.ctx, f.Stream, f.Sequence, f.Sequence, w.reassigner.Handle))
	w.rest()
	for _, f := range w.verify(verify.Options{}).Of(verify.Ahead).Findings {
		if f.Stream == event.StreamRoleChanges {
			t.Errorf("recorded, and still %s", f.Says)
		}
	}
}

// What is folded without a change that is missing is folded wrong: nothing is, until it is here.
func TestMendingWaitsForWhatIsMissing(t *testing.T) {
	t.Parallel()
	w := newChecked(t)
	w.forgetful[event.ConsumerReassigner].Store(true)
	w.change("a5", "success_manager", "", "dee")
	w.rest()
	w.forgetful[event.ConsumerReassigner].Store(false)
	w.exec(`UPDATE holdings SET assignee_id = 'dee' WHERE account_id = 'a2' AND manual`)
	r := w.verify(verify.Options{})
	if diff := cmp.Diff([]verify.Kind{verify.MissingChange, verify.Assignee}, kindsOf(r)); diff != "" {
		t.Fatalf("found %s\n%s", diff, says(r))
	}
	_, err := verify.Mend(w.ctx, w.pool, r, verify.MendOptions{Actor: "zoe"})
	if !errors.Is(err, verify.ErrIncomplete) || !strings.Contains(err.Error(), r.Of(verify.MissingChange).Remedy) {
		t.Fatalf("it said %v", err)
	}
	if n := testkit.One[int](t, w.pool, `SELECT count(*) FROM operator_runs`); n != 0 {
		t.Errorf("%d runs", n)
	}
	f := r.Of(verify.MissingChange).Findings[0]
	w.must(w.broker().Read(w.ctx, f.Stream, f.Sequence, f.Sequence, w.reassigner.Handle))
	w.mend(w.verify(verify.Options{}))
	w.rest()
	if r := w.verify(verify.Options{}); !r.Right() {
		t.Errorf("mended, and still found:\n%s", says(r))
	}
	testkit.CheckFold(t, w.pool)
}

// Mending is one at a time, and what verify was asked about alone.
func TestMendingKeepsToWhatWasAsked(t *testing.T) {
	t.Parallel()
	w := newChecked(t)
	w.exec(`UPDATE holdings SET assignee_id = 'dee' WHERE account_id IN ('a1', 'a2')`)
	one := w.verify(verify.Options{Tenant: "acme", Account: "a1"})
	if diff := cmp.Diff([]verify.Kind{verify.Assignee}, kindsOf(one)); diff != "" || one.Of(verify.Assignee).Remedy != "handover verify --fix --apply --tenant acme --account a1" {
		t.Fatalf("%s\n%s", diff, says(one))
	}
	conn, err := w.pool.Acquire(w.ctx)
	w.must(err)
	_, err = conn.Exec(w.ctx, `SELECT pg_advisory_lock(hashtext('handover.verify.mend'))`)
	w.must(err)
	if _, err := verify.Mend(w.ctx, w.pool, one, verify.MendOptions{Actor: "zoe"}); err != verify.ErrMending {
		t.Errorf("beside another: %v", err)
	}
	_, err = conn.Exec(context.Background(), `SELECT pg_advisory_unlock_all()`)
	w.must(err)
	conn.Release()
	if done := w.mend(one); done.TasksMoved != 3 || done.Accounts != 1 {
		t.Errorf("%+v", done)
	}
	w.rest()
	if r := w.verify(verify.Options{}); r.Of(verify.Assignee).Count != 3 || len(r.Results) != 1 {
		t.Errorf("the other account: %s", says(r))
	}
	if r := w.verify(verify.Options{Only: []verify.Kind{verify.Owner}}); len(r.Results) != 0 {
		t.Errorf("only owners: %s", says(r))
	}
}
