package reassign

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"handover.io/internal/journal"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// result is what handling a batch came to.
type result struct {
	recorded, known int
	refused         []journal.DeadLetter
	folded          int // accounts folded again
	moves           []roster.Move
	entries         []journal.Entry
	took            time.Duration
}

func (r result) plus(o result) result {
	r.recorded, r.known, r.folded = r.recorded+o.recorded, r.known+o.known, r.folded+o.folded
	r.refused, r.moves, r.entries = append(r.refused, o.refused...), append(r.moves, o.moves...), append(r.entries, o.entries...)
	return r
}

func (r result) tasksMoved() int {
	n := 0
	for _, m := range r.moves {
		n += len(m.Tasks)
	}
	return n
}

// fields are the one wide line of a batch.
func (r result) fields(consumer string, messages []event.Message) []zap.Field {
	fields := []zap.Field{
		zap.String("consumer", consumer), zap.Int("changes", len(messages)), zap.Int("recorded", r.recorded), zap.Int("known", r.known),
		zap.Int("dead_letters", len(r.refused)), zap.Int("accounts_folded", r.folded), zap.Int("tasks_moved", r.tasksMoved()), zap.Duration("took", r.took),
	}
	if len(messages) == 1 {
		fields = append(fields, zap.String("tenant_id", event.TenantOf(messages[0].Subject)), zap.Uint64("stream_sequence", messages[0].Sequence))
	}
	return fields
}

type metrics struct {
	recorded, known, refused, moved prometheus.Counter
	seconds                         prometheus.Observer
}

func newMetrics(reg prometheus.Registerer, consumer string) *metrics {
	if reg != nil {
		reg = prometheus.WrapRegistererWith(prometheus.Labels{"consumer": consumer}, reg)
	}
	f := promauto.With(reg)
	changes := f.NewCounterVec(prometheus.CounterOpts{Name: "handover_changes_total", Help: "Role changes delivered, by what became of them."}, []string{"outcome"})
	return &metrics{
		recorded: changes.WithLabelValues("recorded"), known: changes.WithLabelValues("known"), refused: changes.WithLabelValues("dead_letter"),
		moved: f.NewCounter(prometheus.CounterOpts{Name: "handover_tasks_moved_total", Help: "Tasks that went to another assignee."}),
		seconds: f.NewHistogram(prometheus.HistogramOpts{Name: "handover_handle_seconds", Help: "Time to handle a batch of role changes.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14)}),
	}
}

func (m *metrics) count(r result) {
	m.recorded.Add(float64(r.recorded))
	m.known.Add(float64(r.known))
	m.refused.Add(float64(len(r.refused)))
	m.moved.Add(float64(r.tasksMoved()))
}

// startSpan opens one span for the batch, linked to the traces of the changes in it.
func startSpan(ctx context.Context, consumer string, batch []delivery) (context.Context, trace.Span) {
	tracer := otel.Tracer("handover.io/internal/reassign")
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(attribute.String("messaging.consumer.group.name", consumer), attribute.Int("messaging.batch.message_count", len(batch)))}
	for _, d := range batch {
		if d.change.Traceparent == "" {
			continue
		}
		remote := propagation.TraceContext{}.Extract(context.Background(), propagation.MapCarrier{"traceparent": d.change.Traceparent})
		options = append(options, trace.WithLinks(trace.LinkFromContext(remote)))
	}
	return tracer.Start(ctx, "reassign", options...)
}
