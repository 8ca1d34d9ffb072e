package handover

import "time"

// Judge gives the account's changes since a time, that very time included, the policy that history has for when they
// occurred; those that carried their own keep it. It returns the account judged so, and those of its changes that were
// judged otherwise before.
func (a Account) Judge(history []PolicyEntry, since time.Time) (Account, []Change) {
	judged := Account{First: a.First, Changes: make([]Change, len(a.Changes))}
	var anew []Change
	for i, c := range a.Changes {
		if !c.Overridden && !c.OccurredAt.Before(since) {
			if p := PolicyAt(history, c.OccurredAt); p != c.Policy {
				c.Policy = p
				anew = append(anew, c)
			}
		}
		judged.Changes[i] = c
	}
	return judged, anew
}

// SetRight is the history with a policy in force from a time on, whatever was set for later; and the entries that this
// puts out of force. None are, and the history is as it was, when that policy is in force from then on already.
func SetRight(history []PolicyEntry, from time.Time, policy Policy) (right, superseded []PolicyEntry) {
	same := PolicyAt(history, from) == policy
	for _, e := range history {
		if e.EffectiveFrom.Before(from) {
			right = append(right, e)
			continue
		}
		superseded = append(superseded, e)
		same = same && e.Policy == policy
	}
	if same {
		return history, nil
	}
	return append(right, PolicyEntry{EffectiveFrom: from, Policy: policy}), superseded
}

// Keep is the base of a task that stays with who has it, whatever the account's changes so far say of it. They chose that
// at a time, now; but a change that occurred after all that is known so far takes it along, though it be issued already.
func (h History) Keep(assignee string, now time.Time) Assignment {
	a := AssignedNow(assignee, now)
	if last, any := h.Last(); any {
		a.EffectiveAt = last.OccurredAt.Add(time.Microsecond)
	}
	return a
}
