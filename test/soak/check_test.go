package soak_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// What is right when all has come to rest, each as a query for what isn't.
var rightWhenEmpty = []struct{ what, sql string }{
	{"tasks and revisions that moved and were not announced", `
		SELECT concat_ws(' ', tenant_id, id, revision) FROM moves, unnest(task_ids, revisions) AS t(id, revision) WHERE reason <> 'synced'
		EXCEPT SELECT concat_ws(' ', tenant_id, id, revision) FROM announced`},
	{"announcements of what never moved", `
		SELECT concat_ws(' ', tenant_id, id, revision) FROM announced
		EXCEPT SELECT concat_ws(' ', tenant_id, id, revision) FROM moves, unnest(task_ids, revisions) AS t(id, revision) WHERE reason <> 'synced'`},
	{"moves announced more than once", `SELECT concat_ws(' ', tenant_id, id, revision, count(*)) FROM announced GROUP BY tenant_id, id, revision HAVING count(*) > 1`},
	{"moves to somebody that are in no window", `
		SELECT concat_ws(' ', tenant_id, id, revision, to_id) FROM moves, unnest(task_ids, revisions) AS t(id, revision) WHERE reason <> 'synced' AND to_id <> moved_by
		EXCEPT SELECT concat_ws(' ', tenant_id, task_id, revision, recipient_id) FROM notice_items WHERE kind = 'received'`},
	{"items of windows for what never moved to them", `
		SELECT concat_ws(' ', tenant_id, task_id, revision, recipient_id) FROM notice_items WHERE kind = 'received'
		EXCEPT SELECT concat_ws(' ', tenant_id, id, revision, to_id) FROM moves, unnest(task_ids, revisions) AS t(id, revision) WHERE reason <> 'synced' AND to_id <> moved_by`},
	{"roles of people who left and have a successor", `
		SELECT concat_ws(' ', tenant_id, account_id, role, owner_id) FROM account_roles r JOIN users u USING (tenant_id)
		WHERE u.user_id = r.owner_id AND u.left_at IS NOT NULL AND u.successor_id IS NOT NULL`},
	{"open tasks of people who left and have a successor", `
		SELECT concat_ws(' ', tenant_id, task_id, assignee_id) FROM tasks t JOIN users u USING (tenant_id)
		WHERE u.user_id = t.assignee_id AND u.left_at IS NOT NULL AND u.successor_id IS NOT NULL AND t.status IN ('open', 'in_progress')`},
	{"operations that did not come to a good end", `SELECT operation_id || ' ' || state FROM operations WHERE state <> 'done'`},
	{"operations whose initiator was not told", `
		SELECT operation_id || ' ' || kind FROM operations o WHERE kind <> 'task_assigned'
		AND NOT EXISTS (SELECT FROM notifications n WHERE n.operation_id = o.operation_id AND n.user_id = o.initiated_by)`},
	{"initiators told twice", `SELECT operation_id FROM notifications WHERE operation_id IS NOT NULL GROUP BY operation_id HAVING count(*) > 1`},
	{"dead letters that nobody expects", `
		SELECT concat_ws(' ', tenant_id, consumer, reason, detail) FROM dead_letters WHERE state = 'dead' AND reason NOT IN ('owner_unavailable', 'time_ahead')`},
}

// announcedTable has what the outbox says was announced, unpacked once.
const announcedTable = `
CREATE TABLE announced AS
SELECT tenant_id, t ->> 'id' AS id, (t ->> 'revision')::bigint AS revision
FROM outbox o CROSS JOIN LATERAL jsonb_array_elements(convert_from(o.body, 'UTF8')::jsonb -> 'data' -> 'tasks') t
WHERE stream = 'TASK_REASSIGNMENTS' AND key IN (SELECT unnest(keys) FROM outbox_published)`

// judge compares the end with what must be, and sums up.
func (w *world) judge(lasted time.Duration) report {
	kills, _, _ := w.tally.sum()
	r := report{Seed: w.seed, Seconds: lasted.Seconds(), Kills: kills, Faults: w.tally.report()}
	for _, p := range w.parts {
		p.mu.Lock()
		for _, alone := range p.alone {
			w.wrong("%s", alone)
		}
		p.mu.Unlock()
		for _, line := range panics(p.log) {
			w.wrong("%s", line)
		}
	}
	if !w.Failed() {
		testkit.CheckFold(w, w.pool)
		testkit.Exec(w, w.pool, announcedTable)
		for _, check := range rightWhenEmpty {
			w.none(check.what, testkit.All[string](w, w.pool, check.sql))
		}
		w.checkEvents()
		w.checkStream(&r)
		w.checkMails()
		w.checkSizes(&r)
		w.checkVerify()
		w.count(&r)
	}
	r.Wrong = w.wrongs
	return r
}

// none is wrong when there is any, and shows the first.
func (w *world) none(what string, found []string) {
	if n := len(found); n > 0 {
		w.wrong("%d %s:\n  %s", n, what, strings.Join(found[:min(n, 10)], "\n  "))
	}
}

// checkEvents finds what upstream was told is taken, and isn't recorded or the dead letter that it should be.
func (w *world) checkEvents() {
	for _, t := range w.tenants {
		known := map[string]bool{}
		for _, id := range testkit.All[string](w, w.pool, `SELECT id FROM role_changes WHERE tenant_id = $1 AND starts_with(source, '//crm.example')`, t.id) {
			known[id] = true
		}
		dead := map[string]string{}
		rows, err := w.pool.Query(w.Context(), `SELECT convert_from(body, 'UTF8')::jsonb ->> 'id', reason FROM dead_letters WHERE tenant_id = $1 AND consumer LIKE 'reassigner%' AND state = 'dead'`, t.id)
		if err != nil {
			w.Fatal(err)
		}
		var id, reason string
		if _, err := pgx.ForEachRow(rows, []any{&id, &reason}, func() error { dead[id] = reason; return nil }); err != nil {
			w.Fatal(err)
		}
		var lost []string
		for id, what := range t.published {
			switch {
			case what == tooFarAhead && dead[id] == event.ReasonTimeAhead && !known[id]:
			case what == recorded && known[id] != (dead[id] == event.ReasonOwnerUnavailable):
			default:
				lost = append(lost, fmt.Sprintf("%s %s (recorded: %v, dead letter: %q)", t.id, id, known[id], dead[id]))
			}
		}
		w.none("accepted events that are neither recorded nor the right dead letter", lost)
		var gone []string
		done := map[string]bool{}
		for _, id := range testkit.All[string](w, w.pool, `SELECT operation_id FROM operations WHERE tenant_id = $1`, t.id) {
			done[id] = true
		}
		for id := range t.accepted {
			if !done[id] {
				gone = append(gone, id)
			}
		}
		w.none("accepted operations that nobody knows of", gone)
	}
}

// checkStream reads what subscribers see: every announced move is on the stream, and where it is there twice, it is the
// same message twice, under one id.
func (w *world) checkStream(r *report) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	type move struct {
		tenant, task string
		revision     int64
	}
	on := map[move]string{} // the id of the event that announces it
	seen := map[string]bool{}
	var repeats, messages int64
	var two []string
	_, err := w.bus.Read(ctx, event.StreamTaskReassignments, bus.Range{}, func(_ context.Context, batch []event.Message, _ uint64) error {
		for _, m := range batch {
			var e struct {
				ID   string `json:"id"`
				Data struct {
					Tasks []struct {
						ID       string `json:"id"`
						Revision int64  `json:"revision"`
					} `json:"tasks"`
				} `json:"data"`
			}
			if err := json.Unmarshal(m.Body, &e); err != nil {
				return err
			}
			messages++
			if seen[e.ID] {
				repeats++
			}
			seen[e.ID] = true
			for _, t := range e.Data.Tasks {
				k := move{event.TenantOf(m.Subject), t.ID, t.Revision}
				if other, known := on[k]; known && other != e.ID {
					two = append(two, fmt.Sprint(k, " by ", other, " and ", e.ID))
				}
				on[k] = e.ID
			}
		}
		return nil
	})
	if err != nil {
		w.wrong("read the stream: %v", err)
		return
	}
	w.none("moves that two different events announce", two)
	var missing []string
	rows, err := w.pool.Query(ctx, `SELECT tenant_id, id, revision FROM announced`)
	if err != nil {
		w.Fatal(err)
	}
	var k move
	if _, err := pgx.ForEachRow(rows, []any{&k.tenant, &k.task, &k.revision}, func() error {
		if on[k] == "" {
			missing = append(missing, fmt.Sprint(k))
		}
		return nil
	}); err != nil {
		w.Fatal(err)
	}
	w.none("announced moves that are not on the stream", missing)
	r.Counts = append(r.Counts, count{"announcements on the stream", messages}, count{"of these again under the same id, more than two minutes later", repeats})
}

// checkMails accounts for every mail: what the mail server has, and what the notices say it has.
func (w *world) checkMails() {
	rows, err := w.pool.Query(w.Context(), `SELECT notice_id::text, state, coalesce(message_id, '') FROM notices`)
	if err != nil {
		w.Fatal(err)
	}
	var wrong []string
	known := map[string]bool{}
	var id, state, message string
	if _, err := pgx.ForEachRow(rows, []any{&id, &state, &message}, func() error {
		message = strings.Trim(message, "<> ")
		n := 0
		if message != "" {
			n, known[message] = w.accepts[message], true
		}
		ok := n == 0
		switch state {
		case "sent":
			ok = n == 1
		case "ambiguous":
			ok = n <= 1
		}
		if !ok {
			wrong = append(wrong, fmt.Sprintf("notice %s is %s, and the mail server has %d of it (%s)", id, state, n, message))
		}
		return nil
	}); err != nil {
		w.Fatal(err)
	}
	for message, n := range w.accepts {
		if !known[message] {
			wrong = append(wrong, fmt.Sprintf("the mail server has %d of %q, which no notice knows", n, message))
		}
	}
	w.none("mails not accounted for", wrong)
	if len(w.accepts) == 0 {
		w.wrong("nobody was mailed")
	}
}

// checkSizes judges long soaks only: a heap takes a minute to find its size.
func (w *world) checkSizes(r *report) {
	for _, p := range w.parts {
		if samples := w.sizes[p.name]; len(samples) >= 4 {
			g := growth(p.name, samples)
			r.Sizes = append(r.Sizes, g)
			if len(samples) >= 30 && !g.flat() {
				w.wrong("%s grows: %s", p.name, g)
			}
		}
	}
}

// count says what it came to; a soak that did nothing proves nothing, though a short one may miss what is rare.
func (w *world) count(r *report) {
	for i, c := range []struct{ what, sql string }{
		{"role changes recorded", `SELECT count(*) FROM role_changes`},
		{"tasks moved", `SELECT coalesce(sum(cardinality(task_ids)), 0) FROM moves WHERE reason <> 'synced'`},
		{"mails sent", `SELECT count(*) FROM notices WHERE state = 'sent'`},
		{"corrections", `SELECT count(*) FROM moves WHERE correction`},
		{"operations", `SELECT count(*) FROM operations`},
		{"people who left", `SELECT count(*) FROM users WHERE left_at IS NOT NULL`},
		{"dead letters: whose owner had left by then", `SELECT count(*) FROM dead_letters WHERE reason = 'owner_unavailable'`},
		{"dead letters: too far ahead", `SELECT count(*) FROM dead_letters WHERE reason = 'time_ahead'`},
		{"dead letters retried: whose owner was told of later", `SELECT count(*) FROM dead_letters WHERE reason = 'owner_unknown'`},
	} {
		n := testkit.One[int64](w, w.pool, c.sql)
		r.Counts = append(r.Counts, count{c.what, n})
		if n == 0 && (i < 3 || !w.short) {
			w.wrong("no %s", c.what)
		}
	}
	for _, state := range []string{"merged", "suppressed", "undeliverable", "ambiguous"} {
		r.Counts = append(r.Counts, count{"windows " + state, testkit.One[int64](w, w.pool, `SELECT count(*) FROM notices WHERE state = $1`, state)})
	}
}

// checkVerify asks the program itself. It may say what faults leave behind for a person: mails that may or may not have
// arrived, and the dead letters that upstream's clocks and leavers have earned.
func (w *world) checkVerify() {
	var said struct {
		Results []struct {
			Kind  string          `json:"kind"`
			What  string          `json:"what"`
			Note  bool            `json:"note"`
			Count int64           `json:"count"`
			All   json.RawMessage `json:"findings"`
		} `json:"results"`
		Unknown []string `json:"unknown"`
	}
	out, err := w.command("verify", "--json")
	if bad := json.Unmarshal([]byte(out), &said); bad != nil {
		w.wrong("handover verify: %v %v", bad, err)
		return
	}
	for _, r := range said.Results {
		if !r.Note && r.Kind != "ambiguous" && r.Kind != "dead_letters" {
			w.wrong("handover verify finds %d of %s (%s): %.1000s", r.Count, r.Kind, r.What, r.All)
		}
	}
	if len(said.Unknown) > 0 {
		w.wrong("handover verify can't tell: %v", said.Unknown)
	}
}
