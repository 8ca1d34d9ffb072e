package operation

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	accepted *prometheus.CounterVec
	issued   prometheus.Counter
	chunk    prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	return &metrics{
		accepted: f.NewCounterVec(prometheus.CounterOpts{
			Name: "handover_operations_accepted_total", Help: "Operations accepted, by kind.",
		}, []string{"kind"}),
		issued: f.NewCounter(prometheus.CounterOpts{
			Name: "handover_operation_changes_issued_total", Help: "Role changes that the expansion of operations has issued.",
		}),
		chunk: f.NewHistogram(prometheus.HistogramOpts{
			Name: "handover_operation_chunk_seconds", Help: "Time to expand one chunk of an operation.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 11),
		}),
	}
}
