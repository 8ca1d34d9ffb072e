package system_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/reassign"
	"handover.io/internal/roster"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// world is the whole system at work in this process, over its own database and broker, with faults.
type world struct {
	*testing.T
	ctx        context.Context
	pool       *pgxpool.Pool // of the test, which nobody cuts
	bus        *bus.Bus
	faults     *faults
	relay      *journal.Relay
	roster     *roster.Roster
	operations *operation.Operations
	notifier   *notify.Notifier
	mails      *mailbox
}

func newWorld(t *testing.T) *world {
	url, pool := testkit.NewDatabase(t)
	ctx, cancel := context.WithCancel(context.Background())
	w := &world{T: t, ctx: ctx, pool: pool, bus: testkit.NATS(t), faults: newFaults(uint64(time.Now().UnixNano()))}
	writers, err := postgres.Open(ctx, url, postgres.Options{Writer: true, Tracer: cutter{w.faults}})
	if err != nil {
		t.Fatal(err)
	}
	w.mails = &mailbox{faults: w.faults, accepted: map[int64]int{}}
	w.relay = journal.NewRelay(pool, w.faults.forgetful(w.bus.Publish), zap.NewNop())
	offer := func(entries []journal.Entry) {
		if !w.faults.strike("between commit and publication", 6) {
			w.relay.Offer(entries)
		}
	}
	w.roster = roster.New(pool, offer)
	w.operations = operation.New(writers, offer, zap.NewNop(), nil)
	// The asker's own requests aren't cut: what they answered is what the model counts on.
	asked := operation.New(pool, offer, zap.NewNop(), nil)
	w.notifier = notify.New(writers, notify.Config{Window: 20 * time.Millisecond, Sender: w.mails, Logger: zap.NewNop()})

	var parts sync.WaitGroup
	run := func(part func(context.Context) error) {
		parts.Go(func() {
			if err := part(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	consume := func(c bus.Consumer, handle func(context.Context, []event.Message) error) {
		handle = w.faults.crashing(c.Durable, handle)
		run(func(ctx context.Context) error { return w.bus.Consume(ctx, c, handle) })
	}
	for durable, filter := range map[string]string{event.ConsumerReassigner: "handover.role.changed.*", event.ConsumerReassignerBulk: "handover.role.bulk.*"} {
		r := reassign.New(writers, reassign.Config{Consumer: durable, Offer: offer, Logger: zap.NewNop()})
		consume(bus.Consumer{Stream: event.StreamRoleChanges, Durable: durable, Filter: filter, Batch: 16, Workers: 2}, r.Handle)
	}
	consume(bus.Consumer{Stream: event.StreamTaskReassignments, Durable: event.ConsumerNotifier, Batch: 16, Workers: 2}, w.notifier.Handle)
	run(w.relay.Run)
	run(w.operations.Run)
	run(w.notifier.Run)
	w.operations = asked
	t.Cleanup(func() {
		w.faults.quiet.Store(true)
		cancel()
		parts.Wait()
		writers.Close()
	})
	return w
}

func (w *world) clock() time.Time {
	return testkit.One[time.Time](w, w.pool, `SELECT clock_timestamp()`)
}

func (w *world) publish(m event.Message) {
	if _, err := w.bus.Publish(w.ctx, []event.Message{m}); err != nil {
		w.Fatal(err)
	}
}

// rest lets nothing break any more and waits until nothing is under way.
func (w *world) rest() {
	w.faults.quiet.Store(true)
	testkit.Eventually(w, "rest", func() (bool, string) {
		if _, err := w.relay.Sweep(w.ctx, 0); err != nil {
			return false, err.Error()
		}
		if left := testkit.One[string](w, w.pool, underWay); left != "" {
			return false, left
		}
		status, err := w.bus.Status(w.ctx)
		if err != nil {
			return false, err.Error()
		}
		for _, s := range status {
			for _, c := range s.Consumers {
				if c.Pending > 0 || c.AckPending > 0 {
					return false, c.Consumer + " is behind"
				}
			}
		}
		// Once more: what a consumer has just done may have put something into the outbox.
		return testkit.One[string](w, w.pool, underWay) == "", "just done"
	})
}

const underWay = `
SELECT concat_ws(', ',
  (SELECT count(*) || ' unpublished' FROM outbox_owed HAVING count(*) > 0),
  (SELECT count(*) || ' operations' FROM operations WHERE finished_at IS NULL HAVING count(*) > 0),
  (SELECT count(*) || ' windows' FROM notices WHERE state IN ('open', 'closed', 'sending') HAVING count(*) > 0))`

func (w *world) unrest() { w.faults.quiet.Store(false) }

// report says what the histories came to, and fails when they came to too little to prove anything.
func (w *world) report() {
	for what, sql := range map[string]string{
		"role changes recorded":       `SELECT count(*) FROM role_changes`,
		"tasks moved":                 `SELECT coalesce(sum(cardinality(task_ids)), 0) FROM moves WHERE reason <> 'synced'`,
		"corrections":                 `SELECT count(*) FROM moves WHERE correction`,
		"policies set right":          `SELECT count(*) FROM operations WHERE kind = 'policy_corrected' AND changes > 0`,
		"mails sent":                  `SELECT count(*) FROM notices WHERE state = 'sent'`,
		"owners who had left by then": `SELECT count(*) FROM dead_letters`,
	} {
		n := testkit.One[int](w, w.pool, sql)
		w.Logf("%5d %s", n, what)
		if n == 0 {
			w.Errorf("no %s", what)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.faults.broken)) {
		w.Logf("%5d × %s", w.faults.broken[name], name)
	}
	if len(w.faults.broken) < 9 {
		w.Errorf("only these faults struck: %v", w.faults.broken)
	}
}

func (h *history) all(sql string, args ...any) []string {
	rows, err := h.pool.Query(h.ctx, sql, args...)
	h.must(err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	h.must(err)
	return out
}

// check compares the end with what must be.
func (h *history) check() {
	testkit.CheckFold(h.T, h.pool)
	alarms, err := h.verified(h.ctx, false)
	h.must(err)
	h.same("findings of verify", nil, alarms)
	testkit.CheckPolicies(h.T, h.pool)
	h.same("published role changes, recorded or dead letters for their owner",
		slices.Sorted(maps.Keys(h.published)),
		h.all(`SELECT id FROM role_changes WHERE tenant_id = $1 AND source = '//crm.example'
			UNION SELECT convert_from(body, 'UTF8')::jsonb ->> 'id' FROM dead_letters WHERE tenant_id = $1 AND reason = 'owner_unavailable' ORDER BY 1`, h.tenant))
	h.same("dead letters of other reasons", nil, h.all(`SELECT reason || ': ' || detail FROM dead_letters WHERE tenant_id = $1 AND reason <> 'owner_unavailable'`, h.tenant))
	gone := slices.Sorted(maps.Keys(h.gone))
	h.same("roles of people who left", nil, h.all(`SELECT account_id || ' ' || role || ' ' || owner_id FROM account_roles WHERE tenant_id = $1 AND owner_id = ANY($2)`, h.tenant, gone))
	h.same("open tasks of people who left", nil, h.all(`SELECT task_id || ' ' || assignee_id FROM tasks WHERE tenant_id = $1 AND assignee_id = ANY($2) AND status IN ('open', 'in_progress')`, h.tenant, gone))
	moved := h.all(`SELECT id || ' ' || revision FROM moves, unnest(task_ids, revisions) AS t(id, revision) WHERE tenant_id = $1 AND reason <> 'synced' ORDER BY 1`, h.tenant)
	h.same("moves and announcements", moved, h.announced())
	h.same("announcements to somebody, and items of windows",
		h.all(`SELECT id || ' ' || revision || ' ' || to_id FROM moves, unnest(task_ids, revisions) AS t(id, revision)
			WHERE tenant_id = $1 AND reason <> 'synced' AND to_id <> moved_by ORDER BY 1`, h.tenant),
		h.all(`SELECT task_id || ' ' || revision || ' ' || recipient_id FROM notice_items WHERE tenant_id = $1 AND kind = 'received' ORDER BY 1`, h.tenant))
	h.same("operations whose initiator wasn't told (a task assigned by hand is told in the answer)", nil, h.all(`SELECT operation_id || ' ' || to_jsonb(o)::text FROM operations o WHERE tenant_id = $1 AND kind <> 'task_assigned'
		AND NOT EXISTS (SELECT FROM notifications n WHERE n.operation_id = o.operation_id AND n.user_id = 'dee')`, h.tenant))
	h.mails.mu.Lock()
	defer h.mails.mu.Unlock()
	for notice, times := range h.mails.accepted {
		if times != 1 {
			h.wrong = append(h.wrong, fmt.Sprintf("the mail of notice %d was handed over %d times", notice, times))
		}
	}
	if len(h.wrong) > 0 {
		h.rt.Fatalf("%s", strings.Join(h.wrong, "\n"))
	}
}

func (h *history) same(what string, want, got []string) {
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		h.wrong = append(h.wrong, what+":\n"+diff)
	}
}

// announced are the tasks and revisions of the TaskReassigned that were published.
func (h *history) announced() []string {
	return h.all(`
		SELECT (t ->> 'id') || ' ' || (t ->> 'revision')
		FROM (SELECT convert_from(body, 'UTF8')::jsonb AS e FROM outbox WHERE tenant_id = $1 AND stream = 'TASK_REASSIGNMENTS' AND key IN (SELECT unnest(keys) FROM outbox_published)) o,
		     jsonb_array_elements(e -> 'data' -> 'tasks') t ORDER BY 1`, h.tenant)
}
