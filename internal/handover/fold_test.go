package handover_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"handover.io/internal/handover"
)

var (
	epoch  = time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC)
	person = rapid.SampledFrom([]string{"ann", "bob", "cyd", "dee"})
	role   = rapid.SampledFrom([]string{"success_manager", "sales_manager"})
	source = rapid.SampledFrom([]string{handover.SourceManual, "success_play", "integration"})
	policy = rapid.SampledFrom(handover.AllPolicies)
	// Few distinct times, so that ties and equality with a task's base are common.
	moment = rapid.Custom(func(t *rapid.T) time.Time {
		return epoch.Add(time.Duration(rapid.IntRange(0, 12).Draw(t, "seconds")) * time.Second)
	})
)

func change(t *rapid.T, i int) handover.Change {
	c := handover.Change{
		OccurredAt: moment.Draw(t, "occurred_at"),
		Sequence:   rapid.SampledFrom([]string{"", "1", "10", "2"}).Draw(t, "sequence"),
		Source:     rapid.SampledFrom([]string{"crm", "hr"}).Draw(t, "source"),
		ID:         fmt.Sprintf("c-%d", i),
		Role:       role.Draw(t, "role"),
		From:       rapid.OneOf(rapid.Just(""), person).Draw(t, "from"),
		To:         rapid.OneOf(person, person, person, rapid.Just(handover.Nobody)).Draw(t, "to"),
		Policy:     policy.Draw(t, "policy"),
		Key:        int64(i + 1),
	}
	if rapid.IntRange(0, 5).Draw(t, "about a person") == 0 {
		c.Role, c.From = "", person.Draw(t, "whose tasks")
	}
	return c
}

func account(t *rapid.T) handover.Account {
	a := handover.Account{First: map[string]string{}}
	for _, r := range []string{"success_manager", "sales_manager"} {
		if rapid.Bool().Draw(t, "synced "+r) {
			a.First[r] = rapid.OneOf(person, rapid.Just(handover.Nobody)).Draw(t, "first owner")
		}
	}
	for i := range rapid.IntRange(0, 9).Draw(t, "changes") {
		a.Changes = append(a.Changes, change(t, i))
	}
	return a
}

func task(t *rapid.T) handover.Task {
	return handover.Task{
		Base:   rapid.OneOf(person, person, person, rapid.Just(handover.Nobody)).Draw(t, "base"),
		Since:  moment.Draw(t, "since"),
		Source: source.Draw(t, "source of the task"),
		Role:   rapid.OneOf(rapid.Just(""), role).Draw(t, "role of the task"),
	}
}

func assignee(a handover.Account, t handover.Task) string {
	who, _ := a.Fold().Assignee(t)
	return who
}

func TestOrderAndRepeatsDoNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, task := account(t), task(t)
		other := handover.Account{First: a.First, Changes: slices.Concat(a.Changes, a.Changes)}
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		random.Shuffle(len(other.Changes), func(i, j int) {
			other.Changes[i], other.Changes[j] = other.Changes[j], other.Changes[i]
		})
		if got, want := assignee(other, task), assignee(a, task); got != want {
			t.Fatalf("shuffled and doubled: task is with %q, else with %q", got, want)
		}
		if diff := cmp.Diff(a.Fold().Roles, other.Fold().Roles); diff != "" {
			t.Fatalf("shuffled and doubled, owners differ:\n%s", diff)
		}
	})
}

// The fast path of the reassigner applies a change that is the newest of its account without folding.
func TestNewestChangeMovesFromThePresentAssignee(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, task := account(t), task(t)
		before := a.Fold()
		present, _ := before.Assignee(task)
		newest := change(t, 100)
		newest.OccurredAt = epoch.Add(time.Minute)
		from := newest.From
		if from == "" {
			from = before.Roles[newest.Role].LastPerson
		}
		want := present
		if present != handover.Nobody && from == present && newest.To != handover.Nobody &&
			newest.Policy.Covers(task.Source) && (newest.Role == "" || task.Role == "" || newest.Role == task.Role) {
			want = newest.To
		}
		a.Changes = append(a.Changes, newest)
		if got := assignee(a, task); got != want {
			t.Fatalf("folded: %q; applied to what was: %q", got, want)
		}
		if newest.Role != "" {
			if got := a.Fold().Roles[newest.Role]; got.Owner != newest.To || !got.Since.Equal(newest.OccurredAt) {
				t.Fatalf("owner after the newest change: %+v", got)
			}
		}
	})
}

func TestWhatMovesATaskIsAnAllowedChangeSinceItsBase(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, task := account(t), task(t)
		got, moved := a.Fold().Assignee(task)
		at := task.Base
		for i, c := range moved {
			switch {
			case c.OccurredAt.Before(task.Since):
				t.Fatalf("%v moved a task assigned at %v", c, task.Since)
			case c.Policy == handover.KeepTasks, c.Policy == handover.MoveAutomatedTasks && task.Source == handover.SourceManual:
				t.Fatalf("policy %s moved a task of source %s", c.Policy, task.Source)
			case c.Role != "" && task.Role != "" && c.Role != task.Role:
				t.Fatalf("a change of %s moved a task of %s", c.Role, task.Role)
			case c.From != at || c.To == handover.Nobody:
				t.Fatalf("%v moved a task that was with %q", c, at)
			case i > 0 && moved[i-1].Compare(c) >= 0:
				t.Fatalf("moved out of order: %v, then %v", moved[i-1], c)
			}
			at = c.To
		}
		if got != at {
			t.Fatalf("with %q, but the moves end at %q", got, at)
		}
	})
}

func TestChangesBeforeTheBaseHaveNoSayInTheAssignee(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, task := account(t), task(t)
		for i := range a.Changes {
			if a.Changes[i].From == "" {
				a.Changes[i].From = "ann" // an implied one is resolved by the changes before it
			}
		}
		later := handover.Account{First: a.First}
		for _, c := range a.Changes {
			if !c.OccurredAt.Before(task.Since) {
				later.Changes = append(later.Changes, c)
			}
		}
		if got, want := assignee(later, task), assignee(a, task); got != want {
			t.Fatalf("without the earlier changes %q, with them %q", got, want)
		}
	})
}

func TestImpliedPreviousOwnerIsTheLastPerson(t *testing.T) {
	at := func(s int) time.Time { return epoch.Add(time.Duration(s) * time.Second) }
	step := func(s int, from, to string) handover.Change {
		return handover.Change{OccurredAt: at(s), ID: fmt.Sprint(s), Role: "success_manager", From: from, To: to, Policy: handover.MoveAllTasks}
	}
	for _, c := range []struct {
		name    string
		first   map[string]string
		changes []handover.Change
		want    string
	}{
		{"by a change", nil, []handover.Change{step(1, "", "ann"), step(2, "", "bob")}, "bob"},
		{"by the first sync", map[string]string{"success_manager": "ann"}, []handover.Change{step(2, "", "bob")}, "bob"},
		{"over nobody", map[string]string{"success_manager": "ann"}, []handover.Change{step(1, "", ""), step(2, "", "bob")}, "bob"},
		{"named by the change that made it nobody", nil, []handover.Change{step(1, "ann", ""), step(2, "", "bob")}, "bob"},
		{"not known", nil, []handover.Change{step(2, "", "bob")}, "ann"},
		{"of another role", map[string]string{"sales_manager": "ann"}, []handover.Change{step(2, "", "bob")}, "ann"},
		{"nobody holds it now", map[string]string{"success_manager": "ann"}, []handover.Change{step(2, "", "")}, "ann"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := handover.Account{First: c.first, Changes: c.changes}
			if got := assignee(a, handover.Task{Base: "ann", Since: epoch, Source: handover.SourceManual}); got != c.want {
				t.Fatalf("task is with %q, want %q", got, c.want)
			}
		})
	}
}

func TestChangesAtOneTimeGoBytewiseBySequenceSourceAndID(t *testing.T) {
	less := []handover.Change{
		{OccurredAt: epoch, Sequence: "", Source: "z", ID: "9"},
		{OccurredAt: epoch, Sequence: "10", Source: "a", ID: "1"},
		{OccurredAt: epoch, Sequence: "2", Source: "a", ID: "1"},
		{OccurredAt: epoch, Sequence: "2", Source: "a", ID: "2"},
		{OccurredAt: epoch, Sequence: "2", Source: "b", ID: "1"},
		{OccurredAt: epoch.Add(time.Microsecond)},
	}
	for i := range less {
		for j := range less {
			if got, want := less[i].Compare(less[j]) < 0, i < j; got != want {
				t.Errorf("change %d before change %d: %v", i, j, got)
			}
		}
	}
}

func TestCorrectionIsAMoveFromWhereTheTaskShouldNeverHaveBeen(t *testing.T) {
	step := func(s int, from, to string) handover.Change {
		return handover.Change{OccurredAt: epoch.Add(time.Duration(s) * time.Second), ID: fmt.Sprint(s), Role: "r", From: from, To: to, Policy: handover.MoveAllTasks}
	}
	task := handover.Task{Base: "ann", Since: epoch, Source: "success_play"}
	for _, c := range []struct {
		name    string
		present string
		changes []handover.Change
		want    bool
	}{
		{"the first move", "ann", []handover.Change{step(1, "ann", "bob")}, false},
		{"one move further", "bob", []handover.Change{step(1, "ann", "bob"), step(2, "bob", "cyd")}, false},
		{"a late change in between", "bob", []handover.Change{step(1, "ann", "cyd"), step(2, "ann", "bob")}, true},
		{"back to the base", "bob", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, moved := handover.Account{Changes: c.changes}.Fold().Assignee(task)
			if got := handover.Corrects(c.present, task, moved); got != c.want {
				t.Fatalf("correction: %v", got)
			}
		})
	}
}

func TestPolicyIsTheOneInForceAtTheTime(t *testing.T) {
	history := []handover.PolicyEntry{
		{EffectiveFrom: epoch.Add(2 * time.Hour), Policy: handover.MoveAllTasks},
		{EffectiveFrom: epoch, Policy: handover.MoveAutomatedTasks},
	}
	for at, want := range map[time.Duration]handover.Policy{
		-time.Microsecond:              handover.KeepTasks,
		0:                              handover.MoveAutomatedTasks,
		2*time.Hour - time.Microsecond: handover.MoveAutomatedTasks,
		2 * time.Hour:                  handover.MoveAllTasks,
		24 * time.Hour:                 handover.MoveAllTasks,
	} {
		if got := handover.PolicyAt(history, epoch.Add(at)); got != want {
			t.Errorf("after %v: %s, want %s", at, got, want)
		}
	}
}

func TestOnlyWhoIsHereCanReceive(t *testing.T) {
	left := epoch
	for _, c := range []struct {
		name string
		who  handover.Person
		at   time.Time
		want bool
	}{
		{"here", handover.Person{Known: true}, epoch, true},
		{"before they left", handover.Person{Known: true, LeftAt: &left}, epoch.Add(-time.Microsecond), true},
		{"at the moment they left", handover.Person{Known: true, LeftAt: &left}, epoch, false},
		{"unknown", handover.Person{}, epoch, false},
	} {
		if got := c.who.CanReceive(c.at); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestNextIsPastEverythingSeen(t *testing.T) {
	clock := epoch.Add(1500 * time.Nanosecond)
	if got := handover.Next(clock, time.Time{}); !got.Equal(epoch.Add(time.Microsecond)) {
		t.Errorf("nothing seen: %v", got)
	}
	if got := handover.Next(clock, epoch.Add(time.Minute), epoch); !got.Equal(epoch.Add(time.Minute + time.Microsecond)) {
		t.Errorf("a clock behind what was seen: %v", got)
	}
}
