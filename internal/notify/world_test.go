package notify

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// world is a database with a small company, a notifier on it, and a channel that records. Its oracles are the notices,
// the mails and the attempts.
type world struct {
	*Notifier
	t    testing.TB
	pool *pgxpool.Pool
	post *post
}

// post is a Sender that keeps what it accepts; answer, when set, decides otherwise.
type post struct {
	mu       sync.Mutex
	answer   func(Frozen) Result
	accepted []Frozen
	tried    []Frozen
}

func (p *post) Send(_ context.Context, mail Frozen) Result {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tried = append(p.tried, mail)
	result := Result{Outcome: Accepted, Code: 250}
	if p.answer != nil {
		result = p.answer(mail)
	}
	if result.Outcome == Accepted {
		p.accepted = append(p.accepted, mail)
	}
	return result
}

func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOn(t, testkit.Postgres(t))
}

func newWorldOn(t testing.TB, pool *pgxpool.Pool) *world {
	t.Helper()
	w := &world{t: t, pool: pool, post: &post{}}
	w.Notifier = w.restart()
	w.exec(`INSERT INTO tenants (tenant_id) VALUES ('demo')`)
	w.exec(`INSERT INTO roles VALUES ('demo', 'success_manager', 'Success Manager')`)
	w.exec(`INSERT INTO users (tenant_id, user_id, name, email) SELECT 'demo', u, initcap(u), u || '@example.com' FROM unnest(ARRAY['ada', 'maya', 'noa', 'lee']) u`)
	w.exec(`INSERT INTO accounts (tenant_id, account_id, name) SELECT 'demo', a, initcap(a) FROM unnest(ARRAY['acme', 'globex']) a`)
	return w
}

// restart is another process on the same database.
func (w *world) restart() *Notifier {
	return New(w.pool, Config{Sender: w.post, BaseURL: "https://handover.example.com", From: "Handover <handover@example.com>", Secret: []byte("secret")})
}

func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	testkit.Exec(w.t, w.pool, sql, args...)
}

// move changes the assignee of tasks, creating them if need be, and returns what is announced of it.
func (w *world) move(account, from, to string, tasks ...string) event.TaskReassigned {
	w.t.Helper()
	r := event.TaskReassigned{
		Source: event.SourceHandover, Time: time.Now(), TenantID: "demo", AccountID: account, FromID: from, ToID: to, Reason: event.ByProfile,
		InitiatedBy: "noa", Policy: "move_all_tasks", RoleChange: &event.RoleChangeRef{Source: "crm", ID: "1", Role: "success_manager", OccurredAt: time.Now()},
	}
	for _, task := range tasks {
		revision := testkit.One[int64](w.t, w.pool, `SELECT coalesce((SELECT revision FROM tasks WHERE task_id = $1), 0) + 1`, task)
		testkit.CloseTask(w.t, w.pool, "demo", task)
		w.exec(`DELETE FROM task_rows WHERE task_id = $1`, task)
		testkit.PutTasks(w.t, w.pool, testkit.Task{Tenant: "demo", ID: task, Account: account, Title: "Title of " + task + ".", Assignee: to, Revision: revision, Since: time.Now()})
		r.Tasks = append(r.Tasks, event.ReassignedTask{ID: task, Revision: revision, Title: task, Source: "manual"})
	}
	return r
}

func (w *world) messages(moves ...event.TaskReassigned) []event.Message {
	w.t.Helper()
	var out []event.Message
	for _, r := range moves {
		out = append(out, r.Messages(uuid.NewString)...)
	}
	return out
}

func (w *world) handle(moves ...event.TaskReassigned) {
	w.t.Helper()
	if err := w.Handle(context.Background(), w.messages(moves...)); err != nil {
		w.t.Fatal(err)
	}
}

// elapse lets time pass for the windows, by moving them into the past.
func (w *world) elapse(d time.Duration) {
	w.t.Helper()
	w.exec(`UPDATE notices SET opened_at = opened_at - $1::interval, close_at = close_at - $1::interval, next_try_at = next_try_at - $1::interval, lease_until = lease_until - $1::interval`, d)
}

func (w *world) run(want int) {
	w.t.Helper()
	sent, err := w.RunOnce(context.Background())
	if err != nil || sent != want {
		w.t.Fatalf("RunOnce sent %d, %v; want %d", sent, err, want)
	}
}

// states are the notices as "recipient account state", in order of their opening.
func (w *world) states() string {
	w.t.Helper()
	page, _, err := w.List(context.Background(), "demo", Filter{Limit: 1000})
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Reverse(page)
	var out []string
	for _, n := range page {
		out = append(out, n.RecipientID+" "+n.AccountID+" "+n.State)
	}
	return strings.Join(out, ", ")
}

func (w *world) expect(want string) {
	w.t.Helper()
	if got := w.states(); got != want {
		w.t.Fatalf("notices: %s\nwant: %s", got, want)
	}
}

// attempts are the outcomes of all attempts, in order; "" is one that nobody knows the end of.
func (w *world) attempts() string {
	w.t.Helper()
	return strings.Join(testkit.All[string](w.t, w.pool, `SELECT coalesce(outcome, '?') FROM notice_attempts ORDER BY started_at`), " ")
}

func (w *world) number(sql string, args ...any) int {
	w.t.Helper()
	return testkit.One[int](w.t, w.pool, sql, args...)
}

// text is the text part of the i-th accepted mail.
func (w *world) text(i int) string {
	w.t.Helper()
	if len(w.post.accepted) <= i {
		w.t.Fatalf("%d mails were accepted, want more than %d", len(w.post.accepted), i)
	}
	_, text, _ := parse(w.t, w.post.accepted[i].MIME)
	return text
}

// tells checks that the i-th accepted notice, of so many, names these tasks and no other of the form t<number>.
func (w *world) tells(i, of int, tasks ...string) {
	w.t.Helper()
	if len(w.post.accepted) != of {
		w.t.Fatalf("%d mails were accepted, want %d", len(w.post.accepted), of)
	}
	slices.SortFunc(w.post.accepted, func(a, b Frozen) int { return cmp.Compare(a.ID, b.ID) })
	text := w.text(i)
	for n := range 30 {
		task := fmt.Sprintf("t%d", n)
		if got, want := strings.Count(text, "Title of "+task+"."), slices.Contains(tasks, task); got > 1 || (got == 1) != want {
			w.t.Errorf("mail %d names %s %d times, wanted: %t\n%s", i, task, got, want, text)
		}
	}
}
