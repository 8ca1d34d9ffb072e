package bench

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/postgres"
)

const (
	// loadChunk is how many tasks one statement makes.
	loadChunk = 50_000
	// sayEvery is how often whoever waits is told how far it is.
	sayEvery = 2 * time.Second
)

// A template is a database that runs are copied from: the product's, or that of the limit.
type template struct {
	dataset
	limit bool
}

// templateOf is what d is copied from. A huge account is no part of it: it is added to the copy.
func templateOf(d dataset, limit bool) template {
	d.huge = 0
	return template{d, limit}
}

// name changes with everything that makes the data, so one of that name is always what it should be.
func (t template) name() string {
	h := sha256.New()
	fmt.Fprintln(h, t.dataset, t.limit, makeSeed, insertTasks, insertUsers, aroundAccounts, limitTables, insertLimitTasks)
	files := postgres.Migrations()
	names, _ := fs.Glob(files, "*.sql")
	for _, name := range names {
		text, _ := fs.ReadFile(files, name)
		h.Write(text)
	}
	kind := "bench_data_"
	if t.limit {
		kind = "bench_limit_"
	}
	return kind + hex.EncodeToString(h.Sum(nil)[:6])
}

func (s *servers) exists(ctx context.Context, name string) (found bool, err error) {
	err = s.admin(ctx, func(conn *pgx.Conn) error {
		return conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&found)
	})
	return found, err
}

// make makes the template. It gets its name last, so that one of that name is complete.
func (s *servers) make(ctx context.Context, t template, say func(string, ...any)) error {
	making := t.name() + "_making"
	if err := s.create(ctx, making, "template0"); err != nil {
		return err
	}
	if !t.limit {
		if err := postgres.Migrate(ctx, s.databaseURL(making)); err != nil {
			return err
		}
	}
	conn, err := pgx.Connect(ctx, s.databaseURL(making))
	if err != nil {
		return err
	}
	err = t.fill(ctx, conn, say)
	conn.Close(context.WithoutCancel(ctx))
	if err != nil {
		return err
	}
	return s.admin(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `ALTER DATABASE `+making+` RENAME TO `+t.name())
		return err
	})
}

func (t template) fill(ctx context.Context, conn *pgx.Conn, say func(string, ...any)) error {
	if t.limit {
		if _, err := conn.Exec(ctx, limitTables); err != nil {
			return err
		}
	} else if err := t.makeTenants(ctx, conn); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, makeSeed); err != nil {
		return err
	}
	if err := t.addAccounts(ctx, conn, 0, t.accounts, 0, t.tasks, say); err != nil {
		return err
	}
	// As a database of some age: no row needs a hint set or a page frozen at its first touch.
	say("vacuum")
	_, err := conn.Exec(ctx, `VACUUM (FREEZE, ANALYZE)`)
	return err
}

func (t template) makeTenants(ctx context.Context, conn *pgx.Conn) error {
	var tenants, policies []string
	for i := range t.tenants {
		tenants, policies = append(tenants, tenantID(i)), append(policies, string(t.policy(i)))
	}
	for _, s := range []struct {
		sql  string
		args []any
	}{
		{`INSERT INTO tenants (tenant_id) SELECT unnest($1::text[])`, []any{tenants}},
		{`INSERT INTO roles (tenant_id, role, name) SELECT unnest($1::text[]), $2, 'Success manager'`, []any{tenants, role}},
		{`INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by)
		  SELECT t, '-infinity', p, 'user-00000' FROM unnest($1::text[], $2::text[]) AS p(t, p)`, []any{tenants, policies}},
		{insertUsers, []any{tenants, t.users()}},
	} {
		if _, err := conn.Exec(ctx, s.sql, s.args...); err != nil {
			return fmt.Errorf("make tenants: %w", err)
		}
	}
	return nil
}

// addAccounts adds the accounts of these numbers and the tasks of these rows.
func (t template) addAccounts(ctx context.Context, conn *pgx.Conn, from, to, fromRow, toRow int, say func(string, ...any)) error {
	number := from - 1
	_, err := conn.CopyFrom(ctx, pgx.Identifier{"bench_accounts"}, []string{"number", "tenant_id", "account_id", "owner_id"},
		pgx.CopyFromFunc(func() ([]any, error) {
			if number++; number == to {
				return nil, nil
			}
			return []any{int64(number), tenantID(t.tenant(number)), accountID(number), userID(t.owner(number))}, nil
		}))
	if err != nil {
		return fmt.Errorf("make accounts: %w", err)
	}
	if _, err := conn.Exec(ctx, `ANALYZE bench_accounts`); err != nil {
		return err
	}
	sql := insertTasks
	if t.limit {
		sql = insertLimitTasks
	}
	said := time.Now()
	for row := fromRow; row < toRow; row += loadChunk {
		if time.Since(said) > sayEvery {
			said = time.Now()
			say("%d of %d tasks", row-fromRow, toRow-fromRow)
		}
		if _, err := conn.Exec(ctx, sql, row, min(row+loadChunk, toRow), t.accounts, t.tasks); err != nil {
			return fmt.Errorf("make tasks: %w", err)
		}
	}
	if t.limit {
		return nil
	}
	for _, sql := range aroundAccounts {
		if _, err := conn.Exec(ctx, sql, from, to); err != nil {
			return fmt.Errorf("make accounts: %w", err)
		}
	}
	return nil
}

// create makes a database as a copy of another, in place of one of that name.
func (s *servers) create(ctx context.Context, name, from string) error {
	return s.admin(ctx, func(conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`); err != nil {
			return err
		}
		var version int
		if err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
			return err
		}
		how := ""
		if version >= 150000 { // since then the default writes every page to the log
			how = " STRATEGY file_copy"
		}
		_, err := conn.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE `+from+how)
		return err
	})
}

func (s *servers) drop(ctx context.Context, name string) error {
	return s.admin(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `DROP DATABASE IF EXISTS `+name+` WITH (FORCE)`)
		return err
	})
}

// admin runs do on a connection that is in nobody's way: no template can be copied while somebody is connected to it.
func (s *servers) admin(ctx context.Context, do func(*pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.databaseURL("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return do(conn)
}

func (s *servers) databaseURL(name string) string {
	u, err := url.Parse(s.postgres.URL())
	if err != nil {
		panic(err) // it is our own server's
	}
	u.Path = "/" + name
	return u.String()
}

// warm reads the tables once, as a database that has been running for a while has.
func warm(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT quote_ident(relname) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'`)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	var all []string
	for _, table := range tables {
		all = append(all, `SELECT count(*) FROM `+table)
	}
	_, err = conn.Exec(ctx, strings.Join(all, "; "))
	return err
}
