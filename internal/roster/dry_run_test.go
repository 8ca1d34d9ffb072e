package roster_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/roster"
)

// everything is what a dry run must leave as it is.
func (w *world) everything() string {
	w.Helper()
	return w.get(`SELECT md5(concat(
		(SELECT json_agg(u ORDER BY user_id) FROM users u), (SELECT json_agg(a ORDER BY account_id) FROM accounts a),
		(SELECT json_agg(r ORDER BY account_id, role) FROM account_roles r), (SELECT json_agg(h ORDER BY account_id) FROM account_heads h),
		(SELECT json_agg(t ORDER BY task_id) FROM tasks t), (SELECT json_agg(h ORDER BY key) FROM holdings h),
		(SELECT json_agg(c ORDER BY key) FROM role_changes c), (SELECT json_agg(d ORDER BY key) FROM dead_letters d),
		(SELECT count(*) FROM moves), (SELECT max(key) FROM outbox)))`)
}

// foretold syncs rows as a dry run, which must change nothing, and then really. It returns what either told.
func foretold[T any](w *world, rows []string, decode func([]byte) (T, error), sync syncer[T]) (dry, done []roster.RowResult) {
	w.Helper()
	before := w.everything()
	w.offered = nil
	dry = synced(w, rows, decode, sync, true)
	if after := w.everything(); after != before || len(w.offered) > 0 {
		w.Fatalf("a dry run did something, and offered %v", w.offered)
	}
	return dry, synced(w, rows, decode, sync, false)
}

func TestADryRunOfAnAccountTellsWhichTasksFollow(t *testing.T) {
	t.Parallel()
	for policy, moved := range map[string]int{"keep_tasks": 0, "move_automated_tasks": 1, "move_all_tasks": 2} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.exec(`UPDATE policy_history SET policy = $1`, policy)
			w.accounts(says("ann"))
			w.tasks(`{"id": "t1", "account_id": "a", "title": "T", "assignee_id": "ann", "source": "success_play"}`,
				`{"id": "t2", "account_id": "a", "title": "T", "assignee_id": "ann"}`, `{"id": "t3", "account_id": "a", "title": "T", "assignee_id": "ann", "status": "completed"}`,
				`{"id": "t4", "account_id": "a", "title": "T", "assignee_id": "dee"}`)
			rows := []string{says("bob"), `{"id": "a", "name": "A", "roles": {"success_manager": "eve"}}`, `{"id": "b", "name": "B", "roles": {"success_manager": "ann"}}`}
			dry, done := foretold(w, rows, roster.DecodeAccount, w.SyncAccounts)
			want := []roster.RowResult{{ID: "a", Outcome: roster.Updated, Roles: 1, TasksMoved: moved}, {ID: "a", Problem: done[1].Problem}, {ID: "b", Outcome: roster.Created}}
			if diff := cmp.Diff(want, dry); diff != "" || done[1].Problem == nil {
				t.Error(diff)
			}
			want[0].TasksMoved = 0 // they follow when the change has been applied
			if diff := cmp.Diff(want, done); diff != "" {
				t.Error(diff)
			}
			w.deliver()
			w.wants(fmt.Sprint(moved), `SELECT count(*) FROM tasks WHERE assignee_id = 'bob'`)
		})
	}
}

func TestADryRunOfUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rows := []string{`{"id": "eve", "name": "Eve"}`, `{"id": "ann", "status": "disabled"}`, `{"id": "bob", "name": "Bob"}`, `{"id": "fay"}`}
	dry, done := foretold(w, rows, roster.DecodeUser, w.SyncUsers)
	if diff := cmp.Diff(done, dry); diff != "" || dry[0].Outcome != roster.Created || dry[1].Outcome != roster.Updated || dry[3].Problem == nil {
		t.Errorf("%+v: %s", dry, diff)
	}
}

// Whatever upstream says, and whatever is known: a dry run tells what then happens.
func TestADryRunTellsWhatHappens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 5 {
		w.accounts(fmt.Sprintf(`{"id": "a%d", "name": "A", "roles": {"success_manager": "ann"}}`, i))
	}
	followed, moved := 0, 0
	for range 40 {
		tasks := make([]string, 12)
		for i := range tasks {
			tasks[i] = fmt.Sprintf(`{"id": "t%d", "title": "T", "account_id": "a%d", "assignee_id": %s, "status": %q, "role": %s}`,
				i*3+random.IntN(3), random.IntN(5), somebody(random), pick(random, "open", "open", "completed"), pick(random, "null", `"success_manager"`))
		}
		dry, done := foretold(w, tasks, roster.DecodeTask, w.SyncTasks)
		if diff := cmp.Diff(done, dry); diff != "" {
			t.Fatal(diff)
		}
		for _, r := range done {
			moved += r.TasksMoved
		}
		var accounts []string
		for i := range 5 {
			accounts = append(accounts, fmt.Sprintf(`{"id": "a%d", "roles": {"success_manager": %s, "sales_manager": %s}}`, i, somebody(random), somebody(random)))
		}
		before := w.get(`SELECT coalesce(sum(cardinality(task_ids)), 0) FROM moves`)
		dry, done = foretold(w, accounts, roster.DecodeAccount, w.SyncAccounts)
		w.deliver()
		follow := 0
		for i, r := range dry {
			if follow += r.TasksMoved; r.Outcome != done[i].Outcome || r.Roles != done[i].Roles {
				t.Fatalf("%+v, but then %+v", r, done[i])
			}
		}
		w.wants(fmt.Sprint(follow), `SELECT coalesce(sum(cardinality(task_ids)), 0) - $1::numeric FROM moves`, before)
		followed += follow
		if random.IntN(3) == 0 {
			w.change(fmt.Sprintf("a%d", random.IntN(5)), success, "", pick(random, "ann", "bob", "cyd"), ago(time.Duration(random.IntN(10))*time.Millisecond))
		}
	}
	if followed < 20 || moved < 20 {
		t.Errorf("%d tasks followed and %d were moved: nothing was tested", followed, moved)
	}
}
