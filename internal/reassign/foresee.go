package reassign

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Judge is what [Reassigner.Handle] would make of the messages now, in their order, without locking or writing anything.
// What only the database could refuse isn't foreseen.
func Judge(ctx context.Context, tx pgx.Tx, messages []event.Message) ([]roster.Judged, error) {
	batch := decode(messages)
	first := markRepeats(batch)
	known, err := readKnown(ctx, tx, batch)
	if err != nil {
		return nil, fmt.Errorf("judge role changes: %w", err)
	}
	known.judge(batch)
	found, err := readPeople(ctx, tx, lookAtPeople, receivers(batch))
	if err != nil {
		return nil, fmt.Errorf("look at those who receive: %w", err)
	}
	found.judge(batch)
	shareFate(batch, first)
	policies, err := foreseePolicies(ctx, tx, batch)
	if err != nil {
		return nil, fmt.Errorf("policies of role changes: %w", err)
	}
	var nobody Reassigner
	letters := nobody.deadLetters(batch)
	out := make([]roster.Judged, len(batch))
	for i := range batch {
		d := &batch[i]
		j := roster.Judged{Message: d.message, Known: d.known, Digest: d.digest}
		if d.digest != ([16]byte{}) {
			j.Change, j.Content = *d.recorded(0, d.change.PreviousOwnerID, policies[i]), d.change.Content()
		}
		if d.problem != nil {
			j.Refused, letters = &letters[0], letters[1:]
		}
		out[i] = j
	}
	return out, nil
}

const policiesAt = `
SELECT coalesce((SELECT policy FROM policy_history p WHERE p.tenant_id = e.tenant_id AND p.effective_from <= e.occurred_at
                 ORDER BY p.effective_from DESC LIMIT 1), 'keep_tasks')
FROM unnest($1::text[], $2::timestamptz[]) WITH ORDINALITY AS e(tenant_id, occurred_at, n) ORDER BY n`

// foreseePolicies are those that would judge what is to be recorded, by its place in the batch.
func foreseePolicies(ctx context.Context, tx pgx.Tx, batch []delivery) ([]handover.Policy, error) {
	out := make([]handover.Policy, len(batch))
	var tenants []string
	var times []time.Time
	var at []int
	for i := range batch {
		d := &batch[i]
		switch {
		case d.problem != nil || d.known:
		case d.change.Tasks != "":
			out[i] = handover.Policy(d.change.Tasks)
		default:
			tenants, times, at = append(tenants, d.change.TenantID), append(times, d.change.Time), append(at, i)
		}
	}
	if len(at) == 0 {
		return out, nil
	}
	rows, err := tx.Query(ctx, policiesAt, tenants, times)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[handover.Policy])
	for n, policy := range found {
		out[at[n]] = policy
	}
	return out, err
}
