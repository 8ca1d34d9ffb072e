package roster_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// differences folds in a snapshot that can't write.
func (w *world) differences(extra []roster.Change, accounts ...string) []roster.Difference {
	w.Helper()
	of := make([]roster.Account, len(accounts))
	for i, id := range accounts {
		of[i] = roster.Account{TenantID: tenant, AccountID: id}
	}
	var found []roster.Difference
	w.must(pgx.BeginTxFunc(w.ctx, w.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) (err error) {
		found, err = roster.Differences(w.ctx, tx, of, extra)
		return err
	}))
	return found
}

// told is what a difference says, in one line.
func told(all []roster.Difference) []string {
	out := make([]string, len(all))
	for i, d := range all {
		cause := "no change"
		if d.Cause != nil {
			cause = d.Cause.ID
		}
		out[i] = fmt.Sprintf("%s %s%s: %q, not %q, by %s", d.AccountID, d.Role, d.TaskID, d.Stored, d.Right, cause)
	}
	return out
}

func TestDifferencesAreWhatTheFoldSaysOtherwise(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts(`{"id": "a1", "name": "A", "roles": {"success_manager": "ann"}}`, `{"id": "a2", "name": "A", "roles": {"success_manager": "ann"}}`)
	w.tasks(`{"id": "t1", "account_id": "a1", "title": "Call", "source": "success_play", "assignee_id": "ann", "assigned_at": "2026-01-01T00:00:00Z"}`,
		`{"id": "t2", "account_id": "a1", "title": "Write", "assignee_id": "ann", "assigned_at": "2026-01-01T00:00:00Z"}`,
		`{"id": "t3", "account_id": "a2", "title": "Meet", "assignee_id": "ann", "assigned_at": "2026-01-01T00:00:00Z"}`)
	at := ago(time.Hour)
	w.change("a1", success, "", "bob", at)
	if found := w.differences(nil, "a1", "a2", "unknown"); len(found) > 0 {
		t.Fatalf("a healthy database: %v", told(found))
	}

	w.exec(`UPDATE holdings SET assignee_id = 'dee' WHERE account_id = 'a1'`)
	w.exec(`UPDATE account_roles SET owner_id = 'dee' WHERE account_id = 'a1'`)
	w.exec(`INSERT INTO account_roles (tenant_id, account_id, role, owner_id) VALUES ('acme', 'a2', 'sales_manager', 'dee')`)
	id := w.get(`SELECT id FROM role_changes`)
	if diff := cmp.Diff([]string{
		`a1 success_manager: "dee", not "bob", by ` + id,
		`a1 t1: "dee", not "bob", by ` + id,
		`a1 t2: "dee", not "bob", by ` + id,
		`a2 sales_manager: "dee", not "", by no change`,
	}, told(w.differences(nil, "a1", "a2"))); diff != "" {
		t.Error(diff)
	}
	w.exec(`UPDATE holdings SET assignee_id = 'bob' WHERE account_id = 'a1'`)
	w.exec(`UPDATE account_roles SET owner_id = 'bob' WHERE account_id = 'a1'`)
	w.exec(`DELETE FROM account_roles WHERE role = 'sales_manager'`)
}

// A preview: what would differ is what recording the changes then moves.
func TestDifferencesForeseeWhatChangesMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	random := rand.New(rand.NewPCG(4, 4))
	for round := range 12 {
		account := fmt.Sprintf("a%d", round)
		w.accounts(fmt.Sprintf(`{"id": %q, "name": "A", "roles": {"success_manager": "ann", "sales_manager": "bob"}}`, account))
		for i := range 6 {
			w.tasks(fmt.Sprintf(`{"id": "t%d-%d", "account_id": %q, "title": "T", "source": %q, "assignee_id": %q, "assigned_at": %q}`, round, i, account,
				pick(random, "manual", "success_play"), pick(random, "ann", "bob", "cyd"), stamp(ago(time.Duration(random.IntN(40))*time.Minute))))
		}
		draw := func(n int) []roster.Change {
			out := make([]roster.Change, n)
			for i := range out {
				out[i] = roster.Change{
					Account: roster.Account{TenantID: tenant, AccountID: account}, Reason: event.ByAPI, InitiatedBy: "root",
					Change: handover.Change{
						OccurredAt: ago(time.Duration(random.IntN(40)) * time.Minute), Source: "//crm", ID: fmt.Sprintf("%d-%d", round, changes.Add(1)),
						Role: pick(random, success, sales), From: pick(random, "", "ann", "bob"), To: pick(random, "bob", "cyd", "dee"), Policy: handover.MoveAllTasks,
					},
				}
			}
			return out
		}
		known, missing := draw(3), draw(4)
		w.record(known)
		if found := w.differences(known, account); len(found) > 0 {
			t.Fatalf("what is known counts twice: %v", told(found))
		}
		want := map[string]string{}
		for _, d := range w.differences(append(missing, known...), account) {
			if d.TaskID != "" {
				if d.Cause == nil {
					t.Fatalf("%v: no cause", d)
				}
				want[d.TaskID] = d.Stored + " to " + d.Right + " by " + d.Cause.ID
			}
		}
		before := w.get(`SELECT coalesce(max(key), 0) FROM moves`)
		w.record(missing)
		got := map[string]string{}
		rows, err := w.pool.Query(w.ctx, `SELECT unnest(task_ids), coalesce(m.from_id, '') || ' to ' || coalesce(m.to_id, '') || ' by ' || c.id
			FROM moves m JOIN role_changes c ON c.key = m.change_key WHERE m.key > $1`, before)
		w.must(err)
		var task, how string
		_, err = pgx.ForEachRow(rows, []any{&task, &how}, func() error {
			got[task] = how
			return nil
		})
		w.must(err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("round %d: foreseen, and moved:\n%s", round, diff)
		}
	}
	if n := w.get(`SELECT count(*) FROM moves`); n == "0" {
		t.Fatal("nothing was tested")
	}
}

// record hands the changes to the reassigner in one batch.
func (w *world) record(all []roster.Change) {
	w.Helper()
	messages := make([]event.Message, len(all))
	for i, c := range all {
		m, err := event.AccountRoleChanged{
			ID: c.ID, Source: c.Source, Time: c.OccurredAt, TenantID: c.TenantID, AccountID: c.AccountID, Role: c.Role,
			PreviousOwnerID: c.From, NewOwnerID: c.To, Reason: c.Reason, InitiatedBy: c.InitiatedBy,
		}.Message(event.SubjectRoleChanged(c.TenantID))
		w.must(err)
		m.Stream = event.StreamRoleChanges
		messages[i] = m
	}
	w.must(w.reassigner.Handle(context.WithoutCancel(w.ctx), messages))
}
