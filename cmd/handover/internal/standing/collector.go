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
	serverUp       = prometheus.NewDesc("handover_server_up", "1 when the database or the broker answers, else 0.", []string{"server"}, nil)
	waiting        = prometheus.NewDesc("handover_waiting", "What waits for a part: messages, operations or mails, also those it has been given.", []string{"part"}, nil)
	lagSeconds     = prometheus.NewDesc("handover_lag_seconds", "Age of the oldest that waits for a part; 0 without any.", []string{"part"}, nil)
	partsRunning   = prometheus.NewDesc("handover_parts_running", "Processes that run a part and were heard of within 30 seconds.", []string{"part"}, nil)
	partsInTrouble = prometheus.NewDesc("handover_parts_in_trouble", "Processes of these whose last error isn't over.", []string{"part"}, nil)
	mailCount      = prometheus.NewDesc("handover_mails", "Mail windows that are not finished, by state; ambiguous ones wait for somebody.", []string{"state"}, nil)
	mailHold       = prometheus.NewDesc("handover_mail_on_hold", "1 while no mail goes out, because of a restored database or an operator.", nil, nil)
	deadLetter     = prometheus.NewDesc("handover_dead_letters", "Dead letters that wait for somebody.", []string{"tenant", "consumer", "reason"}, nil)
	operationCount = prometheus.NewDesc("handover_operations_under_way", "Operations accepted and not finished, up to 100.", nil, nil)
	operationAge   = prometheus.NewDesc("handover_operation_oldest_seconds", "Age of the oldest of them; 0 without any.", nil, nil)
	runCount       = prometheus.NewDesc("handover_operator_runs", "Runs of operators' commands that have not ended.", []string{"command"}, nil)
	runSilence     = prometheus.NewDesc("handover_operator_run_silent_seconds", "For how long the most silent of them has said nothing.", []string{"command"}, nil)
	streamBytes    = prometheus.NewDesc("handover_stream_bytes", "Size of a stream.", []string{"stream"}, nil)
	streamLimit    = prometheus.NewDesc("handover_stream_limit_bytes", "Size at which a stream takes no more.", []string{"stream"}, nil)
	streamMessages = prometheus.NewDesc("handover_stream_messages", "Messages on a stream.", []string{"stream"}, nil)
	streamSequence = prometheus.NewDesc("handover_stream_last_sequence", "Last sequence of a stream; it goes back only when the stream has lost messages.", []string{"stream"}, nil)
	streamCreated  = prometheus.NewDesc("handover_stream_created_timestamp_seconds", "When a stream was created; it changes only when the stream was lost.", []string{"stream"}, nil)
)

// Collector offers the standing to Prometheus. Of a broker or a database that doesn't answer it says just that.
type Collector struct {
	read func(context.Context) Standing

	mu   sync.Mutex
	last Standing
	at   time.Time
}

// NewCollector returns a collector of what read tells.
func NewCollector(read func(context.Context) Standing) *Collector {
	return &Collector{read: read}
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		serverUp, waiting, lagSeconds, partsRunning, partsInTrouble, mailCount, mailHold, deadLetter, operationCount, operationAge,
		runCount, runSilence, streamBytes, streamLimit, streamMessages, streamSequence, streamCreated,
	} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	s := c.now()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(serverUp, number(s.Database.Answers), "database")
	gauge(serverUp, number(s.Broker.Answers), "broker")
	for _, w := range s.Work {
		gauge(waiting, float64(w.Waiting+w.AtWork), w.Part)
		gauge(lagSeconds, w.Lag, w.Part)
	}
	for _, stream := range s.Streams {
		gauge(streamBytes, float64(stream.Bytes), stream.Stream)
		gauge(streamLimit, float64(stream.MaxBytes), stream.Stream)
		gauge(streamMessages, float64(stream.Messages), stream.Stream)
		gauge(streamSequence, float64(stream.LastSeq), stream.Stream)
		gauge(streamCreated, float64(stream.Created.UnixMicro())/1e6, stream.Stream)
	}
	if s.Database.Answers {
		s.collectDatabase(gauge)
	}
}

func (s Standing) collectDatabase(gauge func(d *prometheus.Desc, v float64, labels ...string)) {
	inTrouble := map[string]float64{} // also connections, our own servers and whatever else runs
	for _, r := range s.Parts {
		if r.Running {
			inTrouble[r.Part] += number(r.Trouble != nil && r.Trouble.WellSince == nil)
		}
	}
	for _, p := range Parts {
		now, _ := s.running(p.Name)
		gauge(partsRunning, float64(len(now)), p.Name)
		inTrouble[p.Name] += 0
	}
	for part, n := range inTrouble {
		gauge(partsInTrouble, n, part)
	}
	gauge(mailCount, float64(s.Notices.Open), "open")
	gauge(mailCount, float64(s.Notices.Due), "due")
	gauge(mailCount, float64(s.Notices.Ambiguous), "ambiguous")
	gauge(mailHold, number(s.Notices.Hold != nil))
	for _, d := range s.DeadLetters {
		gauge(deadLetter, float64(d.Count), d.TenantID, d.Consumer, d.Reason)
	}
	gauge(operationCount, float64(len(s.Operations)))
	oldest := 0.0
	for _, o := range s.Operations {
		oldest = max(oldest, s.seconds(&o.AcceptedAt))
	}
	gauge(operationAge, oldest)
	silent, runs := map[string]float64{}, map[string]float64{}
	for _, r := range s.Runs {
		runs[r.Command]++
		silent[r.Command] = max(silent[r.Command], s.seconds(&r.UpdatedAt))
	}
	for command, n := range runs {
		gauge(runCount, n, command)
		gauge(runSilence, silent[command], command)
	}
}

func (c *Collector) now() Standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) < fresh {
		return c.last
	}
	ctx, cancel := context.WithTimeout(context.Background(), scrapePatience)
	defer cancel()
	c.last, c.at = c.read(ctx), time.Now()
	return c.last
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
