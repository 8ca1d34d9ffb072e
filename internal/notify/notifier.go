package notify

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	netmail "net/mail"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// DefaultWindow is how long moves to one person on one account are gathered into one mail: what the product promises.
const DefaultWindow = 15 * time.Minute

const (
	defaultFrom = "Handover <handover@localhost>"
	// pollEvery bounds how late a window is closed and a due mail noticed.
	pollEvery = time.Second
	// rounds is how many RunOnce are under way: while one claims, or waits for its last mails, the other sends.
	rounds = 2
	// gaugesEvery is how often the gauges are counted afresh.
	gaugesEvery = 15 * time.Second
)

// Config is what a Notifier needs. The zero value takes moves in and answers questions, but sends nothing.
type Config struct {
	Window  time.Duration // length of a window; 0 means DefaultWindow
	BaseURL string        // of the console, for links; empty: no links but the tasks' own
	From    string        // sender, "Name <address>"; empty means "Handover <handover@localhost>"
	Sender  Sender        // the channel; without one RunOnce fails
	// Secret keys the digests in Message-ID and References, so that ids can't be guessed. Empty: a random one, with which
	// mails of one account no longer form one thread after a restart.
	Secret []byte
	// Unsubscribe, if set, is the https or mailto URL by which a person switches these mails off.
	Unsubscribe func(tenant, user string) string
	Logger      *zap.Logger
	Registerer  prometheus.Registerer
}

// Notifier takes moves in and sends mails. Its methods are safe for concurrent use, by any number of processes.
type Notifier struct {
	pool    *pgxpool.Pool
	window  time.Duration
	sender  Sender
	writer  writer
	log     *zap.Logger
	metrics *metrics
	channel channel
	onHold  atomic.Bool // as the last claim found it
	woken   chan struct{}

	begins   together[claim, begun]
	outcomes together[outcome, recorded]
}

// New panics when c.From is not an address: check it with [CheckFrom] where configuration is read.
func New(pool *pgxpool.Pool, c Config) *Notifier {
	if c.From == "" {
		c.From = defaultFrom
	}
	from, err := netmail.ParseAddress(c.From)
	if err != nil {
		panic("notify: Config.From: " + err.Error())
	}
	if c.Window <= 0 {
		c.Window = DefaultWindow
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if len(c.Secret) == 0 {
		c.Secret = []byte(rand.Text())
	}
	n := &Notifier{
		pool: pool, window: c.Window, sender: c.Sender, log: c.Logger, metrics: newMetrics(c.Registerer),
		writer: writer{
			from: *from, baseURL: strings.TrimRight(c.BaseURL, "/"), secret: c.Secret, unsubscribe: c.Unsubscribe,
		},
		woken: make(chan struct{}, 1),
	}
	n.begins.run, n.begins.atOnce = n.beginAll, 1
	n.outcomes.run, n.outcomes.atOnce = n.recordAll, 1
	return n
}

// CheckFrom says what is wrong with a sender address, for whoever reads the configuration.
func CheckFrom(from string) error {
	if _, err := netmail.ParseAddress(from); err != nil {
		return fmt.Errorf("%q is not a sender such as Handover <handover@example.com>: %w", from, err)
	}
	return nil
}

// Run closes windows and sends mails until ctx ends; then it returns nil, after the mails under way have ended (within
// ten seconds). A failing database or channel doesn't end it.
func (n *Notifier) Run(ctx context.Context) error {
	if n.sender == nil {
		return errNoSender
	}
	if closer, ok := n.sender.(io.Closer); ok {
		defer closer.Close()
	}
	var all sync.WaitGroup
	for range rounds {
		all.Go(func() { n.send(ctx) })
	}
	tick := time.NewTicker(gaugesEvery)
	defer tick.Stop()
	for n.gauge(ctx); ; n.gauge(ctx) {
		select {
		case <-ctx.Done():
			all.Wait()
			return nil
		case <-tick.C:
		}
	}
}

// send does one RunOnce after the other.
func (n *Notifier) send(ctx context.Context) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		sent, err := n.RunOnce(ctx)
		if err != nil && ctx.Err() == nil {
			n.log.Error("notices not sent", zap.Error(err))
		}
		if sent > 0 && err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		case <-n.woken:
		}
	}
}

// wake makes Run look at once instead of at its next tick.
func (n *Notifier) wake() {
	select {
	case n.woken <- struct{}{}:
	default:
	}
}

func (n *Notifier) gauge(ctx context.Context) {
	c, err := n.Counts(ctx)
	if err != nil {
		return // the next RunOnce will say so
	}
	n.metrics.windows.WithLabelValues("open").Set(float64(c.Open))
	n.metrics.windows.WithLabelValues("due").Set(float64(c.Due))
	n.metrics.windows.WithLabelValues("ambiguous").Set(float64(c.Ambiguous))
	if hold, err := n.Held(ctx); err == nil && hold == nil {
		n.metrics.held.Set(0)
	} else if err == nil {
		n.metrics.held.Set(1)
	}
}

var errNoSender = errors.New("notify: no Sender is configured")
