package bench

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/operation"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// segment is the attribute of the accounts that a bulk edit is about.
const segment = `{"segment": "bench"}`

// edited is a segment of accounts on its way through bulk edits.
type edited struct {
	dataset
	accounts []int
	edits    []handover.Change // so far: what each did to every account, without the id
	ids      []string          // of their operations
}

// newSegment is n accounts of the only tenant, and what makes them the segment.
func newSegment(d dataset, n int) (*edited, prepare, error) {
	if n > d.accounts {
		return nil, nil, fmt.Errorf("a segment of %d accounts: there are %d; raise --accounts and --tasks, or lower --changes", n, d.accounts)
	}
	s := &edited{dataset: d, accounts: random(3).Perm(d.accounts)[:n]}
	return s, func(ctx context.Context, conn *pgx.Conn) error {
		ids := make([]string, n)
		for i, account := range s.accounts {
			ids[i] = accountID(account)
		}
		if _, err := conn.Exec(ctx, `UPDATE accounts SET attributes = $2 WHERE tenant_id = $1 AND account_id = ANY($3)`, tenantID(0), segment, ids); err != nil {
			return err
		}
		_, err := conn.Exec(ctx, `VACUUM (FREEZE, ANALYZE) accounts`)
		return err
	}, nil
}

// newOwner is who gets the segment next: one of two people who have nothing else.
func (s *edited) newOwner() int { return s.users() - 1 - len(s.edits)%2 }

// edit hands the segment to its next owner, and waits until that is done.
func (s *edited) edit(ctx context.Context, operations *operation.Operations) error {
	to := userID(s.newOwner())
	accepted, err := operations.Assign(ctx, tenantID(0), userID(0), operation.Assignment{
		Filter: &roster.Filter{Attributes: json.RawMessage(segment)}, Role: role, OwnerID: &to,
	}, false)
	if err != nil {
		return fmt.Errorf("bulk edit: %w", err)
	}
	var op operation.Operation
	if err := until(ctx, "bulk edit", lookAtOperation, func() (bool, int, error) {
		op, err = operations.Get(ctx, tenantID(0), accepted.OperationID)
		return op.FinishedAt != nil, int(op.Accounts + op.Applied), err
	}); err != nil {
		return err
	}
	if n := int64(len(s.accounts)); op.State != "done" || op.Changes != n || op.Applied != n {
		return fmt.Errorf("bulk edit of %d accounts: it ended as %+v", n, op)
	}
	s.edits = append(s.edits, handover.Change{OccurredAt: op.AcceptedAt, Source: event.SourceHandover, Role: role, To: to, Policy: s.policy(0)})
	s.ids = append(s.ids, op.ID)
	return nil
}

// changes are those of the edits so far, by account. They are made when the clock has stopped: they take memory.
func (s *edited) changes() map[int][]handover.Change {
	changes := make(map[int][]handover.Change, len(s.accounts))
	for _, account := range s.accounts {
		for i, c := range s.edits {
			c.ID = roster.ChangeID(s.ids[i], accountID(account), role)
			changes[account] = append(changes[account], c)
		}
	}
	return changes
}

// runBulk is one edit from its acceptance until all of it is announced.
func (b *bench) runBulk(ctx context.Context) ([]Result, error) {
	d := b.oneTenant()
	s, prepare, err := newSegment(d, b.changes)
	if err != nil {
		return nil, err
	}
	// The same to the limit, which is told who had what.
	p := plan{dataset: d, name: "bulk"}
	for _, account := range s.accounts {
		p.changes = append(p.changes, change{int32(account), int32(d.owner(account)), int32(s.newOwner())})
		p.deliveries = append(p.deliveries, 0)
	}
	t := templateOf(d, false)
	if err := b.need(ctx, t, templateOf(d, true)); err != nil {
		return nil, err
	}
	var ours Result
	var expected right
	if err := b.with(ctx, t, prepare, func(w *world) error {
		if err := w.Start(ctx); err != nil {
			return err
		}
		spent, err := w.measured(ctx, func() error {
			if err := s.edit(ctx, w.Operations); err != nil {
				return err
			}
			return w.settled(ctx, b.changes)
		})
		if err != nil {
			return err
		}
		b.say("handover: %.2f s; checking", spent.seconds)
		expected = expect(d, s.changes())
		v, err := w.check(ctx, expected)
		ours = newResult(Handover, "bulk", b.changes, spent, v)
		return err
	}); err != nil {
		return nil, err
	}
	bare, err := b.runBare(ctx, p, nil, expected)
	return []Result{ours, bare}, err
}
