package handover_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"handover.io/internal/handover"
)

var (
	somebody = rapid.OneOf(person, person, person, rapid.Just(handover.Nobody))
	later    = epoch.Add(time.Hour) // than every moment: our own clock
)

func base(t *rapid.T) handover.Assignment {
	a := handover.AssignedUpstream(somebody.Draw(t, "base"), moment.Draw(t, "assigned_at"))
	if rapid.Bool().Draw(t, "by our clock") {
		a = handover.AssignedNow(a.Assignee, a.AssignedAt)
	}
	return a
}

func timed(t *rapid.T) handover.Sync {
	at := moment.Draw(t, "synced assigned_at")
	return handover.Sync{Assignee: somebody.Draw(t, "synced"), AssignedAt: &at}
}

func TestTimedSyncsEndAlikeInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := base(t)
		syncs := rapid.SliceOfN(rapid.Custom(timed), 0, 6).Draw(t, "syncs")
		merge := func(syncs []handover.Sync) handover.Assignment {
			a := first
			for _, s := range syncs {
				a, _ = a.Merge(s, later)
			}
			return a
		}
		want := merge(syncs)
		shuffled := rapid.Permutation(slices.Concat(syncs, syncs)).Draw(t, "shuffled and doubled")
		if got := merge(shuffled); got != want {
			t.Fatalf("%+v, in another order %+v", want, got)
		}
		for _, s := range syncs {
			if s.AssignedAt.After(want.AssignedAt) {
				t.Fatalf("%+v won over the later %+v", want, s)
			}
		}
	})
}

func TestMergeTakesNewsAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := base(t)
		s := handover.Sync{Assignee: somebody.Draw(t, "synced"), Last: somebody.Draw(t, "last"), Said: rapid.Bool().Draw(t, "said"),
			Holders: append(rapid.SliceOfN(somebody, 0, 2).Draw(t, "holders"), a.Assignee)}
		got, news := a.Merge(s, later)
		same, echo := s.Said && s.Assignee == s.Last, slices.Contains(s.Holders, s.Assignee)
		switch {
		case news == (same || echo):
			t.Fatalf("news: %v; the same as before: %v, has held it: %v", news, same, echo)
		case news && got != handover.AssignedNow(s.Assignee, later):
			t.Fatalf("news became %+v", got)
		case !news && got != a:
			t.Fatalf("no news changed %+v to %+v", a, got)
		}
		if again, news := got.Merge(handover.Sync{Assignee: s.Assignee, Last: s.Assignee, Said: true}, later.Add(1)); news || again != got {
			t.Fatalf("said again, it became %+v", again)
		}
	})
}

func TestGraceIsGivenOnceAndOnlyToUpstream(t *testing.T) {
	if a := handover.AssignedUpstream("ann", epoch); !a.AssignedAt.Equal(epoch) || !a.EffectiveAt.Equal(epoch.Add(-handover.ClockGrace)) {
		t.Errorf("upstream: %+v", a)
	}
	if a := handover.AssignedNow("ann", epoch); !a.AssignedAt.Equal(epoch) || !a.EffectiveAt.Equal(epoch) {
		t.Errorf("ours: %+v", a)
	}
}

func TestFirstSightIsSinceAssignedElseCreatedElseNow(t *testing.T) {
	assigned, created := epoch.Add(time.Minute), epoch
	for _, c := range []struct {
		name              string
		assigned, created *time.Time
		want              handover.Assignment
	}{
		{"assigned", &assigned, &created, handover.AssignedUpstream("ann", assigned)},
		{"created", nil, &created, handover.AssignedUpstream("ann", created)},
		{"neither", nil, nil, handover.AssignedNow("ann", later)},
	} {
		if got := handover.FirstSight("ann", c.assigned, c.created, later); got != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// However late somebody who has left is given a task, the change that hands their tasks on applies to it.
func TestWhatIsGivenToSomebodyWhoLeftIsHandedOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, left := base(t), moment.Draw(t, "left_at")
		got := a.BeforeLeaving(&left)
		if got.EffectiveAt.After(left) || got.EffectiveAt.After(a.EffectiveAt) || got.Assignee != a.Assignee || !got.AssignedAt.Equal(a.AssignedAt) {
			t.Fatalf("%+v became %+v", a, got)
		}
		if a.BeforeLeaving(nil) != a {
			t.Fatal("somebody who is here")
		}
		departure := handover.Change{OccurredAt: left, ID: "off", From: a.Assignee, To: "eve", Policy: handover.MoveAllTasks}
		task := handover.Task{Base: got.Assignee, Since: got.EffectiveAt, Source: handover.SourceManual}
		if to := assignee(handover.Account{Changes: []handover.Change{departure}}, task); a.Assignee != handover.Nobody && to != "eve" {
			t.Fatalf("stays with %q", to)
		}
	})
}
