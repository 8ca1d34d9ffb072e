package journal_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// graveyard is a database of dead letters of the operation "op".
type graveyard struct {
	*testing.T
	pool *pgxpool.Pool
}

func (g graveyard) inTx(do func(ctx context.Context, tx pgx.Tx) error) {
	g.Helper()
	if err := postgres.InTx(g.Context(), g.pool, do); err != nil {
		g.Fatal(err)
	}
}

// bury buries the message for that reason and returns by how many the refused changes of "op" became more.
func (g graveyard) bury(reason string, m event.Message) int {
	g.Helper()
	n := 0
	g.inTx(func(ctx context.Context, tx pgx.Tx) error {
		buried, err := journal.Bury(ctx, tx, []journal.DeadLetter{{Consumer: "reassigner", Reason: reason, Detail: reason + ": mend it", OperationID: "op", Message: m}})
		n = buried.Refused["op"]
		return err
	})
	return n
}

// retry sends letters again and returns the messages.
func (g graveyard) retry(keys ...int64) []event.Message {
	g.Helper()
	var out []event.Message
	g.inTx(func(ctx context.Context, tx pgx.Tx) error {
		entries, err := journal.Retry(ctx, tx, keys)
		for _, e := range entries {
			if e.Key == 0 {
				g.Errorf("the id %s was in the outbox before: the broker would drop it", e.ID)
			}
			out = append(out, e.Message)
		}
		return err
	})
	return out
}

// resolve has the messages handled and returns by how many the refused changes of "op" became more.
func (g graveyard) resolve(messages ...event.Message) int {
	g.Helper()
	n := 0
	g.inTx(func(ctx context.Context, tx pgx.Tx) error {
		var done []journal.Done
		for _, m := range messages {
			done = append(done, journal.Done{Message: m, Outcome: journal.Recorded, TasksMoved: 3})
		}
		refused, err := journal.Resolve(ctx, tx, done)
		n = refused["op"]
		return err
	})
	return n
}

// states are all letters, as "key reason state tries/retries".
func (g graveyard) states() []string {
	g.Helper()
	letters, err := journal.Letters(g.Context(), g.pool, journal.LetterFilter{}, false)
	if err != nil {
		g.Fatal(err)
	}
	var out []string
	for _, l := range letters {
		s := fmt.Sprintf("%d %s %s %d/%d", l.Key, l.Reason, l.State, l.Tries, l.Retries)
		if l.SupersededBy != nil {
			s += fmt.Sprintf(" by %d", *l.SupersededBy)
		}
		out = append(out, s)
	}
	return out
}

func (g graveyard) want(states ...string) {
	g.Helper()
	if diff := cmp.Diff(states, g.states()); diff != "" {
		g.Errorf("letters:\n%s", diff)
	}
}

func roleChange(n int) event.Message {
	return event.Message{
		Subject: event.SubjectRoleChanged("acme"), Stream: event.StreamRoleChanges, Sequence: uint64(n),
		Header: map[string][]string{"Content-Type": {"application/cloudevents+json"}, "X\x00\xff": {"odd\xfe"}, "Nats-Msg-Id": {fmt.Sprint("m", n)}}, Body: fmt.Append(nil, "body ", n),
	}
}

func TestRetriedLetterEndsOnceAndIsCountedOnce(t *testing.T) {
	t.Parallel()
	g := graveyard{t, testkit.Postgres(t)}
	net := g.bury("override_refused", roleChange(1))
	net += g.bury("override_refused", roleChange(1)) // delivered again
	g.want("1 override_refused dead 1/0")
	if net != 1 {
		t.Fatalf("%d refused", net)
	}
	for i := range 2 { // in vain, twice
		m := g.retry(1)
		g.want(fmt.Sprintf("1 override_refused retried %d/%d", i+1, i+1))
		net += g.bury("override_refused", m[0])
		g.want(fmt.Sprintf("1 override_refused dead %d/%d", i+2, i+1))
	}
	m := g.retry(1)
	again := g.retry(1) // of one that is under way: another message, handled too
	net += g.resolve(m[0])
	net += g.resolve(again[0])
	g.want("1 override_refused resolved 3/4")
	if net != 0 {
		t.Errorf("%d refused when it is recorded", net)
	}
	if m := g.retry(1); len(m) != 0 {
		t.Error("what is resolved was retried")
	}
	l, err := journal.FindLetter(t.Context(), g.pool, 1)
	if err != nil || l.Outcome != journal.Recorded || *l.TasksMoved != 3 || string(l.Body) != "body 1" || l.Header[journal.HeaderRetry] != nil {
		t.Errorf("%v %+v", err, l)
	}
}

func TestRetryRefusedForAnotherReasonTakesThePlace(t *testing.T) {
	t.Parallel()
	g := graveyard{t, testkit.Postgres(t)}
	net := g.bury("owner_unknown", roleChange(1))
	net += g.bury("owner_unavailable", g.retry(1)[0])
	g.want("1 owner_unknown superseded 1/1 by 2", "2 owner_unavailable dead 1/0")
	if m := g.retry(1); len(m) != 0 {
		t.Error("what is superseded was retried")
	}
	net += g.bury("owner_unknown", g.retry(2)[0]) // and back
	g.want("1 owner_unknown dead 2/1", "2 owner_unavailable superseded 1/1 by 1")
	if net != 1 {
		t.Errorf("%d refused for one change", net)
	}
	if net += g.resolve(g.retry(1)...); net != 0 {
		t.Errorf("%d refused when it is recorded", net)
	}
}

func TestForgedRetryDoesNoHarm(t *testing.T) {
	t.Parallel()
	g := graveyard{t, testkit.Postgres(t)}
	g.bury("owner_unknown", roleChange(1))
	for _, value := range []string{"1", "2", "0", "-1", "x", "", "99999999999999999999", "1 "} {
		forged := roleChange(2)
		forged.Header[journal.HeaderRetry] = []string{value}
		if n := g.resolve(forged); n != 0 {
			t.Errorf("%q resolved a letter", value)
		}
		g.want("1 owner_unknown dead 1/0")
	}
	forged := roleChange(2)
	forged.Header[journal.HeaderRetry] = []string{"1"}
	g.bury("invalid", forged)
	g.bury("invalid", roleChange(2)) // the same without the header
	g.want("1 owner_unknown dead 1/0", "2 invalid dead 1/0")
}

func TestDroppedStaysDroppedUntilItIsRetried(t *testing.T) {
	t.Parallel()
	g := graveyard{t, testkit.Postgres(t)}
	net := g.bury("rejected", roleChange(1)) + g.bury("rejected", roleChange(2))
	dropped, err := journal.Drop(t.Context(), g.pool, []int64{1, 7}, "not ours")
	if err != nil || !cmp.Equal(dropped, []int64{1}) {
		t.Fatalf("%v %v", dropped, err)
	}
	net += g.bury("rejected", roleChange(1)) // a replay of the stream
	g.want("1 rejected dropped 1/0", "2 rejected dead 1/0")
	net += g.bury("rejected", g.retry(1)[0])
	g.want("1 rejected dead 2/1", "2 rejected dead 1/0")
	if net != 2 {
		t.Errorf("%d refused", net)
	}
}

func TestReadAgainFromTheStreamItIsARetry(t *testing.T) {
	t.Parallel()
	g := graveyard{t, testkit.Postgres(t)}
	g.bury("override_refused", roleChange(1))
	read := []event.Message{roleChange(3), roleChange(1)}
	marked, err := journal.AsRetries(t.Context(), g.pool, read)
	if err != nil || journal.IsRetry(marked[0]) || !journal.IsRetry(marked[1]) || journal.IsRetry(read[1]) {
		t.Fatalf("%v %v", err, marked)
	}
	if n := g.resolve(marked[1]); n != -1 {
		t.Errorf("%d more refused", n)
	}
	g.want("1 override_refused resolved 1/0")
}

func TestLettersAreChosen(t *testing.T) {
	t.Parallel()
	g := graveyard{t, testkit.Postgres(t)}
	g.bury("invalid", roleChange(1))
	g.bury("rejected", roleChange(2))
	elsewhere := roleChange(3)
	elsewhere.Subject = event.SubjectRoleBulk("other")
	g.bury("invalid", elsewhere)
	testkit.Exec(t, g.pool, `UPDATE dead_letters SET created_at = '2026-01-01T00:00:00Z'::timestamptz + key * interval '1 day'`)
	first, err := journal.FindLetter(t.Context(), g.pool, 1)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		filter journal.LetterFilter
		want   []int64
	}{
		"all":      {journal.LetterFilter{}, []int64{1, 2, 3}},
		"keys":     {journal.LetterFilter{Keys: []int64{3, 1}}, []int64{1, 3}},
		"no keys":  {journal.LetterFilter{Keys: []int64{}}, nil},
		"tenant":   {journal.LetterFilter{TenantID: "other"}, []int64{3}},
		"reason":   {journal.LetterFilter{Reason: "invalid"}, []int64{1, 3}},
		"consumer": {journal.LetterFilter{Consumer: "notifier"}, nil},
		"state":    {journal.LetterFilter{State: journal.Dead, Limit: 2}, []int64{1, 2}},
		"since":    {journal.LetterFilter{Since: first.CreatedAt.AddDate(0, 0, 1)}, []int64{2, 3}},
		"until":    {journal.LetterFilter{Until: first.CreatedAt.AddDate(0, 0, 1)}, []int64{1}},
		"page":     {journal.LetterFilter{After: 1, Limit: 1}, []int64{2}},
	} {
		letters, err := journal.Letters(t.Context(), g.pool, c.filter, true)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, l := range letters {
			got = append(got, l.Key)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s:\n%s", name, diff)
		}
	}
	groups, err := journal.LetterGroups(t.Context(), g.pool, journal.LetterFilter{TenantID: "acme"})
	if err != nil || len(groups) != 2 || groups[0].Reason != "invalid" || groups[0].Count != 1 {
		t.Errorf("%v %+v", err, groups)
	}
}

func TestEveryReasonHasARemedy(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "pkg", "event", "message.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	unknown, found := journal.Remedy("no such reason"), 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(spec.Names[0].Name, "Reason") {
			return true
		}
		found++
		reason, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
		if err != nil || journal.Remedy(reason) == unknown {
			t.Errorf("no remedy for %s", spec.Names[0].Name)
		}
		return true
	})
	if found < 11 {
		t.Errorf("found only %d reasons", found)
	}
}
