package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"handover.io/internal/roster"
)

// request is what is known of the request under way, for its log line. One goroutine writes it.
type request struct {
	id     string
	header http.Header
	who    roster.Identity
	err    error // the cause, where the answer doesn't tell it
}

type requestKey struct{}

func requestOf(ctx context.Context) *request {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r
	}
	return &request{}
}

type metrics struct {
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) metrics {
	return metrics{seconds: promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
		Name:    "handover_http_request_seconds",
		Help:    "How long requests took, by route and status; streams until they ended.",
		Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
	}, []string{"route", "status"})}
}

// observe is the outermost part of the chain: whatever happens inside, the request has an id, an answer, one log line
// and one metric.
func (s *server) observe(next http.Handler) http.Handler {
	tracer := otel.Tracer("handover.io/internal/web")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		req := &request{id: requestID(r), header: r.Header}
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := tracer.Start(ctx, "HTTP "+r.Method, trace.WithSpanKind(trace.SpanKindServer))
		r = r.WithContext(context.WithValue(ctx, requestKey{}, req))
		out := &response{ResponseWriter: w}
		secure(out.Header(), req.id)
		defer func() {
			aborted := s.recovered(recover(), out, r, req)
			route := r.Pattern
			if route == "" {
				route = "unmatched"
			}
			span.SetName(route)
			span.SetAttributes(attribute.Int("http.response.status_code", out.status), attribute.String("http.route", route))
			span.End()
			took := time.Since(start)
			s.metrics.seconds.WithLabelValues(route, strconv.Itoa(out.status)).Observe(took.Seconds())
			s.logRequest(r, route, req, out, took)
			if aborted {
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(out, r)
	})
}

// recovered answers a panic, and tells whether the connection must be cut because the answer had begun.
func (s *server) recovered(p any, out *response, r *http.Request, req *request) bool {
	if p == nil {
		if out.status == 0 {
			out.status = http.StatusOK
		}
		return false
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return true
	}
	req.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
	if out.status != 0 {
		return true
	}
	writeProblem(out, r, problem(req.err, within("body")))
	return false
}

func (s *server) logRequest(r *http.Request, route string, req *request, out *response, took time.Duration) {
	// Probes come every few seconds, and say nothing while all is well.
	probe := strings.HasSuffix(route, " /livez") || strings.HasSuffix(route, " /readyz") || strings.HasSuffix(route, " /metrics")
	if probe && out.status < 400 {
		return
	}
	fields := []zap.Field{
		zap.String("part", "api"), zap.String("method", r.Method), zap.String("route", route), zap.String("path", r.URL.Path),
		zap.Int("status", out.status), zap.Duration("took", took), zap.Int64("bytes", out.bytes), zap.String("request_id", req.id),
		zap.String("tenant_id", req.who.TenantID), zap.String("user_id", req.who.UserID),
	}
	if sc := trace.SpanContextFromContext(r.Context()); sc.IsValid() {
		fields = append(fields, zap.String("trace_id", sc.TraceID().String()))
	}
	if req.err != nil {
		fields = append(fields, zap.Error(req.err))
	}
	// Not being ready is an answer, not an error of ours: starting up is the usual cause, and the check logs its own.
	if out.status >= 500 && !(probe && out.status == http.StatusServiceUnavailable) {
		s.log.Error("request", fields...)
		return
	}
	s.log.Info("request", fields...)
}

var goodRequestID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// requestID is the caller's own where it is fit for a log, so that both sides can speak of one request.
func requestID(r *http.Request) string {
	if id := r.Header.Get("X-Request-Id"); goodRequestID.MatchString(id) {
		return id
	}
	return uuid.Must(uuid.NewV7()).String()
}

func secure(h http.Header, id string) {
	h.Set("X-Request-Id", id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
}

// response counts what is written, and remembers the status.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
