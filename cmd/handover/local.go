package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"

	"handover.io/cmd/handover/internal/demo"
	"handover.io/internal/bus"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
	"handover.io/internal/service"
)

// localToken is the name of the token that a run makes for the commands on its machine.
const localToken = "local run"

func (p *process) mailDir() string { return filepath.Join(p.config.DataDir, "mail") }

// startLocal takes the data directory and starts the servers that the configuration doesn't name, both at once.
func (p *process) startLocal(ctx context.Context) (*bus.Server, error) {
	release, err := service.Lock(ctx, p.config.DataDir)
	if err != nil {
		return nil, err
	}
	p.service.OnStop("data directory", func(context.Context) error { return release() })
	var database *postgres.Server
	var broker *bus.Server
	databaseStarted := make(chan error, 1)
	go func() {
		var err error
		if p.databaseURL == "" {
			database, err = p.startPostgres(ctx)
		}
		databaseStarted <- err
	}()
	if p.natsURL == "" {
		broker, err = bus.StartServer(bus.ServerOptions{
			Dir: filepath.Join(p.config.DataDir, "nats"), Addr: p.config.NATSAddr, Logger: p.log, SyncAlways: true,
		})
		if err != nil {
			err = fmt.Errorf("%w (HANDOVER_NATS_ADDR says where it listens)", err)
		}
	}
	err = errors.Join(err, <-databaseStarted)
	if database != nil {
		p.databaseURL = database.URL()
		p.service.Go("postgres", func(ctx context.Context) (err error) {
			database, err = p.keepPostgres(ctx, database)
			return err
		})
	}
	if broker != nil {
		p.natsURL = broker.URL()
		p.onStop("broker", broker.Close)
	}
	return broker, err
}

func (p *process) postgresOptions() postgres.ServerOptions {
	return postgres.ServerOptions{Dir: filepath.Join(p.config.DataDir, "postgres"), Logger: p.log}
}

func (p *process) startPostgres(ctx context.Context) (*postgres.Server, error) {
	o := p.postgresOptions()
	if _, err := os.Lstat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		p.log.Info("first start: making a private PostgreSQL and a demo company, which takes a few seconds")
	}
	if err := besideRoot(o.Dir); err != nil {
		return nil, err
	}
	return postgres.StartServer(ctx, o)
}

// keepPostgres stops the server when ctx is done. One that ends by itself is started again where it was, since everybody
// knows its address; it returns the one that runs then.
func (p *process) keepPostgres(ctx context.Context, server *postgres.Server) (*postgres.Server, error) {
	select {
	case <-ctx.Done():
		if err := server.Stop(context.WithoutCancel(ctx)); err != nil {
			p.log.Error("not stopped cleanly", zap.String("part", "postgres"), zap.Error(err))
		}
		return server, nil
	case <-server.Done():
	}
	// It is gone; this gives its directory free.
	_ = server.Stop(ctx)
	o := p.postgresOptions()
	at, err := url.Parse(server.URL())
	if err == nil {
		o.Port, err = strconv.Atoi(at.Port())
	}
	if err != nil {
		return server, err
	}
	again, err := postgres.StartServer(ctx, o)
	if err != nil {
		return server, err
	}
	return again, errors.New("it ended by itself and was started again; postgres/log.1 in the data directory says why")
}

// besideRoot puts the database of a run by root where its user can get at it, when the data directory is in a place where
// only root can, such as root's home: PostgreSQL refuses to run as root. A link stands in the data directory.
func besideRoot(dir string) error {
	if os.Geteuid() != 0 || openToAll(filepath.Dir(dir)) {
		return nil
	}
	if _, err := os.Lstat(dir); err == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(dir))
	elsewhere := filepath.Join("/var/lib/handover", hex.EncodeToString(sum[:6]))
	if err := os.MkdirAll(elsewhere, 0o711); err != nil {
		return err
	}
	return os.Symlink(elsewhere, dir)
}

func openToAll(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}

// makeDemo fills a private database with the demo company, unless that was done before. The token of the local run is
// made after it, so a company without one is unfinished, and is made again over what is there.
func (p *process) makeDemo(ctx context.Context) error {
	began := time.Now()
	tokens, err := p.localTokens(ctx)
	if err != nil && !errors.Is(err, roster.ErrNotFound) || len(tokens) > 0 {
		return err
	}
	if err := p.roster.EnsureTenant(ctx, demo.Tenant); err != nil {
		return err
	}
	if _, err := p.roster.SetPolicy(ctx, demo.Tenant, demo.Administrator, demo.Policy, false); err != nil {
		return err
	}
	company := demo.Make(began)
	if err := errors.Join(
		taken(p.roster.SyncUsers(ctx, demo.Tenant, demo.Administrator, company.Users, false)),
		taken(p.roster.SyncAccounts(ctx, demo.Tenant, demo.Administrator, company.Accounts, false)),
		taken(p.roster.SyncTasks(ctx, demo.Tenant, demo.Administrator, company.Tasks, false)),
	); err != nil {
		return err
	}
	p.logged("demo company made", began)
	return nil
}

// taken is an error when a row was refused: a demo company with holes would be a mistake of ours.
func taken(results []roster.RowResult, err error) error {
	if err != nil {
		return err
	}
	for _, r := range results {
		if r.Problem != nil {
			return fmt.Errorf("%s: %w", r.ID, r.Problem)
		}
	}
	return nil
}

func (p *process) localTokens(ctx context.Context) ([]roster.Token, error) {
	all, err := p.roster.ListTokens(ctx, demo.Tenant, roster.PageQuery{Limit: roster.MaxLimit})
	return slices.DeleteFunc(all.Items, func(t roster.Token) bool { return t.Name != localToken }), err
}

// ensureToken takes the token of the run before while it is good, else makes one and revokes those before it.
func (p *process) ensureToken(ctx context.Context) (string, error) {
	if before, err := service.ReadRunFile(p.config.DataDir); err == nil {
		who, err := p.roster.Authenticate(ctx, before.Token)
		if err == nil && who.TenantID == demo.Tenant && slices.Contains(who.Rights, roster.RightAdmin) {
			return before.Token, nil
		}
	}
	old, err := p.localTokens(ctx)
	if err != nil {
		return "", err
	}
	for _, t := range old {
		if t.RevokedAt == nil {
			if err := p.roster.RevokeToken(ctx, demo.Tenant, t.ID); err != nil {
				return "", err
			}
		}
	}
	_, token, err := p.roster.CreateToken(ctx, demo.Tenant, demo.Administrator, localToken, []string{roster.RightAdmin})
	return token, err
}
