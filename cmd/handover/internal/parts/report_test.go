package parts

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.uber.org/zap"

	"handover.io/internal/testkit"
)

func reporter(t *testing.T, running ...string) (*Reporter, *zap.Logger, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	watch := NewWatch()
	r := NewReporter(testkit.Postgres(t), watch, Config{
		Parts: func() []string { return running }, Counters: registry, Version: "v1", Logger: zap.NewNop(),
	})
	return r, watch.Listen(zap.NewNop()), registry
}

func (r *Reporter) read(t *testing.T) []Report {
	t.Helper()
	reports, err := Read(t.Context(), r.pool)
	if err != nil {
		t.Fatal(err)
	}
	return reports
}

func TestWhatIsReportedIsRead(t *testing.T) {
	t.Parallel()
	r, log, registry := reporter(t, "relay", "reassigner")
	with := promauto.With(registry)
	with.NewCounterVec(prometheus.CounterOpts{Name: "handover_published_total"}, []string{"stream"}).WithLabelValues("TASK_REASSIGNMENTS").Add(120)
	changes := promauto.With(prometheus.WrapRegistererWith(prometheus.Labels{"consumer": "reassigner"}, registry)).
		NewCounterVec(prometheus.CounterOpts{Name: "handover_changes_total"}, []string{"outcome"})
	changes.WithLabelValues("recorded").Add(60)
	changes.WithLabelValues("known").Add(1000)
	r.meter.samples[0].at = time.Now().Add(-over)
	log.Warn("not published", zap.String("part", "relay"), zap.Error(errors.New("full")))
	log.Warn("away", zap.String("part", "bus"))
	log.Info("connected", zap.String("part", "bus"))
	for range 2 {
		if err := r.report(t.Context(), true, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	got := r.read(t)
	process := r.process
	want := []Report{
		{Part: "bus", Process: process, Version: "v1", Running: true, Rates: Rates{}, Errors: 1, Trouble: &Trouble{Error: "away", WellSince: &time.Time{}}},
		{Part: "reassigner", Process: process, Version: "v1", Running: true, Rates: Rates{Changes: 1}},
		{Part: "relay", Process: process, Version: "v1", Running: true, Rates: Rates{Announcements: 2}, Errors: 1, Trouble: &Trouble{Error: "not published: full"}},
	}
	times := cmp.Options{cmpopts.EquateApprox(0, 0.1), cmp.Comparer(func(a, b time.Time) bool { return true })}
	if diff := cmp.Diff(want, got, times); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if age := got[0].SeenAt.Sub(got[0].StartedAt); age < 0 || age > time.Minute {
		t.Errorf("seen %v after its start", age)
	}
}

func TestGoneStoppedAndForgotten(t *testing.T) {
	t.Parallel()
	r, _, _ := reporter(t, "relay")
	state := func() [2]bool {
		t.Helper()
		reports := r.read(t)
		if len(reports) != 1 {
			t.Fatalf("%d reports", len(reports))
		}
		return [2]bool{reports[0].Running, reports[0].Stopped}
	}
	report := func(running bool) {
		t.Helper()
		if err := r.report(t.Context(), running, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	report(true)
	if got := state(); got != [2]bool{true, false} {
		t.Errorf("at work it is %v", got)
	}
	testkit.Exec(t, r.pool, `UPDATE part_reports SET seen_at = seen_at - interval '31 seconds'`)
	if got := state(); got != [2]bool{false, false} {
		t.Errorf("killed it is %v", got)
	}
	report(false)
	if got := state(); got != [2]bool{false, true} {
		t.Errorf("stopped it is %v", got)
	}
	testkit.Exec(t, r.pool, `UPDATE part_reports SET seen_at = seen_at - interval '1 day', process_id = 'before'`)
	report(true)
	if got := state(); got != [2]bool{true, false} {
		t.Errorf("started again it is %v", got)
	}
}

func TestOfTheGoneOnlyTheLastAreRead(t *testing.T) {
	t.Parallel()
	r, log, _ := reporter(t, "relay", "sender")
	for i := range 20 {
		if i == 7 {
			log.Warn("not published", zap.String("part", "relay"))
		}
		if r.id = fmt.Sprint(i); i > 7 {
			r.watch.parts = map[string]*trouble{}
		}
		r.process = r.id
		if err := r.report(t.Context(), i >= 18, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, report := range r.read(t) {
		got = append(got, fmt.Sprint(report.Part, " ", report.Process, " ", report.Running))
	}
	want := []string{"relay 17 false", "relay 18 true", "relay 19 true", "relay 7 false", "sender 17 false", "sender 18 true", "sender 19 true"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRunSaysWhenItStops(t *testing.T) {
	t.Parallel()
	r, _, _ := reporter(t, "relay")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	testkit.Eventually(t, "a report", func() (bool, string) {
		reports, err := Read(t.Context(), r.pool)
		return err == nil && len(reports) == 1 && reports[0].Running, "none"
	})
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := r.read(t); len(got) != 1 || !got[0].Stopped {
		t.Errorf("after the end: %+v", got)
	}
}

// TestTroubleIsReportedWhenTheDatabaseIsBack: what happened while nothing could be written is told afterwards, at its
// own time.
func TestTroubleIsReportedWhenTheDatabaseIsBack(t *testing.T) {
	t.Parallel()
	r, log, _ := reporter(t, "relay")
	began := time.Now()
	r.watch.now = func() time.Time { return began.Add(-time.Hour) }
	log.Warn("sweep failed", zap.String("part", "relay"))
	testkit.Exec(t, r.pool, `ALTER TABLE part_reports RENAME TO away`)
	if err := r.report(t.Context(), true, time.Minute); err == nil {
		t.Fatal("it was written nowhere")
	}
	testkit.Exec(t, r.pool, `ALTER TABLE away RENAME TO part_reports`)
	if err := r.report(t.Context(), true, time.Minute); err != nil {
		t.Fatal(err)
	}
	got := r.read(t)
	if len(got) != 1 || got[0].Trouble == nil {
		t.Fatalf("got %+v", got)
	}
	now := testkit.One[time.Time](t, r.pool, `SELECT clock_timestamp()`)
	if age := now.Sub(got[0].Trouble.At); age < time.Hour || age > time.Hour+time.Minute {
		t.Errorf("it is told as %v old", age)
	}
	if well := got[0].Trouble.WellSince; well == nil || now.Sub(*well) > time.Hour-quiet+time.Minute {
		t.Errorf("well since %v", well)
	}
}

func TestRatesAreOverTheLastMinute(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	mails := promauto.With(registry).NewCounterVec(prometheus.CounterOpts{Name: "handover_notices_total"}, []string{"outcome"})
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	m := newMeter(registry, now)
	mails.WithLabelValues("suppressed").Add(1000)
	var got []float64
	for _, sent := range []float64{10, 0, 300, 0, 0, 0, 0, 0} { // every 20 seconds
		now = now.Add(20 * time.Second)
		mails.WithLabelValues("sent").Add(sent)
		got = append(got, m.read(now)["sender"][Mails])
	}
	want := []float64{0.5, 0.25, 310. / 60, 5, 5, 0, 0, 0}
	if diff := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := len(m.samples); n > 5 {
		t.Errorf("%d samples are kept", n)
	}
}
