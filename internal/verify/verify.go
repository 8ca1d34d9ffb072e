package verify

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Kind is what a finding is about.
type Kind string

// The kinds, in the order in which they are looked for and shown.
const (
	// First, since owners and assignees are folded from the changes that there are.
	MissingChange  Kind = "missing_change"  // a role change on the stream, acknowledged, that the database lacks
	Owner          Kind = "owner"           // of a role, or who held it before, or since when: differs from the fold
	Assignee       Kind = "assignee"        // of an open task differs from the fold
	Holding        Kind = "holding"         // counts or holds otherwise than its tasks are
	Head           Kind = "head"            // of an account is missing, or doesn't know its latest assignment
	Revision       Kind = "revision"        // of a task isn't the number of its moves
	LeftBehind     Kind = "left_behind"     // with somebody who left with a successor
	NoSuccessor    Kind = "no_successor"    // somebody left with things and without a successor: a note
	Ahead          Kind = "stream_ahead"    // messages of ours on a stream that the database knows nothing of
	Lost           Kind = "stream_lost"     // messages that a stream had and has no more
	Owed           Kind = "owed"            // committed long ago and not published
	Unannounced    Kind = "unannounced"     // a move that was never announced
	Unfounded      Kind = "unfounded"       // an announcement without a move
	AnnouncedTwice Kind = "announced_twice" // harmless: subscribers keep the highest revision; a note
	Untold         Kind = "untold"          // an announced move that no mail window of its recipient has
	Overdue        Kind = "overdue"         // a mail window, or a mail
	OnHold         Kind = "mails_on_hold"   // none goes out
	AmbiguousMail  Kind = "ambiguous"       // it may have arrived; a person decides
	Undeliverable  Kind = "undeliverable"   // a note
	DeadLetters    Kind = "dead_letters"    // that wait for a person
	StuckOperation Kind = "stuck_operation" // doesn't come to its end
)

// kinds says of each what a person reads above its findings, and whether it is only a note.
var kinds = []struct {
	Kind
	what string
	note bool
}{
	{MissingChange, "role changes on the stream that the database lacks", false},
	{Owner, "roles whose owner isn't what their changes make of it", false},
	{Assignee, "open tasks that are with the wrong person", false},
	{Holding, "holdings that don't agree with their tasks", false},
	{Head, "account heads that don't know their tasks", false},
	{Revision, "tasks whose revision isn't the number of their moves", false},
	{LeftBehind, "roles and tasks still with somebody who left, though there is a successor", false},
	{NoSuccessor, "people who left with roles or open tasks, without a successor", true},
	{Ahead, "messages on a stream that the database doesn't know: it is older than the stream", false},
	{Lost, "messages that a stream has lost", false},
	{Owed, "messages that wait to be published", false},
	{Unannounced, "moves that were never announced", false},
	{Unfounded, "announcements of moves that aren't recorded", false},
	{AnnouncedTwice, "moves announced more than once (harmless)", true},
	{Untold, "announced moves that their recipient isn't told of", false},
	{Overdue, "mails that are overdue", false},
	{OnHold, "mails are on hold", false},
	{AmbiguousMail, "mails that may or may not have arrived", false},
	{Undeliverable, "mails that could not be delivered in the last week", true},
	{DeadLetters, "dead letters that wait for somebody", false},
	{StuckOperation, "operations that don't come to their end", false},
}

// Kinds are the names of all kinds.
func Kinds() []Kind {
	out := make([]Kind, len(kinds))
	for i, k := range kinds {
		out[i] = k.Kind
	}
	return out
}

// Finding is one thing that doesn't agree. Fields that don't belong to its kind are empty.
type Finding struct {
	Kind        Kind   `json:"kind"`
	TenantID    string `json:"tenant_id,omitempty"`
	AccountID   string `json:"account_id,omitempty"`
	Role        string `json:"role,omitempty"`
	TaskID      string `json:"task_id,omitempty"`
	UserID      string `json:"user_id,omitempty"`
	OperationID string `json:"operation_id,omitempty"`
	NoticeID    int64  `json:"notice_id,omitempty"`
	Stream      string `json:"stream,omitempty"`
	Sequence    uint64 `json:"sequence,omitempty"`
	MessageID   string `json:"message_id,omitempty"`
	Key         int64  `json:"key,omitempty"` // of the move or the outbox row
	Says        string `json:"says"`
	Remedy      string `json:"remedy"` // a command as it can be given, or what a person has to decide
}

// Result is what was found of one kind.
type Result struct {
	Kind     Kind      `json:"kind"`
	What     string    `json:"what"`
	Note     bool      `json:"note,omitempty"` // nothing is wrong; somebody may want to know
	Count    int64     `json:"count"`
	Remedy   string    `json:"remedy"`   // for all of them
	Findings []Finding `json:"findings"` // the first 10,000
}

// Report is what Verify found.
type Report struct {
	At      time.Time     `json:"at"` // when it began, by the database clock
	Took    time.Duration `json:"took_ns"`
	Looked  Looked        `json:"looked_at"`
	Results []Result      `json:"results"` // of the kinds of which something was found
	// Unknown is what can't be told, and why.
	Unknown []string `json:"unknown"`

	todo todo
}

// Looked is how much was looked at.
type Looked struct {
	Accounts      int64 `json:"accounts"`
	Tasks         int64 `json:"open_tasks"`
	Moves         int64 `json:"moves"`
	Announcements int64 `json:"announcements"`
	RoleChanges   int64 `json:"role_changes"` // on the stream
}

// Right tells whether nothing is wrong; notes are not.
func (r Report) Right() bool {
	return !slices.ContainsFunc(r.Results, func(k Result) bool { return !k.Note })
}

// Of is what was found of a kind.
func (r Report) Of(kind Kind) Result {
	for _, k := range r.Results {
		if k.Kind == kind {
			return k
		}
	}
	return Result{Kind: kind}
}

// Broker is what Verify asks of it. Nil functions leave the streams out.
type Broker struct {
	// Streams asks for each stream before its consumers, so that what a consumer has behind it by then was on the stream.
	Streams func(ctx context.Context) ([]Stream, error)
	// Read reads a stream from and to a sequence, both included; the messages have their ids.
	Read func(ctx context.Context, stream string, from, to uint64, handle func(ctx context.Context, batch []event.Message) error) error
}

// Stream is how a stream stands.
type Stream struct {
	Name              string
	Created           time.Time
	FirstSeq, LastSeq uint64
	Consumers         map[string]Consumer
}

// Consumer is how far a durable consumer is.
type Consumer struct {
	// Handled is the sequence up to which it has acknowledged all that it wants.
	Handled uint64
}

// Options of Verify. The zero value looks for everything.
type Options struct {
	Tenant, Account string // Account needs Tenant; with it only that account is looked at
	Only            []Kind // all by default
	Thorough        bool   // compare every message that a stream should have, not a sample
	// Duty is the part of the time in which the database works for this, up to 1; 0.5 by default.
	Duty float64
	// Progress is told how far each step is; total is an estimate.
	Progress func(step string, done, total int64)
}

// keep is how many findings of a kind are kept; all are counted.
const keep = 10_000

// Verify compares. It fails with the first error of the database or the broker, and takes as long as it takes.
func Verify(ctx context.Context, pool *pgxpool.Pool, broker Broker, o Options) (Report, error) {
	v := &verifier{Options: o, pool: pool, broker: broker, results: map[Kind]*Result{}, began: time.Now()}
	if v.Duty <= 0 || v.Duty > 1 {
		v.Duty = 0.5
	}
	if v.Progress == nil {
		v.Progress = func(string, int64, int64) {}
	}
	v.report.Unknown = []string{}
	v.report.todo = newTodo()
	if err := pool.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&v.report.At); err != nil {
		return Report{}, err
	}
	if err := v.all(ctx); err != nil {
		return Report{}, err
	}
	v.report.Results = []Result{}
	for _, k := range kinds {
		if r := v.results[k.Kind]; r != nil {
			r.Remedy = v.remedy(r)
			v.report.Results = append(v.report.Results, *r)
		}
	}
	v.report.Took = time.Since(v.began)
	return v.report, nil
}

type verifier struct {
	Options
	pool    *pgxpool.Pool
	broker  Broker
	streams map[string]Stream
	began   time.Time
	results map[Kind]*Result
	report  Report
	waiting map[string]expanding // operations seen at the start
}

func (v *verifier) all(ctx context.Context) error {
	steps := []struct {
		name  string
		kinds []Kind
		do    func(context.Context) error
		whole bool // says nothing of a single account
	}{
		{"operations", []Kind{StuckOperation}, v.seeExpanding, true},
		{"broker", []Kind{MissingChange, Ahead, Lost, Untold}, v.askBroker, true},
		{"accounts", []Kind{Owner, Assignee, Holding, Head, Revision}, v.accounts, false},
		{"tasks", []Kind{Holding, Revision}, v.tasks, true},
		{"heads", []Kind{Head}, v.headless, true},
		{"people who left", []Kind{LeftBehind, NoSuccessor}, v.people, true},
		{"role changes", []Kind{MissingChange}, v.roleChanges, true},
		{"streams", []Kind{Ahead, Lost}, v.compareStreams, true},
		{"outbox", []Kind{Owed}, v.owed, true},
		{"announcements", []Kind{Unannounced, Unfounded, AnnouncedTwice, Untold}, v.announcements, true},
		{"mails", []Kind{Overdue, OnHold, AmbiguousMail, Undeliverable}, v.mails, true},
		{"dead letters", []Kind{DeadLetters}, v.deadLetters, true},
		{"operations", []Kind{StuckOperation}, v.operations, true},
	}
	for _, s := range steps {
		if !slices.ContainsFunc(s.kinds, v.wants) || (v.Account != "" && s.whole) {
			continue
		}
		if err := s.do(ctx); err != nil {
			return fmt.Errorf("verify %s: %w", s.name, err)
		}
	}
	return nil
}

func (v *verifier) wants(k Kind) bool { return len(v.Only) == 0 || slices.Contains(v.Only, k) }

// found notes a finding of a kind that is wanted.
func (v *verifier) found(f Finding) {
	if !v.wants(f.Kind) {
		return
	}
	r := v.results[f.Kind]
	if r == nil {
		r = &Result{Kind: f.Kind, Findings: []Finding{}}
		for _, k := range kinds {
			if k.Kind == f.Kind {
				r.What, r.Note = k.what, k.note
			}
		}
		v.results[f.Kind] = r
	}
	r.Count++
	if len(r.Findings) < keep {
		r.Findings = append(r.Findings, f)
	}
}

func (v *verifier) unknown(format string, args ...any) {
	v.report.Unknown = append(v.report.Unknown, fmt.Sprintf(format, args...))
}

const (
	// A snapshot ends long before it could keep vacuum from its work; live traffic has the other processors.
	snapshotSettings = `SET LOCAL statement_timeout = '50s'; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL work_mem = '32MB'`
	snapshotTries    = 5
)

// snapshot reads everything at one moment, and rests afterwards. What do has noted when it fails must not count: it is
// called again when the connection breaks.
func (v *verifier) snapshot(ctx context.Context, do func(ctx context.Context, tx pgx.Tx) error) error {
	for try := 1; ; try++ {
		began := time.Now()
		err := pgx.BeginTxFunc(ctx, v.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, snapshotSettings, pgx.QueryExecModeSimpleProtocol); err != nil {
				return err
			}
			return do(ctx, tx)
		})
		wait := time.Duration(float64(time.Since(began)) * (1 - v.Duty) / v.Duty)
		switch {
		case err != nil && (try == snapshotTries || !(postgres.Retryable(err) || postgres.Unavailable(err))):
			return err
		case err != nil:
			wait = time.Duration(try) * time.Second
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if err == nil {
			return nil
		}
	}
}

// chunk is how many rows are read in one snapshot: as many as take about a quarter of a second.
type chunk struct{ size, least, most int }

func (c *chunk) took(d time.Duration) {
	switch {
	case d > 400*time.Millisecond:
		c.size = max(c.least, c.size/2)
	case d < 150*time.Millisecond:
		c.size = min(c.most, c.size*3/2)
	}
}

func account(tenant, id string) roster.Account {
	return roster.Account{TenantID: tenant, AccountID: id}
}

// person is how a person or nobody is named to an operator.
func person(id string) string {
	if id == "" {
		return "nobody"
	}
	return id
}

func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
