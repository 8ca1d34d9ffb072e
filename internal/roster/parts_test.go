package roster_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/roster"
)

// A sync of many rows goes in parts, by COPY, and past what is not new; it ends as its rows would one by one.
func TestManyRowsEndAsOneByOne(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 7))
	rows := make([]roster.TaskSaid, 1200)
	for i := range rows {
		rows[i] = randomTask(random)
		rows[i].ID = fmt.Sprintf("t%d", random.IntN(500))
		rows[i].AssignedAt = roster.Maybe[*time.Time]{} // what is assigned now is so at another time
	}
	ends := make([]string, 2)
	outcomes := make([][]string, 2)
	for n, size := range []int{len(rows), 1} {
		w := newWorld(t)
		for i := range 5 {
			w.accounts(fmt.Sprintf(`{"id": "a%d", "name": "A", "roles": {"success_manager": "ann", "sales_manager": "bob"}}`, i))
		}
		for chunk := range slices.Chunk(rows, size) {
			results, err := w.SyncTasks(w.ctx, tenant, "root", chunk, false)
			w.must(err)
			for _, r := range results {
				outcomes[n] = append(outcomes[n], fmt.Sprint(r.ID, r.Outcome, r.Problem, r.TasksMoved))
			}
		}
		ends[n] = w.get(`SELECT string_agg(concat_ws(' ', task_id, account_id, title, status, source, role, assignee_id, revision, base_revision, synced_assignee), E'\n' ORDER BY task_id) FROM tasks`)
	}
	if diff := cmp.Diff(outcomes[1], outcomes[0]); diff != "" {
		t.Errorf("outcomes, one by one and together:\n%s", diff)
	}
	if diff := cmp.Diff(ends[1], ends[0]); diff != "" {
		t.Errorf("tasks, one by one and together:\n%s", diff)
	}
}
