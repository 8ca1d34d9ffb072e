package bench

import (
	"context"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
)

// clock measures what passes between start and stop.
type clock struct {
	conn     *pgx.Conn
	began    time.Time
	lsn      string
	service  time.Duration
	postgres time.Duration
	peakOK   bool
}

// spent is what a run cost. What this system can't tell is nil.
type spent struct {
	seconds               float64
	walBytes              int64
	serviceCPU, postgrCPU *float64
	peakRSS               *int64
}

// startClock starts a measurement. Conn must be connected to the server that is measured.
func startClock(ctx context.Context, conn *pgx.Conn) (*clock, error) {
	debug.FreeOSMemory() // what the preparation needed is no part of the peak
	c := &clock{conn: conn}
	if err := conn.QueryRow(ctx, `SELECT pg_current_wal_lsn()::text`).Scan(&c.lsn); err != nil {
		return nil, err
	}
	c.peakOK = resetPeak()
	c.postgres, _ = postgresCPU(int(conn.PgConn().PID()))
	c.service, _ = ownCPU()
	c.began = time.Now()
	return c, nil
}

func (c *clock) stop(ctx context.Context) (spent, error) {
	s := spent{seconds: time.Since(c.began).Seconds()}
	if now, ok := ownCPU(); ok {
		s.serviceCPU = new((now - c.service).Seconds())
	}
	if now, ok := postgresCPU(int(c.conn.PgConn().PID())); ok {
		s.postgrCPU = new((now - c.postgres).Seconds())
	}
	if peak, ok := peakRSS(); ok && c.peakOK {
		s.peakRSS = &peak
	}
	err := c.conn.QueryRow(ctx, `SELECT (pg_current_wal_lsn() - $1::pg_lsn)::bigint`, c.lsn).Scan(&s.walBytes)
	return s, err
}
