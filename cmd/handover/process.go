package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"handover.io/cmd/handover/internal/parts"
	"handover.io/internal/bus"
	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/internal/operation"
	"handover.io/internal/postgres"
	"handover.io/internal/reassign"
	"handover.io/internal/roster"
	"handover.io/internal/service"
	"handover.io/internal/web"
	"handover.io/pkg/event"
)

const (
	// The pools together stay well below PostgreSQL's default of 100 connections, also with a few processes.
	poolConns = 16
	// writerConns are for two batches of the live lane, each in two halves, and one of bulk work; with one to spare.
	writerConns = 6
	// notifierConns are for two intakes, two claims, mails that begin and mails that have ended, and the gauges.
	notifierConns = 7
	// retryEvery is how often a database or broker that is away is looked for at the start.
	retryEvery = time.Second
)

// process is a run: what its parts share, in the order in which it is made.
type process struct {
	config  service.Config
	only    []string // parts; empty: all
	log     *zap.Logger
	health  *parts.Watch // hears the log
	service *service.Service

	databaseURL string
	natsURL     string

	registry  *prometheus.Registry
	pool      *pgxpool.Pool
	bus       *bus.Bus
	relay     *journal.Relay
	published *prometheus.CounterVec
	roster    *roster.Roster
	prepared  atomic.Bool
	url       string // of the API
	apiEnded  chan error
}

// parts are those that run here.
func (p *process) parts() []string {
	return slices.DeleteFunc(slices.Clone(allParts), func(part string) bool { return !p.has(part) })
}

func (p *process) has(part string) bool { return len(p.only) == 0 || slices.Contains(p.only, part) }

// local is a run of everything on its own database: it has the demo company, and a run file.
func (p *process) local() bool { return len(p.only) == 0 && p.config.DatabaseURL == "" }

// start starts everything. What was started before an error is stopped by the service.
func (p *process) start(ctx context.Context) error {
	stopTraces, err := service.Traces(ctx, p.config, version())
	if err != nil {
		return err
	}
	p.service.OnStop("traces", stopTraces)
	p.registry = service.Metrics()
	p.registry.MustRegister(p.health)
	p.databaseURL, p.natsURL = p.config.DatabaseURL, p.config.NATSURL
	var broker *bus.Server
	if len(p.only) == 0 {
		if broker, err = p.startLocal(ctx); err != nil {
			return err
		}
	}
	if err := p.connect(ctx, broker); err != nil {
		return err
	}
	p.service.Go("reports", p.reporter().Run)
	operations := operation.New(p.pool, p.relay.Offer, p.log, p.registry)
	if p.has("api") || p.config.HTTPAddr != service.DefaultHTTPAddr {
		// First, so that probes see a service that waits for its database.
		if err := p.serve(operations); err != nil {
			return err
		}
	}
	if err := p.prepare(ctx); err != nil {
		return err
	}
	if err := p.watchStreams(ctx); err != nil {
		return err
	}
	if p.local() {
		if err := p.makeDemo(ctx); err != nil {
			return fmt.Errorf("demo company: %w", err)
		}
	}
	if p.has("notifier") {
		if err := p.notify(ctx); err != nil {
			return err
		}
	}
	return p.move(ctx, operations)
}

// move starts what moves tasks: the relay, the expander, and the reassigner. The bench measures exactly this.
func (p *process) move(ctx context.Context, operations *operation.Operations) error {
	if p.has("api") || p.has("relay") || p.has("reassigner") {
		p.service.Go("relay", p.relay.Run)
	}
	if p.has("api") {
		p.service.Go("expander", operations.Run)
	}
	if p.has("reassigner") {
		return p.reassign(ctx)
	}
	return nil
}

// connect makes the pool and the connection to the broker. Neither waits for its server.
func (p *process) connect(ctx context.Context, broker *bus.Server) (err error) {
	if p.pool, err = postgres.Open(ctx, p.databaseURL, postgres.Options{MaxConns: poolConns, Tracer: p.tracer()}); err != nil {
		return err
	}
	p.onStop("database connections", p.pool.Close)
	options := bus.Options{URL: p.natsURL, Name: "handover", Logger: p.log, InProcess: broker}
	if broker != nil {
		options.URL = ""
	}
	if p.bus, err = bus.Connect(ctx, options); err != nil {
		return err
	}
	p.onStop("broker connection", p.bus.Close)
	p.published = promauto.With(p.registry).NewCounterVec(prometheus.CounterOpts{
		Name: "handover_published_total", Help: "Messages that this process has put on a stream.",
	}, []string{"stream"})
	p.relay = journal.NewRelay(p.pool, p.publish, p.log)
	p.roster = roster.New(p.pool, p.relay.Offer)
	return nil
}

func (p *process) onStop(name string, stop func()) {
	p.service.OnStop(name, func(context.Context) error { stop(); return nil })
}

// tracer sees every statement, where somebody looks at traces.
func (p *process) tracer() pgx.QueryTracer {
	if p.config.TraceURL == "" {
		return nil
	}
	return otelpgx.NewTracer()
}

// prepare waits for the database and the broker, and makes the schema and the streams.
func (p *process) prepare(ctx context.Context) error {
	steps := []struct {
		name string
		do   func(context.Context) error
	}{
		{"schema", p.ensureSchema},
		{"streams", func(ctx context.Context) error {
			return p.bus.EnsureStreams(ctx, bus.Limits{Replicas: p.config.NATSReplicas})
		}},
	}
	for _, step := range steps {
		began := time.Now()
		for {
			err := step.do(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if p.local() {
				return fmt.Errorf("%s: %w", step.name, err) // it is our own server: waiting mends nothing
			}
			p.log.Warn("not ready yet; trying again", zap.String("part", "start"), zap.String("step", step.name), zap.Error(err))
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(retryEvery):
			}
		}
		p.logged(step.name+" up to date", began)
	}
	p.prepared.Store(true)
	return nil
}

// ensureSchema migrates where this process is all there is; where parts run apart, that is the operator's step.
// Either goes on with a schema that is newer: then it is the older program of an upgrade that is under way.
func (p *process) ensureSchema(ctx context.Context) error {
	newer, err := postgres.Newer(ctx, p.databaseURL)
	if err != nil {
		return err
	}
	if newer > 0 {
		p.log.Warn("the database is newer than this program, which goes on with it: upgrade the program too, before the next migration",
			zap.String("part", "start"), zap.Int("migrations", newer))
	}
	if len(p.only) == 0 {
		return postgres.Migrate(ctx, p.databaseURL)
	}
	pending, err := postgres.Pending(ctx, p.databaseURL)
	if err == nil && pending > 0 {
		err = fmt.Errorf("the database lacks %d migrations: give handover migrate", pending)
	}
	return err
}

// notify starts the intake of moves and the sending of mails.
func (p *process) notify(ctx context.Context) error {
	sender, err := p.sender()
	if err != nil {
		return err
	}
	secret := []byte(p.config.Secret)
	if len(secret) == 0 {
		if secret, err = service.KeptSecret(p.config.DataDir); err != nil {
			return fmt.Errorf("secret: %w", err)
		}
	}
	pool, err := postgres.Open(ctx, p.databaseURL, postgres.Options{MaxConns: notifierConns, Writer: true, Tracer: p.tracer()})
	if err != nil {
		return err
	}
	p.onStop("notifier's connections", pool.Close)
	n := notify.New(pool, notify.Config{
		Window: p.config.NoticeWindow, BaseURL: p.config.BaseURL, From: p.config.MailFrom, Secret: secret, Sender: sender,
		Logger: p.log.With(zap.String("part", "sender")), Registerer: p.registry,
	})
	p.service.Go("sender", n.Run)
	p.consume(bus.Consumer{Stream: event.StreamTaskReassignments, Durable: event.ConsumerNotifier, Batch: 512, Workers: 2}, n.Handle)
	return nil
}

// sender is the mail server, or without one the directory of mails.
func (p *process) sender() (notify.Sender, error) {
	if p.config.SMTPURL == "" {
		return notify.NewFiles(p.mailDir())
	}
	smtp, err := notify.ParseSMTPURL(p.config.SMTPURL)
	if err != nil {
		return nil, err
	}
	return notify.NewSMTP(smtp), nil
}

// reassign starts both lanes: a person's single change never queues behind bulk work.
func (p *process) reassign(ctx context.Context) error {
	pool, err := postgres.Open(ctx, p.databaseURL, postgres.Options{MaxConns: writerConns, Writer: true, Tracer: p.tracer()})
	if err != nil {
		return err
	}
	p.onStop("reassigner's connections", pool.Close)
	for _, lane := range []bus.Consumer{
		{Durable: event.ConsumerReassigner, Filter: event.SubjectRoleChanged("*"), Batch: 2048, Workers: 2},
		{Durable: event.ConsumerReassignerBulk, Filter: event.SubjectRoleBulk("*"), Batch: 128, Workers: 1},
	} {
		lane.Stream = event.StreamRoleChanges
		r := reassign.New(pool, reassign.Config{Consumer: lane.Durable, Offer: p.relay.Offer, Logger: p.log, Registerer: p.registry})
		p.consume(lane, r.Handle)
	}
	return nil
}

func (p *process) consume(c bus.Consumer, handle func(context.Context, []event.Message) error) {
	p.service.Go(c.Durable, func(ctx context.Context) error { return p.bus.Consume(ctx, c, handle) })
}

// serve starts the HTTP server: the API, or in a process without it what probes and Prometheus ask for.
func (p *process) serve(operations *operation.Operations) error {
	newHandler := web.Probes
	shown := prometheus.Gatherers{p.registry}
	if p.has("api") {
		newHandler = web.New
		shown = append(shown, p.standing())
	}
	handler := newHandler(web.Config{
		Roster: p.roster, Operations: operations, Notices: notify.New(p.pool, notify.Config{}), Pool: p.pool, Events: p.accept,
		Ready: map[string]func(context.Context) error{
			"database": p.pool.Ping,
			"broker": func(context.Context) error {
				if !p.bus.Connected() {
					return bus.ErrDisconnected
				}
				return nil
			},
			"schema and streams": func(context.Context) error {
				if !p.prepared.Load() {
					return errors.New("not made yet")
				}
				return nil
			},
		},
		Registry: p.registry, Metrics: shown, Logger: p.log, Version: version(),
	})
	listener, err := net.Listen("tcp", p.config.HTTPAddr)
	if err != nil {
		return fmt.Errorf("%w; choose another address with HANDOVER_HTTP_ADDR", err)
	}
	p.url = "http://" + reachable(listener.Addr())
	server := web.Server(p.config.HTTPAddr, handler)
	p.apiEnded = make(chan error, 1)
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			p.apiEnded <- fmt.Errorf("api: %w", err)
		}
	}()
	p.service.OnStop("api", server.Shutdown)
	return nil
}

// accept is for events that arrive by HTTP: they are accepted when the outbox has them all, with the broker or without it,
// and whatever becomes of its streams.
func (p *process) accept(ctx context.Context, messages []event.Message) error {
	entries := make([]journal.Entry, len(messages))
	for i, m := range messages {
		entries[i] = journal.Entry{Stream: event.StreamRoleChanges, Message: m}
	}
	err := postgres.InTx(ctx, p.pool, func(ctx context.Context, tx pgx.Tx) error { return journal.Accept(ctx, tx, entries) })
	if err == nil {
		p.relay.Offer(entries)
	}
	return err
}

// reachable is how a program on this machine reaches a listener.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if ip := net.ParseIP(host); err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
