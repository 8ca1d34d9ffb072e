package postgres

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"

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

// Migrate brings the schema up to date, each migration in its own transaction. Others who migrate the same database at
// the same time wait for it, up to five minutes. A schema that is newer than this program is left as it is.
func Migrate(ctx context.Context, url string) error {
	return withProvider(url, func(p *goose.Provider) error {
		_, err := p.Up(ctx)
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			return fmt.Errorf("migration %s: %w", partial.Failed.Source.Path, partial.Err)
		}
		return err
	})
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
