// Package arbitrary is for tests only: generators of every event that is valid, the hostile ones first of all. Ids hold
// quotes, percent signs, characters of three and four bytes; times reach from 1970 to 9999; titles and urls are as long
// as they may be.
package arbitrary

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"pgregory.net/rapid"

	"handover.io/pkg/event"
)

// Rune is any character but the control characters.
func Rune() *rapid.Generator[rune] {
	return rapid.OneOf(
		rapid.RuneFrom([]rune("abcABC019-_.")),
		rapid.RuneFrom([]rune("\"\\/%&<>'+ ;,:{}[]=?#\u00e9\u2028\u2029\u200d\ufeff\ufffd\U0001f600中")),
		rapid.Rune().Filter(func(r rune) bool { return r >= 0x20 && (r < 0x7f || r >= 0xa0) }),
	)
}

// ID is any id of an upstream system.
func ID() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.StringMatching(`[a-z]{1,3}-[0-9]{1,4}`),
		rapid.StringOfN(Rune(), 1, 12, -1),
		rapid.StringOfN(Rune(), event.MaxIDLength, event.MaxIDLength, -1),
	).Filter(func(s string) bool { return event.CheckID(s) == "" })
}

// IDOrNone is an id, or none.
func IDOrNone() *rapid.Generator[string] { return rapid.OneOf(rapid.Just(""), ID()) }

// EventID is any CloudEvents id.
func EventID() *rapid.Generator[string] {
	return rapid.StringOfN(Rune(), 1, 40, -1).Filter(func(s string) bool { return strings.TrimSpace(s) != "" })
}

// Source is any CloudEvents source.
func Source() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"//crm.example.com", "urn:crm:eu", "/crm", "https://crm.example.com/a b?q=ü&r=%41#x", event.SourceHandover}),
		rapid.StringMatching(`//[a-z]{1,8}\.example/[a-zA-Z0-9&=+<>|~-]{0,20}`),
	)
}

// Time is any time of an event, cut to microseconds.
func Time() *rapid.Generator[time.Time] {
	last := time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	return rapid.Map(rapid.OneOf(
		rapid.Int64Range(0, last.UnixMicro()),
		rapid.Int64Range(1_700_000_000_000_000, 1_800_000_000_000_000),
	), func(us int64) time.Time { return time.UnixMicro(us).UTC() })
}

// Tenant is any tenant id.
func Tenant() *rapid.Generator[string] {
	return rapid.OneOf(rapid.StringMatching(`[a-z0-9][a-z0-9-]{0,7}`), rapid.StringMatching(`[a-z0-9][a-z0-9-]{62}`))
}

func traceparent() *rapid.Generator[string] {
	return rapid.OneOf(rapid.Just(""), rapid.StringMatching(`00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]`))
}

// RoleChanged is any valid AccountRoleChanged.
func RoleChanged() *rapid.Generator[event.AccountRoleChanged] {
	return rapid.Custom(func(t *rapid.T) event.AccountRoleChanged {
		c := event.AccountRoleChanged{
			ID: EventID().Draw(t, "id"), Source: Source().Draw(t, "source"), Traceparent: traceparent().Draw(t, "traceparent"),
			Sequence: rapid.OneOf(rapid.Just(""), rapid.StringMatching(`[0-9]{1,20}`), rapid.StringOfN(Rune(), 1, 20, -1)).Draw(t, "sequence"),
			Time:     Time().Draw(t, "time"), TenantID: Tenant().Draw(t, "tenant"), AccountID: ID().Draw(t, "account"),
			Role: IDOrNone().Draw(t, "role"), PreviousOwnerID: IDOrNone().Draw(t, "previous"), NewOwnerID: IDOrNone().Draw(t, "new"),
			Reason: rapid.SampledFrom(event.RoleChangeReasons).Draw(t, "reason"), InitiatedBy: ID().Draw(t, "by"),
			OperationID: IDOrNone().Draw(t, "operation"),
			Tasks:       rapid.SampledFrom(append([]string{""}, event.Policies...)).Draw(t, "tasks"),
		}
		if c.Role == "" {
			c.PreviousOwnerID = ID().Draw(t, "whose tasks")
			c.Reason = rapid.SampledFrom([]string{event.ByUserDisabled, event.ByUserDeleted, event.ByResourcesReassigned}).Draw(t, "a person's reason")
		}
		return c
	})
}

// Task is any task of an announcement.
func Task() *rapid.Generator[event.ReassignedTask] {
	// Characters that JSON writes with many bytes: six for an escape, four for an emoji.
	worst := rapid.RuneFrom([]rune("\u2028\x01\"\\&<\U0001f600a中"))
	text := func(most int) *rapid.Generator[string] {
		return rapid.OneOf(rapid.StringOfN(Rune(), 0, 20, -1), rapid.Custom(func(t *rapid.T) string {
			return strings.Repeat(string(worst.Draw(t, "character")), most)
		}))
	}
	return rapid.Custom(func(t *rapid.T) event.ReassignedTask {
		task := event.ReassignedTask{
			ID: ID().Draw(t, "id"), Revision: rapid.OneOf(rapid.Int64Range(1, 5), rapid.Int64Range(1, 1<<53-1)).Draw(t, "revision"),
			Title: text(event.MaxTitleLength).Draw(t, "title"), URL: text(event.MaxURLLength).Draw(t, "url"),
			Priority: rapid.SampledFrom([]string{"", "high", "P1"}).Draw(t, "priority"),
			Source:   rapid.SampledFrom([]string{"manual", "success_play", "integration"}).Draw(t, "source"),
		}
		if rapid.Bool().Draw(t, "has due") {
			due := Time().Draw(t, "due")
			task.DueAt = &due
		}
		return task
	})
}

// Reassigned is any valid TaskReassigned with the least to the most tasks, ids and revisions apart.
func Reassigned(least, most int) *rapid.Generator[event.TaskReassigned] {
	return rapid.Custom(func(t *rapid.T) event.TaskReassigned {
		r := event.TaskReassigned{
			ID: EventID().Draw(t, "id"), Source: event.SourceHandover, Traceparent: traceparent().Draw(t, "traceparent"),
			Time: Time().Draw(t, "time"), TenantID: Tenant().Draw(t, "tenant"), AccountID: ID().Draw(t, "account"),
			FromID: IDOrNone().Draw(t, "from"), ToID: IDOrNone().Draw(t, "to"), InitiatedBy: ID().Draw(t, "by"),
			Reason:     rapid.SampledFrom(append(slices.Clone(event.RoleChangeReasons), event.ByAssigned)).Draw(t, "reason"),
			Correction: rapid.Bool().Draw(t, "correction"), Silent: rapid.Bool().Draw(t, "silent"),
		}
		if r.Reason != event.ByAssigned {
			r.Policy = rapid.SampledFrom(event.Policies).Draw(t, "policy")
			r.RoleChange = &event.RoleChangeRef{
				Source: Source().Draw(t, "source of the change"), ID: EventID().Draw(t, "id of the change"), Role: IDOrNone().Draw(t, "role"),
				OccurredAt: Time().Draw(t, "occurred"), OperationID: IDOrNone().Draw(t, "operation"),
			}
		}
		// A few drawn ones over and over: drawing hundreds takes rapid longer than all the rest.
		kinds := rapid.SliceOfN(Task(), 1, 4).Draw(t, "kinds of tasks")
		for i := range rapid.IntRange(least, most).Draw(t, "number of tasks") {
			task := kinds[i%len(kinds)]
			if i >= len(kinds) {
				task.ID, task.Revision = fmt.Sprintf("t-%d", i), int64(i)
			}
			r.Tasks = append(r.Tasks, task)
		}
		return r
	})
}
