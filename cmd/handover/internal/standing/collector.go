package standing

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// fresh is for how long an answer is given again, so that many scrapers cost no more than one.
	fresh = 10 * time.Second
	// scrapePatience is well below what scrapers wait.
	scrapePatience = 3 * time.Second
)

var (
	outboxUnpublished = prometheus.NewDesc("handover_outbox_unpublished", "Messages committed and not published yet.", nil, nil)
	outboxOldest      = prometheus.NewDesc("handover_outbox_oldest_seconds", "Age of the oldest of them; 0 without any.", nil, nil)
	deadLetterCount   = prometheus.NewDesc("handover_dead_letters", "Dead letters that wait for somebody.", []string{"tenant", "consumer", "reason"}, nil)
	operationCount    = prometheus.NewDesc("handover_operations_under_way", "Operations accepted and not finished, up to 100.", nil, nil)
	consumerPending   = prometheus.NewDesc("handover_consumer_pending", "Messages that a consumer has not acknowledged.", []string{"consumer"}, nil)
	consumerOldest    = prometheus.NewDesc("handover_consumer_oldest_seconds", "Age of the oldest of them; 0 without any.", []string{"consumer"}, nil)
	streamBytes       = prometheus.NewDesc("handover_stream_bytes", "Size of a stream.", []string{"stream"}, nil)
	streamLimit       = prometheus.NewDesc("handover_stream_limit_bytes", "Size at which a stream takes no more.", []string{"stream"}, nil)
)

// Collector offers the standing to Prometheus. While the broker or the database doesn't answer it has nothing to say.
type Collector struct {
	read func(context.Context) (Standing, error)

	mu   sync.Mutex
	last Standing
	at   time.Time
}

// NewCollector returns a collector of what read tells.
func NewCollector(read func(context.Context) (Standing, error)) *Collector {
	return &Collector{read: read}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		outboxUnpublished, outboxOldest, deadLetterCount, operationCount, consumerPending, consumerOldest, streamBytes, streamLimit,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	s, ok := c.now()
	if !ok {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(outboxUnpublished, float64(s.Outbox.Unpublished))
	gauge(outboxOldest, s.seconds(s.Outbox.OldestAt))
	gauge(operationCount, float64(len(s.Operations)))
	for _, d := range s.DeadLetters {
		gauge(deadLetterCount, float64(d.Count), d.TenantID, d.Consumer, d.Reason)
	}
	for _, stream := range s.Streams {
		gauge(streamBytes, float64(stream.Bytes), stream.Stream)
		gauge(streamLimit, float64(stream.MaxBytes), stream.Stream)
		for _, consumer := range stream.Consumers {
			gauge(consumerPending, float64(consumer.Pending)+float64(consumer.AckPending), consumer.Consumer)
			gauge(consumerOldest, s.seconds(&consumer.OldestPending), consumer.Consumer)
		}
	}
}

func (c *Collector) now() (Standing, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) < fresh {
		return c.last, true
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
	defer cancel()
	s, err := c.read(ctx)
	if err != nil {
		return s, false
	}
	c.last, c.at = s, time.Now()
	return s, true
}

func (s Standing) seconds(since *time.Time) float64 {
	if since == nil || since.IsZero() {
		return 0
	}
	return s.At.Sub(*since).Seconds()
}
