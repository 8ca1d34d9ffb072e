package system_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"handover.io/internal/handover"
	"handover.io/internal/operation"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

var (
	accountIDs = []string{"acme", "globex", "hooli"}
	everybody  = []string{"ann", "bob", "cyd", "dee"}
	roleNames  = []string{"success_manager", "sales_manager"}
	sources    = []string{handover.SourceManual, "success_play", "integration"}
)

// The model test. A history is drawn: what upstream systems tell, changes in all four ways, policies, people who leave;
// the role changes are published shuffled and some of them twice, while two reassigners a lane, the relay and the
// notifier work and crash at every point where a commit, an acknowledgement or a publication can be cut off from the
// next. When all has come to rest, whatever happened on the way:
//
//   - every assignee, owner and count equals the fold of what is recorded (testkit.CheckFold), and every change is judged by
//     the policy that, by now, was in force when it occurred (testkit.CheckPolicies);
//   - every role change that was published is recorded once, or is the dead letter that it should be;
//   - whoever left with a successor holds nothing;
//   - every move is announced exactly once, and each announcement has become one item of one mail's window;
//   - no mail was handed over twice, and every operation has come to its end, with its initiator told;
//   - verify finds nothing, and has found nothing all the time.
func TestAnyHistoryEndsAsTheFold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	n := 0
	verified := w.verifyAllTheTime()
	rapid.Check(t, func(rt *rapid.T) {
		n++
		h := w.history(rt, fmt.Sprintf("t%d", n))
		h.found()
		for range rapid.IntRange(20, 50).Draw(rt, "steps") {
			h.step()
		}
		h.publishTheRest()
		w.rest()
		h.check()
		w.unrest()
	})
	times := verified()
	t.Logf("%5d times verified meanwhile", times)
	if times == 0 {
		t.Error("never verified meanwhile")
	}
	w.report()
}

// history is one tenant's. What it draws is in its own words; what it expects is what it published.
type history struct {
	*world
	rt     *rapid.T
	tenant string
	start  time.Time
	// people who are here, in the order in which they came.
	here      []string
	gone      map[string]bool // with a successor
	tasks     []string
	held      []event.AccountRoleChanged // to be published later, in another order
	published map[string]event.AccountRoleChanged
	wrong     []string
}

func (w *world) history(rt *rapid.T, tenant string) *history {
	return &history{world: w, rt: rt, tenant: tenant, start: w.clock(), here: slices.Clone(everybody),
		gone: map[string]bool{}, published: map[string]event.AccountRoleChanged{}}
}

func (h *history) pick(what string, of []string) string {
	return rapid.SampledFrom(of).Draw(h.rt, what)
}

func given[T any](v T) roster.Maybe[T] { return roster.Maybe[T]{Given: true, Value: v} }

func (h *history) must(err error) {
	if err != nil {
		h.rt.Fatalf("%v", err)
	}
}

func (h *history) taken(results []roster.RowResult, err error) {
	h.must(err)
	for _, r := range results {
		if r.Problem != nil {
			h.rt.Fatalf("row %s refused: %v", r.ID, r.Problem)
		}
	}
}

// found makes the tenant, its people and accounts.
func (h *history) found() {
	h.must(h.roster.EnsureTenant(h.ctx, h.tenant))
	var users []roster.UserSaid
	for _, u := range h.here {
		users = append(users, roster.UserSaid{ID: u, Name: given(u), Email: given(u + "@example.com")})
	}
	h.taken(h.roster.SyncUsers(h.ctx, h.tenant, "dee", users, false))
	var accounts []roster.AccountSaid
	for _, a := range accountIDs {
		accounts = append(accounts, roster.AccountSaid{ID: a, Name: given("Account " + a)})
	}
	h.taken(h.roster.SyncAccounts(h.ctx, h.tenant, "dee", accounts, false))
	// Policies of the past, so that changes of the past are judged by more than the default.
	for ago := 3; ago > 0; ago-- {
		p := rapid.SampledFrom(handover.AllPolicies).Draw(h.rt, "policy of the past")
		_, err := h.pool.Exec(h.ctx, `INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by) VALUES ($1, $2, $3, 'dee')`,
			h.tenant, h.start.Add(-time.Duration(ago)*25*time.Minute), p)
		h.must(err)
	}
	for range 8 {
		h.newTask()
	}
}

func (h *history) step() {
	steps := map[string]func(){
		"event": h.event, "events": h.event, "more events": h.event, "publish": h.publishSome,
		"task": h.newTask, "another task": h.newTask, "task synced": h.syncTask, "task assigned": h.assignTask,
		"roles synced": h.syncRoles, "role changed": h.changeRole, "bulk edit": h.bulkEdit, "departure": h.depart, "policy": h.setPolicy,
		"policy set right": h.setPolicyRight,
	}
	names := make([]string, 0, len(steps))
	for name := range steps {
		names = append(names, name)
	}
	slices.Sort(names)
	steps[h.pick("step", names)]()
}

// lately is past or present, or a little ahead of our clock.
func (h *history) lately() time.Time {
	if rapid.IntRange(0, 2).Draw(h.rt, "now") == 0 {
		return event.Micro(h.clock().Add(time.Duration(rapid.IntRange(0, 60).Draw(h.rt, "seconds ahead")) * time.Second))
	}
	return h.past()
}

// past is some moment of the last hour or so.
func (h *history) past() time.Time {
	return event.Micro(h.start.Add(-time.Duration(rapid.IntRange(0, 60).Draw(h.rt, "minutes ago")) * time.Minute))
}

// event is a change that an upstream service publishes, now or later.
func (h *history) event() {
	c := event.AccountRoleChanged{
		ID: fmt.Sprintf("e%d", len(h.published)+len(h.held)), Source: "//crm.example", Time: h.lately(), TenantID: h.tenant,
		AccountID: h.pick("account", accountIDs), Role: h.pick("role", roleNames), NewOwnerID: h.pick("to", append(slices.Clone(everybody), "")),
		Reason: event.ByAPI, InitiatedBy: "dee",
	}
	if rapid.Bool().Draw(h.rt, "says who was before") {
		c.PreviousOwnerID = h.pick("from", everybody)
	}
	if rapid.IntRange(0, 5).Draw(h.rt, "about a person") == 0 {
		c.Role, c.Reason, c.PreviousOwnerID = "", event.ByUserDisabled, h.pick("whose tasks", everybody)
	}
	h.held = append(h.held, c)
	if rapid.Bool().Draw(h.rt, "at once") {
		h.publishSome()
	}
}

// publishSome publishes one of the changes held back, once or twice, on either lane.
func (h *history) publishSome() {
	if len(h.held) == 0 {
		return
	}
	i := rapid.IntRange(0, len(h.held)-1).Draw(h.rt, "which")
	c := h.held[i]
	h.held = slices.Delete(h.held, i, i+1)
	h.published[c.ID] = c
	subject := event.SubjectRoleChanged(h.tenant)
	if rapid.Bool().Draw(h.rt, "bulk lane") {
		subject = event.SubjectRoleBulk(h.tenant)
	}
	m, err := c.Message(subject)
	h.must(err)
	h.publish(m)
	if rapid.Bool().Draw(h.rt, "twice") {
		m.ID += "-again" // or the broker would drop it
		h.publish(m)
	}
}

func (h *history) publishTheRest() {
	for len(h.held) > 0 {
		h.publishSome()
	}
}

func (h *history) newTask() {
	t := roster.TaskSaid{ID: fmt.Sprintf("task%d", len(h.tasks)), Title: given("Call"), AccountID: given(h.pick("account", accountIDs)),
		AssigneeID: given(h.pick("assignee", append(slices.Clone(h.here), ""))), Source: given(h.pick("source", sources))}
	switch rapid.IntRange(0, 2).Draw(h.rt, "since") {
	case 0:
		at := h.past()
		t.AssignedAt = given(&at)
	case 1:
		at := h.past()
		t.CreatedAt = given(&at)
	}
	if rapid.IntRange(0, 2).Draw(h.rt, "bound to a role") == 0 {
		t.Role = given(h.pick("role", roleNames))
	}
	h.tasks = append(h.tasks, t.ID)
	h.taken(h.roster.SyncTasks(h.ctx, h.tenant, "dee", []roster.TaskSaid{t}, false))
}

func (h *history) syncTask() {
	if len(h.tasks) == 0 {
		return
	}
	t := roster.TaskSaid{ID: h.pick("task", h.tasks)}
	switch rapid.IntRange(0, 5).Draw(h.rt, "what") {
	case 0:
		t.Status = given(h.pick("status", []string{"open", "in_progress", "completed", "cancelled"}))
	case 1:
		t.AccountID = given(h.pick("account", accountIDs))
	case 2:
		t.Source = given(h.pick("source", sources))
	case 3:
		t.Role = given(h.pick("role", append(slices.Clone(roleNames), "")))
	case 4:
		t.AssigneeID = given(h.pick("assignee", everybody)) // also people who have left
	case 5:
		at := h.past()
		t.AssigneeID, t.AssignedAt = given(h.pick("assignee", everybody)), given(&at)
	}
	h.taken(h.roster.SyncTasks(h.ctx, h.tenant, "dee", []roster.TaskSaid{t}, false))
}

func (h *history) assignTask() {
	if len(h.tasks) == 0 {
		return
	}
	to := h.pick("assignee", h.here)
	_, err := h.roster.AssignTask(h.ctx, h.tenant, "dee", h.pick("task", h.tasks), &to, false)
	h.must(err)
}

func (h *history) syncRoles() {
	a := roster.AccountSaid{ID: h.pick("account", accountIDs), Roles: map[string]string{}}
	for _, role := range roleNames {
		if rapid.Bool().Draw(h.rt, "says "+role) {
			a.Roles[role] = h.pick("owner", append(slices.Clone(h.here), ""))
		}
	}
	h.taken(h.roster.SyncAccounts(h.ctx, h.tenant, "dee", []roster.AccountSaid{a}, false))
}

func (h *history) changeRole() {
	owner := h.pick("owner", h.here)
	_, err := h.operations.ChangeRole(h.ctx, h.tenant, "dee", h.pick("account", accountIDs), h.pick("role", roleNames), &owner, event.ByProfile, false)
	h.must(err)
}

func (h *history) bulkEdit() {
	owner := h.pick("owner", h.here)
	_, err := h.operations.Assign(h.ctx, h.tenant, "dee", operation.Assignment{AccountIDs: accountIDs, Role: h.pick("role", roleNames), OwnerID: &owner}, false)
	h.must(err)
}

// depart lets somebody go. Two stay.
func (h *history) depart() {
	if len(h.here) <= 2 {
		return
	}
	i := rapid.IntRange(0, len(h.here)-1).Draw(h.rt, "who")
	who := h.here[i]
	others := slices.Delete(slices.Clone(h.here), i, i+1)
	successor := h.pick("successor", others)
	kind := h.pick("kind", []string{event.ByUserDisabled, event.ByUserDeleted, event.ByResourcesReassigned})
	if kind != event.ByResourcesReassigned {
		h.here, h.gone[who] = others, true
	}
	_, err := h.operations.Depart(h.ctx, h.tenant, "dee", who, operation.Departure{Kind: kind, SuccessorID: &successor, Tasks: true}, false)
	h.must(err)
}

func (h *history) setPolicy() {
	p := rapid.SampledFrom(handover.AllPolicies).Draw(h.rt, "policy")
	_, err := h.roster.SetPolicy(h.ctx, h.tenant, "dee", p, false)
	h.must(err)
}

// setPolicyRight sets the policy right with effect from the past, with or without taking back. What it shows before is what
// it answers; what is recorded meanwhile the end tells of.
func (h *history) setPolicyRight() {
	_, err := h.operations.CorrectPolicy(h.ctx, h.tenant, "dee", operation.PolicyCorrection{
		Policy: rapid.SampledFrom(handover.AllPolicies).Draw(h.rt, "policy"), EffectiveFrom: h.past().Add(-time.Second), TakeBack: rapid.Bool().Draw(h.rt, "take back"),
	}, rapid.IntRange(0, 3).Draw(h.rt, "dry run") == 0)
	var underWay *operation.UnderWay
	if !errors.As(err, &underWay) {
		h.must(err)
	}
}
