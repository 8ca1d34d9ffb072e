package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"handover.io/internal/bus"
	"handover.io/internal/handover"
	"handover.io/pkg/event"
)

// upstream is the source of the changes that the bench publishes.
const upstream = "//crm.example"

// change is one role change of a plan: account and people by their numbers.
type change struct {
	account, from, to int32
}

// plan is what a run is about: the changes in the order in which they occurred, a second apart, and which of them arrive
// when: their indexes, repeats included.
type plan struct {
	dataset
	name       string // makes the ids of its events its own
	since      time.Time
	changes    []change
	deliveries []int32
}

// Everything that is drawn at random is the same in every run.
func random(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// unique is n changes, each of another account. After others, everybody hands on what they have by then.
func unique(d dataset, name string, n int, before ...plan) (plan, error) {
	if n > d.accounts {
		return plan{}, fmt.Errorf("%d changes of as many accounts: there are %d; raise --accounts and --tasks, or lower --changes", n, d.accounts)
	}
	p := plan{dataset: d, name: name, since: changesFrom.AddDate(0, 0, 30*len(before)), changes: make([]change, n), deliveries: make([]int32, n)}
	holds := d.holders(before...)
	for i, account := range random(uint64(1 + len(before))).Perm(d.accounts)[:n] {
		from := holds(account)
		p.changes[i] = change{int32(account), int32(from), int32(d.next(from, 1+i%(d.users()-1)))}
		p.deliveries[i] = int32(i)
	}
	return p, nil
}

// holders says who has an account after the plans.
func (d dataset) holders(before ...plan) func(account int) int {
	now := map[int]int{}
	for _, p := range before {
		for _, c := range p.changes {
			now[int(c.account)] = int(c.to)
		}
	}
	return func(account int) int {
		if user, changed := now[account]; changed {
			return user
		}
		return d.owner(account)
	}
}

// hotAccounts is how many accounts the changes of the mix hot are about.
const hotAccounts = 1000

// hot is n deliveries about a few accounts, each of which goes from hand to hand: nine tenths are changes, one tenth are
// repeats of those, and they arrive in no order.
func hot(d dataset, n int) plan {
	p := plan{dataset: d, name: "hot", since: changesFrom, changes: make([]change, max(1, n*9/10)), deliveries: make([]int32, n)}
	r := random(2)
	accounts := r.Perm(d.accounts)[:min(hotAccounts, d.accounts/4)]
	now := make([]int, len(accounts))
	for i := range p.changes {
		a := i % len(accounts)
		from := now[a]
		if i < len(accounts) {
			from = d.owner(accounts[a])
		}
		now[a] = d.next(from, 1+r.IntN(d.users()-1))
		p.changes[i] = change{int32(accounts[a]), int32(from), int32(now[a])}
	}
	for i := range p.deliveries {
		p.deliveries[i] = int32(i)
		if i >= len(p.changes) {
			p.deliveries[i] = int32(r.IntN(len(p.changes)))
		}
	}
	r.Shuffle(n, func(i, j int) { p.deliveries[i], p.deliveries[j] = p.deliveries[j], p.deliveries[i] })
	return p
}

func (p plan) id(i int) string { return p.name + "-" + strconv.Itoa(i) }

func (p plan) at(i int) time.Time { return p.since.Add(time.Duration(i) * time.Second) }

// implied is true of the changes that leave it to us who the previous owner was: every fourth.
func implied(i int) bool { return i%4 == 3 }

// event is change i as upstream publishes it.
func (p plan) event(i int) event.AccountRoleChanged {
	c := p.changes[i]
	tenant := tenantID(p.tenant(int(c.account)))
	e := event.AccountRoleChanged{
		ID: p.id(i), Source: upstream, Time: p.at(i), TenantID: tenant, AccountID: accountID(int(c.account)), Role: role,
		PreviousOwnerID: userID(int(c.from)), NewOwnerID: userID(int(c.to)), Reason: event.ByAPI, InitiatedBy: userID(0),
	}
	if implied(i) {
		e.PreviousOwnerID = ""
	}
	return e
}

// expected is change i as it must have been recorded.
func (p plan) expected(i int) handover.Change {
	e := p.event(i)
	return handover.Change{
		OccurredAt: e.Time, Source: e.Source, ID: e.ID, Role: e.Role, From: e.PreviousOwnerID, To: e.NewOwnerID, Policy: p.policy(p.tenant(int(p.changes[i].account))),
	}
}

// publish puts the deliveries on the stream, in order. A repeat goes without the id by which the broker would drop it.
func (p plan) publish(ctx context.Context, b *bus.Bus) error {
	seen := make([]bool, len(p.changes))
	const chunk = 1000
	for from := 0; from < len(p.deliveries); from += chunk {
		part := p.deliveries[from:min(from+chunk, len(p.deliveries))]
		messages := make([]event.Message, len(part))
		for j, i := range part {
			e := p.event(int(i))
			m, err := e.Message(event.SubjectRoleChanged(e.TenantID))
			if err != nil {
				return err
			}
			if seen[i] {
				m.ID = ""
			}
			seen[i], messages[j] = true, m
		}
		if _, err := b.Publish(ctx, messages); err != nil {
			return fmt.Errorf("publish the changes: %w", err)
		}
	}
	return nil
}
