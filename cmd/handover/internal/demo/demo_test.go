package demo_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/cmd/handover/internal/demo"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

func TestTheSameDayMakesTheSameCompany(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 3, 4, 15, 0, 0, 0, time.UTC)
	c := demo.Make(day)
	if diff := cmp.Diff(c, demo.Make(day.Add(3*time.Hour))); diff != "" {
		t.Error(diff)
	}
	if len(c.Users) != 12 || len(c.Accounts) != 60 || len(c.Tasks) != 900 {
		t.Errorf("%d users, %d accounts, %d tasks", len(c.Users), len(c.Accounts), len(c.Tasks))
	}
	later := demo.Make(day.AddDate(0, 0, 1))
	if got := later.Tasks[0].CreatedAt.Value.Sub(*c.Tasks[0].CreatedAt.Value); got != 24*time.Hour {
		t.Errorf("a day later it is %v later", got)
	}
}

func TestTheCompanyIsWhole(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC)
	c := demo.Make(day)
	var known []string
	for _, u := range c.Users {
		known = append(known, u.ID)
		if _, err := time.LoadLocation(u.TimeZone.Value); err != nil {
			t.Errorf("%s: %v", u.ID, err)
		}
	}
	if !slices.Contains(known, demo.Administrator) {
		t.Error("the administrator is nobody")
	}
	for _, a := range c.Accounts {
		for _, owner := range a.Roles {
			if !slices.Contains(known, owner) {
				t.Errorf("%s is owned by %q", a.ID, owner)
			}
		}
	}
	overdue, moving := 0, 0
	for _, task := range c.Tasks {
		account := c.Accounts[slices.IndexFunc(c.Accounts, func(a roster.AccountSaid) bool { return a.ID == task.AccountID.Value })]
		open := task.Status.Value == "open" || task.Status.Value == "in_progress"
		if open && task.AssigneeID.Value == account.Roles["success_manager"] && demo.Policy.Covers(task.Source.Value) {
			moving++
		}
		if task.DueAt.Given && open && task.DueAt.Value.Before(day) {
			overdue++
		}
		if !slices.Contains(known, task.AssigneeID.Value) || event.CheckID(task.ID) != "" || len(task.Title.Value) < 5 || task.CreatedAt.Value.After(day) {
			t.Errorf("%+v", task)
		}
	}
	if overdue < 50 || overdue > 300 || moving < 200 {
		t.Errorf("%d overdue, %d move with their account", overdue, moving)
	}
}

func TestTheAccountThatTheFirstStepsNameHandsTasksOver(t *testing.T) {
	t.Parallel()
	c := demo.Make(time.Date(2026, 3, 4, 0, 0, 0, 0, time.UTC))
	owner, moving := c.Accounts[0].Roles["success_manager"], 0
	for _, task := range c.Tasks {
		if task.AccountID.Value == c.Accounts[0].ID && task.AssigneeID.Value == owner && demo.Policy.Covers(task.Source.Value) {
			moving++
		}
	}
	if c.Accounts[0].ID != demo.FirstAccount || owner == demo.FirstOwner || moving < 3 {
		t.Errorf("%s is owned by %s, and %d tasks move", c.Accounts[0].ID, owner, moving)
	}
}
