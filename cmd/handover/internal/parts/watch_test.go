package parts

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// heard is a watch whose clock stands, and a logger that it listens to.
func heard(level zapcore.Level) (*Watch, *zap.Logger, *observer.ObservedLogs, *time.Time) {
	at := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	w := NewWatch()
	w.now = func() time.Time { return at }
	core, lines := observer.New(level)
	return w, w.Listen(zap.New(core)), lines, &at
}

func TestTroubleIsOfWhomTheLineNames(t *testing.T) {
	t.Parallel()
	w, log, lines, _ := heard(zap.ErrorLevel)
	away := zap.Error(errors.New("it is away"))
	log.With(zap.String("part", "bus")).With(zap.String("consumer", "reassigner")).Warn("batch failed", away)
	log.Warn("not published", zap.String("part", "relay"), away)
	log.Error("mail channel", zap.String("part", "sender"), zap.String("response", "535 no\r\n\x00such user\xff"), zap.Error(errors.New("535 no")))
	log.Warn("nobody's", away)
	log.Info("fine", zap.String("part", "api"))
	log.Error("long", zap.String("part", "api"), zap.Error(errors.New(strings.Repeat("ä", 1000))))
	got := map[string]string{}
	for part, trouble := range w.troubles() {
		got[part] = trouble.last
	}
	if len(got["api"]) > 510 || !strings.HasSuffix(got["api"], "ä…") {
		t.Errorf("a long error became %q", got["api"])
	}
	delete(got, "api")
	want := map[string]string{"reassigner": "batch failed: it is away", "relay": "not published: it is away", "sender": "mail channel: 535 no such user?"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if n := lines.Len(); n != 2 {
		t.Errorf("%d lines in the log of errors", n)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(w)
	if n, err := testutil.GatherAndCount(registry, "handover_part_errors_total"); err != nil || n != 4 {
		t.Errorf("%d counters, %v", n, err)
	}
}

func TestTroubleEnds(t *testing.T) {
	t.Parallel()
	part := zap.String("part", "relay")
	for name, test := range map[string]struct {
		then  func(log *zap.Logger, after func(time.Duration))
		until time.Duration // from the beginning, when it is or will be over
		since time.Duration // of the last trouble in a row
		times int64
	}{
		"by silence":        {func(*zap.Logger, func(time.Duration)) {}, quiet, 0, 1},
		"by a success":      {func(log *zap.Logger, after func(time.Duration)) { after(time.Second); log.Info("done", part) }, time.Second, 0, 1},
		"not by another's":  {func(log *zap.Logger, _ func(time.Duration)) { log.Info("done", zap.String("part", "api")) }, quiet, 0, 1},
		"not while it goes": {func(log *zap.Logger, after func(time.Duration)) { after(20 * time.Second); log.Warn("again", part) }, 20*time.Second + quiet, 0, 2},
		"sooner if it tries often": {func(log *zap.Logger, after func(time.Duration)) {
			for range 10 {
				after(5 * time.Second)
				log.Warn("again", part)
			}
		}, 50*time.Second + 15*time.Second, 0, 11},
		"not within a pause": {func(log *zap.Logger, _ func(time.Duration)) {
			log.Warn("again", part, zap.Duration("pause", 5*time.Minute))
		}, 5*time.Minute + quietLeast, 0, 2},
		"and begins afresh": {func(log *zap.Logger, after func(time.Duration)) { after(time.Minute); log.Warn("again", part) }, time.Minute + quiet, time.Minute, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, log, _, at := heard(zap.InfoLevel)
			began := *at
			log.Warn("once", part)
			test.then(log, func(d time.Duration) { *at = at.Add(d) })
			got := w.troubles()["relay"]
			if got.errors != test.times || got.until.Sub(began) != test.until || got.since.Sub(began) != test.since {
				t.Errorf("%d times, since %v, until %v", got.errors, got.since.Sub(began), got.until.Sub(began))
			}
		})
	}
}

// BenchmarkHear is what a line of a part in good health costs more because of the watch.
func BenchmarkHear(b *testing.B) {
	log := NewWatch().Listen(zap.NewNop()).With(zap.String("part", "bus"))
	b.ReportAllocs()
	for b.Loop() {
		log.Info("role changes handled", zap.String("consumer", "reassigner"), zap.Int("changes", 512), zap.Duration("took", time.Second))
	}
}
