package web

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// readyTimeout is how long a check may take; probes give up soon after.
const readyTimeout = 2 * time.Second

// health has no tenant and needs no token: what it tells is whether to send requests here, and nothing about whom.
func (s *server) health() {
	s.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok", "version": s.Version})
	})
	s.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		away := s.away(r.Context())
		if len(away) == 0 {
			writeJSON(w, http.StatusOK, map[string]any{"status": "ok", "checked": slices.Sorted(maps.Keys(s.Ready))})
			return
		}
		p := newProblem(http.StatusServiceUnavailable, "Away: "+strings.Join(away, ", ")+". The log says why.").with("Retry-After", "2")
		for _, name := range away {
			p.Errors = append(p.Errors, FieldProblem{name, "does not answer"})
		}
		writeProblem(w, r, p)
	})
	shown := s.Metrics
	if shown == nil {
		shown = s.Registry
	}
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(shown, promhttp.HandlerOpts{Registry: s.Registry}))
}

// away are the names of what doesn't answer. The causes go to the log: they name hosts and users.
func (s *server) away(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		away []string
	)
	for name, check := range s.Ready {
		wg.Go(func() {
			err := check(ctx)
			if err == nil {
				return
			}
			s.log.Warn("not ready", zap.String("part", "api"), zap.String("check", name), zap.Error(err))
			mu.Lock()
			defer mu.Unlock()
			away = append(away, name)
		})
	}
	wg.Wait()
	slices.Sort(away)
	return away
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
