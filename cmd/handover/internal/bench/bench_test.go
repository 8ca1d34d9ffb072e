package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/testkit"
)

var small = dataset{accounts: 200, tasks: 10_000, tenants: 10}

// The limit would be none if PostgreSQL read whole tables for it.
func TestTheLimitIsPlannedByItsIndex(t *testing.T) {
	t.Parallel()
	conn, err := pgx.Connect(t.Context(), testkit.EmptyDatabaseURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := (template{small, true}).fill(t.Context(), conn, func(string, ...any) {}); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), limitSettings+`; PREPARE limited AS `+moveAndRemember); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `EXPLAIN EXECUTE limited('{}', '{}', '{}', '{}', '{}', '{}')`, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	plan := strings.Join(lines, "\n")
	if !strings.Contains(plan, "Index Scan using tasks_account on tasks t") || !strings.Contains(plan, "(assignee_id = (w.from_id)::text)") || strings.Contains(plan, "Seq Scan") {
		t.Errorf("planned as\n%s", plan)
	}
}

func TestHotIsShuffledAndRepeats(t *testing.T) {
	p := hot(dataset{accounts: 20_000, tasks: 1_000_000, tenants: 10}, 10_000)
	times, inOrder := map[int32]int{}, 0
	for i, d := range p.deliveries {
		times[d]++
		if i > 0 && d > p.deliveries[i-1] {
			inOrder++
		}
	}
	if len(p.changes) != 9000 || len(times) != 9000 || len(p.deliveries) != 10_000 {
		t.Errorf("%d changes, %d of them delivered, in %d deliveries", len(p.changes), len(times), len(p.deliveries))
	}
	if inOrder < 4500 || inOrder > 5500 {
		t.Errorf("%d of 10,000 arrive after one that occurred before them", inOrder)
	}
	holder := map[int32]int32{}
	for _, c := range p.changes {
		if from, changed := holder[c.account]; changed && from != c.from || c.from == c.to {
			t.Fatalf("%+v: the account is with %d", c, from)
		}
		holder[c.account] = c.to
	}
	if len(holder) != hotAccounts {
		t.Errorf("%d accounts", len(holder))
	}
}

func TestTheDataSetIsAsSaid(t *testing.T) {
	open, manual := 0, 0
	for row := range small.rows() {
		if small.rowOf(taskID(row)) != row {
			t.Fatalf("row %d has the id %s", row, taskID(row))
		}
		source, isOpen := small.kind(row)
		if small.accountOf(row) == 7 && isOpen {
			open++
			if source == "manual" {
				manual++
			}
		}
	}
	if open != 20 || manual != 8 || small.openTasks() != open {
		t.Errorf("an account has %d open tasks, %d of them manual", open, manual)
	}
	policies := map[string]int{}
	for i := range small.tenants {
		policies[string(small.policy(i))]++
	}
	if got := fmt.Sprint(policies); got != "map[keep_tasks:2 move_all_tasks:4 move_automated_tasks:4]" {
		t.Error(got)
	}
	if small.rowOf("12345678-0000-0000-0000-000000000001") != -1 || small.rowOf("") != -1 {
		t.Error("an id that nobody made has a row")
	}
}

func TestMediansCountNoWrongAnswer(t *testing.T) {
	run := func(contender string, perSecond float64, right bool) Result {
		return Result{Contender: contender, Mix: "unique", ChangesPerS: perSecond, Right: right}
	}
	got := medians([]Result{
		run(Handover, 30, true), run(Limit, 20, true), run(Handover, 10, true), run(Limit, 10, true), run(Handover, 20, true), run(Limit, 40, true),
		run("other", 100, true), run("other", 1, false), run("other", 50, true),
	})
	if len(got) != 3 || got[0].ChangesPerS != 20 || *got[0].RatioToLimit != 1 || got[1].ChangesPerS != 20 || got[1].RatioToLimit != nil {
		t.Errorf("got %+v", got)
	}
	if !slices.Equal(got[0].EachRun, []float64{30, 10, 20}) {
		t.Errorf("each run: %v", got[0].EachRun)
	}
	if got[2].Right || (Report{Results: got}).AllRight() {
		t.Error("a contender who was wrong once counts as right")
	}
}

func TestPercentiles(t *testing.T) {
	var samples []time.Duration
	for i := range 200 {
		samples = append(samples, time.Duration(200-i)*time.Millisecond)
	}
	if p50, p99 := *percentile(samples, .5), *percentile(samples, .99); p50 != 100 || p99 != 198 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
	if only := *percentile(samples[:1], .5); only != 200 {
		t.Errorf("of one sample: %v", only)
	}
}

// Whatever the sizes of the batches, the broker alone publishes as many messages as ours.
func TestSharesAreDealtOut(t *testing.T) {
	s := shares{of: 799, deliveries: 1000}
	dealt := 0
	for _, batch := range []int{1, 512, 100, 0, 386, 1} {
		from, to, last := s.next(batch)
		if from != dealt || to < from || last != (s.done == 1000) {
			t.Errorf("after %d: %d to %d, last %v", s.done, from, to, last)
		}
		dealt = to
	}
	if dealt != 799 {
		t.Errorf("%d of 799", dealt)
	}
}
