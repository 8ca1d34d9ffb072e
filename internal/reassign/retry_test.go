package reassign_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/pkg/event"
)

// retry sends dead letters again and returns what the stream would deliver.
func (w *world) retry(keys ...int64) []event.Message {
	w.Helper()
	var out []event.Message
	err := postgres.InTx(w.ctx, w.pool, func(ctx context.Context, tx pgx.Tx) error {
		entries, err := journal.Retry(ctx, tx, keys)
		for _, e := range entries {
			w.seq++
			e.Message.Stream, e.Message.Sequence = event.StreamRoleChanges, w.seq
			out = append(out, e.Message)
		}
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return out
}

// operation is how "op" stands, and the letters with what came of them.
func (w *world) operation() []string {
	w.Helper()
	return append(
		all[string](w, `SELECT format('%s: %s applied, %s refused of %s, %s tasks', state, applied, refused, changes, tasks_moved) FROM operations WHERE operation_id = 'op'`),
		all[string](w, `SELECT format('%s %s %s %s', reason, state, outcome, tasks_moved) FROM dead_letters ORDER BY key`)...)
}

func (w *world) want(want ...string) {
	w.Helper()
	if diff := cmp.Diff(want, w.operation()); diff != "" {
		w.Errorf("the operation and its dead letters:\n%s", diff)
	}
}

func TestOperationCountsAChangeThatSucceedsByRetryOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.policy("move_all_tasks")
	w.exec(`INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state, changes) VALUES ('op', 'acme', 'bulk_edit', 'dee', $1, '{}', 'applying', 2)`, w.now)
	var changes []event.AccountRoleChanged
	for _, account := range []string{"a", "b"} {
		w.task(account, account, "manual", "")
		c := w.change("op-"+account, account, "ann", "zoe", 0)
		c.Source, c.OperationID = event.SourceHandover, "op"
		changes = append(changes, c)
	}
	w.deliver(changes...)
	w.want("done: 0 applied, 2 refused of 2, 0 tasks", "owner_unknown dead  ", "owner_unknown dead  ")

	w.handle(w.retry(1, 2)...) // in vain
	w.want("done: 0 applied, 2 refused of 2, 0 tasks", "owner_unknown dead  ", "owner_unknown dead  ")

	first := w.retry(1)
	w.exec(`INSERT INTO users (tenant_id, user_id, name) VALUES ('acme', 'zoe', 'Zoe')`)
	w.handle(first...)
	w.handle(first...) // delivered again
	w.want("done: 1 applied, 1 refused of 2, 1 tasks", "owner_unknown resolved recorded 1", "owner_unknown dead  ")

	// The second one is recorded by another way, a replay for example; then its retry finds it known.
	w.handle(w.message(changes[1]))
	w.handle(w.retry(2)...)
	w.want("done: 2 applied, 0 refused of 2, 2 tasks", "owner_unknown resolved recorded 1", "owner_unknown resolved known already 0")
	if got := w.assignee("a") + w.assignee("b"); got != "zoezoe" {
		t.Errorf("assignees %s", got)
	}
}

func TestOperationCountsAChangeThatIsRefusedForAnotherReasonOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state, changes) VALUES ('op', 'acme', 'role_change', 'dee', $1, '{}', 'applying', 1)`, w.now)
	c := w.change("op-a", "a", "ann", "zoe", 0)
	c.Source, c.OperationID = event.SourceHandover, "op"
	w.deliver(c)
	w.exec(`INSERT INTO users (tenant_id, user_id, name, status, left_at) VALUES ('acme', 'zoe', 'Zoe', 'disabled', $1)`, w.now.AddDate(0, 0, -1))
	w.handle(w.retry(1)...)
	w.want("done: 0 applied, 1 refused of 1, 0 tasks", "owner_unknown superseded  ", "owner_unavailable dead  ")

	w.exec(`UPDATE users SET status = 'active', left_at = NULL WHERE user_id = 'zoe'`)
	w.handle(w.retry(2)...)
	w.want("done: 1 applied, 0 refused of 1, 0 tasks", "owner_unknown superseded  ", "owner_unavailable resolved recorded 0")
}

// The original comes again, as after a crash, in one batch with its retry: whichever is first, the letter's end is that
// of both.
func TestOriginalAndRetryInOneBatchShareTheirFate(t *testing.T) {
	t.Parallel()
	for name, order := range map[string][2]int{"original first": {0, 1}, "retry first": {1, 0}} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " known ", known), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				original := w.message(w.change("c", "a", "ann", "zoe", 0))
				w.handle(original)
				pair := []event.Message{original, w.retry(1)[0]}
				want := []string{"owner_unknown dead  "}
				if known {
					w.exec(`INSERT INTO users (tenant_id, user_id, name) VALUES ('acme', 'zoe', 'Zoe')`)
					want = []string{"owner_unknown resolved recorded 0"}
				}
				w.handle(pair[order[0]], pair[order[1]])
				w.want(want...)
				if n := one[int](w, `SELECT count(*) FROM role_changes`); n == 1 != known {
					t.Errorf("%d recorded", n)
				}
			})
		}
	}
}

// Two letters of one event, from both lanes, are retried into one batch and refused: both are dead again.
func TestRetriesOfOneEventAreAllRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.message(w.change("c", "a", "ann", "zoe", 0))
	bulk := m
	bulk.Subject = event.SubjectRoleBulk("acme")
	w.handle(m)
	w.handle(bulk)
	w.handle(w.retry(1, 2)...)
	w.want("owner_unknown dead  ", "owner_unknown dead  ")
}
