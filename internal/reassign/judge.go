package reassign

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/journal"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// delivery is one message of a batch on its way: a change, unless there is a problem with it; known when its effect has
// been had before.
type delivery struct {
	message event.Message
	change  event.AccountRoleChanged
	digest  [16]byte
	problem *event.Invalid
	waitFor string // the user whose sync would mend the problem
	known   bool
}

func (d *delivery) refuse(reason, field, remedy string) {
	d.problem = &event.Invalid{Reason: reason, Field: field, Remedy: remedy}
}

// ours tells whether the event was written by Handover itself: only then do its operation and its own policy count.
func (d *delivery) ours() bool { return d.change.Source == event.SourceHandover }

// operation is that of ours which the change belongs to, or "".
func (d *delivery) operation() string {
	if !d.ours() {
		return ""
	}
	return d.change.OperationID
}

// decode reads the messages; the same event twice in one batch counts once.
func decode(messages []event.Message) []delivery {
	batch := make([]delivery, len(messages))
	first := make(map[[16]byte]*delivery, len(messages))
	for i, m := range messages {
		d := &batch[i]
		d.message = m
		c, err := event.DecodeAccountRoleChanged(m)
		if err != nil {
			if !errors.As(err, &d.problem) {
				d.refuse(event.ReasonNotCloudEvent, "", err.Error())
			}
			continue
		}
		d.change, d.digest = c, c.Digest()
		switch earlier := first[d.digest]; {
		case earlier == nil:
			first[d.digest] = d
		case earlier.change.Content() == c.Content():
			d.known = true
		default:
			d.refuse(event.ReasonIDReused, "id", idReused)
		}
	}
	return batch
}

const idReused = "an event of this source and id said something else before; give every event an id of its own"

type person struct{ TenantID, UserID string }

// people are those who receive in a batch, as they are while the transaction holds them.
type people map[person]handover.Person

const (
	judgeTenants = `SELECT tenant_id, allow_task_override FROM tenants WHERE tenant_id = ANY($1)`
	judgeKnown   = `
SELECT k.digest, c.content FROM unnest($1::uuid[]) AS k(digest)
CROSS JOIN LATERAL (SELECT content FROM role_changes c WHERE c.digest = k.digest LIMIT 1) c`
	// A share lock: nobody who receives here can leave before this commits.
	judgePeople = `
SELECT u.tenant_id, u.user_id, u.left_at
FROM unnest($1::text[], $2::text[]) AS p(tenant_id, user_id)
JOIN users u ON u.tenant_id = p.tenant_id AND u.user_id = p.user_id
ORDER BY u.tenant_id, u.user_id FOR SHARE OF u`
)

// judge marks what is known already and refuses what can't be: by the clock of the database, the tenants, and the people
// who receive. It returns those people, locked so that they can't leave meanwhile.
func judge(ctx context.Context, tx pgx.Tx, batch []delivery) (people, error) {
	var clock time.Time
	overrides := map[string]bool{}
	contents := map[[16]byte][16]byte{}
	if err := readJudgement(ctx, tx, batch, &clock, overrides, contents); err != nil {
		return nil, fmt.Errorf("judge role changes: %w", err)
	}
	for i := range batch {
		d := &batch[i]
		if d.problem != nil || d.known {
			continue
		}
		content, recorded := contents[d.digest]
		override, tenantKnown := overrides[d.change.TenantID]
		switch {
		case recorded && content == d.change.Content():
			d.known = true
		case recorded:
			d.refuse(event.ReasonIDReused, "id", idReused)
		case !tenantKnown:
			d.refuse(event.ReasonTenantUnknown, "data.tenant_id", "there is no such tenant")
		case d.change.Time.After(clock.Add(handover.MaxAhead)):
			d.refuse(event.ReasonTimeAhead, "time", "is more than "+handover.MaxAhead.String()+" ahead of our clock; set the publisher's clock right")
		case d.change.Tasks != "" && !d.ours() && !override:
			d.refuse(event.ReasonOverrideRefused, "data.tasks", "the tenant doesn't allow a change from outside to carry its own policy; leave it out, or allow it in the settings")
		}
	}
	return judgeReceivers(ctx, tx, batch)
}

func readJudgement(ctx context.Context, tx pgx.Tx, batch []delivery, clock *time.Time, overrides map[string]bool, contents map[[16]byte][16]byte) error {
	tenants := map[string]bool{}
	var digests [][16]byte
	for i := range batch {
		if d := &batch[i]; d.problem == nil && !d.known {
			tenants[d.change.TenantID] = true
			digests = append(digests, d.digest)
		}
	}
	var questions pgx.Batch
	questions.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error { return row.Scan(clock) })
	var tenant string
	var override bool
	questions.Queue(judgeTenants, keys(tenants)).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&tenant, &override}, func() error { overrides[tenant] = override; return nil })
		return err
	})
	var digest, content [16]byte
	questions.Queue(judgeKnown, digests).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&digest, &content}, func() error { contents[digest] = content; return nil })
		return err
	})
	return tx.SendBatch(ctx, &questions).Close()
}

func judgeReceivers(ctx context.Context, tx pgx.Tx, batch []delivery) (people, error) {
	wanted := map[person]bool{}
	for i := range batch {
		if d := &batch[i]; d.problem == nil && !d.known && d.change.NewOwnerID != "" {
			wanted[person{d.change.TenantID, d.change.NewOwnerID}] = true
		}
	}
	found := make(people, len(wanted))
	if err := found.lock(ctx, tx, wanted); err != nil {
		return nil, fmt.Errorf("lock those who receive: %w", err)
	}
	if err := found.lookAgain(ctx, tx, wanted); err != nil {
		return nil, fmt.Errorf("look again for those who receive: %w", err)
	}
	for i := range batch {
		d := &batch[i]
		if d.problem != nil || d.known || d.change.NewOwnerID == "" {
			continue
		}
		switch who := found[person{d.change.TenantID, d.change.NewOwnerID}]; {
		case !who.Known:
			d.waitFor = d.change.NewOwnerID
			d.refuse(event.ReasonOwnerUnknown, "data.new_owner_id", "no such user is known; this is tried again by itself when the user is synced")
		case !who.CanReceive(d.change.Time):
			d.refuse(event.ReasonOwnerUnavailable, "data.new_owner_id", "had left by "+who.LeftAt.UTC().Format(time.RFC3339)+"; name somebody who is here")
		}
	}
	return found, nil
}

// lock adds those of wanted who are known, and keeps them from leaving.
func (p people) lock(ctx context.Context, tx pgx.Tx, wanted map[person]bool) error {
	if len(wanted) == 0 {
		return nil
	}
	var tenants, ids []string
	for w := range wanted {
		tenants, ids = append(tenants, w.TenantID), append(ids, w.UserID)
	}
	rows, err := tx.Query(ctx, judgePeople, tenants, ids)
	if err != nil {
		return err
	}
	var who person
	var left *time.Time
	_, err = pgx.ForEachRow(rows, []any{&who.TenantID, &who.UserID, &left}, func() error {
		p[who] = handover.Person{Known: true, LeftAt: left}
		return nil
	})
	return err
}

// lookAgain looks for those who aren't known once more, when no sync that makes them known can be under way.
func (p people) lookAgain(ctx context.Context, tx pgx.Tx, wanted map[person]bool) error {
	unknown, tenants := map[person]bool{}, map[string]bool{}
	for w := range wanted {
		if !p[w].Known {
			unknown[w], tenants[w.TenantID] = true, true
		}
	}
	for _, tenant := range slices.Sorted(maps.Keys(tenants)) {
		if err := journal.BeforeUnknown(ctx, tx, tenant); err != nil {
			return err
		}
	}
	return p.lock(ctx, tx, unknown)
}

// pending are the deliveries still to be recorded, in the order of their accounts, which is the order of locking.
func pending(batch []delivery) []*delivery {
	out := make([]*delivery, 0, len(batch))
	for i := range batch {
		if d := &batch[i]; d.problem == nil && !d.known {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *delivery) int {
		return roster.CompareAccounts(a.account(), b.account())
	})
	return out
}

func (d *delivery) account() roster.Account {
	return roster.Account{TenantID: d.change.TenantID, AccountID: d.change.AccountID}
}

func (r *Reassigner) deadLetters(batch []delivery) []journal.DeadLetter {
	var letters []journal.DeadLetter
	for _, d := range batch {
		if d.problem == nil {
			continue
		}
		letters = append(letters, journal.DeadLetter{
			Consumer: r.Consumer, Message: d.message, Reason: d.problem.Reason, Detail: d.problem.Error(), UserID: d.waitFor, OperationID: d.operation(),
		})
	}
	return letters
}

func countRefused(batch []delivery) int {
	n := 0
	for _, d := range batch {
		if d.problem != nil {
			n++
		}
	}
	return n
}

func keys[K comparable](m map[K]bool) []K {
	out := make([]K, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	return out
}
