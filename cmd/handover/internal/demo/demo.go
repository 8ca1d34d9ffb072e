// Package demo makes up a company for whoever tries Handover: 12 people, 60 accounts, 900 tasks.
//
// Invariant: the same day always gives the same company, so that what a tutorial shows is what its reader sees; only the
// dates move with the day, so that some tasks are always overdue and most are not. Everything in it is fictitious, and its
// mail addresses end in .example, where no mail can arrive.
//
// It can't fail: every row is one that a sync takes.
package demo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"handover.io/internal/handover"
	"handover.io/internal/roster"
)

const (
	// Tenant is the demo company's.
	Tenant = "demo"
	// Administrator is the user of its token.
	Administrator = "olivia.marsh"
	// Policy is one that shows a difference: what people wrote down themselves stays with them.
	Policy = handover.MoveAutomatedTasks

	// FirstAccount is the one for the first thing to try.
	FirstAccount = "acc-001"
	// FirstOwner is whom to give it to: somebody who doesn't own it.
	FirstOwner = "amara.okafor"

	tasks = 900
	seed  = 20240229
)

// Company is everything that an upstream system says of the demo company.
type Company struct {
	Users    []roster.UserSaid
	Accounts []roster.AccountSaid
	Tasks    []roster.TaskSaid
}

// Make makes the company as it is on a day.
func Make(day time.Time) Company {
	m := maker{titles: map[string]bool{}, rand: rand.New(rand.NewPCG(seed, seed)), day: day.UTC().Truncate(24 * time.Hour)}
	for _, p := range people {
		m.Users = append(m.Users, roster.UserSaid{
			ID: p.id, Name: said(p.name), Email: said(p.id + "@northlight.example"), TimeZone: said(p.zone), Status: said("active"),
		})
	}
	for i, name := range accountNames {
		m.account(i, name)
	}
	for len(m.Tasks) < tasks {
		m.task()
	}
	return m.Company
}

type maker struct {
	Company
	rand *rand.Rand
	day  time.Time
	// titles in use, by account
	titles map[string]bool
}

func (m *maker) account(i int, name string) {
	region := pick(m.rand, regions)
	attributes, _ := json.Marshal(map[string]any{
		"industry": pick(m.rand, industries), "region": region.name, "tier": pick(m.rand, []string{"enterprise", "growth", "growth", "startup"}),
		"arr": 6000 + 500*m.rand.IntN(300), "seats": 5 + m.rand.IntN(400),
	})
	m.Accounts = append(m.Accounts, roster.AccountSaid{
		ID: fmt.Sprintf("acc-%03d", i+1), Name: said(name), Attributes: said(json.RawMessage(attributes)),
		Roles: map[string]string{"success_manager": pick(m.rand, region.success), "sales_manager": pick(m.rand, region.sales)},
	})
}

func (m *maker) task() {
	// Some accounts are more work than others.
	account := m.Accounts[min(m.rand.IntN(len(m.Accounts)), m.rand.IntN(len(m.Accounts)))]
	kind := pick(m.rand, kinds)
	created := m.day.Add(-time.Duration(1+m.rand.IntN(120*24*60)) * time.Minute)
	t := roster.TaskSaid{
		ID: fmt.Sprintf("task-%04d", len(m.Tasks)+1), AccountID: said(account.ID), Source: said(kind.source),
		Title:    said(m.title(account.ID, kind)),
		Status:   said(pick(m.rand, []string{"open", "open", "open", "open", "open", "in_progress", "completed", "open", "open", "in_progress", "completed", "cancelled"})),
		Priority: said(pick(m.rand, []string{"normal", "normal", "normal", "high", "low"})),
		URL:      said(fmt.Sprintf("https://crm.northlight.example/tasks/%d", 40001+len(m.Tasks))), CreatedAt: said(&created), AssignedAt: said(&created),
		AssigneeID: said(account.Roles[kind.role]),
	}
	switch m.rand.IntN(20) {
	case 0: // a colleague helps out
		t.AssigneeID = said(pick(m.rand, people).id)
	case 1, 2, 3:
		t.Role = said(kind.role)
	}
	if m.rand.IntN(8) > 0 {
		due := m.day.AddDate(0, 0, m.rand.IntN(75)-15).Add(17 * time.Hour)
		t.DueAt = said(&due)
	}
	m.Tasks = append(m.Tasks, t)
}

// title is one that the account has no task of yet, as far as there are any.
func (m *maker) title(account string, k kindOf) string {
	var title string
	for range 20 {
		if title = fill(pick(m.rand, k.titles), pick(m.rand, contacts)); !m.titles[account+title] {
			break
		}
	}
	m.titles[account+title] = true
	return title
}

func fill(title, contact string) string {
	if title[len(title)-1] == ' ' {
		return title + contact
	}
	return title
}

func pick[T any](r *rand.Rand, from []T) T { return from[r.IntN(len(from))] }

func said[T any](v T) roster.Maybe[T] { return roster.Maybe[T]{Given: true, Value: v} }
