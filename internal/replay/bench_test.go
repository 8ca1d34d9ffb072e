package replay_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/reassign"
	"handover.io/internal/replay"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// BenchmarkLiveBesideReplay is how long single changes take, fifty a second, while a replay records missing ones of the same
// 2,000 accounts at a rate. HANDOVER_TEST_DATABASE_URL names a server that syncs, whose times are those of production.
func BenchmarkLiveBesideReplay(b *testing.B) {
	for _, perSecond := range []float64{0, 200, 500, 1000, fast} {
		b.Run(fmt.Sprintf("rate=%g", perSecond), func(b *testing.B) {
			pool := benchPool(b)
			random := rand.New(rand.NewPCG(1, 2))
			r := newBenchReplay(pool, benchChanges(b, random, "missing", 4000))
			live := reassign.New(pool, reassign.Config{Consumer: event.ConsumerReassigner, Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
			ctx, stop := context.WithCancel(b.Context())
			ended := make(chan time.Duration, 1)
			if perSecond == 0 {
				time.AfterFunc(6*time.Second, func() { ended <- 0 })
			} else {
				run, err := r.Begin(ctx, replay.Order{From: replay.FromStream}, "bench")
				if err != nil {
					b.Fatal(err)
				}
				go func() {
					began := time.Now()
					if _, err := r.Run(ctx, run, perSecond, silence); err != nil {
						b.Error(err)
					}
					ended <- time.Since(began)
				}()
			}
			var took []time.Duration
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				select {
				case replayed := <-ended:
					stop()
					slices.Sort(took)
					b.ReportMetric(took[len(took)/2].Seconds()*1000, "p50-ms")
					b.ReportMetric(took[len(took)*99/100].Seconds()*1000, "p99-ms")
					if replayed > 0 {
						b.ReportMetric(4000/replayed.Seconds(), "replayed/s")
					}
					b.ReportMetric(0, "ns/op")
					return
				case <-tick.C:
				}
				began := time.Now()
				if err := live.Handle(ctx, benchChanges(b, random, fmt.Sprintf("live-%d", i), 1)); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(began))
			}
		})
	}
}

// BenchmarkForesee is a dry run over 100,000 messages.
func BenchmarkForesee(b *testing.B) {
	pool := benchPool(b)
	changes := benchChanges(b, rand.New(rand.NewPCG(1, 2)), "missing", 100_000)
	for b.Loop() {
		f, err := newBenchReplay(pool, changes).Foresee(b.Context(), replay.Selection{}, 0, silence)
		if err != nil || f.Missing != len(changes) {
			b.Fatalf("%+v, %v", f.Counts, err)
		}
	}
}

const benchAccounts = 2000

func benchPool(b *testing.B) *pgxpool.Pool {
	b.Helper()
	url, filling := testkit.NewDatabase(b) // what fills it joins lists
	pool, err := postgres.Open(context.Background(), url, postgres.Options{Writer: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	testkit.Exec(b, filling, `INSERT INTO tenants (tenant_id) VALUES ('acme')`)
	testkit.Exec(b, filling, `INSERT INTO users (tenant_id, user_id, name) SELECT 'acme', u, u FROM unnest($1::text[]) u`, users)
	testkit.Exec(b, filling, `INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by) VALUES ('acme', '-infinity', 'move_all_tasks', 'ann')`)
	var tasks []testkit.Task
	for a := range benchAccounts {
		for i := range 20 {
			tasks = append(tasks, testkit.Task{Tenant: "acme", ID: fmt.Sprintf("t%d-%d", a, i), Account: fmt.Sprintf("a%d", a), Title: "Call", Assignee: users[i%4], Since: time.Now().Add(-time.Hour)})
		}
	}
	testkit.PutTasks(b, filling, tasks...)
	return pool
}

func benchChanges(b *testing.B, random *rand.Rand, tag string, n int) []event.Message {
	b.Helper()
	out := make([]event.Message, n)
	for i := range out {
		m, err := event.AccountRoleChanged{
			ID: fmt.Sprintf("%s-%d", tag, i), Source: "//crm.example", Time: time.Now(), TenantID: "acme", AccountID: fmt.Sprintf("a%d", random.IntN(benchAccounts)),
			Role: "success_manager", NewOwnerID: users[random.IntN(4)], Reason: event.ByAPI, InitiatedBy: "zoe",
		}.Message(event.SubjectRoleChanged("acme"))
		if err != nil {
			b.Fatal(err)
		}
		m.Stream, m.Sequence = event.StreamRoleChanges, uint64(i+1)
		out[i] = m
	}
	return out
}

// newBenchReplay is a replay of messages, without a broker.
func newBenchReplay(pool *pgxpool.Pool, messages []event.Message) *replay.Replay {
	reassigner := reassign.New(pool, reassign.Config{Offer: func([]journal.Entry) {}, Logger: zap.NewNop()})
	return &replay.Replay{
		Pool: pool, Judge: reassign.Judge, Refold: roster.Refold,
		Stream: func(context.Context) (time.Time, uint64, error) { return time.Time{}, uint64(len(messages)), nil },
		Read: func(ctx context.Context, part replay.Range, handle func(context.Context, []event.Message, uint64) error) (uint64, error) {
			rest := messages[max(part.FromSeq, 1)-1:]
			for batch := range slices.Chunk(rest, part.Batch) {
				if err := handle(ctx, batch, 0); err != nil {
					return 0, err
				}
			}
			return uint64(len(messages)), nil
		},
		Apply: func(ctx context.Context, messages []event.Message) (replay.Applied, error) {
			done, err := reassigner.Apply(ctx, messages)
			return replay.Applied{Recorded: done.Recorded, Known: done.Known, Moves: done.Moves}, err
		},
	}
}
