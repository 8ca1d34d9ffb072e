package replay

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/journal"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

const (
	// readBatch is how many messages are judged together.
	readBatch = 2048
	// deliverBatch is about how many are delivered together: few, so that the heads of their accounts are held briefly. All
	// of one account go together up to accountBatch: then each of its tasks moves once, to where it ends.
	deliverBatch = 128
	accountBatch = 1024
	// chunk is how many missing changes are gathered before they are delivered, account by account.
	chunk = 20_000
	// foldBatch is how many accounts are folded together.
	foldBatch = 250
	// DefaultRate is how many changes a second a replay delivers unless told otherwise.
	DefaultRate = 500
)

// Replay is what a replay is joined from.
type Replay struct {
	Pool *pgxpool.Pool // its own, whose connections should plan generically (postgres.Options.Writer)
	// The stream of role changes; nil where only the database is replayed.
	Read   Read
	Stream func(ctx context.Context) (created time.Time, last uint64, err error)
	Judge  Judge
	// Announced gives the announcements from a time on to handle; nil where it isn't about a database that was restored.
	Announced func(ctx context.Context, since time.Time, handle func(ctx context.Context, batch []event.Message) error) error
	// Apply delivers messages: each has its effect, now or before, or is a dead letter; or, with an error, none has.
	Apply func(ctx context.Context, messages []event.Message) (Applied, error)
	// Refold folds accounts, whose heads are locked, and corrects what differs.
	Refold func(ctx context.Context, tx pgx.Tx, accounts []roster.Account, fresh map[int64]bool) ([]roster.Move, []journal.Entry, error)
	// Mails gathers whom moves would be mailed about; nil when nobody would.
	Mails func(ctx context.Context, tx pgx.Tx, moves []event.TaskReassigned) error

	chunk int // for tests
}

// Applied is what a delivery came to.
type Applied struct {
	Recorded, Known int
	DeadLetters     map[string]int // new ones, by reason
	Moves           []roster.Move
}

// Progress is how far a replay is: in messages of the stream, or accounts of the database.
type Progress struct {
	Done, Total int64
	Counts      Counts
}
