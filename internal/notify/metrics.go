package notify

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	finished *prometheus.CounterVec // outcome: the state a window ended in
	attempts *prometheus.CounterVec // outcome of a try
	lag      prometheus.Histogram
	moves    *prometheus.CounterVec // outcome: told, repeated, own, silent, refused
	windows  *prometheus.GaugeVec   // state: open, due, ambiguous
	paused   prometheus.Gauge
	held     prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer) *metrics {
	with := promauto.With(reg)
	return &metrics{
		finished: with.NewCounterVec(prometheus.CounterOpts{
			Name: "handover_notices_total", Help: "Notice windows finished, by outcome.",
		}, []string{"outcome"}),
		attempts: with.NewCounterVec(prometheus.CounterOpts{
			Name: "handover_notice_attempts_total", Help: "Tries to send a mail, by outcome.",
		}, []string{"outcome"}),
		lag: with.NewHistogram(prometheus.HistogramOpts{
			Name: "handover_notice_lag_seconds", Help: "From the close of a window to its mail being accepted.",
			Buckets: []float64{.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 24 * 3600},
		}),
		moves: with.NewCounterVec(prometheus.CounterOpts{
			Name: "handover_notice_moves_total", Help: "Moves of tasks taken in, by what became of them.",
		}, []string{"outcome"}),
		windows: with.NewGaugeVec(prometheus.GaugeOpts{
			Name: "handover_notices_open", Help: "Notice windows that are not finished, or ambiguous, by state.",
		}, []string{"state"}),
		held: with.NewGauge(prometheus.GaugeOpts{
			Name: "handover_notices_on_hold", Help: "1 while no mail goes out because mails were put on hold.",
		}),
		paused: with.NewGauge(prometheus.GaugeOpts{
			Name: "handover_notices_channel_paused", Help: "1 while sending pauses because the mail channel is out of order.",
		}),
	}
}
