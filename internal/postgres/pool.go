package postgres

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Options of a pool. The zero value is ready for use.
type Options struct {
	// MaxConns is the most connections the pool opens; 8 by default.
	MaxConns int32
	// Tracer sees every statement; none by default.
	Tracer pgx.QueryTracer
	// Writer is for a pool that runs the same few set-based statements all day: they are planned once, for any parameters,
	// without JIT, and always by probing indexes, never by reading a whole table or hashing it. A plan for particular
	// parameters costs more time than these statements run, and one made while a table was small stays wrong when it has
	// grown: looking up 512 changes by a sequential scan of what was an empty table costs a factor of seven. In exchange
	// no statement of such a pool may join two lists that it was given: that is quadratic.
	Writer bool
}

const (
	defaultMaxConns = 8
	connectTimeout  = 5 * time.Second
	applicationName = "handover"
	// abandoned is after how long the server gives up on a transaction whose process says nothing any more, because its
	// machine is gone or stands still, and with it the locks that everybody else waits for.
	abandoned = "2min"
)

// Open returns a pool on url, a connection URL or a keyword/value string. It doesn't connect yet: it fails only on a url
// that can't be read, and works as soon as the server does.
func Open(ctx context.Context, url string, o Options) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("database url: %w", err)
	}
	config.MaxConns = defaultMaxConns
	if o.MaxConns > 0 {
		config.MaxConns = o.MaxConns
	}
	connect := config.ConnConfig
	if connect.ConnectTimeout == 0 {
		connect.ConnectTimeout = connectTimeout
	}
	connect.Tracer = o.Tracer
	connect.RuntimeParams["timezone"] = "UTC"
	connect.RuntimeParams["idle_in_transaction_session_timeout"] = abandoned
	if connect.RuntimeParams["application_name"] == "" {
		connect.RuntimeParams["application_name"] = applicationName
	}
	if o.Writer {
		maps.Copy(connect.RuntimeParams, writerSettings)
	}
	// Times are UTC in Go too, whatever the zone of this process: they go into JSON as they are.
	config.AfterConnect = func(_ context.Context, conn *pgx.Conn) error {
		conn.TypeMap().RegisterType(&pgtype.Type{Name: "timestamptz", OID: pgtype.TimestamptzOID, Codec: &pgtype.TimestamptzCodec{ScanLocation: time.UTC}})
		return nil
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// writerSettings are those of [Options.Writer]. The memory keeps what a statement makes of a large batch out of files.
var writerSettings = map[string]string{
	"plan_cache_mode": "force_generic_plan", "jit": "off", "enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off",
	"work_mem": "32768", // kB
}

// beginWriter and beginSnapshot begin transactions that have them, on any connection.
var (
	beginWriter   = withWriterSettings("BEGIN ISOLATION LEVEL READ COMMITTED")
	beginSnapshot = withWriterSettings("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
)

func withWriterSettings(begin string) string {
	for name, value := range writerSettings {
		begin += "; SET LOCAL " + name + " = " + value
	}
	return begin
}

// txAttempts is how often InTx runs its function at most: once, and 5 times more.
const txAttempts = 6

// InTx runs fn in a READ COMMITTED transaction and commits it. When fn fails or panics nothing remains of it. After a
// deadlock or a serialization failure fn is run again, up to 5 times, so it must have no effect outside tx that can't be
// repeated. It returns the error of fn, or that of the commit; after an error of the commit it is unknown whether the
// transaction took place.
func InTx(ctx context.Context, pool *pgxpool.Pool, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return inTx(ctx, pool, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, fn)
}

// InWriterTx is InTx for the kind of statements that [Options.Writer] is for, on a pool that is for others too.
func InWriterTx(ctx context.Context, pool *pgxpool.Pool, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return inTx(ctx, pool, pgx.TxOptions{BeginQuery: beginWriter}, fn)
}

// InSnapshot is InWriterTx for what only reads: all its statements see the same moment (REPEATABLE READ, READ ONLY).
func InSnapshot(ctx context.Context, pool *pgxpool.Pool, fn func(ctx context.Context, tx pgx.Tx) error) error {
	return inTx(ctx, pool, pgx.TxOptions{BeginQuery: beginSnapshot}, fn)
}

func inTx(ctx context.Context, pool *pgxpool.Pool, o pgx.TxOptions, fn func(ctx context.Context, tx pgx.Tx) error) error {
	wait := &backoff.ExponentialBackOff{
		InitialInterval: 5 * time.Millisecond, RandomizationFactor: 1, Multiplier: 2, MaxInterval: 200 * time.Millisecond,
	}
	var err error
	for attempt := 1; ; attempt++ {
		err = pgx.BeginTxFunc(ctx, pool, o, func(tx pgx.Tx) error { return fn(ctx, tx) })
		if !Retryable(err) || attempt == txAttempts {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait.NextBackOff()):
		}
	}
}
