package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/journal"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
)

// todo is what Verify found that Mend can set right, all of it.
type todo struct {
	accounts   map[roster.Account]bool
	tasks      []roster.TaskRef
	left       []roster.Left
	moves      []int64 // to be announced
	again      []int64 // of the outbox, that a stream has lost
	untold     []int64 // of the outbox, to be announced once more
	operations []string
}

func newTodo() todo { return todo{accounts: map[roster.Account]bool{}} }

// Mendable is what Mend would set right.
type Mendable struct {
	Accounts   int `json:"accounts"`       // to be counted and folded again
	Left       int `json:"left_behind"`    // roles, and accounts with tasks, to be handed on
	Moves      int `json:"moves"`          // to be announced
	Messages   int `json:"messages"`       // to be published again
	Operations int `json:"operations"`     // to be ended
	Others     int `json:"other_findings"` // that it leaves alone
}

// Mendable counts what Mend would set right.
func (r Report) Mendable() Mendable {
	m := Mendable{len(r.todo.accounts), len(r.todo.left), len(r.todo.moves), len(r.todo.again) + len(r.todo.untold), len(r.todo.operations), 0}
	for _, k := range r.Results {
		switch k.Kind {
		case Owner, Assignee, Holding, Head, Revision, LeftBehind, Lost, Unannounced, Untold, StuckOperation:
		default:
			if !k.Note {
				m.Others += int(k.Count)
			}
		}
	}
	return m
}

// Mended counts what Mend did.
type Mended struct {
	Accounts   int64 `json:"accounts"`
	Written    int64 `json:"rows_set_right"` // heads, counts, revisions, roles without a reason
	TasksMoved int64 `json:"tasks_moved"`
	HandedOn   int64 `json:"handed_on"` // changes issued
	Announced  int64 `json:"moves_announced"`
	Republish  int64 `json:"messages_owed_again"`
	Operations int64 `json:"operations_ended"`
}

// MendOptions of Mend.
type MendOptions struct {
	Actor     string // for the record
	Arguments any    // for the record: what was asked for
	// Finish ends operations of which nothing is under way any more: operation.Recount.
	Finish   func(ctx context.Context, tx pgx.Tx, operations []string) error
	Progress func(done, total int64)
}

// mendBatch is how many accounts are locked at once.
const mendBatch = 50

// ErrMending says that somebody else is at it.
var ErrMending = errors.New("another verify --fix --apply is under way on this database")

// ErrIncomplete says that role changes are missing of which owners and assignees are folded: folded without them, tasks
// would go back, be mailed about, and go forth again with the replay.
var ErrIncomplete = errors.New("role changes on the stream are missing here, and what is folded without them is folded wrong")

// Mend sets right what Verify found and what can be set right without deciding anything, in small transactions; who, what
// and how much is kept as a run. What it announces and issues is published by the relay of a run. An error leaves what
// was committed; mending again goes on.
func Mend(ctx context.Context, pool *pgxpool.Pool, r Report, o MendOptions) (done Mended, err error) {
	if missing := r.Of(MissingChange); missing.Count > 0 && len(r.todo.accounts)+len(r.todo.tasks)+len(r.todo.left) > 0 {
		return done, fmt.Errorf("%w (%d): give %s first", ErrIncomplete, missing.Count, missing.Remedy)
	}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return done, err
	}
	defer conn.Release()
	var alone bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock(hashtext('handover.verify.mend'))`).Scan(&alone); err != nil {
		return done, err
	}
	if !alone {
		return done, ErrMending
	}
	defer func() {
		_, unlockErr := conn.Exec(context.WithoutCancel(ctx), `SELECT pg_advisory_unlock(hashtext('handover.verify.mend'))`)
		err = errors.Join(err, unlockErr)
	}()
	run, err := journal.BeginRun(ctx, pool, "verify --fix", o.Actor, o.Arguments)
	if err != nil {
		return done, err
	}
	defer func() { err = errors.Join(err, run.End(ctx, done, err)) }()
	m := mender{pool: pool, run: run, MendOptions: o, todo: r.todo, done: &done}
	m.total = int64(len(r.todo.accounts) + len(r.todo.tasks) + len(r.todo.left) + len(r.todo.moves) + len(r.todo.again) + len(r.todo.untold) + len(r.todo.operations))
	return done, m.all(ctx)
}

type mender struct {
	MendOptions
	pool        *pgxpool.Pool
	run         *journal.Run
	todo        todo
	done        *Mended
	past, total int64
}

func (m *mender) all(ctx context.Context) error {
	accounts := make([]roster.Account, 0, len(m.todo.accounts))
	for a := range m.todo.accounts {
		accounts = append(accounts, a)
	}
	slices.SortFunc(accounts, roster.CompareAccounts)
	slices.SortFunc(m.todo.left, func(a, b roster.Left) int { return roster.CompareAccounts(a.Account, b.Account) })
	// Tasks first: they take their accounts with them.
	if err := batches(ctx, m, m.todo.tasks, mendBatch, func(ctx context.Context, tx pgx.Tx, part []roster.TaskRef, done *Mended) error {
		return mendAccounts(ctx, tx, nil, part, done)
	}); err != nil {
		return err
	}
	if err := batches(ctx, m, accounts, mendBatch, func(ctx context.Context, tx pgx.Tx, part []roster.Account, done *Mended) error {
		done.Accounts += int64(len(part))
		return mendAccounts(ctx, tx, part, nil, done)
	}); err != nil {
		return err
	}
	if err := batches(ctx, m, m.todo.left, mendBatch, handOn); err != nil {
		return err
	}
	if err := batches(ctx, m, m.todo.moves, mendBatch, func(ctx context.Context, tx pgx.Tx, part []int64, done *Mended) error {
		_, err := roster.Announce(ctx, tx, part)
		done.Announced += int64(len(part))
		return err
	}); err != nil {
		return err
	}
	if err := batches(ctx, m, m.todo.again, 1000, func(ctx context.Context, tx pgx.Tx, part []int64, done *Mended) error {
		n, err := journal.OweAgain(ctx, tx, part)
		done.Republish += n
		return err
	}); err != nil {
		return err
	}
	if err := batches(ctx, m, m.todo.untold, 1000, func(ctx context.Context, tx pgx.Tx, part []int64, done *Mended) error {
		n, err := journal.Repeat(ctx, tx, part)
		done.Republish += n
		return err
	}); err != nil {
		return err
	}
	return batches(ctx, m, m.todo.operations, mendBatch, func(ctx context.Context, tx pgx.Tx, part []string, done *Mended) error {
		if m.Finish == nil {
			return nil
		}
		done.Operations += int64(len(part))
		return m.Finish(ctx, tx, part)
	})
}

func mendAccounts(ctx context.Context, tx pgx.Tx, accounts []roster.Account, tasks []roster.TaskRef, done *Mended) error {
	mended, _, err := roster.Mend(ctx, tx, accounts, tasks)
	done.Written += mended.Written + mended.Rehoused
	for _, move := range mended.Moves {
		done.TasksMoved += int64(len(move.Tasks))
	}
	return err
}

const stillLeft = `
SELECT l.n FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS l(tenant_id, account_id, role, person, n)
WHERE CASE WHEN l.role <> ''
  THEN (SELECT true FROM account_roles r WHERE r.tenant_id = l.tenant_id AND r.account_id = l.account_id AND r.role = l.role AND r.owner_id = l.person LIMIT 1)
  ELSE (SELECT true FROM holdings h WHERE h.tenant_id = l.tenant_id AND h.assignee_id = l.person AND h.account_id = l.account_id LIMIT 1) END
ORDER BY l.n`

// handOn locks the accounts first, as everybody does who hands on, and looks again.
func handOn(ctx context.Context, tx pgx.Tx, left []roster.Left, done *Mended) error {
	var accounts []roster.Account
	var tenants, ids, roles, people []string
	for _, l := range left {
		accounts = append(accounts, l.Account)
		tenants, ids, roles, people = append(tenants, l.TenantID), append(ids, l.AccountID), append(roles, l.Role), append(people, l.Person)
	}
	if _, err := roster.LockHeads(ctx, tx, accounts); err != nil {
		return err
	}
	n, err := numbers(ctx, tx, stillLeft, tenants, ids, roles, people)
	if err != nil {
		return err
	}
	still := make([]roster.Left, len(n))
	for i := range n {
		still[i] = left[n[i]-1]
	}
	entries, err := roster.HandOn(ctx, tx, still)
	for _, e := range entries {
		if e.Key != 0 {
			done.HandedOn++
		}
	}
	return err
}

// batches does a list in transactions of a few, and writes down after each how far it is. What a transaction counted is
// counted once, however often it is tried.
func batches[T any](ctx context.Context, m *mender, list []T, size int, do func(ctx context.Context, tx pgx.Tx, part []T, done *Mended) error) error {
	for part := range chunks(list, size) {
		next := *m.done
		if err := postgres.InTx(ctx, m.pool, func(ctx context.Context, tx pgx.Tx) error {
			next = *m.done
			return do(ctx, tx, part, &next)
		}); err != nil {
			return fmt.Errorf("mend: %w", err)
		}
		*m.done = next
		m.past += int64(len(part))
		if err := m.run.Save(ctx, fmt.Sprintf("%d of %d", m.past, m.total), next); err != nil {
			return err
		}
		if m.Progress != nil {
			m.Progress(m.past, m.total)
		}
	}
	return nil
}
