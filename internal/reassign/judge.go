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
// been had before, or is had by another one of the batch.
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

func decode(messages []event.Message) []delivery {
	batch := make([]delivery, len(messages))
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
	}
	return batch
}

// markRepeats marks what is the same event as another one of the batch, which counts once. It returns those that count. A
// retry is rather the one that counts than a repeat, so that what comes of it is written down.
func markRepeats(batch []delivery) map[[16]byte]*delivery {
	first := make(map[[16]byte]*delivery, len(batch))
	for i := range batch {
		d := &batch[i]
		if d.problem != nil {
			continue
		}
		switch earlier := first[d.digest]; {
		case earlier == nil:
			first[d.digest] = d
		case earlier.change.Content() != d.change.Content():
			d.refuse(event.ReasonIDReused, "id", idReused)
		case journal.IsRetry(d.message) && !journal.IsRetry(earlier.message):
			earlier.known, first[d.digest] = true, d
		default:
			d.known = true
		}
	}
	return first
}

// shareFate refuses the repeats of what was refused.
func shareFate(batch []delivery, first map[[16]byte]*delivery) {
	for i := range batch {
		d := &batch[i]
		if d.problem != nil || !d.known {
			continue
		}
		if f := first[d.digest]; f != d && f.problem != nil {
			d.known, d.problem, d.waitFor = false, f.problem, f.waitFor
		}
	}
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
	judgeStrangers = `
SELECT DISTINCT p.tenant_id FROM unnest($1::text[], $2::text[]) AS p(tenant_id, user_id)
WHERE (SELECT 1 FROM users u WHERE u.tenant_id = p.tenant_id AND u.user_id = p.user_id LIMIT 1) IS NULL`
	// A share lock: nobody who receives here can leave before this commits.
	judgePeople  = lookAtPeople + ` ORDER BY u.tenant_id, u.user_id FOR SHARE OF u`
	lookAtPeople = `
SELECT u.tenant_id, u.user_id, u.left_at
FROM unnest($1::text[], $2::text[]) AS p(tenant_id, user_id)
JOIN users u ON u.tenant_id = p.tenant_id AND u.user_id = p.user_id`
)

// judge marks what is known already and refuses what can't be: by the clock of the database, the tenants, and the people
// who receive. It returns those people, locked so that they can't leave meanwhile.
func judge(ctx context.Context, tx pgx.Tx, batch []delivery) (people, error) {
	first := markRepeats(batch)
	known, err := readKnown(ctx, tx, batch)
	if err != nil {
		return nil, fmt.Errorf("judge role changes: %w", err)
	}
	known.judge(batch)
	people, err := judgeReceivers(ctx, tx, batch, known.strangers)
	shareFate(batch, first)
	return people, err
}

// judge is what can be said without a lock.
func (known known) judge(batch []delivery) {
	for i := range batch {
		d := &batch[i]
		if d.problem != nil || d.known {
			continue
		}
		content, recorded := known.contents[d.digest]
		override, tenantKnown := known.overrides[d.change.TenantID]
		switch {
		case recorded && content == d.change.Content():
			d.known = true
		case recorded:
			d.refuse(event.ReasonIDReused, "id", idReused)
		case !tenantKnown:
			d.refuse(event.ReasonTenantUnknown, "data.tenant_id", "there is no such tenant")
		case d.change.Time.After(known.clock.Add(handover.MaxAhead)):
			d.refuse(event.ReasonTimeAhead, "time", "is more than "+handover.MaxAhead.String()+" ahead of our clock; set the publisher's clock right")
		case d.change.Tasks != "" && !d.ours() && !override:
			d.refuse(event.ReasonOverrideRefused, "data.tasks", "the tenant doesn't allow a change from outside to carry its own policy; leave it out, or allow it in the settings")
		}
	}
}

// known is what a batch is judged by, read in one go before anything is locked.
type known struct {
	clock     time.Time             // of the database
	overrides map[string]bool       // the tenants there are, and whether they allow a change its own policy
	contents  map[[16]byte][16]byte // of the changes recorded already, by digest
	strangers map[string]bool       // tenants where somebody is to receive who isn't known
}

func readKnown(ctx context.Context, tx pgx.Tx, batch []delivery) (known, error) {
	k := known{overrides: map[string]bool{}, contents: map[[16]byte][16]byte{}, strangers: map[string]bool{}}
	tenants, wanted := map[string]bool{}, receivers(batch)
	var digests [][16]byte
	for i := range batch {
		if d := &batch[i]; d.problem == nil && !d.known {
			tenants[d.change.TenantID] = true
			digests = append(digests, d.digest)
		}
	}
	var questions pgx.Batch
	// No policy is set from here on: what judges the changes that are recorded next also judges them afterwards.
	questions.Queue(roster.HoldPolicies, keys(tenants))
	questions.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error { return row.Scan(&k.clock) })
	var tenant string
	var override bool
	questions.Queue(judgeTenants, keys(tenants)).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&tenant, &override}, func() error { k.overrides[tenant] = override; return nil })
		return err
	})
	var digest, content [16]byte
	questions.Queue(judgeKnown, digests).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&digest, &content}, func() error { k.contents[digest] = content; return nil })
		return err
	})
	of, ids := wanted.columns()
	questions.Queue(judgeStrangers, of, ids).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&tenant}, func() error { k.strangers[tenant] = true; return nil })
		return err
	})
	return k, tx.SendBatch(ctx, &questions).Close()
}

// persons are a set.
type persons map[person]bool

// receivers are those who are to receive by what is neither refused nor known.
func receivers(batch []delivery) persons {
	out := persons{}
	for i := range batch {
		if d := &batch[i]; d.problem == nil && !d.known && d.change.NewOwnerID != "" {
			out[person{d.change.TenantID, d.change.NewOwnerID}] = true
		}
	}
	return out
}

func (p persons) columns() (tenants, ids []string) {
	for w := range p {
		tenants, ids = append(tenants, w.TenantID), append(ids, w.UserID)
	}
	return tenants, ids
}

// judgeReceivers locks those who receive, and refuses whom nobody knows or who had left. Where a stranger was seen, no
// sync that makes them known can be under way any more when it looks; that lock comes before those of people, as it does
// in the sync.
func judgeReceivers(ctx context.Context, tx pgx.Tx, batch []delivery, strangers map[string]bool) (people, error) {
	for _, tenant := range slices.Sorted(maps.Keys(strangers)) {
		if err := journal.BeforeUnknown(ctx, tx, tenant); err != nil {
			return nil, fmt.Errorf("wait for syncs of users: %w", err)
		}
	}
	found, err := readPeople(ctx, tx, judgePeople, receivers(batch))
	if err != nil {
		return nil, fmt.Errorf("lock those who receive: %w", err)
	}
	found.judge(batch)
	return found, nil
}

// judge refuses changes to those whom nobody knows, or who had left.
func (found people) judge(batch []delivery) {
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
}

// readPeople are those of wanted who are known.
func readPeople(ctx context.Context, tx pgx.Tx, sql string, wanted persons) (people, error) {
	found := make(people, len(wanted))
	if len(wanted) == 0 {
		return found, nil
	}
	tenants, ids := wanted.columns()
	rows, err := tx.Query(ctx, sql, tenants, ids)
	if err != nil {
		return nil, err
	}
	var who person
	var left *time.Time
	_, err = pgx.ForEachRow(rows, []any{&who.TenantID, &who.UserID, &left}, func() error {
		found[who] = handover.Person{Known: true, LeftAt: left}
		return nil
	})
	return found, err
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
		consumer := r.Consumer
		if consumer == "" {
			consumer = event.ConsumerOf(d.message.Subject)
		}
		letters = append(letters, journal.DeadLetter{
			Consumer: consumer, Message: d.message, Reason: d.problem.Reason, Detail: d.problem.Error(), UserID: d.waitFor, OperationID: d.operation(),
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
