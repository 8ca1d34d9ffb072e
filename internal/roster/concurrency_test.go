package roster_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// Everybody writes at once, about the same few accounts, tasks and people: no error reaches a caller, and afterwards
// every task is where the fold says.
func TestEverythingAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 5 {
		w.accounts(fmt.Sprintf(`{"id": "a%d", "name": "A", "roles": {"success_manager": "ann", "sales_manager": "bob"}}`, i))
	}
	const workers, rounds = 8, 12
	errs := make(chan error, workers*rounds)
	var group sync.WaitGroup
	for worker := range workers {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(worker), 7))
			for round := range rounds {
				errs <- w.random(random, worker, round)
			}
		})
	}
	group.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	w.deliver()
	testkit.CheckFold(t, w.pool)
	if tasks, moves := w.get(`SELECT count(*) FROM tasks`), w.get(`SELECT count(*) FROM moves`); tasks == "0" || moves == "0" {
		t.Fatalf("%s tasks, %s moves: nothing was tested", tasks, moves)
	}
}

// An account is being synced when tasks of it come: they wait for its head, and by then it is known. So is one that comes to
// be while they wait for the head of another, and has no head before.
func TestTasksThatWaitForTheirAccountFindIt(t *testing.T) {
	t.Parallel()
	for name, concerns := range map[string][]string{"its own head": {"fresh"}, "another's head": {"busy", "fresh"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.accounts(`{"id": "busy", "name": "B"}`)
			// A change that came before its account has made a head.
			w.exec(`INSERT INTO account_heads (tenant_id, account_id) VALUES ('acme', $1) ON CONFLICT DO NOTHING`, concerns[0])
			tx, err := w.pool.Begin(w.ctx)
			w.must(err)
			defer tx.Rollback(w.ctx)
			_, err = roster.LockHeads(w.ctx, tx, []roster.Account{{TenantID: tenant, AccountID: concerns[0]}})
			w.must(err)
			rows := make([]roster.TaskSaid, len(concerns))
			for i, account := range concerns {
				rows[i], err = roster.DecodeTask(fmt.Appendf(nil, `{"id": "t-%s", "account_id": %q, "title": "T"}`, account, account))
				w.must(err)
			}
			var results []roster.RowResult
			ended := make(chan error)
			go func() {
				var err error
				results, err = w.SyncTasks(w.ctx, tenant, "root", rows, false)
				ended <- err
			}()
			testkit.Eventually(t, "the tasks wait for the head", func() (bool, string) {
				return w.get(`SELECT count(*) > 0 FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted
					AND transactionid = (SELECT backend_xid FROM pg_stat_activity WHERE pid = $1)`, tx.Conn().PgConn().PID()) == "true", "nobody waits"
			})
			if len(concerns) == 1 {
				_, err = tx.Exec(w.ctx, `INSERT INTO accounts (tenant_id, account_id, name) VALUES ('acme', 'fresh', 'F')`)
				w.must(err)
			} else {
				w.accounts(`{"id": "fresh", "name": "F"}`)
			}
			w.must(tx.Commit(w.ctx))
			w.must(<-ended)
			for i, r := range results {
				if r.Outcome != roster.Created {
					t.Errorf("the task of %s: %v", concerns[i], r.Problem)
				}
			}
		})
	}
}

func pick(r *rand.Rand, of ...string) string { return of[r.IntN(len(of))] }

func somebody(r *rand.Rand) string { return pick(r, `"ann"`, `"bob"`, `"cyd"`, `"dee"`, "null") }

// random does one thing.
func (w *world) random(r *rand.Rand, worker, round int) error {
	switch what := r.IntN(10); {
	case what < 4:
		rows := make([]roster.TaskSaid, 30)
		for i := range rows {
			rows[i] = randomTask(r)
		}
		return failed(w.SyncTasks(w.ctx, tenant, "root", rows, false))
	case what < 6:
		rows := make([]roster.AccountSaid, 3)
		for i := range rows {
			rows[i], _ = roster.DecodeAccount(fmt.Appendf(nil, `{"id": "a%d", "name": "A", "roles": {%q: %s}}`, r.IntN(6), pick(r, success, sales), somebody(r)))
		}
		return failed(w.SyncAccounts(w.ctx, tenant, "root", rows, false))
	case what < 7:
		rows := make([]roster.UserSaid, 2)
		for i := range rows {
			rows[i], _ = roster.DecodeUser(fmt.Appendf(nil, `{"id": %q, "name": "X", "status": %q}`, pick(r, "cyd", "dee", "eve"), pick(r, "active", "disabled")))
		}
		return failed(w.SyncUsers(w.ctx, tenant, "root", rows, false))
	case what < 8:
		to := pick(r, "ann", "bob")
		_, err := w.AssignTask(w.ctx, tenant, "root", fmt.Sprintf("t%d", r.IntN(60)), &to, r.IntN(4) == 0)
		if errors.Is(err, roster.ErrNotFound) {
			err = nil
		}
		return err
	}
	messages := make([]event.Message, 5)
	for i := range messages {
		var err error
		messages[i], err = event.AccountRoleChanged{
			ID: fmt.Sprint(worker, round, i), Source: "//crm", Time: ago(time.Duration(r.IntN(100)-10) * time.Second), TenantID: tenant,
			AccountID: fmt.Sprintf("a%d", r.IntN(5)), Role: pick(r, success, sales), PreviousOwnerID: pick(r, "", "", "ann", "bob", "cyd"),
			NewOwnerID: pick(r, "ann", "bob", "cyd", "dee", "eve", ""), Reason: event.ByAPI, InitiatedBy: "root",
		}.Message(event.SubjectRoleChanged(tenant))
		if err != nil {
			return err
		}
		messages[i].Stream = event.StreamRoleChanges
	}
	return w.reassigner.Handle(w.ctx, messages)
}

func failed(_ []roster.RowResult, err error) error { return err }

func randomTask(r *rand.Rand) roster.TaskSaid {
	fields := []string{fmt.Sprintf(`"id": "t%d", "title": "T"`, r.IntN(60))}
	maybe := func(odds int, field string, args ...any) {
		if r.IntN(odds) == 0 {
			fields = append(fields, fmt.Sprintf(field, args...))
		}
	}
	maybe(2, `"account_id": "a%d"`, r.IntN(5))
	if r.IntN(2) == 0 {
		maybe(1, `"assignee_id": %s`, somebody(r))
		maybe(2, `"assigned_at": %q`, stamp(ago(time.Duration(r.IntN(90))*time.Second)))
	}
	maybe(4, `"status": %q`, pick(r, "open", "completed", "in_progress"))
	maybe(6, `"source": %q`, pick(r, "manual", "success_play"))
	maybe(6, `"role": %q`, pick(r, success, sales))
	task, err := roster.DecodeTask([]byte("{" + strings.Join(fields, ", ") + "}"))
	if err != nil {
		panic(err)
	}
	return task
}
