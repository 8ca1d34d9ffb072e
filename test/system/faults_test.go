package system_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/pkg/event"
)

// faults decides by chance, from a seed, when something breaks; and counts what it broke.
type faults struct {
	mu     sync.Mutex
	random *rand.Rand
	quiet  atomic.Bool // nothing breaks any more, so that the system can come to rest
	broken map[string]int
}

func newFaults(seed uint64) *faults {
	return &faults{random: rand.New(rand.NewPCG(seed, seed)), broken: map[string]int{}}
}

// strike tells whether to break something of that name, one time in n.
func (f *faults) strike(name string, n int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.random.IntN(n) != 0 || (f.quiet.Load() && name != afterTheDot) {
		return false
	}
	f.broken[name]++
	return true
}

// afterTheDot strikes even when all else is quiet, since most mails go out then. Such a mail is at its end: it is never
// sent again by itself.
const afterTheDot = "mail server after the dot"

var errCrash = errors.New("crashed, by the test")

// crashing is a consumer that dies now and then, before its transaction or between its commit and the acknowledgement:
// the broker delivers the batch again.
func (f *faults) crashing(name string, handle func(context.Context, []event.Message) error) func(context.Context, []event.Message) error {
	return func(ctx context.Context, batch []event.Message) error {
		if f.strike(name+" before the transaction", 8) {
			return errCrash
		}
		if err := handle(ctx, batch); err != nil {
			return err
		}
		if f.strike(name+" before the acknowledgement", 6) {
			return errCrash
		}
		return nil
	}
}

// forgetful is a publisher that dies now and then between the broker's acknowledgement and writing it down.
func (f *faults) forgetful(publish journal.Publish) journal.Publish {
	return func(ctx context.Context, messages []event.Message) ([]event.Stored, error) {
		if f.strike("relay before publishing", 10) {
			return make([]event.Stored, len(messages)), errCrash
		}
		stored, err := publish(ctx, messages)
		if f.strike("relay before marking", 10) {
			return make([]event.Stored, len(messages)), errCrash
		}
		return stored, err
	}
}

// cutter cuts the connection of a writer at the moment it would commit.
type cutter struct{ *faults }

func (c cutter) TraceQueryStart(ctx context.Context, conn *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if q.SQL == "commit" && c.strike("connection cut at the commit", 10) {
		_ = conn.PgConn().Conn().Close()
	}
	return ctx
}

func (c cutter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// mailbox is a channel that counts what it is given. Now and then it takes a mail without anybody learning of it.
type mailbox struct {
	*faults
	mu       sync.Mutex
	accepted map[int64]int // by notice
}

func (m *mailbox) Send(_ context.Context, mail notify.Frozen) notify.Result {
	m.mu.Lock()
	m.accepted[mail.ID]++
	m.mu.Unlock()
	if m.strike(afterTheDot, 40) {
		return notify.Result{Outcome: notify.Unknown, Err: errCrash}
	}
	return notify.Result{Outcome: notify.Accepted, Code: 250}
}
