package notify

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

// Forecast tells whom moves would be mailed about, without taking them in. The zero value knows of none.
type Forecast struct {
	windows map[scope]bool
}

// Add adds moves that might happen; their revisions don't matter. It only reads.
func (f *Forecast) Add(ctx context.Context, tx pgx.Tx, moves []event.TaskReassigned) error {
	in := make([]incoming, len(moves))
	for i, m := range moves {
		m.Tasks = slices.Clone(m.Tasks)
		for j := range m.Tasks {
			m.Tasks[j].Revision = math.MaxInt64 // after all that there are
		}
		in[i].TaskReassigned = m
	}
	modes, err := noticeModes(ctx, tx, in)
	if err != nil {
		return err
	}
	entries, _, _, _ := stage(in, modes)
	if entries, err = appendTakenBack(ctx, tx, entries, in, modes); err != nil {
		return err
	}
	if f.windows == nil {
		f.windows = map[scope]bool{}
	}
	for _, e := range entries {
		f.windows[e.scope] = true
	}
	return nil
}

// Recipient is somebody who would be mailed.
type Recipient struct {
	TenantID string `json:"tenant_id"`
	UserID   string `json:"user_id"`
	Mails    int    `json:"mails"`
}

const wouldBeMailed = `
SELECT p.n FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS p(tenant_id, user_id, n)
WHERE (SELECT status = 'active' AND notices AND email <> '' FROM users u WHERE u.tenant_id = p.tenant_id AND u.user_id = p.user_id LIMIT 1)`

// Recipients are those who would be mailed, in order of tenant and user, if all of it happened at once: who has left,
// takes no e-mails or has no address isn't among them.
func (f *Forecast) Recipients(ctx context.Context, tx pgx.Tx) ([]Recipient, error) {
	of := map[scope]int{}
	for w := range f.windows {
		of[scope{tenant: w.tenant, recipient: w.recipient}]++
	}
	people := slices.SortedFunc(maps.Keys(of), scope.compare)
	tenants, users := make([]string, len(people)), make([]string, len(people))
	for i, p := range people {
		tenants[i], users[i] = p.tenant, p.recipient
	}
	mailed, err := numbers(tx.Query(ctx, wouldBeMailed, tenants, users))
	if err != nil {
		return nil, fmt.Errorf("find who would be mailed: %w", err)
	}
	slices.Sort(mailed)
	out := make([]Recipient, len(mailed))
	for i, n := range mailed {
		p := people[n-1]
		out[i] = Recipient{p.tenant, p.recipient, of[p]}
		if out[i].Mails > mergeAbove {
			out[i].Mails = 1
		}
	}
	return out, nil
}
