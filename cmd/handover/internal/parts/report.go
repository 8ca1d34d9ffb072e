package parts

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

const (
	// reportEvery is how often a process reports; lookEvery, how soon it tells of a part that has been started; Gone,
	// after how long without a report it counts as ended.
	reportEvery = 5 * time.Second
	lookEvery   = 250 * time.Millisecond
	Gone        = 30 * time.Second
	// reportPatience is how long the database may take for a report; lastPatience, for the one at the end.
	reportPatience = 4 * time.Second
	lastPatience   = 2 * time.Second
)

// Reporter writes what the parts of this process are at.
type Reporter struct {
	pool  *pgxpool.Pool
	watch *Watch
	Config

	id, process string
	began       time.Time
	meter       *meter
	told        []string // parts that were reported
}

// Config is what a Reporter needs beside the database and the watch.
type Config struct {
	// Parts are the names of those that this process runs.
	Parts func() []string
	// Counters are those of the parts of this process.
	Counters prometheus.Gatherer
	Version  string
	Logger   *zap.Logger
}

// NewReporter returns a reporter of a process that has just started.
func NewReporter(pool *pgxpool.Pool, watch *Watch, c Config) *Reporter {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	now := time.Now()
	return &Reporter{
		pool: pool, watch: watch, Config: c,
		id: rand.Text(), process: fmt.Sprintf("%s:%d", host, os.Getpid()), began: now, meter: newMeter(c.Counters, now),
	}
}

// Run reports until ctx is done, and then once more that the parts are stopped. It returns nil.
func (r *Reporter) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	var at time.Time
	parts := 0
	for {
		if now := r.Parts(); time.Since(at) >= reportEvery || len(now) != parts {
			at, parts = time.Now(), len(now)
			if err := r.report(ctx, true, reportPatience); err != nil && ctx.Err() == nil {
				// A database that is away is every part's trouble: they say so.
				r.Logger.Debug("parts not reported; trying again", zap.Error(err))
			}
		}
		select {
		case <-ctx.Done():
			if err := r.report(context.WithoutCancel(ctx), false, lastPatience); err != nil {
				r.Logger.Debug("end of the parts not reported", zap.Error(err))
			}
			return nil
		case <-ticker.C:
		}
	}
}

// All ages are taken from one instant, so that times which are equal stay so. Old rows go with each report of anybody: there are few, and none in nearly all cases.
const report = `
WITH old AS (DELETE FROM part_reports WHERE seen_at < statement_timestamp() - interval '1 day')
INSERT INTO part_reports AS p (process_id, part, process, version, running, started_at, seen_at, rates, errors, last_error,
  last_error_at, trouble_since, trouble_until)
SELECT $1, part, $2, $3, $5, statement_timestamp() - $4::interval, statement_timestamp(), rates, errors, last_error,
  statement_timestamp() - last_at, statement_timestamp() - since, statement_timestamp() - until
FROM unnest($6::text[], $7::jsonb[], $8::bigint[], $9::text[], $10::interval[], $11::interval[], $12::interval[])
  AS r (part, rates, errors, last_error, last_at, since, until)
ON CONFLICT (process_id, part) DO UPDATE SET running = excluded.running, seen_at = excluded.seen_at, rates = excluded.rates,
  errors = excluded.errors, last_error = excluded.last_error, last_error_at = excluded.last_error_at,
  trouble_since = excluded.trouble_since, trouble_until = excluded.trouble_until`

// report writes one row for each part that runs, has had trouble, or was reported before.
func (r *Reporter) report(ctx context.Context, running bool, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	now := time.Now()
	troubles, rates := r.watch.troubles(), r.meter.read(now)
	r.told = append(append(r.told, r.Parts()...), slices.Collect(maps.Keys(troubles))...)
	slices.Sort(r.told)
	r.told = slices.Compact(r.told)
	n := len(r.told)
	done, errors, last := make([][]byte, n), make([]int64, n), make([]*string, n)
	at, since, until := make([]*time.Duration, n), make([]*time.Duration, n), make([]*time.Duration, n)
	for i, part := range r.told {
		done[i] = []byte("{}")
		if running && len(rates[part]) > 0 {
			var err error
			if done[i], err = json.Marshal(rates[part]); err != nil {
				return err
			}
		}
		if t := troubles[part]; t.errors > 0 {
			age := func(of time.Time) *time.Duration { d := now.Sub(of); return &d }
			errors[i], last[i], at[i], since[i], until[i] = t.errors, &t.last, age(t.at), age(t.since), age(t.until)
		}
	}
	_, err := r.pool.Exec(ctx, report, r.id, r.process, r.Version, now.Sub(r.began), running, r.told, done, errors, last, at, since, until)
	return err
}

// Report is what was last heard of a part of a process.
type Report struct {
	Part      string    `json:"part"`
	Process   string    `json:"process"` // host:pid
	Version   string    `json:"version"`
	Running   bool      `json:"running"` // and heard of within the last 30 seconds
	StartedAt time.Time `json:"started_at"`
	SeenAt    time.Time `json:"seen_at"`
	Rates     Rates     `json:"rates"` // per second, over the last minute
	Errors    int64     `json:"errors"`
	Trouble   *Trouble  `json:"last_error"` // null when there was none
	// Stopped is one that has said so; one that neither runs nor has is gone without a word.
	Stopped bool `json:"stopped"`
}

// Trouble is the last one of a part.
type Trouble struct {
	Error string    `json:"error"`
	At    time.Time `json:"at"`
	// Since is the first of the errors in a row. WellSince is null while the part is still in trouble.
	Since     time.Time  `json:"since"`
	WellSince *time.Time `json:"well_since"`
}

const read = `
SELECT part, process, version, alive, started_at, seen_at, rates, errors, NOT running,
  last_error, last_error_at, trouble_since, CASE WHEN trouble_until <= clock_timestamp() THEN trouble_until END
FROM (
  SELECT *, row_number() OVER (PARTITION BY part, alive ORDER BY seen_at DESC) AS nth,
    row_number() OVER (PARTITION BY part, alive ORDER BY last_error_at DESC NULLS LAST) AS nth_error
  FROM (SELECT *, running AND seen_at > clock_timestamp() - $1::interval AS alive FROM part_reports) p) p
WHERE alive OR nth = 1 OR nth_error = 1 AND errors > 0 ORDER BY part, process_id`

// Read returns what was reported within a day: of all processes that are alive, and of those that have ended, for each
// part, the one heard of last and the one that had trouble last.
func Read(ctx context.Context, pool *pgxpool.Pool) ([]Report, error) {
	rows, err := pool.Query(ctx, read, Gone)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (Report, error) {
		var r Report
		var text *string
		var at, since, well *time.Time
		err := row.Scan(&r.Part, &r.Process, &r.Version, &r.Running, &r.StartedAt, &r.SeenAt, &r.Rates, &r.Errors, &r.Stopped, &text, &at, &since, &well)
		if err == nil && text != nil {
			r.Trouble = &Trouble{Error: *text, At: *at, Since: *since, WellSince: well}
		}
		return r, err
	})
}
