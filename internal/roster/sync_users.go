package roster

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
)

// SyncUsers takes what upstream says of users: all rows in one transaction, each with its own result, in the order of
// the rows. A row without its id, or with one that can't be, is a problem of that row. By is the user who sent them.
//
// A status that differs from what upstream said before is news: disabled and deleted are a departure without successor,
// active undoes a departure. Role changes that were waiting for a user who becomes known are delivered again.
//
// A dry run tells what would become of the rows and does nothing.
func (r *Roster) SyncUsers(ctx context.Context, tenant, by string, rows []UserSaid, dryRun bool) ([]RowResult, error) {
	results, rounds, err := prepare(rows, MaxSyncRows, func(u *UserSaid) string { return u.ID })
	if err != nil {
		return nil, err
	}
	err = r.takeRounds(ctx, dryRun, results, rounds, func(ctx context.Context, tx pgx.Tx) (round, error) {
		return func(ctx context.Context, indexes []int) ([]journal.Entry, error) {
			return syncUsers(ctx, tx, tenant, rows, indexes, results)
		}, journal.BeforeKnown(ctx, tx, tenant)
	})
	if err != nil {
		return nil, fmt.Errorf("sync users: %w", err)
	}
	return results, nil
}

func syncUsers(ctx context.Context, tx pgx.Tx, tenant string, rows []UserSaid, round []int, results []RowResult) ([]journal.Entry, error) {
	slices.SortFunc(round, func(a, b int) int { return cmp.Compare(rows[a].ID, rows[b].ID) })
	created, err := insertUsers(ctx, tx, tenant, rows, round)
	if err != nil {
		return nil, err
	}
	present, err := readUsers(ctx, tx, tenant, rows, round)
	if err != nil {
		return nil, err
	}
	var changed []user
	var fresh []string
	for _, i := range round {
		was, known := present[rows[i].ID]
		switch {
		case created[rows[i].ID]:
			results[i].Outcome = Created
			fresh = append(fresh, rows[i].ID)
			continue
		case !known:
			results[i].Problem = invalid("name", "is required for a user who isn't known yet")
			continue
		}
		now := was.with(rows[i])
		results[i].Outcome = Unchanged
		if now.visible() != was.visible() {
			results[i].Outcome = Updated
		}
		if now != was {
			changed = append(changed, now)
		}
	}
	if err := updateUsers(ctx, tx, tenant, changed); err != nil || len(fresh) == 0 {
		return nil, err
	}
	return journal.RetryWaiting(ctx, tx, tenant, fresh)
}

// user is a user as it is stored.
type user struct {
	id, name, email, zone, status, synced string
	notices                               bool
}

// with is the user after what upstream said: a three-way merge of the status, so that a nightly sync of what upstream
// always said doesn't undo a departure that was decided here.
func (u user) with(said UserSaid) user {
	u.name, u.email, u.zone, u.notices = said.Name.or(u.name), said.Email.or(u.email), said.TimeZone.or(u.zone), said.Notices.or(u.notices)
	if said.Status.Given && said.Status.Value != u.synced {
		u.status, u.synced = said.Status.Value, said.Status.Value
	}
	return u
}

// visible is what a reader sees of the user.
func (u user) visible() user {
	u.synced = ""
	return u
}

// Those who are new come first: afterwards every row that is known can be locked, in one order.
const insertNewUsers = `
INSERT INTO users (tenant_id, user_id, name, email, time_zone, notices, status, synced_status, left_at)
SELECT $1, user_id, name, email, time_zone, notices, status, status, CASE WHEN status <> 'active' THEN clock_timestamp() END
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[]) WITH ORDINALITY
  AS u(user_id, name, email, time_zone, notices, status, n)
ORDER BY n
ON CONFLICT DO NOTHING
RETURNING user_id`

func insertUsers(ctx context.Context, tx pgx.Tx, tenant string, rows []UserSaid, round []int) (map[string]bool, error) {
	var named []user
	for _, i := range round {
		if rows[i].Name.Given {
			named = append(named, user{id: rows[i].ID, zone: "UTC", notices: true, status: "active"}.with(rows[i]))
		}
	}
	created := map[string]bool{}
	if len(named) == 0 {
		return created, nil
	}
	ids, err := readTexts(ctx, tx, insertNewUsers, append([]any{tenant}, columnsOfUsers(named)...)...)
	for _, id := range ids {
		created[id] = true
	}
	return created, err
}

func columnsOfUsers(users []user) []any {
	return []any{
		column(users, func(u user) string { return u.id }), column(users, func(u user) string { return u.name }),
		column(users, func(u user) string { return u.email }), column(users, func(u user) string { return u.zone }),
		column(users, func(u user) bool { return u.notices }), column(users, func(u user) string { return u.status }),
	}
}

// Nobody receives anything between this lock and the end of a departure.
const lockUsers = `
SELECT u.user_id, u.name, u.email, u.time_zone, u.notices, u.status, coalesce(u.synced_status, '')
FROM unnest($2::text[]) AS i(user_id) JOIN users u ON u.tenant_id = $1 AND u.user_id = i.user_id
ORDER BY u.user_id FOR UPDATE OF u`

func readUsers(ctx context.Context, tx pgx.Tx, tenant string, rows []UserSaid, round []int) (map[string]user, error) {
	found, err := tx.Query(ctx, lockUsers, tenant, column(round, func(i int) string { return rows[i].ID }))
	if err != nil {
		return nil, err
	}
	users := make(map[string]user, len(round))
	var u user
	_, err = pgx.ForEachRow(found, []any{&u.id, &u.name, &u.email, &u.zone, &u.notices, &u.status, &u.synced}, func() error {
		users[u.id] = u
		return nil
	})
	return users, err
}

const updateKnownUsers = `
UPDATE users u SET
  name = w.name, email = w.email, time_zone = w.time_zone, notices = w.notices, status = w.status, synced_status = nullif(w.synced_status, ''),
  left_at = CASE WHEN w.status <> 'active' THEN coalesce(u.left_at, clock_timestamp()) END,
  successor_id = CASE WHEN w.status <> 'active' THEN u.successor_id END,
  departure_id = CASE WHEN w.status <> 'active' THEN u.departure_id END,
  departure_tasks = w.status <> 'active' AND u.departure_tasks,
  updated_at = now()
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::boolean[], $7::text[], $8::text[])
  AS w(user_id, name, email, time_zone, notices, status, synced_status)
WHERE u.tenant_id = $1 AND u.user_id = w.user_id`

func updateUsers(ctx context.Context, tx pgx.Tx, tenant string, users []user) error {
	if len(users) == 0 {
		return nil
	}
	args := append([]any{tenant}, columnsOfUsers(users)...)
	_, err := tx.Exec(ctx, updateKnownUsers, append(args, column(users, func(u user) string { return u.synced }))...)
	return err
}
