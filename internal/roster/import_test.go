package roster_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/roster"
)

// BenchmarkImportTasks is the server's part of an import, chunk by chunk from JSON to the commit: tasks that are new, the
// same again, and the same with another title. Beside it stands what bounds it: a bare COPY of the same rows into a table
// with the same indexes. The tasks are on 5,000 accounts and with 100 people, in no order.
func BenchmarkImportTasks(b *testing.B) {
	const chunk = roster.MaxSyncTasks
	for _, c := range []struct{ name, before, now string }{{"new", "", "Call"}, {"unchanged", "Call", "Call"}, {"changed", "Call", "Call again"}} {
		b.Run(c.name, func(b *testing.B) {
			w := newImportWorld(b)
			for first := 0; b.Loop(); first += chunk {
				b.StopTimer()
				if c.before != "" {
					w.take(taskRows(first, chunk, c.before))
				}
				rows := taskRows(first, chunk, c.now)
				b.StartTimer()
				w.take(rows)
			}
			b.ReportMetric(float64(b.N*chunk)/b.Elapsed().Seconds(), "rows/s")
		})
	}
	b.Run("copy", func(b *testing.B) {
		w := newImportWorld(b)
		w.exec(`CREATE TABLE copied (LIKE tasks INCLUDING ALL)`)
		conn, err := pgx.Connect(w.ctx, w.pool.Config().ConnString())
		w.must(err)
		defer conn.Close(w.ctx)
		for first := 0; b.Loop(); first += chunk {
			b.StopTimer()
			w.take(taskRows(first, chunk, "Call"))
			var rows bytes.Buffer
			_, err := conn.PgConn().CopyTo(w.ctx, &rows, fmt.Sprintf(`COPY (SELECT * FROM tasks WHERE task_id >= 't-%08d') TO STDOUT (FORMAT binary)`, first))
			w.must(err)
			b.StartTimer()
			_, err = conn.PgConn().CopyFrom(w.ctx, &rows, `COPY copied FROM STDIN (FORMAT binary)`)
			w.must(err)
		}
		b.ReportMetric(float64(b.N*chunk)/b.Elapsed().Seconds(), "rows/s")
	})
}

const importAccounts, importUsers = 5000, 100

func newImportWorld(b *testing.B) *world {
	b.Helper()
	w := newWorld(b)
	var rows []string
	for i := range importUsers {
		rows = append(rows, fmt.Sprintf(`{"id": "u-%d", "name": "User %[1]d"}`, i))
	}
	w.users(rows...)
	for i := 0; i < importAccounts; i += len(rows) {
		for j := range rows {
			rows[j] = fmt.Sprintf(`{"id": "a-%d", "name": "Account %[1]d", "roles": {"success_manager": "u-%d"}}`, i+j, (i+j)%importUsers)
		}
		w.accounts(rows...)
	}
	return w
}

// taskRows are rows of so many tasks from the first on, always the same for the same title.
func taskRows(first, n int, title string) [][]byte {
	rows := make([][]byte, n)
	for i := range rows {
		random := rand.New(rand.NewPCG(uint64(first+i), 1))
		account := random.IntN(importAccounts)
		rows[i] = fmt.Appendf(nil, `{"id": "t-%08d", "account_id": "a-%d", "title": "%s about the renewal", "assignee_id": "u-%d", "status": %q, "source": "success_play", "priority": "high",
			"created_at": "2026-03-01T09:00:00Z", "due_at": "2026-06-01T09:00:00Z", "url": "https://crm.example.com/tasks/%[1]d"}`,
			first+i, account, title, account%importUsers, []string{"open", "open", "in_progress", "completed"}[random.IntN(4)])
	}
	return rows
}

func (w *world) take(rows [][]byte) {
	w.Helper()
	said := make([]roster.TaskSaid, len(rows))
	for i, row := range rows {
		var err error
		said[i], err = roster.DecodeTask(row)
		w.must(err)
	}
	results, err := w.SyncTasks(w.ctx, tenant, "root", said, false)
	w.must(err)
	for _, r := range results {
		if r.Problem != nil {
			w.Fatal(r.Problem)
		}
	}
}
