package handover

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Policy says which open tasks of the previous owner follow a role change.
type Policy string

// The policies, from the one that moves least.
const (
	KeepTasks          Policy = "keep_tasks" // account ownership only; the default
	MoveAutomatedTasks Policy = "move_automated_tasks"
	MoveAllTasks       Policy = "move_all_tasks"
)

// AllPolicies lists them from the one that moves least.
var AllPolicies = []Policy{KeepTasks, MoveAutomatedTasks, MoveAllTasks}

// SourceManual is the source of tasks that a person made by hand; every other source is automated.
const SourceManual = "manual"

// Covers tells whether a task of this source follows a change judged by p.
func (p Policy) Covers(source string) bool {
	switch p {
	case MoveAllTasks:
		return true
	case MoveAutomatedTasks:
		return source != SourceManual
	}
	return false
}

// ParsePolicy is the policy of that name.
func ParsePolicy(s string) (Policy, error) {
	if p := Policy(s); slices.Contains(AllPolicies, p) {
		return p, nil
	}
	names := make([]string, len(AllPolicies))
	for i, p := range AllPolicies {
		names[i] = string(p)
	}
	return "", fmt.Errorf("must be one of %s", strings.Join(names, ", "))
}

// PolicyEntry is one line of a tenant's policy history.
type PolicyEntry struct {
	EffectiveFrom time.Time
	Policy        Policy
}

// PolicyAt is the policy in force at t: that of the latest entry that is not after t, else the default.
func PolicyAt(history []PolicyEntry, t time.Time) Policy {
	at := KeepTasks
	var since time.Time
	for _, e := range history {
		if !e.EffectiveFrom.After(t) && !e.EffectiveFrom.Before(since) {
			at, since = e.Policy, e.EffectiveFrom
		}
	}
	return at
}
