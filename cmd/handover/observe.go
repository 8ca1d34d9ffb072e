package main

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"handover.io/cmd/handover/internal/parts"
	"handover.io/cmd/handover/internal/standing"
	"handover.io/pkg/event"
)

// publish puts messages on their streams, and counts them.
func (p *process) publish(ctx context.Context, messages []event.Message) ([]event.Stored, error) {
	stored, err := p.bus.Publish(ctx, messages)
	for rest := stored; len(rest) > 0; {
		stream, n := rest[0].Stream, 0
		for n < len(rest) && rest[n].Stream == stream {
			n++
		}
		if stream != "" {
			p.published.WithLabelValues(stream).Add(float64(n))
		}
		rest = rest[n:]
	}
	return stored, err
}

// reporter tells the database, and so every handover status, what runs here and how it is.
func (p *process) reporter() *parts.Reporter {
	return parts.NewReporter(p.pool, p.health, parts.Config{
		Parts: p.running, Counters: p.registry, Version: version(), Logger: p.log,
	})
}

// running are the parts by the names that an operator knows.
func (p *process) running() []string {
	all := slices.DeleteFunc(p.service.Parts(), func(name string) bool { return name == "reports" })
	if p.has("api") {
		all = append(all, "api")
	}
	return all
}

// standing has the metrics of the whole installation, whichever process is asked. They stand apart from those of this
// process, since they cost questions to the database and the broker.
func (p *process) standing() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(standing.NewCollector(func(ctx context.Context) standing.Standing {
		return standing.Read(ctx, p.pool, p.bus.Status)
	}))
	return r
}
