package handover_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"handover.io/internal/handover"
)

func policies(t *rapid.T) []handover.PolicyEntry {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) handover.PolicyEntry {
		return handover.PolicyEntry{EffectiveFrom: moment.Draw(t, "effective_from"), Policy: policy.Draw(t, "policy")}
	}), 0, 4).Draw(t, "history")
}

// judged is an account whose changes were judged by a history as they came.
func judged(t *rapid.T, history []handover.PolicyEntry) handover.Account {
	a := handover.Account{First: map[string]string{"success_manager": person.Draw(t, "first")}}
	for i := range rapid.IntRange(0, 8).Draw(t, "changes") {
		c := change(t, i)
		if c.Overridden = rapid.IntRange(0, 3).Draw(t, "overridden") == 0; !c.Overridden {
			c.Policy = handover.PolicyAt(history, c.OccurredAt)
		}
		a.Changes = append(a.Changes, c)
	}
	return a
}

// However often policies are set right: by the history that comes of it, exactly the changes in the interval are judged
// anew, and an account that is judged step by step is judged as one that first becomes known afterwards.
func TestSetRightJudgesAsIfItHadAlwaysBeenSo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := policies(t)
		account := judged(t, history)
		for range rapid.IntRange(1, 3).Draw(t, "corrections") {
			from, to := moment.Draw(t, "from"), policy.Draw(t, "to")
			right, superseded := handover.SetRight(history, from, to)
			for _, e := range superseded {
				if e.EffectiveFrom.Before(from) {
					t.Fatalf("%+v put out of force from %v on", e, from)
				}
			}
			for s := -time.Second; s < 14*time.Second; s += time.Second {
				want := to
				if at := epoch.Add(s); at.Before(from) {
					want = handover.PolicyAt(history, at)
				}
				if got := handover.PolicyAt(right, epoch.Add(s)); got != want {
					t.Fatalf("after %v: %s, want %s: %+v", s, got, want, right)
				}
			}
			after, anew := account.Judge(right, from)
			for i, c := range after.Changes {
				was := account.Changes[i]
				differs := c.Policy != was.Policy
				if c.Policy, c.Overridden = was.Policy, was.Overridden; c != was {
					t.Fatalf("%+v became %+v", was, c)
				}
				if touched := slices.ContainsFunc(anew, func(a handover.Change) bool { return a.ID == was.ID }); touched != differs {
					t.Fatalf("%+v: judged anew %v, differs %v", was, touched, differs)
				}
				if got := after.Changes[i].Policy; !was.Overridden && got != handover.PolicyAt(right, was.OccurredAt) || was.Overridden && got != was.Policy {
					t.Fatalf("%+v is judged %s", was, got)
				}
			}
			if _, again := after.Judge(right, from); len(again) > 0 {
				t.Fatalf("again: %+v", again)
			}
			history, account = right, after
		}
	})
}

func TestSettingRightWhatIsRightDoesNothing(t *testing.T) {
	history := []handover.PolicyEntry{{EffectiveFrom: epoch, Policy: handover.MoveAllTasks}}
	for _, from := range []time.Time{epoch, epoch.Add(time.Hour)} {
		right, superseded := handover.SetRight(history, from, handover.MoveAllTasks)
		if diff := cmp.Diff(history, right); diff != "" || superseded != nil {
			t.Error(from, diff, superseded)
		}
	}
	right, superseded := handover.SetRight(history, epoch.Add(-time.Hour), handover.MoveAllTasks)
	if len(right) != 1 || !right[0].EffectiveFrom.Equal(epoch.Add(-time.Hour)) || len(superseded) != 1 {
		t.Error(right, superseded)
	}
}

// Without taking back: a task that should never have been with who has it stays with them, and goes on from there with
// whatever occurs later; every other task goes where the account judged anew takes it.
func TestKeptTasksStayAndGoOnFromThere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := policies(t)
		account := judged(t, history)
		from := moment.Draw(t, "from")
		right, _ := handover.SetRight(history, from, policy.Draw(t, "to"))
		after, anew := account.Judge(right, from)
		task := handover.Task{Base: person.Draw(t, "base"), Since: moment.Draw(t, "since"), Source: source.Draw(t, "source"),
			Role: rapid.OneOf(rapid.Just(""), role).Draw(t, "task role")}
		present, _ := account.Fold().Assignee(task)
		goes, moved := after.Fold().Assignee(task)
		if len(anew) == 0 && goes != present {
			t.Fatalf("nothing was judged anew, and it goes from %q to %q", present, goes)
		}
		if goes == present || !handover.Corrects(present, task, moved) {
			return
		}
		kept := after.Fold().Keep(present, later)
		task.Base, task.Since = kept.Assignee, kept.EffectiveAt
		if who, why := after.Fold().Assignee(task); who != present || len(why) > 0 {
			t.Fatalf("kept with %q, it is with %q by %+v", present, who, why)
		}
		last, _ := after.Fold().Last()
		next := handover.Change{OccurredAt: last.OccurredAt.Add(time.Microsecond), ID: "next", From: present, To: "eve", Policy: handover.MoveAllTasks}
		after.Changes = append(after.Changes, next)
		if who, _ := after.Fold().Assignee(task); who != "eve" {
			t.Fatalf("what comes next leaves it with %q", who)
		}
		if !kept.AssignedAt.Equal(later) {
			t.Fatalf("assigned at %v", kept.AssignedAt)
		}
	})
}
