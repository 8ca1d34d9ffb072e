package notify

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	metricsof "runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"handover.io/internal/postgres"
	"handover.io/pkg/event"
)

// The rates of the notifier, each beside its limit in the same run, on a PostgreSQL that syncs every commit:
//
//	go test ./internal/notify -run '^$' -bench . -benchtime 5x
//
// Every number is a median of so many rounds; of_limit is what the first contender reaches of the one named last.

// contender does a round's work and says how long it took; what it needs beforehand isn't counted.
type contender struct {
	name  string
	round func() time.Duration
}

// race lets the contenders take turns, so that all have the machine's good and bad moments.
func race(b *testing.B, unit string, n int, contenders ...contender) {
	took := make([][]time.Duration, len(contenders))
	for b.Loop() {
		for i, c := range contenders {
			took[i] = append(took[i], c.round())
		}
	}
	rate := func(i int) float64 {
		slices.Sort(took[i])
		return float64(n) / took[i][len(took[i])/2].Seconds()
	}
	for i, c := range contenders {
		b.ReportMetric(rate(i), c.name+"_"+unit+"/s")
	}
	if last := len(contenders) - 1; last > 0 {
		b.ReportMetric(rate(0)/rate(last), "of_limit")
	}
	b.ReportMetric(0, "ns/op")
}

// durable is a database on a server of the benchmark's own, with the settings that everybody gets.
func durable(b *testing.B) *pgxpool.Pool {
	b.Helper()
	ctx := context.Background()
	dir := b.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // PostgreSQL isn't run by root
		b.Fatal(err)
	}
	server, err := postgres.StartServer(ctx, postgres.ServerOptions{Dir: filepath.Join(dir, "postgres")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop(ctx) })
	if err := postgres.Migrate(ctx, server.URL()); err != nil {
		b.Fatal(err)
	}
	pool, err := postgres.Open(ctx, server.URL(), postgres.Options{MaxConns: 16, Writer: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	return pool
}

const (
	benchWindows  = 5000
	benchTasks    = 20 // in each window
	benchPeople   = 700
	benchMessages = 512 // that the notifier takes at a time
)

// company is one with people, accounts and tasks enough for a bulk change, and what was told before it.
func company(b *testing.B, pool *pgxpool.Pool, past int) *world {
	w := newWorldOn(b, pool)
	w.exec(`INSERT INTO users (tenant_id, user_id, name, email, time_zone)
SELECT 'demo', 'user-' || n, 'Person ' || n, 'person-' || n || '@example.com', 'Europe/Berlin' FROM generate_series(0, $1) n`, benchPeople)
	w.exec(`INSERT INTO accounts (tenant_id, account_id, name) SELECT 'demo', 'account-' || n, 'Customer ' || n || ' GmbH' FROM generate_series(0, $1) n`, benchWindows)
	w.exec(`INSERT INTO holdings (tenant_id, account_id, role, manual, assignee_id, n)
SELECT 'demo', 'account-' || w, '', true, 'user-' || w % $3, $2 FROM generate_series(0, $1 - 1) w`, benchWindows, benchTasks, benchPeople)
	w.exec(`INSERT INTO task_rows (tenant_id, task_id, account_id, title, source, role, holding, own_revision, base_assignee, due_at, priority, url, assigned_at, effective_at)
SELECT tenant_id, 'task' || substr(account_id, 8) || '-' || t, account_id, 'Call the customer about renewal ' || t, 'manual', '', key, 1, assignee_id,
       now() + (t - 3) * interval '1 day', 'High', 'https://crm.example.com/tasks/' || substr(account_id, 9) || '-' || t, now(), now()
FROM holdings, generate_series(0, $1 - 1) t`, benchTasks)
	w.exec(`INSERT INTO notices (tenant_id, recipient_id, account_id, state, opened_at, close_at, next_try_at, finished_at)
SELECT 'demo', 'user-' || w % $2, 'account-' || w % $3, 'sent', now(), now(), now(), now() FROM generate_series(1, $1) w`, past, benchPeople, benchWindows)
	w.gather("sent", "'past-' || notice_id", 1)
	w.exec(`VACUUM ANALYZE`)
	return w
}

// gather puts moves of 20 tasks into every window of a state.
func (w *world) gather(state, task string, revision int) {
	w.exec(`INSERT INTO notice_moves (notice_id, kind, account_id, from_id, moved_by, reason, role, moved_at, task_ids, revisions)
SELECT notice_id, 'received', account_id, 'maya', 'noa', 'segment', 'success_manager', now(),
       (SELECT array_agg(`+task+` || '-' || t) FROM generate_series(0, $1 - 1) t), (SELECT array_agg($2::bigint) FROM generate_series(1, $1))
FROM notices WHERE state = $3`, benchTasks, revision, state)
	w.exec(`INSERT INTO notice_items (tenant_id, recipient_id, task_id, revision, kind, notice_id)
SELECT tenant_id, recipient_id, `+task+` || '-' || t, $2, 'received', notice_id FROM notices, generate_series(0, $1 - 1) t WHERE state = $3`, benchTasks, revision, state)
}

// bulkChange is what a bulk edit announces: for each account a message with its tasks.
func bulkChange(round int) []event.Message {
	out := make([]event.Message, 0, benchWindows)
	for window := range benchWindows {
		out = append(out, announcement(window, benchTasks, round)...)
	}
	return out
}

func announcement(window, tasks, round int) []event.Message {
	r := event.TaskReassigned{Source: event.SourceHandover, Time: time.Now(), TenantID: "demo", AccountID: fmt.Sprintf("account-%d", window),
		FromID: "maya", ToID: fmt.Sprintf("user-%d", window%benchPeople), Reason: event.BySegment, InitiatedBy: "noa", Policy: "move_all_tasks",
		RoleChange: &event.RoleChangeRef{Source: "crm", ID: "1", Role: "success_manager", OccurredAt: time.Now()}}
	for n := range tasks {
		r.Tasks = append(r.Tasks, event.ReassignedTask{ID: fmt.Sprintf("task-%d-%d", window, n), Revision: int64(round), Title: fmt.Sprintf("Call the customer about renewal %d", n),
			Source: "success_play", Priority: "High", URL: fmt.Sprintf("https://crm.example.com/tasks/%d-%d", window, n)})
	}
	return r.Messages(uuid.NewString)
}

// bare is a table with a row for each move that says everything, which nothing refers to.
const bare = ` (
  tenant_id text COLLATE "C" NOT NULL, recipient_id text COLLATE "C" NOT NULL, task_id text COLLATE "C" NOT NULL, revision bigint NOT NULL,
  kind text NOT NULL, notice_id bigint NOT NULL, account_id text COLLATE "C" NOT NULL, from_id text COLLATE "C", moved_by text COLLATE "C" NOT NULL,
  reason text NOT NULL, role text NOT NULL, moved_at timestamptz NOT NULL, PRIMARY KEY (tenant_id, recipient_id, task_id, revision))`

// BenchmarkIntake takes in 100,000 moves that open 5,000 windows. Its limits are bare INSERTs and COPYs of the same moves,
// in as many transactions, known before and with nothing to look up.
func BenchmarkIntake(b *testing.B) {
	for _, past := range []int{0, 50_000} {
		b.Run(fmt.Sprintf("past=%dk", past*benchTasks/1000), func(b *testing.B) {
			w := company(b, durable(b), past)
			for _, table := range []string{"bare_unnest", "bare_copy"} {
				w.exec(`CREATE TABLE ` + table + bare)
				w.exec(`CREATE INDEX ON ` + table + ` (notice_id)`)
				w.exec(`INSERT INTO ` + table + ` SELECT tenant_id, recipient_id, task_id, revision, kind, notice_id, 'account', 'maya', 'noa', 'segment', 'success_manager', now() FROM notice_items`)
			}
			w.exec(`VACUUM ANALYZE`)
			round := 0
			var batch []event.Message
			open := func() []event.Message {
				round++
				w.exec(`UPDATE notices SET state = 'sent', finished_at = now() WHERE state = 'open'`)
				w.exec(`CHECKPOINT`)
				return bulkChange(round)
			}
			race(b, "moves", benchWindows*benchTasks,
				contender{"handle", func() time.Duration {
					batch = open()
					return timed(func() {
						for part := range slices.Chunk(batch, benchMessages) {
							if err := w.Handle(context.Background(), part); err != nil {
								b.Fatal(err)
							}
						}
					})
				}},
				contender{"two_workers", func() time.Duration {
					batch := open()
					return timed(func() {
						var workers errgroup.Group
						workers.SetLimit(2)
						for part := range slices.Chunk(batch, benchMessages) {
							workers.Go(func() error { return w.Handle(context.Background(), part) })
						}
						if err := workers.Wait(); err != nil {
							b.Fatal(err)
						}
					})
				}},
				contender{"decode", func() time.Duration {
					return timed(func() {
						for _, m := range batch {
							if _, err := decode(m); err != nil {
								b.Fatal(err)
							}
						}
					})
				}},
				contender{"copy", func() time.Duration { return w.bareRound(b, round, w.bareCopy) }},
				contender{"unnest", func() time.Duration { return w.bareRound(b, round, w.bareUnnest) }},
			)
			if n := w.number(`SELECT count(*) FROM notice_items`); n != (past+round*benchWindows)*benchTasks {
				b.Errorf("%d items", n)
			}
			if n := w.number(`SELECT count(*) FROM notices`); n != past+round*benchWindows {
				b.Errorf("%d windows", n)
			}
		})
	}
}

// BenchmarkHugeBatch takes in 512 messages of 256 tasks at once, the most there can be, and says how much memory that takes
// beside the messages themselves.
func BenchmarkHugeBatch(b *testing.B) {
	w := company(b, durable(b), 0)
	round := 0
	heap := func() float64 {
		sample := []metricsof.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metricsof.Read(sample)
		return float64(sample[0].Value.Uint64())
	}
	var peak float64
	race(b, "moves", benchMessages*event.MaxTasksPerEvent, contender{"handle", func() time.Duration {
		round++
		var batch []event.Message
		for m := range benchMessages {
			batch = append(batch, announcement(m, event.MaxTasksPerEvent, round)...)
		}
		runtime.GC()
		before, done := heap(), make(chan struct{})
		var watch sync.WaitGroup
		watch.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					peak = max(peak, heap()-before)
				case <-done:
					return
				}
			}
		})
		took := timed(func() {
			if err := w.Handle(context.Background(), batch); err != nil {
				b.Fatal(err)
			}
		})
		close(done)
		watch.Wait()
		return took
	}})
	b.ReportMetric(peak/(1<<20), "peak_MiB")
}

func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// bareRound has the rows of a round written by write, as many at a time as the messages of a batch hold.
func (w *world) bareRound(b *testing.B, round int, write func(rows [][]any) error) time.Duration {
	var rows [][]any
	at := time.Now()
	for window := range benchWindows {
		for n := range benchTasks {
			rows = append(rows, []any{"demo", fmt.Sprintf("user-%d", window%benchPeople), fmt.Sprintf("task-%d-%d", window, n), int64(round), "received",
				int64(round*benchWindows + window), fmt.Sprintf("account-%d", window), "maya", "noa", "segment", "success_manager", at})
		}
	}
	w.exec(`CHECKPOINT`)
	return timed(func() {
		for part := range slices.Chunk(rows, benchMessages*benchTasks) {
			if err := write(part); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func (w *world) bareCopy(rows [][]any) error {
	columns := strings.Split("tenant_id,recipient_id,task_id,revision,kind,notice_id,account_id,from_id,moved_by,reason,role,moved_at", ",")
	_, err := w.pool.CopyFrom(context.Background(), pgx.Identifier{"bare_copy"}, columns, pgx.CopyFromRows(rows))
	return err
}

func (w *world) bareUnnest(rows [][]any) error {
	texts := make([][]string, 12)
	revisions, notices, at := make([]int64, len(rows)), make([]int64, len(rows)), make([]time.Time, len(rows))
	for i, row := range rows {
		for c, v := range row {
			switch v := v.(type) {
			case string:
				texts[c] = append(texts[c], v)
			case time.Time:
				at[i] = v
			}
		}
		revisions[i], notices[i] = row[3].(int64), row[5].(int64)
	}
	_, err := w.pool.Exec(context.Background(), `
INSERT INTO bare_unnest
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[], $12::timestamptz[])
ON CONFLICT DO NOTHING`,
		texts[0], texts[1], texts[2], revisions, texts[4], notices, texts[6], texts[7], texts[8], texts[9], texts[10], at)
	return err
}

// BenchmarkRender writes the mail of a window with 20 tasks, without a database. Its limit is the templates alone.
func BenchmarkRender(b *testing.B) {
	const mails = 1000
	items := make([]told, benchTasks)
	for i := range items {
		items[i] = moved(fmt.Sprintf("t-%d", i), fmt.Sprintf("Call the customer about renewal %d", i), time.Duration(i-3)*24*time.Hour+time.Hour)
	}
	d, _ := compose(noon, items)
	v := pen.view(noon, toAda, d, "Tasks moved to you: Acme Corporation", tasksPerMail)
	l, err := pen.write(noon, toAda, d)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	race(b, "mails", mails,
		contender{"write", func() time.Duration {
			return timed(func() {
				for range mails {
					d, _ := compose(noon, items)
					if _, err := pen.write(noon, toAda, d); err != nil {
						b.Fatal(err)
					}
				}
			})
		}},
		contender{"templates", func() time.Duration {
			return timed(func() {
				for range mails {
					if _, _, err := v.render(); err != nil {
						b.Fatal(err)
					}
					if _, _, err := templateRows(v.Accounts[0].Tasks); err != nil {
						b.Fatal(err)
					}
				}
			})
		}},
	)
	b.ReportMetric(float64(len(l.mime)), "B/mail")
}
