package roster_test

import (
	"fmt"
	"testing"

	"handover.io/internal/roster"
)

// BenchmarkImportTasks imports new tasks, 20 to an account, in chunks of 2,000: from JSON to the commit.
func BenchmarkImportTasks(b *testing.B) {
	const accounts, perAccount = 5000, 20
	w := newWorld(b)
	for i := 0; i < accounts; i += 1000 {
		rows := make([]string, 1000)
		for j := range rows {
			rows[j] = fmt.Sprintf(`{"id": "a-%06d", "name": "Account %[1]d", "roles": {"success_manager": "ann"}}`, i+j)
		}
		w.accounts(rows...)
	}
	owners := []string{"ann", "bob", "cyd", "dee"}
	for done := 0; b.Loop(); done += roster.MaxSyncRows {
		rows := make([]roster.TaskSaid, roster.MaxSyncRows)
		for j := range rows {
			n := done + j
			var err error
			rows[j], err = roster.DecodeTask(fmt.Appendf(nil, `{"id": "t-%08d", "account_id": "a-%06d", "title": "Call them about renewal %d", "assignee_id": "%s",
				"status": "open", "source": "success_play", "priority": "high", "created_at": "2026-03-01T09:00:00Z", "due_at": "2026-06-01T09:00:00Z",
				"url": "https://crm.example.com/tasks/%[1]d"}`, n, n/perAccount%accounts, n, owners[n%4]))
			w.must(err)
		}
		results, err := w.SyncTasks(w.ctx, tenant, "root", rows, false)
		w.must(err)
		if results[0].Outcome != roster.Created {
			b.Fatal(results[0])
		}
	}
	b.ReportMetric(float64(b.N*roster.MaxSyncRows)/b.Elapsed().Seconds(), "rows/s")
}
