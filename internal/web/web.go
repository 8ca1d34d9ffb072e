package web

import (
	"context"
	"net"
	"net/http"
	"path"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"handover.io/internal/notify"
	"handover.io/internal/operation"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Config is what the API is joined to.
type Config struct {
	Roster     *roster.Roster
	Operations *operation.Operations
	Notices    *notify.Notifier
	// Pool is for the idempotency keys alone.
	Pool *pgxpool.Pool
	// Events takes role changes to be published, all or none, and returns when they are safe.
	Events func(ctx context.Context, messages []event.Message) error
	// Ready are the checks of /readyz, by the name of what they check.
	Ready    map[string]func(ctx context.Context) error
	Registry *prometheus.Registry
	// Metrics are what /metrics shows; by default those of Registry.
	Metrics prometheus.Gatherer
	Logger  *zap.Logger
	Version string
}

type server struct {
	Config
	log     *zap.Logger
	metrics metrics
	settled atomic.Uint64 // requests with an idempotency key
	mux     *http.ServeMux
	api     huma.API
}

// New returns the handler of the whole API. It serves requests until the server around it ends them; see [Server].
func New(cfg Config) http.Handler {
	s := &server{Config: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registry), mux: http.NewServeMux()}
	s.api = humago.New(s.mux, document())
	s.users()
	s.accounts()
	s.tasks()
	s.policy()
	s.operations()
	s.progress()
	s.events()
	s.notices()
	s.notifications()
	s.health()
	s.serveDocument()
	return s.observe(s.unmatched(s.mux))
}

// Probes returns the handler of a process without the API: /livez, /readyz and /metrics alone.
func Probes(cfg Config) http.Handler {
	s := &server{Config: cfg, log: cfg.Logger, metrics: newMetrics(cfg.Registry), mux: http.NewServeMux()}
	s.health()
	return s.observe(s.unmatched(s.mux))
}

// unmatched answers what the mux has no route for: as a problem, and without its redirects, which would send a PUT whose
// id is empty to another resource.
func (s *server) unmatched(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p := r.URL.EscapedPath(); p != "/" && path.Clean(p) != p {
			writeProblem(w, r, newProblem(http.StatusNotFound, "There is nothing at this path: it has an empty or dot segment, or a slash at its end. Percent-encode ids."))
			return
		}
		handler, pattern := mux.Handler(r)
		if pattern != "" {
			mux.ServeHTTP(w, r)
			return
		}
		answer := &recorder{ResponseWriter: unsent{}}
		handler.ServeHTTP(answer, r)
		if answer.status == http.StatusMethodNotAllowed {
			allow := answer.Header().Get("Allow")
			writeProblem(w, r, newProblem(http.StatusMethodNotAllowed, "This path takes "+allow+".").with("Allow", allow))
			return
		}
		writeProblem(w, r, newProblem(http.StatusNotFound, "There is nothing at this path. /openapi.json lists what there is."))
	})
}

// unsent is an answer that goes nowhere.
type unsent http.Header

func (u unsent) Header() http.Header         { return http.Header(u) }
func (u unsent) Write(b []byte) (int, error) { return len(b), nil }
func (u unsent) WriteHeader(int)             {}

// draining is closed when the server begins to stop, so that streams without an end know to end.
type draining struct{}

// Server is an HTTP server with the limits that the API counts on. Shutdown lets requests finish, and ends server-sent
// events, whose clients come back by themselves.
func Server(addr string, handler http.Handler) *http.Server {
	stopping := make(chan struct{})
	ctx := context.WithValue(context.Background(), draining{}, (<-chan struct{})(stopping))
	srv := &http.Server{
		Addr:    addr,
		Handler: handler,
		// Bodies and answers have no limit here: imports take as long as they take. Everything else has its own
		// (bodyTimeout, handleTimeout), and streams move their deadlines on as they go.
		ReadHeaderTimeout: 10 * time.Second,
		WriteTimeout:      2 * time.Minute,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	srv.RegisterOnShutdown(func() { close(stopping) })
	return srv
}

// stopping is closed when the server of the request stops; nil, so never, when it wasn't made by Server.
func stopping(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(draining{}).(<-chan struct{})
	return c
}
