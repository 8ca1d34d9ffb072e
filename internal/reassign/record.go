package reassign

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// raise locks the heads of the accounts, in order, and raises them to the newest change. It keeps what was newest before,
// by which the next statement tells a change that is the newest of its account from a late one. It is a statement of its
// own: the next one gets a snapshot taken after the locks were had.
const raise = `
INSERT INTO account_heads AS h (tenant_id, account_id, newest_at)
SELECT tenant_id, account_id, newest_at
FROM unnest($1::text[], $2::text[], $3::timestamptz[]) WITH ORDINALITY AS e(tenant_id, account_id, newest_at, n) ORDER BY n
ON CONFLICT (tenant_id, account_id) DO UPDATE SET previous_at = h.newest_at, newest_at = greatest(h.newest_at, excluded.newest_at)`

func raiseHeads(ctx context.Context, tx pgx.Tx, changes []*delivery) error {
	if len(changes) == 0 {
		return nil
	}
	var tenants, accounts []string
	var newest []time.Time
	for i, d := range changes {
		last := len(newest) - 1
		if i > 0 && d.account() == changes[i-1].account() {
			if d.change.Time.After(newest[last]) {
				newest[last] = d.change.Time
			}
			continue
		}
		tenants, accounts, newest = append(tenants, d.change.TenantID), append(accounts, d.change.AccountID), append(newest, d.change.Time)
	}
	if _, err := tx.Exec(ctx, raise, tenants, accounts, newest); err != nil {
		return fmt.Errorf("lock account heads: %w", err)
	}
	return nil
}

// record writes down the changes that nobody has recorded yet, each with its policy; and where a change is alone in the
// batch, and newer than every change and every assignment of a task of its account, sets the owner and moves the holdings of
// whom it takes tasks from. It returns a row for each change recorded (its task_id is NULL) and one for each task that went.
//
// Every look-up is a LATERAL with LIMIT 1 and the results are not joined but returned one after the other: planned
// generically for a few rows, a join of two of these sets is quadratic.
const record = `
WITH fresh AS (
  INSERT INTO role_changes (digest, content, tenant_id, account_id, role, from_id, to_id, occurred_at, sequence, source, id,
                            policy, overridden, reason, initiated_by, operation_id, traceparent)
  SELECT e.digest, e.content, e.tenant_id, e.account_id, e.role, e.from_id, e.to_id, e.occurred_at, e.sequence, e.source, e.id,
         coalesce(e.override, p.policy, 'keep_tasks'), e.override IS NOT NULL, e.reason, e.initiated_by, e.operation_id, e.traceparent
  FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::text[], $10::text[], $11::text[],
              $12::text[], $13::text[], $14::text[], $15::text[], $16::text[])
    AS e(digest, content, tenant_id, account_id, role, from_id, to_id, occurred_at, sequence, source, id, override, reason, initiated_by, operation_id, traceparent)
  LEFT JOIN LATERAL (
    SELECT policy FROM policy_history p WHERE p.tenant_id = e.tenant_id AND p.effective_from <= e.occurred_at
    ORDER BY p.effective_from DESC LIMIT 1) p ON true
  ON CONFLICT (digest) DO NOTHING
  RETURNING key, digest, tenant_id, account_id, role, from_id, to_id, occurred_at, policy, reason, initiated_by
), judged AS (
  SELECT f.key, f.digest, f.tenant_id, f.account_id, f.role, coalesce(f.from_id, o.last_person) AS from_id, f.to_id, f.occurred_at, f.policy, f.reason, f.initiated_by,
         count(*) OVER (PARTITION BY f.tenant_id, f.account_id) > 1
           OR h.newest_at > f.occurred_at OR h.previous_at >= f.occurred_at OR h.assigned_at > f.occurred_at AS late
  FROM fresh f
  CROSS JOIN LATERAL (SELECT newest_at, previous_at, assigned_at FROM account_heads h WHERE h.tenant_id = f.tenant_id AND h.account_id = f.account_id LIMIT 1) h
  LEFT JOIN LATERAL (
    SELECT last_person FROM account_roles o WHERE o.tenant_id = f.tenant_id AND o.account_id = f.account_id AND o.role = f.role AND f.role <> '' LIMIT 1) o ON true
), owners AS (
  INSERT INTO account_roles AS r (tenant_id, account_id, role, owner_id, last_person, since, latest_owner, latest_at)
  SELECT tenant_id, account_id, role, to_id, coalesce(to_id, from_id), occurred_at, to_id, occurred_at FROM judged WHERE NOT late AND role <> ''
  ON CONFLICT (tenant_id, account_id, role) DO UPDATE SET
    owner_id = excluded.owner_id, last_person = coalesce(excluded.last_person, r.last_person), since = excluded.since,
    latest_owner = CASE WHEN excluded.since >= r.latest_at THEN excluded.owner_id ELSE r.latest_owner END,
    latest_at = greatest(r.latest_at, excluded.since)
), moved AS (
  UPDATE holdings h SET assignee_id = w.to_id, moves = h.moves + 1
  FROM judged w
  WHERE NOT w.late AND w.policy <> 'keep_tasks' AND w.to_id <> w.from_id
    AND h.tenant_id = w.tenant_id AND h.assignee_id = w.from_id AND h.account_id = w.account_id
    AND (w.policy = 'move_all_tasks' OR NOT h.manual)
    AND (w.role = '' OR h.role = '' OR h.role = w.role)
  RETURNING w.key, w.tenant_id, w.account_id, w.from_id, w.to_id, w.reason, w.initiated_by, h.key AS holding, h.moves
), went AS (
  SELECT m.*, t.task_id, t.own_revision + m.moves AS revision, t.title, t.due_at, t.priority, t.source, t.url
  FROM moved m CROSS JOIN LATERAL (SELECT * FROM task_rows t WHERE t.holding = m.holding OFFSET 0) t
), remembered AS (
  INSERT INTO moves (tenant_id, account_id, change_key, reason, moved_by, from_id, to_id, moved_at, task_ids, revisions)
  SELECT tenant_id, account_id, key, reason, initiated_by, from_id, to_id, clock_timestamp(), array_agg(task_id), array_agg(revision)
  FROM went GROUP BY 1, 2, 3, 4, 5, 6, 7
)
SELECT key, digest, coalesce(from_id, ''), policy, late, NULL AS task_id, 0 AS revision, '' AS title, NULL::timestamptz AS due_at, '' AS priority, '' AS source, '' AS url,
       clock_timestamp() AS at FROM judged
UNION ALL
SELECT key, NULL, from_id, NULL, NULL, task_id, revision, title, due_at, priority, source, url, NULL FROM went`

// recorded is what recordAndMove did.
type recorded struct {
	fresh    []roster.Change
	moves    []roster.Move    // of the fast path
	late     []roster.Account // to be folded
	lateKeys map[int64]bool
}

// recordAndMove runs record.
func recordAndMove(ctx context.Context, tx pgx.Tx, changes []*delivery) (recorded, error) {
	if len(changes) == 0 {
		return recorded{}, nil
	}
	rows, err := tx.Query(ctx, record, columns(changes)...)
	if err != nil {
		return recorded{}, fmt.Errorf("record role changes: %w", err)
	}
	of := make(map[[16]byte]*delivery, len(changes))
	for _, d := range changes {
		of[d.digest] = d
	}
	out := recorded{lateKeys: map[int64]bool{}}
	fresh := make(map[int64]*roster.Change, len(changes))
	tasks := map[int64][]event.ReassignedTask{} // moved, by the key of the change
	var now time.Time
	row := recordedRow{words: map[string]string{}}
	if _, err := pgx.ForEachRow(rows, row.columns(), func() error {
		if row.taskID != nil {
			tasks[row.key] = append(tasks[row.key], row.task())
			return nil
		}
		now = *row.at
		c := of[*row.digest].recorded(row.key, row.from, *row.policy)
		fresh[row.key] = c
		if *row.late {
			out.late, out.lateKeys[row.key] = append(out.late, c.Account), true
		}
		return nil
	}); err != nil {
		return recorded{}, fmt.Errorf("record role changes: %w", err)
	}
	for key, c := range fresh {
		out.fresh = append(out.fresh, *c)
		if len(tasks[key]) > 0 {
			move := roster.MovedBy(c, c.From, c.To, false, now)
			move.Tasks = tasks[key]
			out.moves = append(out.moves, move)
		}
	}
	return out, nil
}

// recordedRow is a row that record returns: a change, or with a taskID a task that it moved.
type recordedRow struct {
	key    int64
	digest *[16]byte
	from   string
	policy *handover.Policy
	late   *bool
	at     *time.Time

	// There are many tasks: their texts lie in the connection's buffer, to be copied together.
	taskID, title, priority, source, url rawText
	revision                             int64
	dueAt                                *time.Time
	words                                map[string]string // priorities and sources, of which there are few
}

// rawText is a text where the connection has it, until the next row.
type rawText []byte

// ScanBytes implements [pgtype.BytesScanner].
func (t *rawText) ScanBytes(b []byte) error {
	*t = b
	return nil
}

func (r *recordedRow) columns() []any {
	return []any{&r.key, &r.digest, &r.from, &r.policy, &r.late, &r.taskID, &r.revision, &r.title,
		&r.dueAt, &r.priority, &r.source, &r.url, &r.at}
}

func (r *recordedRow) task() event.ReassignedTask {
	id, title := len(r.taskID), len(r.taskID)+len(r.title)
	own := string(slices.Concat(r.taskID, r.title, r.url))
	return event.ReassignedTask{
		ID: own[:id], Revision: r.revision, Title: own[id:title], DueAt: r.dueAt,
		Priority: r.word(r.priority), Source: r.word(r.source), URL: own[title:],
	}
}

func (r *recordedRow) word(t rawText) string {
	w, known := r.words[string(t)]
	if !known {
		w = string(t)
		r.words[w] = w
	}
	return w
}

// recorded is the delivery as it was recorded.
func (d *delivery) recorded(key int64, from string, policy handover.Policy) *roster.Change {
	c := d.change
	return &roster.Change{
		Change: handover.Change{
			OccurredAt: c.Time, Sequence: c.Sequence, Source: c.Source, ID: c.ID, Role: c.Role, From: from, To: c.NewOwnerID, Policy: policy, Key: key,
		},
		Account: d.account(), Reason: c.Reason, InitiatedBy: c.InitiatedBy, OperationID: d.operation(), Traceparent: c.Traceparent,
	}
}

// left is what the fast path gave to people who have left since the change occurred.
func (r recorded) left(people people) []roster.Left {
	late := make(map[roster.Account]bool, len(r.late))
	for _, a := range r.late {
		late[a] = true
	}
	var left []roster.Left
	for _, c := range r.fresh {
		if people[person{c.TenantID, c.To}].LeftAt != nil && !late[c.Account] {
			left = append(left, roster.Left{Account: c.Account, Role: c.Role, Person: c.To}, roster.Left{Account: c.Account, Person: c.To})
		}
	}
	return left
}

// columns are the parameters of record, in its order.
func columns(changes []*delivery) []any {
	return []any{
		column(changes, func(d *delivery) [16]byte { return d.digest }),
		column(changes, func(d *delivery) [16]byte { return d.change.Content() }),
		column(changes, func(d *delivery) string { return d.change.TenantID }),
		column(changes, func(d *delivery) string { return d.change.AccountID }),
		column(changes, func(d *delivery) string { return d.change.Role }),
		column(changes, func(d *delivery) *string { return orNull(d.change.PreviousOwnerID) }),
		column(changes, func(d *delivery) *string { return orNull(d.change.NewOwnerID) }),
		column(changes, func(d *delivery) time.Time { return d.change.Time }),
		column(changes, func(d *delivery) string { return d.change.Sequence }),
		column(changes, func(d *delivery) string { return d.change.Source }),
		column(changes, func(d *delivery) string { return d.change.ID }),
		column(changes, func(d *delivery) *string { return orNull(d.change.Tasks) }),
		column(changes, func(d *delivery) string { return d.change.Reason }),
		column(changes, func(d *delivery) string { return d.change.InitiatedBy }),
		column(changes, func(d *delivery) *string { return orNull(d.operation()) }),
		column(changes, func(d *delivery) string { return d.change.Traceparent }),
	}
}

func column[V any](changes []*delivery, of func(*delivery) V) []V {
	out := make([]V, len(changes))
	for i, d := range changes {
		out[i] = of(d)
	}
	return out
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
