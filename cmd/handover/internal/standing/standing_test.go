package standing

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"handover.io/internal/bus"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	well := func() Standing {
		return Standing{At: now, Streams: bus.StreamsStatus{
			{Stream: "ROLE_CHANGES", MaxBytes: 100, Bytes: 10, Consumers: []bus.ConsumerStatus{{Consumer: "reassigner"}, {Consumer: "reassigner-bulk"}}},
			{Stream: "TASK_REASSIGNMENTS", Consumers: []bus.ConsumerStatus{{Consumer: "notifier"}}},
		}}
	}
	for name, test := range map[string]struct {
		but  func(*Standing)
		want string
	}{
		"all is well":      {func(*Standing) {}, ""},
		"work in progress": {func(s *Standing) { s.Outbox = Outbox{5, ago(2 * time.Second)}; s.Notices.OldestDue = ago(time.Second) }, ""},
		"dead letters": {func(s *Standing) {
			s.DeadLetters = []DeadLetters{{"demo", "reassigner", "invalid", 3, now, "role: is no role"}}
		}, "3 dead letters of reassigner in tenant demo: invalid (the newest: role: is no role)"},
		"one dead letter": {func(s *Standing) {
			s.DeadLetters = []DeadLetters{{"demo", "reassigner", "invalid", 1, now, "role: is no role"}}
		}, "1 dead letter of reassigner in tenant demo: invalid (role: is no role)"},
		"ambiguous":      {func(s *Standing) { s.Notices.Ambiguous = 1 }, "1 mail may or may not have arrived"},
		"overdue window": {func(s *Standing) { s.Notices.OldestDue = ago(2 * time.Minute) }, "a mail is overdue by 2m0s"},
		"unpublished":    {func(s *Standing) { s.Outbox = Outbox{1, ago(time.Minute)} }, "what was committed 1m0s ago is not published"},
		"behind":         {func(s *Standing) { s.Streams[0].Consumers[0].OldestPending = *ago(time.Minute) }, "reassigner is behind by 1m0s"},
		"bulk may queue": {func(s *Standing) { s.Streams[0].Consumers[1].OldestPending = *ago(time.Minute) }, ""},
		"never run":      {func(s *Standing) { s.Streams[1].Consumers = nil }, "there is no consumer notifier"},
		"nearly full":    {func(s *Standing) { s.Streams[0].Bytes = 90 }, "the stream ROLE_CHANGES is 90% full"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := well()
			test.but(&s)
			got := s.judge()
			if len(got) > 1 || (len(got) == 0) != (test.want == "") || !strings.Contains(strings.Join(got, ""), test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	s := Standing{At: now, Streams: bus.StreamsStatus{
		{Stream: "ROLE_CHANGES", Messages: 12, Bytes: 4096, Consumers: []bus.ConsumerStatus{
			{Consumer: "reassigner", Pending: 2, AckPending: 1, OldestPending: now.Add(-3 * time.Second)}, {Consumer: "reassigner-bulk"}}},
		{Stream: "DEAD_LETTERS"},
	}, Notices: Notices{Open: 1, Ambiguous: 1, Undecided: []Notice{{7, "demo", "ann", "a-1", "2 tasks moved to you", now.Add(-time.Hour)}}}, Attention: []string{"look here"}}
	var got strings.Builder
	s.Print(&got)
	want := `STREAM        MESSAGES  SIZE   CONSUMER         WAITING  AT WORK  OLDEST
ROLE_CHANGES  12        4 KiB  reassigner       2        1        3s
                               reassigner-bulk  0        0        -
DEAD_LETTERS  0         0 B    -                                  

Outbox: 0 unpublished, oldest -
Mail windows: 1 open, 0 due, oldest -, 1 ambiguous

AMBIGUOUS MAIL  TENANT  RECIPIENT  ACCOUNT  OPENED  SUBJECT
7               demo    ann        a-1      1h0m0s  2 tasks moved to you

Needs attention:
  - look here
`
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCollector(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	before := now.Add(-30 * time.Second)
	reads := 0
	c := NewCollector(func(context.Context) (Standing, error) {
		if reads++; reads == 1 {
			return Standing{}, errors.New("away")
		}
		return Standing{
			At: now, Outbox: Outbox{5, &before}, DeadLetters: []DeadLetters{{"demo", "notifier", "invalid", 2, before, ""}},
			Streams: bus.StreamsStatus{{Stream: "ROLE_CHANGES", Consumers: []bus.ConsumerStatus{{Consumer: "reassigner", Pending: 2, AckPending: 1}}}},
		}, nil
	})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	var got [3]map[string]float64
	for i := range got {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got[i] = map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				got[i][f.GetName()] = m.GetGauge().GetValue()
			}
		}
	}
	want := map[string]float64{
		"handover_outbox_unpublished": 5, "handover_outbox_oldest_seconds": 30, "handover_dead_letters": 2, "handover_operations_under_way": 0,
		"handover_consumer_pending": 3, "handover_consumer_oldest_seconds": 0, "handover_stream_bytes": 0, "handover_stream_limit_bytes": 0,
	}
	if diff := cmp.Diff([3]map[string]float64{{}, want, want}, got); diff != "" || reads != 2 {
		t.Errorf("%d reads (-want +got)\n%s", reads, diff)
	}
}
