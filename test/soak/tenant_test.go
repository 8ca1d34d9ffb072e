package soak_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"handover.io/internal/handover"
	"handover.io/pkg/event"
)

const (
	accounts = 40
	people   = 16
	mostTask = 800
	root     = "root" // whose token it is, and who never leaves
)

var (
	roles    = []string{"success_manager", "sales_manager"}
	sources  = []string{handover.SourceManual, "success_play", "integration"}
	statuses = []string{"open", "in_progress", "completed", "cancelled"}
)

// tenant is a company that works while everything breaks: its upstream systems tell and publish, its people hand over.
type tenant struct {
	w        *world
	id       string
	token    string
	apis     []*part
	requests atomic.Int64

	mu        sync.Mutex
	here      []string             // who may be given something, in the order in which they came
	came      int                  // people ever
	tasks     int                  // ever made
	published map[string]expected  // events that the stream has, by id
	accepted  map[string]time.Time // operations, by id
	late      map[string]bool      // people whom events named before anybody had told of them
	sent      []sent               // lately
}

// expected is what must become of an event.
type expected int

const (
	recorded expected = iota // or a dead letter, when its new owner has left
	tooFarAhead
)

// sent is an event that upstream keeps for a while, to send it again when it is told that the stream was lost.
type sent struct {
	at time.Time
	m  event.Message
}

func person(n int) string  { return fmt.Sprintf("u%03d", n) }
func account(n int) string { return fmt.Sprintf("a%02d", n) }
func task(n int) string    { return fmt.Sprintf("task%04d", n) }

func (w *world) newTenant(id string) *tenant {
	t := &tenant{w: w, id: id, apis: w.those("api"), published: map[string]expected{}, accepted: map[string]time.Time{}, late: map[string]bool{}}
	var err error
	if t.token, err = w.command("token", "create", "--tenant", id, "--new-tenant", "--user", root, "--right", "admin"); err != nil {
		w.Fatal(err)
	}
	r := rand.New(rand.NewPCG(w.seed, uint64(len(w.tenants))+1000))
	t.must(t.json(r, "PUT", "/v1/users/"+root, body{"name": "Root", "email": root + "@" + id + ".example"}))
	for range people {
		t.newPerson(r)
	}
	for n := range accounts {
		t.must(t.json(r, "PUT", "/v1/accounts/"+account(n), body{"name": "Account " + account(n), "attributes": body{"segment": fmt.Sprint("s", n%4)}}))
	}
	t.must(t.json(r, "PUT", "/v1/policy", body{"tasks": "move_all_tasks"}))
	t.importTasks(r, 400)
	return t
}

func (t *tenant) must(a answer) {
	if !a.taken() {
		t.w.Fatalf("tenant %s: %d %s", t.id, a.status, a.raw)
	}
}

// choice is one thing that a driver does, so many times in a hundred or so.
type choice struct {
	weight int
	do     func(*rand.Rand)
}

// drive does one thing after the other, as drawn from the seed, until ctx is done. The pauses are the pace of the load.
func (t *tenant) drive(ctx context.Context, number uint64, pace time.Duration, choices []choice) {
	r := rand.New(rand.NewPCG(t.w.seed, number))
	sum := 0
	for _, c := range choices {
		sum += c.weight
	}
	for ctx.Err() == nil {
		n := r.IntN(sum)
		for _, c := range choices {
			if n -= c.weight; n < 0 {
				c.do(r)
				break
			}
		}
		wait(ctx, time.Duration(r.Int64N(int64(2*pace))))
	}
}

// upstream is what other systems do: events over HTTP and over NATS, and syncs.
func (t *tenant) upstream() []choice {
	return []choice{
		{25, t.overHTTP}, {25, t.overNATS}, {3, t.batch}, {1, t.tooFarAhead}, {2, t.unknownOwner},
		{8, t.newTask}, {15, t.syncTask}, {6, t.syncRoles}, {4, t.syncPerson}, {2, func(r *rand.Rand) { t.importTasks(r, 1+r.IntN(40)) }},
	}
}

// staff is what people do in the product.
func (t *tenant) staff() []choice {
	return []choice{
		{40, t.changeRole}, {4, t.bulkEdit}, {2, t.depart}, {3, t.setPolicy}, {12, t.assignTask}, {12, t.closeOrReopen}, {4, t.look},
	}
}

// anybody is one of those who are here, or now and then somebody who has left.
func (t *tenant) anybody(r *rand.Rand) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.IntN(12) == 0 {
		return person(r.IntN(t.came))
	}
	return t.here[r.IntN(len(t.here))]
}

func (t *tenant) anyTask(r *rand.Rand) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return task(r.IntN(max(1, t.tasks)))
}

func anyAccount(r *rand.Rand) string { return account(r.IntN(accounts)) }

func anyOf(r *rand.Rand, of []string) string { return of[r.IntN(len(of))] }

func (t *tenant) newPerson(r *rand.Rand) {
	t.mu.Lock()
	id := person(t.came)
	t.came++
	t.mu.Unlock()
	said := body{"name": "Name of " + id, "email": id + "@" + t.id + ".example", "time_zone": "Europe/Paris"}
	if r.IntN(12) == 0 {
		delete(said, "email")
	}
	if a := t.json(r, "PUT", "/v1/users/"+id, said); a.taken() {
		t.mu.Lock()
		t.here = append(t.here, id)
		t.mu.Unlock()
	}
}

func (t *tenant) syncPerson(r *rand.Rand) {
	id := t.anybody(r)
	t.json(r, "PUT", "/v1/users/"+id, body{"name": fmt.Sprint("Name of ", id, " ", r.IntN(100))})
}

func (t *tenant) aTask(r *rand.Rand) body {
	said := body{"title": "Call", "account_id": anyAccount(r), "assignee_id": t.anybody(r), "source": anyOf(r, sources)}
	switch r.IntN(3) {
	case 0:
		said["assigned_at"] = skewed(r)
	case 1:
		said["created_at"] = skewed(r)
	}
	if r.IntN(3) == 0 {
		said["role"] = anyOf(r, roles)
	}
	return said
}

func (t *tenant) newID() (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tasks >= mostTask {
		return "", false
	}
	t.tasks++
	return task(t.tasks - 1), true
}

func (t *tenant) newTask(r *rand.Rand) {
	if id, ok := t.newID(); ok {
		t.json(r, "PUT", "/v1/tasks/"+id, t.aTask(r))
	}
}

// importTasks tells of new tasks, and of known ones again.
func (t *tenant) importTasks(r *rand.Rand, n int) {
	var rows bytes.Buffer
	told := map[string]bool{}
	for range n {
		id, fresh := t.newID()
		if !fresh {
			id = t.anyTask(r)
		}
		if told[id] {
			continue
		}
		told[id] = true
		row := t.aTask(r)
		row["id"] = id
		rows.Write(append(marshal(row), '\n'))
	}
	t.ask(r, request{method: http.MethodPost, path: "/v1/imports/tasks", media: "application/x-ndjson", body: rows.Bytes()})
}

func (t *tenant) syncTask(r *rand.Rand) {
	said := body{}
	switch r.IntN(6) {
	case 0:
		said["account_id"] = anyAccount(r)
	case 1:
		said["source"] = anyOf(r, sources)
	case 2:
		said["role"] = anyOf(r, roles)
	case 3:
		said["assignee_id"] = t.anybody(r)
	case 4:
		said["assignee_id"], said["assigned_at"] = t.anybody(r), skewed(r)
	case 5:
		said["status"] = anyOf(r, statuses)
	}
	t.json(r, "PUT", "/v1/tasks/"+t.anyTask(r), said)
}

func (t *tenant) syncRoles(r *rand.Rand) {
	said := body{}
	for _, role := range roles {
		if r.IntN(2) == 0 {
			said[role] = t.anybody(r)
		}
	}
	t.json(r, "PUT", "/v1/accounts/"+anyAccount(r), body{"roles": said})
}

func (t *tenant) acceptedAs(a answer) {
	if id := a.operation(); a.taken() && id != "" {
		t.mu.Lock()
		t.accepted[id] = time.Now()
		t.mu.Unlock()
	}
}

func (t *tenant) changeRole(r *rand.Rand) {
	t.acceptedAs(t.keyed(r, "PUT", "/v1/accounts/"+anyAccount(r)+"/roles/"+anyOf(r, roles), body{"owner_id": t.anybody(r), "reason": "profile"}))
}

func (t *tenant) bulkEdit(r *rand.Rand) {
	said := body{"role": anyOf(r, roles), "owner_id": t.anybody(r)}
	if r.IntN(2) == 0 {
		said["filter"] = body{"attributes": body{"segment": fmt.Sprint("s", r.IntN(4))}}
	} else {
		ids := map[string]bool{}
		for range 1 + r.IntN(accounts) {
			ids[anyAccount(r)] = true
		}
		var list []string
		for id := range ids {
			list = append(list, id)
		}
		slices.Sort(list)
		said["account_ids"] = list
	}
	t.acceptedAs(t.keyed(r, "POST", "/v1/assignments", said))
}

// depart lets somebody go, and somebody new comes.
func (t *tenant) depart(r *rand.Rand) {
	verb := anyOf(r, []string{"disable", "delete", "reassign"})
	t.mu.Lock()
	n := r.IntN(len(t.here))
	who := t.here[n]
	others := slices.Delete(slices.Clone(t.here), n, n+1)
	if verb != "reassign" {
		t.here = others
	}
	t.mu.Unlock()
	t.acceptedAs(t.keyed(r, "POST", "/v1/users/"+who+"/"+verb, body{"successor_id": anyOf(r, others), "tasks": true}))
	if verb != "reassign" {
		t.newPerson(r)
	}
}

func (t *tenant) setPolicy(r *rand.Rand) {
	p := handover.AllPolicies[r.IntN(len(handover.AllPolicies))]
	if r.IntN(2) == 0 {
		p = handover.MoveAllTasks
	}
	t.json(r, "PUT", "/v1/policy", body{"tasks": p})
}

func (t *tenant) assignTask(r *rand.Rand) {
	t.acceptedAs(t.json(r, "POST", "/v1/tasks/"+t.anyTask(r)+"/assign", body{"assignee_id": t.anybody(r)}))
}

func (t *tenant) closeOrReopen(r *rand.Rand) {
	t.json(r, "PUT", "/v1/tasks/"+t.anyTask(r), body{"status": anyOf(r, []string{"open", "open", "in_progress", "completed", "cancelled"})})
}

func (t *tenant) look(r *rand.Rand) {
	t.json(r, "GET", anyOf(r, []string{"/v1/notifications", "/v1/notices", "/v1/tasks?limit=50", "/v1/accounts/" + anyAccount(r) + "/history"}), nil)
}
