package main

import (
	"context"
	"os/user"

	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/cmd/handover/internal/target"
	"handover.io/internal/bus"
	"handover.io/internal/postgres"
)

// servers are what a command for operators works on.
type servers struct {
	target.Target
	pool *pgxpool.Pool
	bus  *bus.Bus // nil unless the command needs the broker
}

// open connects a command to the database, and to the broker when it needs that too. Close it when done.
func (a *app) open(ctx context.Context, name string, broker bool) (*servers, error) {
	needs := []func(target.Target) error{target.Target.NeedDatabase}
	if broker {
		needs = append(needs, target.Target.NeedBroker)
	}
	t, err := a.find(needs...)
	if err != nil {
		return nil, err
	}
	s := &servers{Target: t}
	if s.pool, err = postgres.Open(ctx, t.DatabaseURL, postgres.Options{MaxConns: 4}); err != nil {
		return nil, err
	}
	if broker {
		if s.bus, err = bus.Connect(ctx, bus.Options{URL: t.NATSURL, Name: "handover " + name}); err != nil {
			s.pool.Close()
			return nil, err
		}
	}
	return s, nil
}

func (s *servers) close() {
	if s.bus != nil {
		s.bus.Close()
	}
	s.pool.Close()
}

// operator is who gives a command, for the record: the user of this machine, unless as says otherwise.
func operator(as string) string {
	if as != "" {
		return as
	}
	if u, err := user.Current(); err == nil && u.Username != "" {
		return u.Username
	}
	return "unknown"
}
