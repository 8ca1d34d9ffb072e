package main

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"handover.io/pkg/event"
)

// check compares what came out with what had to: every task is with its account's last owner, or where it was; every move
// was announced, and announced once.
func (a *arena) check(ctx context.Context, w workload, r *result) error {
	var tenants, accounts, owners []string
	for account, owner := range w.owners {
		tenants, accounts, owners = append(tenants, tenantID(account)), append(accounts, accountID(account)), append(owners, userID(owner))
	}
	err := a.pool.QueryRow(ctx, `
		SELECT count(*) FROM tasks t JOIN accounts a USING (tenant_id, account_id) JOIN policies p USING (tenant_id)
		LEFT JOIN unnest($1::text[], $2::text[], $3::text[]) w(tenant_id, account_id, owner_id) USING (tenant_id, account_id)
		WHERE t.assignee_id <> CASE
			WHEN w.owner_id IS NOT NULL AND t.status = 'open'
				AND (p.policy = 'move_all_tasks' OR p.policy = 'move_automated_tasks' AND t.source <> 'manual') THEN w.owner_id
			ELSE a.owner_id END`, tenants, accounts, owners).Scan(&r.WrongAssignees)
	if err != nil {
		return err
	}
	announced, err := a.announcements(ctx)
	if err != nil {
		return err
	}
	for _, times := range announced {
		r.Announced += times
		r.Repeated += times - 1
	}
	r.MovesDue = w.moves
	r.Right = r.WrongAssignees == 0 && r.Announced == w.moves && r.Repeated == 0
	r.TasksPerS = float64(r.Announced-r.Repeated) / r.Seconds
	return nil
}

// move is a task that one change moved.
type move struct{ change, task string }

// announcements counts how often each move is on the stream.
func (a *arena) announcements(ctx context.Context) (map[move]int, error) {
	stream, err := a.js.Stream(ctx, event.StreamTaskReassignments)
	if err != nil {
		return nil, err
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, err
	}
	out := map[move]int{}
	for left := int(stream.CachedInfo().State.Msgs); left > 0; {
		batch, err := consumer.Fetch(min(left, 1000))
		if err != nil {
			return nil, err
		}
		before := left
		for m := range batch.Messages() {
			left--
			e, err := event.DecodeTaskReassigned(event.Message{Subject: m.Subject(), Header: m.Headers(), Body: m.Data()})
			if err != nil {
				return nil, err
			}
			for _, t := range e.Tasks {
				out[move{e.RoleChange.ID, t.ID}]++
			}
		}
		if err := batch.Error(); err != nil {
			return nil, err
		}
		if left == before {
			return nil, fmt.Errorf("the broker doesn't deliver the last %d announcements", left)
		}
	}
	return out, nil
}
