package reassign_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/reassign"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

func TestPolicyDecidesWhichOpenTasksFollow(t *testing.T) {
	t.Parallel()
	for policy, moved := range map[string][]string{
		"":                     nil,
		"keep_tasks":           nil,
		"move_automated_tasks": {"play", "crm"},
		"move_all_tasks":       {"play", "crm", "manual", "bound"},
	} {
		t.Run("policy "+policy, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if policy != "" {
				w.policy(policy)
			}
			w.task("play", "a", "success_play", "")
			w.task("crm", "a", "integration", "success_manager")
			w.task("manual", "a", "manual", "")
			w.task("bound", "a", "manual", "success_manager")
			w.task("sales", "a", "success_play", "sales_manager")
			w.task("elsewhere", "b", "success_play", "")
			w.task("closed", "a", "success_play", "")
			testkit.CloseTask(t, w.pool, "acme", "closed")
			testkit.PutTasks(t, w.pool, testkit.Task{Tenant: "acme", ID: "cyds", Account: "a", Source: "success_play", Assignee: "cyd", Since: w.now.Add(-time.Hour)})

			w.deliver(w.change("c1", "a", "ann", "bob", 0))

			got := all[string](w, `SELECT task_id FROM tasks WHERE assignee_id = 'bob' ORDER BY task_id`)
			slices.Sort(moved)
			if diff := cmp.Diff(moved, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("tasks with bob:\n%s", diff)
			}
			if got := one[string](w, `SELECT owner_id FROM account_roles WHERE account_id = 'a' AND role = 'success_manager'`); got != "bob" {
				t.Errorf("owner is %s", got)
			}
			if got := len(w.announced()); got != len(moved) {
				t.Errorf("%d announced", got)
			}
		})
	}
}

func TestChangeIsJudgedByThePolicyInForceWhenItOccurred(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("keep_tasks")
	w.exec(`INSERT INTO policy_history VALUES ('acme', $1, 'move_all_tasks', 'ann')`, w.now)
	for _, a := range []string{"before", "after"} {
		w.task(a, a, "manual", "")
	}
	w.deliver(w.change("c1", "before", "ann", "bob", -1), w.change("c2", "after", "ann", "bob", 1))
	if before, after := w.assignee("before"), w.assignee("after"); before != "ann" || after != "bob" {
		t.Errorf("before: %s, after: %s", before, after)
	}
}

func TestOrderOfDeliveryDoesNotMatter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	for _, a := range []string{"ordered", "reversed", "together"} {
		w.task(a, a, "manual", "")
	}
	chain := func(account string) []event.AccountRoleChanged {
		return []event.AccountRoleChanged{
			w.change(account+"1", account, "ann", "bob", 0), w.change(account+"2", account, "", "", 1), w.change(account+"3", account, "", "cyd", 2),
		}
	}
	for _, c := range chain("ordered") {
		w.deliver(c)
	}
	reversed := chain("reversed")
	slices.Reverse(reversed)
	for _, c := range reversed {
		w.deliver(c)
	}
	w.deliver(chain("together")...)
	for _, a := range []string{"ordered", "reversed", "together"} {
		if got := w.assignee(a); got != "cyd" {
			t.Errorf("%s: the task is with %s", a, got)
		}
	}
	want := []string{"ordered 1: ann→bob", "ordered 2: bob→cyd", "reversed 1: ann→cyd", "together 1: ann→cyd"}
	if diff := cmp.Diff(want, w.announced()); diff != "" {
		t.Errorf("announced, one net move per task and transaction:\n%s", diff)
	}
}

func TestLateChangeThatRevisesAnEarlierMoveIsACorrection(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	w.task("t", "a", "manual", "")
	w.deliver(w.change("second", "a", "ann", "bob", 2))
	w.deliver(w.change("first", "a", "ann", "cyd", 1))
	want := []string{"t 1: ann→bob", "t 2: bob→cyd (correction)"}
	if diff := cmp.Diff(want, w.announced()); diff != "" {
		t.Error(diff)
	}
	if got := one[string](w, `SELECT owner_id FROM account_roles WHERE role = 'success_manager'`); got != "bob" {
		t.Errorf("the role is with %s, who came last", got)
	}
}

func TestSameEventTwiceCountsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	w.task("t", "a", "manual", "")
	there, back := w.change("c1", "a", "ann", "bob", 0), w.change("c2", "a", "bob", "ann", 1)
	w.deliver(there, there)
	w.deliver(back)
	w.deliver(there)
	w.deliver(there, back)
	if got := w.assignee("t"); got != "ann" {
		t.Errorf("the task is with %s", got)
	}
	if diff := cmp.Diff([]string{"t 1: ann→bob", "t 2: bob→ann"}, w.announced()); diff != "" {
		t.Error(diff)
	}
	if got := w.reasons(); len(got) > 0 {
		t.Errorf("dead letters: %v", got)
	}
}

func TestBadEventIsADeadLetterAndTheRestGoesOn(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason string
		spoil  func(w *world, m *event.Message, c event.AccountRoleChanged)
	}{
		"no CloudEvent":  {event.ReasonNotCloudEvent, func(w *world, m *event.Message, _ event.AccountRoleChanged) { m.Body = []byte("hello") }},
		"nothing at all": {event.ReasonNotCloudEvent, func(w *world, m *event.Message, _ event.AccountRoleChanged) { m.Body = nil }},
		"unknown type":   {event.ReasonUnknownType, replace(event.TypeAccountRoleChanged, "io.example.other")},
		"without time":   {event.ReasonInvalid, replace(`"time":`, `"thyme":`)},
		"unknown reason": {event.ReasonInvalid, replace(`"reason":"api"`, `"reason":"whim"`)},
		"another tenant's": {event.ReasonTenantMismatch, func(w *world, m *event.Message, _ event.AccountRoleChanged) {
			m.Subject = event.SubjectRoleChanged("globex")
		}},
		"unknown tenant": {event.ReasonTenantUnknown, func(w *world, m *event.Message, c event.AccountRoleChanged) {
			c.TenantID = "globex"
			*m = w.message(c)
		}},
		"far ahead": {event.ReasonTimeAhead, func(w *world, m *event.Message, c event.AccountRoleChanged) {
			c.Time = w.now.Add(10 * time.Minute)
			*m = w.message(c)
		}},
		"unknown owner": {event.ReasonOwnerUnknown, func(w *world, m *event.Message, c event.AccountRoleChanged) {
			c.NewOwnerID = "zoe"
			*m = w.message(c)
		}},
		"owner who left before": {event.ReasonOwnerUnavailable, func(w *world, m *event.Message, c event.AccountRoleChanged) {
			w.exec(`UPDATE users SET status = 'disabled', left_at = $1 WHERE user_id = 'cyd'`, w.now.Add(-time.Hour))
			c.NewOwnerID = "cyd"
			*m = w.message(c)
		}},
		"a policy of its own": {event.ReasonOverrideRefused, func(w *world, m *event.Message, c event.AccountRoleChanged) {
			c.Tasks = "move_all_tasks"
			*m = w.message(c)
		}},
		"what a text column can't hold": {event.ReasonRejected, func(w *world, m *event.Message, c event.AccountRoleChanged) {
			c.Sequence = "1\x00"
			*m = w.message(c)
		}},
		"an id used before": {event.ReasonIDReused, func(w *world, m *event.Message, c event.AccountRoleChanged) {
			w.deliver(c)
			c.NewOwnerID = "dee"
			*m = w.message(c)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.policy("move_all_tasks")
			var batch []event.Message
			for i := range 5 {
				account := fmt.Sprint("good", i)
				w.task(account, account, "manual", "")
				batch = append(batch, w.message(w.change(account, account, "ann", "bob", 0)))
			}
			bad := w.change("bad", "elsewhere", "ann", "bob", 0)
			m := w.message(bad)
			c.spoil(w, &m, bad)
			batch = slices.Insert(batch, 2, m)

			w.handle(batch...)
			w.handle(batch...) // delivered again: no second dead letter

			if diff := cmp.Diff([]string{c.reason}, w.reasons()); diff != "" {
				t.Errorf("dead letters:\n%s", diff)
			}
			if got := one[int](w, `SELECT count(*) FROM tasks WHERE assignee_id = 'bob'`); got != 5 {
				t.Errorf("%d of the 5 good changes moved their task", got)
			}
			if got := one[[]byte](w, `SELECT body FROM dead_letters`); string(got) != string(m.Body) {
				t.Errorf("the original is kept as %q", got)
			}
			subject, body := one[string](w, `SELECT subject FROM outbox WHERE stream = 'DEAD_LETTERS'`), one[[]byte](w, `SELECT body FROM outbox WHERE stream = 'DEAD_LETTERS'`)
			if want := event.SubjectDead("reassigner", event.TenantOf(m.Subject)); subject != want || string(body) != string(m.Body) {
				t.Errorf("announced on %s (want %s): %q", subject, want, body)
			}
		})
	}
}

func replace(what, with string) func(*world, *event.Message, event.AccountRoleChanged) {
	return func(w *world, m *event.Message, _ event.AccountRoleChanged) {
		if !strings.Contains(string(m.Body), what) {
			w.Fatalf("%s has no %s", m.Body, what)
		}
		m.Body = []byte(strings.Replace(string(m.Body), what, with, 1))
	}
}

func TestChangeOfWhatIsNotKnownIsRecorded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.change("c1", "no such account", "", "bob", 0)
	c.Role = "no such role"
	w.deliver(c)
	if got := one[string](w, `SELECT to_id FROM role_changes WHERE account_id = 'no such account'`); got != "bob" {
		t.Errorf("recorded: %q", got)
	}
	if got := w.reasons(); len(got) > 0 {
		t.Errorf("dead letters: %v", got)
	}
}

func TestLateChangeToSomebodyWhoHasLeftIsHandedOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	w.task("t", "a", "manual", "")
	left := w.now.Add(-10 * time.Minute)
	w.exec(`INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state) VALUES ('op', 'acme', 'user_disabled', 'dee', $1, '{}', 'applying')`, left)
	w.exec(`UPDATE users SET status = 'disabled', left_at = $1, successor_id = 'cyd', departure_id = 'op', departure_tasks = true WHERE user_id = 'bob'`, left)

	w.deliver(w.change("late", "a", "ann", "bob", -20))
	handedOn := w.handedOn()
	w.handle(handedOn...)

	if got := w.assignee("t"); got != "cyd" {
		t.Errorf("the task is with %s", got)
	}
	if got := one[string](w, `SELECT owner_id FROM account_roles WHERE role = 'success_manager'`); got != "cyd" {
		t.Errorf("the role is with %s", got)
	}
	if changes, applied := one[int](w, `SELECT changes FROM operations`), one[int](w, `SELECT applied FROM operations`); changes != len(handedOn) || applied != changes {
		t.Errorf("%d handed on, the operation counts %d issued and %d applied", len(handedOn), changes, applied)
	}
	w.deliver(w.change("later", "b", "ann", "bob", -15))
	w.handle(handedOn...)
	if got := w.reasons(); len(got) > 0 {
		t.Errorf("dead letters: %v", got)
	}
}

func TestRoleGivenAwayJustBeforeADepartureIsNotTakenFromItsNewOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	left := w.now.Add(-10 * time.Minute)
	w.deliver(w.change("bobs", "a", "", "bob", -30))
	w.exec(`INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state) VALUES ('op', 'acme', 'user_disabled', 'dee', $1, '{}', 'applying')`, left)
	w.exec(`UPDATE users SET status = 'disabled', left_at = $1, successor_id = 'cyd', departure_id = 'op', departure_tasks = true WHERE user_id = 'bob'`, left)
	given := w.change("given", "a", "", "dee", -20) // issued before bob left, and still under way
	w.exec(`UPDATE account_roles SET latest_owner = 'dee', latest_at = $1`, given.Time)

	other := w.change("other", "a", "", "ann", -40)
	other.Role = "sales_manager"
	w.deliver(other) // late: the account is folded
	w.deliver(given)

	w.handle(w.handedOn()...)

	if got := one[string](w, `SELECT owner_id FROM account_roles WHERE role = 'success_manager'`); got != "dee" {
		t.Errorf("the role is with %s", got)
	}
}

func TestAnnouncementsOfAHugeAccountStayWithinTheLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	const tasks = 3000
	var put []testkit.Task
	for i := range tasks {
		put = append(put, testkit.Task{Tenant: "acme", ID: fmt.Sprint("t", i), Account: "a", Title: strings.Repeat("<é>", 160), Assignee: "ann", Since: w.now.Add(-time.Hour)})
	}
	testkit.PutTasks(t, w.pool, put...)
	w.deliver(w.change("c1", "a", "ann", "bob", 0))
	told := map[string]bool{}
	for _, body := range all[[]byte](w, `SELECT body FROM outbox`) {
		var e struct {
			Data struct{ Tasks []struct{ ID string } }
		}
		if err := json.Unmarshal(body, &e); err != nil {
			t.Fatal(err)
		}
		if len(body) > event.MaxEventBytes || len(e.Data.Tasks) > event.MaxTasksPerEvent {
			t.Errorf("%d bytes, %d tasks", len(body), len(e.Data.Tasks))
		}
		for _, task := range e.Data.Tasks {
			told[task.ID] = true
		}
	}
	if len(told) != tasks {
		t.Errorf("%d of %d tasks announced", len(told), tasks)
	}
	if got := one[int](w, `SELECT n FROM holdings WHERE assignee_id = 'bob'`); got != tasks {
		t.Errorf("bob has %d by the count", got)
	}
}

func TestManyReassignersAtOnceShuffledAndDoubled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ accounts, length, batch int }{{12, 15, 7}, {90, 15, 900}} {
		t.Run(fmt.Sprint("batches of ", c.batch), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.policy("move_all_tasks")
			who := []string{"ann", "bob", "cyd", "dee"}
			random := rand.New(rand.NewPCG(7, 7))
			var messages []event.Message
			for a := range c.accounts {
				account := fmt.Sprint("a", a)
				for n := range 4 {
					w.task(fmt.Sprintf("%s-%d", account, n), account, []string{"manual", "success_play"}[n%2], []string{"", "success_manager"}[n/2])
				}
				owner := 0
				for n := range c.length {
					next := random.IntN(len(who))
					c := w.change(fmt.Sprint(account, "-", n), account, who[owner], who[next], float64(n)/10)
					if random.IntN(3) == 0 {
						c.PreviousOwnerID = ""
					}
					owner = next
					m := w.message(c)
					messages = append(messages, m, m)
				}
			}
			random.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
			var group sync.WaitGroup
			for part := range slices.Chunk(messages, max(len(messages)/5, c.batch)) {
				group.Go(func() {
					for batch := range slices.Chunk(part, c.batch) {
						if err := w.r.Handle(w.ctx, batch); err != nil {
							w.Error(err)
						}
					}
				})
			}
			group.Wait()
			testkit.CheckFold(w, w.pool)
			if got := one[int](w, `SELECT count(*) FROM role_changes`); got != c.accounts*c.length {
				t.Errorf("%d recorded, want %d", got, c.accounts*c.length)
			}
		})
	}
}

// What is judged within a batch is so in a large one too, which isn't handled in one piece.
func TestALargeBatch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	const n = 2000
	var messages []event.Message
	for i := range n {
		account := fmt.Sprint("a", i)
		w.task(account, account, "manual", "")
		messages = append(messages, w.message(w.change(fmt.Sprint("c", i), account, "ann", "bob", 0)))
	}
	for i := range 100 { // the ids of others, which is seen by what they say
		messages = append(messages, w.message(w.change(fmt.Sprint("c", i), fmt.Sprint("a", i+1), "ann", "cyd", 1)))
	}
	messages = append(messages, event.Message{Body: []byte("no event"), Subject: messages[0].Subject, Stream: event.StreamRoleChanges, Sequence: n + 1000})
	out, err := w.r.Apply(w.ctx, messages)
	if err != nil || out.Recorded != n || out.Known != 0 || len(out.Refused) != 101 || len(out.Moves) != n {
		t.Fatalf("%d recorded, %d known, %d refused, %d moves, %v", out.Recorded, out.Known, len(out.Refused), len(out.Moves), err)
	}
	again, err := w.r.Apply(w.ctx, messages)
	if err != nil || again.Recorded != 0 || again.Known != n || len(again.Moves) != 0 {
		t.Errorf("again: %d recorded, %d known, %d moves, %v", again.Recorded, again.Known, len(again.Moves), err)
	}
	if got := len(w.announced()); got != n {
		t.Errorf("%d announced", got)
	}
	testkit.CheckFold(w, w.pool)
}

// A silent reassigner announces what it does, marked for those who mail, on either path; and takes both lanes.
func TestSilentMovesAreMarked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	w.task("fast", "a", "manual", "")
	w.task("folded", "b", "manual", "")
	r := reassign.New(w.pool, reassign.Config{Silent: true, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	stranger := w.message(w.change("c4", "a", "bob", "nobody.known", 3))
	stranger.Subject = event.SubjectRoleBulk("acme")
	messages := []event.Message{w.message(w.change("c1", "a", "ann", "bob", 0)), w.message(w.change("c2", "b", "ann", "bob", 0)), w.message(w.change("c3", "b", "bob", "cyd", 1)), stranger}
	judged := judge(w, messages)
	done, err := r.Apply(w.ctx, messages)
	if err != nil {
		t.Fatal(err)
	}
	if done.Recorded != 3 || done.Known != 0 || len(done.Moves) != 2 || len(done.Refused) != 1 || done.Refused[0].Consumer != event.ConsumerReassignerBulk {
		t.Errorf("came to %+v", done)
	}
	for _, body := range all[[]byte](w, `SELECT body FROM outbox WHERE stream = 'TASK_REASSIGNMENTS'`) {
		e, err := event.DecodeTaskReassigned(event.Message{Body: body})
		if err != nil || !e.Silent {
			t.Errorf("announced %+v, %v", e, err)
		}
	}
	if diff := cmp.Diff([]string{"fast 1: ann→bob", "folded 1: ann→cyd"}, w.announced(), cmpopts.SortSlices(strings.Compare)); diff != "" {
		t.Error(diff)
	}
	for i, j := range judged {
		if refused := i == 3; j.Missing() == refused || (refused && (j.Refused.Reason != event.ReasonOwnerUnknown || j.Refused.Consumer != event.ConsumerReassignerBulk)) || (!refused && j.Change.Policy != "move_all_tasks") {
			t.Errorf("foresaw of message %d: %+v", i, j)
		}
	}
	for i, j := range judge(w, messages) {
		if j.Known == (i == 3) {
			t.Errorf("message %d, afterwards: %+v", i, j)
		}
	}
}

// judge foresees in a transaction that can't write.
func judge(w *world, messages []event.Message) (judged []roster.Judged) {
	w.Helper()
	if err := pgx.BeginTxFunc(w.ctx, w.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		judged, err = reassign.Judge(w.ctx, tx, messages)
		return err
	}); err != nil {
		w.Fatal(err)
	}
	return judged
}
