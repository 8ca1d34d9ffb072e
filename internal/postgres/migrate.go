package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var embedded embed.FS

// Migrations are the files that make the schema, in order of their names.
func Migrations() fs.FS {
	files, err := fs.Sub(embedded, "migrations")
	if err != nil {
		panic(err) // the name is a constant
	}
	return files
}

// Older and newer programs run side by side while an installation is upgraded. So a migration only ever adds: what the
// program of before reads and writes stays as that knows it, and a later migration, once nobody runs that any more, may take
// away what isn't used.

const (
	// lockTimeout is how long a migration waits for a table that somebody works on: whoever comes after it waits behind it.
	lockTimeout = "2s"
	// migrateFor is how long it tries again and again.
	migrateFor = 5 * time.Minute
)

// Migrate brings the schema up to date, each migration in its own transaction, while others go on working: it gives way to
// those who hold a table for long, and tries again for five minutes. Others who migrate the same database at the same time
// wait for it as long. A schema that is newer than this program is left as it is ([Newer]).
func Migrate(ctx context.Context, url string) error {
	return withProvider(url, func(p *goose.Provider) error {
		for began := time.Now(); ; {
			_, err := p.Up(ctx)
			if givesWay := Retryable(err) || sqlState(err) == "55P03"; givesWay && time.Since(began) < migrateFor {
				select {
				case <-ctx.Done():
				case <-time.After(time.Second):
					continue
				}
			}
			var partial *goose.PartialError
			if errors.As(err, &partial) {
				return fmt.Errorf("migration %s: %w", partial.Failed.Source.Path, partial.Err)
			}
			return err
		}
	})
}

// Newer is by how many migrations the database is ahead of this program; 0 when it isn't. A program goes on with the schema
// of the next one; what it doesn't know it leaves alone.
func Newer(ctx context.Context, url string) (int, error) {
	newer := 0
	err := withProvider(url, func(p *goose.Provider) error {
		has, err := p.GetDBVersion(ctx)
		knows := int64(0)
		for _, s := range p.ListSources() {
			knows = max(knows, s.Version)
		}
		newer = max(0, int(has-knows))
		return err
	})
	return newer, err
}

// Pending is how many migrations the database still lacks.
func Pending(ctx context.Context, url string) (int, error) {
	pending := 0
	err := withProvider(url, func(p *goose.Provider) error {
		status, err := p.Status(ctx)
		for _, s := range status {
			if s.State == goose.StatePending {
				pending++
			}
		}
		return err
	})
	return pending, err
}

func withProvider(url string, do func(*goose.Provider) error) (err error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return fmt.Errorf("database url: %w", err)
	}
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["application_name"] = applicationName + " migrate"
	config.RuntimeParams["lock_timeout"] = lockTimeout
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	// Every second, 300 times: whoever waits here waits for another process to do the same work.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, Migrations(), goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return fmt.Errorf("migrations: %w", err)
	}
	return do(p)
}
