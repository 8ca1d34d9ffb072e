package roster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
)

// holding is open tasks of one account that are with one person, or nobody, and that role changes move alike. Whom an open
// task is with is written there only, so that one row moves them all.
type holding struct {
	key int64 // 0 until it is written
	kind
	moves   int64 // how often it has moved: part of the revision of each of its tasks
	n       int   // of tasks; one without any is deleted
	differs bool  // from what is written
}

// kind is what the tasks of a holding have in common. There may be several holdings of a kind: two people's tasks that
// went to a third.
type kind struct {
	Account
	role     string
	manual   bool
	assignee string
}

// task is what the fold needs of one of its tasks.
func (k kind) task(base string, since time.Time) handover.Task {
	t := handover.Task{Base: base, Since: since, Role: k.role}
	if k.manual {
		t.Source = handover.SourceManual
	}
	return t
}

func (k kind) compare(o kind) int {
	if c := cmp.Or(CompareAccounts(k.Account, o.Account), cmp.Compare(k.assignee, o.assignee), cmp.Compare(k.role, o.role)); c != 0 || k.manual == o.manual {
		return c
	}
	if k.manual {
		return 1
	}
	return -1
}

// moveTo moves all tasks of the holding.
func (h *holding) moveTo(assignee string) {
	h.assignee, h.moves, h.differs = assignee, h.moves+1, true
}

func (h *holding) leave() {
	h.n, h.differs = h.n-1, true
}

// holdings are those of some accounts whose heads are locked.
type holdings struct {
	of    map[Account][]*holding
	byKey map[int64]*holding
}

const holdingsOfAccounts = `
SELECT h.key, h.tenant_id, h.account_id, h.role, h.manual, coalesce(h.assignee_id, ''), h.moves, h.n
FROM unnest($1::text[], $2::text[]) AS a(tenant_id, account_id)
CROSS JOIN LATERAL (SELECT * FROM holdings h WHERE h.tenant_id = a.tenant_id AND h.account_id = a.account_id OFFSET 0) h`

func readHoldings(ctx context.Context, tx pgx.Tx, tenants, accounts []string) (holdings, error) {
	all := holdings{of: map[Account][]*holding{}, byKey: map[int64]*holding{}}
	rows, err := tx.Query(ctx, holdingsOfAccounts, tenants, accounts)
	if err != nil {
		return all, err
	}
	var h holding
	_, err = pgx.ForEachRow(rows, []any{&h.key, &h.TenantID, &h.AccountID, &h.role, &h.manual, &h.assignee, &h.moves, &h.n}, func() error {
		read := h
		all.byKey[h.key] = &read
		all.of[h.Account] = append(all.of[h.Account], &read)
		return nil
	})
	return all, err
}

// join adds a task to a holding of its kind.
func (all holdings) join(k kind) *holding {
	var to *holding
	for _, h := range all.of[k.Account] {
		if h.kind == k {
			to = h
			break
		}
	}
	if to == nil {
		to = &holding{kind: k}
		all.of[k.Account] = append(all.of[k.Account], to)
	}
	to.n, to.differs = to.n+1, true
	return to
}

const (
	insertHoldings = `
INSERT INTO holdings (tenant_id, account_id, role, manual, assignee_id, n)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::int[])
RETURNING key, tenant_id, account_id, role, manual, coalesce(assignee_id, '')`
	updateHoldings = `
UPDATE holdings h SET assignee_id = w.assignee_id, moves = w.moves, n = w.n
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::bigint[], $6::int[]) AS w(tenant_id, account_id, key, assignee_id, moves, n)
WHERE h.tenant_id = w.tenant_id AND h.account_id = w.account_id AND h.key = w.key`
	deleteHoldings = `
DELETE FROM holdings h USING unnest($1::text[], $2::text[], $3::bigint[]) AS w(tenant_id, account_id, key)
WHERE h.tenant_id = w.tenant_id AND h.account_id = w.account_id AND h.key = w.key`
)

// write writes what differs. Afterwards every holding has its key.
func (all holdings) write(ctx context.Context, tx pgx.Tx) error {
	var fresh, present, empty []*holding
	for _, of := range all.of {
		for _, h := range of {
			switch {
			case !h.differs || (h.n == 0 && h.key == 0):
			case h.n == 0:
				empty = append(empty, h)
			case h.key == 0:
				fresh = append(fresh, h)
			default:
				present = append(present, h)
			}
			h.differs = false
		}
	}
	if err := makeHoldings(ctx, tx, fresh); err != nil {
		return fmt.Errorf("make holdings: %w", err)
	}
	if len(present) > 0 {
		err := execEach(ctx, tx, len(present), updateHoldings, append(columnsOfHoldings(present), column(present, func(h *holding) *string { return orNull(h.assignee) }),
			column(present, func(h *holding) int64 { return h.moves }), column(present, func(h *holding) int32 { return int32(h.n) }))...)
		if err != nil {
			return fmt.Errorf("write holdings: %w", err)
		}
	}
	if len(empty) > 0 {
		if err := execEach(ctx, tx, len(empty), deleteHoldings, columnsOfHoldings(empty)...); err != nil {
			return fmt.Errorf("delete holdings: %w", err)
		}
	}
	return nil
}

// columnsOfHoldings are the primary keys.
func columnsOfHoldings(of []*holding) []any {
	return []any{
		column(of, func(h *holding) string { return h.TenantID }), column(of, func(h *holding) string { return h.AccountID }),
		column(of, func(h *holding) int64 { return h.key }),
	}
}

func columnsOfKinds(of []*holding) []any {
	return []any{
		column(of, func(h *holding) string { return h.TenantID }), column(of, func(h *holding) string { return h.AccountID }),
		column(of, func(h *holding) string { return h.role }), column(of, func(h *holding) bool { return h.manual }),
		column(of, func(h *holding) *string { return orNull(h.assignee) }), column(of, func(h *holding) int32 { return int32(h.n) }),
	}
}

// makeHoldings makes holdings that aren't there yet, and sets their keys.
func makeHoldings(ctx context.Context, tx pgx.Tx, fresh []*holding) error {
	if len(fresh) == 0 {
		return nil
	}
	of := make(map[kind]*holding, len(fresh)) // two of a kind aren't made at once
	for _, h := range fresh {
		of[h.kind] = h
	}
	rows, err := tx.Query(ctx, insertHoldings, columnsOfKinds(fresh)...)
	if err != nil {
		return err
	}
	var key int64
	var k kind
	_, err = pgx.ForEachRow(rows, []any{&key, &k.TenantID, &k.AccountID, &k.role, &k.manual, &k.assignee}, func() error {
		of[k].key = key
		return nil
	})
	return err
}

// holdingID is the primary key of a holding.
type holdingID struct {
	Account
	key int64
}

const (
	// The look-up is by the columns of one index, of which but a few rows fit. Since heads are locked, what it finds stays
	// where it is.
	joinPresent = `
UPDATE holdings h SET n = h.n + w.n
FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::text[], $6::int[]) WITH ORDINALITY AS w(tenant_id, account_id, role, manual, assignee_id, n, i)
CROSS JOIN LATERAL (
  SELECT p.ctid FROM holdings p
  WHERE p.tenant_id = w.tenant_id AND p.assignee_id = w.assignee_id AND p.account_id = w.account_id AND p.role = w.role AND p.manual = w.manual LIMIT 1) p
WHERE h.ctid = p.ctid
RETURNING w.i, h.key, h.moves`
	leaveSome = `
UPDATE holdings h SET n = h.n - w.n FROM unnest($1::text[], $2::text[], $3::bigint[], $4::int[]) AS w(tenant_id, account_id, key, n)
WHERE h.tenant_id = w.tenant_id AND h.account_id = w.account_id AND h.key = w.key AND h.n > w.n`
	leaveAll = `
DELETE FROM holdings h USING unnest($1::text[], $2::text[], $3::bigint[], $4::int[]) AS w(tenant_id, account_id, key, n)
WHERE h.tenant_id = w.tenant_id AND h.account_id = w.account_id AND h.key = w.key AND h.n = w.n`
)

// joinPresentOfNobody is joinPresent for tasks that are with nobody.
var joinPresentOfNobody = strings.Replace(joinPresent, "p.assignee_id = w.assignee_id", "p.assignee_id IS NULL", 1)

// joinHoldings adds n tasks to one holding of each kind, and tells its key and moves. Nothing is read before: where there
// are many accounts, that would be most of the work.
func joinHoldings(ctx context.Context, tx pgx.Tx, joined []holding) error {
	var somebodys, nobodys, fresh []*holding
	for i := range joined {
		if h := &joined[i]; h.assignee != handover.Nobody {
			somebodys = append(somebodys, h)
		} else {
			nobodys = append(nobodys, h)
		}
	}
	for _, present := range []struct {
		sql string
		of  []*holding
	}{{joinPresent, somebodys}, {joinPresentOfNobody, nobodys}} {
		if len(present.of) == 0 {
			continue
		}
		rows, err := tx.Query(ctx, present.sql, columnsOfKinds(present.of)...)
		if err != nil {
			return fmt.Errorf("join holdings: %w", err)
		}
		var i, key, moves int64
		if _, err := pgx.ForEachRow(rows, []any{&i, &key, &moves}, func() error {
			present.of[i-1].key, present.of[i-1].moves = key, moves
			return nil
		}); err != nil {
			return fmt.Errorf("join holdings: %w", err)
		}
	}
	for i := range joined {
		if h := &joined[i]; h.key == 0 {
			fresh = append(fresh, h)
		}
	}
	if err := makeHoldings(ctx, tx, fresh); err != nil {
		return fmt.Errorf("make holdings: %w", err)
	}
	return nil
}

// leaveHoldings takes so many tasks out of holdings.
func leaveHoldings(ctx context.Context, tx pgx.Tx, left map[holdingID]int) error {
	if len(left) == 0 {
		return nil
	}
	of := slices.SortedFunc(maps.Keys(left), func(a, b holdingID) int {
		return cmp.Or(CompareAccounts(a.Account, b.Account), cmp.Compare(a.key, b.key))
	})
	written := 0
	for _, sql := range []string{leaveAll, leaveSome} {
		tag, err := tx.Exec(ctx, sql, column(of, func(h holdingID) string { return h.TenantID }), column(of, func(h holdingID) string { return h.AccountID }),
			column(of, func(h holdingID) int64 { return h.key }), column(of, func(h holdingID) int32 { return int32(left[h]) }))
		if err != nil {
			return fmt.Errorf("leave holdings: %w", err)
		}
		written += int(tag.RowsAffected())
	}
	if written != len(of) {
		return fmt.Errorf("leave holdings: %w", &missingRowsError{want: len(of), got: written})
	}
	return nil
}
