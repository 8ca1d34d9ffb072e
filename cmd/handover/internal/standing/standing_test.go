package standing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"handover.io/cmd/handover/internal/parts"
	"handover.io/internal/bus"
	"handover.io/internal/notify"
	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) *time.Time { at := noon.Add(-d); return &at }

// well is a standing in which nothing needs anybody.
func well() *Standing {
	s := &Standing{At: noon, Database: Server{Answers: true, Seconds: 0.0021}, Broker: Server{Answers: true, Seconds: 0.001}, Streams: bus.StreamsStatus{
		{Stream: "ROLE_CHANGES", MaxBytes: 1 << 20, Bytes: 4096, Messages: 12, LastSeq: 40, Created: noon.AddDate(0, -1, 0)},
	}}
	for _, p := range Parts {
		s.Parts = append(s.Parts, parts.Report{Part: p.Name, Process: "box:7", Running: true, StartedAt: *ago(time.Hour), SeenAt: *ago(3 * time.Second)})
		if p.work != "" {
			s.Work = append(s.Work, Work{Part: p.Name})
		}
	}
	return s
}

func (s *Standing) waits(part string, n int64, since time.Duration) {
	for i := range s.Work {
		if s.Work[i].Part == part {
			s.Work[i] = Work{part, n, 0, ago(since), since.Seconds()}
		}
	}
}

func (s *Standing) report(part string) *parts.Report {
	for i := range s.Parts {
		if s.Parts[i].Part == part {
			return &s.Parts[i]
		}
	}
	panic(part)
}

func (s *Standing) gone(part string) {
	r := s.report(part)
	r.Running, r.SeenAt = false, *ago(time.Minute)
}

func (s *Standing) troubled(part, what string, since time.Duration) {
	r := s.report(part)
	r.Errors, r.Trouble = 5, &parts.Trouble{Error: what, At: *ago(time.Second), Since: *ago(since)}
}

func (s *Standing) forget(part string) {
	for i := range s.Work {
		if s.Work[i].Part == part {
			s.Work = append(s.Work[:i], s.Work[i+1:]...)
			return
		}
	}
}

func TestJudge(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		but  func(*Standing)
		want []string
	}{
		"all is well":         {func(*Standing) {}, nil},
		"work in progress":    {func(s *Standing) { s.waits("relay", 5, 2*time.Second); s.waits("sender", 1, time.Second) }, nil},
		"bulk work may queue": {func(s *Standing) { s.waits("reassigner-bulk", 9, time.Minute) }, nil},
		"a part that nothing waits for may be gone": {func(s *Standing) { s.gone("reassigner") }, nil},
		"a part is gone and work waits": {func(s *Standing) { s.gone("reassigner"); s.waits("reassigner", 3, 40*time.Second) },
			[]string{"nobody runs the reassigner (last heard of 1m ago in box:7), and 3 role changes wait for it, the oldest for 40s: start it with handover run --only reassigner"}},
		"a part was never heard of": {func(s *Standing) { s.Parts = nil; s.waits("sender", 1, 2*time.Second) },
			[]string{"nobody runs the sender (never heard of), and 1 mail waits for it, the oldest for 2s: start it with handover run --only notifier"}},
		"never run": {func(s *Standing) { s.forget("notifier") },
			[]string{"there is no consumer notifier: it was never run; start it with handover run --only notifier"}},
		"behind": {func(s *Standing) { s.waits("reassigner", 3, time.Minute) },
			[]string{"the reassigner is behind by 1m, 3 role changes wait: is the database slow"}},
		"behind, and says why": {func(s *Standing) {
			s.waits("sender", 1, 2*time.Minute)
			s.troubled("sender", "mail channel is out of order: 535 no", time.Second)
		},
			[]string{"the sender is behind by 2m, 1 mail waits: it says: mail channel is out of order: 535 no"}},
		"unpublished":              {func(s *Standing) { s.waits("relay", 1, time.Minute) }, []string{"the relay is behind by 1m, 1 message waits: is the broker there"}},
		"in trouble, not for long": {func(s *Standing) { s.troubled("relay", "full", 10*time.Second) }, nil},
		"in trouble":               {func(s *Standing) { s.troubled("relay", "full", time.Minute) }, []string{"the relay is in trouble for 1m, and goes on trying: full"}},
		"a connection is in trouble": {func(s *Standing) {
			s.Parts = append(s.Parts, parts.Report{Part: "bus", Process: "box:8", Running: true})
			s.troubled("bus", "the broker is away", time.Minute)
		}, []string{"the bus of box:8 is in trouble for 1m, and goes on trying: the broker is away"}},
		"was in trouble": {func(s *Standing) {
			s.troubled("relay", "full", time.Minute)
			s.report("relay").Trouble.WellSince = ago(time.Second)
		}, nil},
		"in trouble and gone": {func(s *Standing) { s.troubled("relay", "full", time.Minute); s.gone("relay") }, nil},
		"the database is away": {func(s *Standing) {
			s.Database, s.Parts = Server{Problem: "connection refused"}, nil
			s.forget("expander")
			s.forget("relay")
			s.forget("sender")
			s.waits("reassigner", 1, time.Second)
		}, []string{"the database doesn't answer (connection refused): start it"}},
		"the broker is away": {func(s *Standing) {
			s.Broker, s.Streams = Server{Problem: "not connected"}, nil
			s.forget("reassigner")
			s.forget("reassigner-bulk")
			s.forget("notifier")
			s.troubled("relay", "not connected", time.Minute)
			s.waits("relay", 2, time.Minute)
		}, []string{"the broker doesn't answer (not connected): start it", "the relay is behind by 1m, 2 messages wait: it says: not connected"}},
		"dead letters": {func(s *Standing) {
			s.DeadLetters = []DeadLetters{{"demo", "reassigner", "invalid", 3, noon, "invalid: role: is no role"}, {"demo", "notifier", "rejected", 1, noon, "no"}, {"", "reassigner", "not_cloudevent", 1, noon, "no"}}
		}, []string{"3 dead letters of reassigner in tenant demo: invalid (the newest: role: is no role): handover dead-letters list --tenant demo --reason invalid shows them", "1 dead letter of notifier in tenant demo: rejected (no)", "1 dead letter of reassigner without a tenant: not_cloudevent (no): handover dead-letters list --reason not_cloudevent"}},
		"ambiguous": {func(s *Standing) { s.Notices.Ambiguous = 1 }, []string{"1 mail may or may not have arrived"}},
		"mails on hold": {func(s *Standing) {
			s.Notices.Hold = &notify.MailHold{Since: *ago(time.Hour), Reason: "the database is older than its streams", By: "handover"}
			s.waits("sender", 3, time.Hour)
		}, []string{"mails are on hold for 1h, by handover: the database is older than its streams; handover notices release shows what would go out, and lets it go"}},
		"nearly full":   {func(s *Standing) { s.Streams[0].Bytes = 900 << 10 }, []string{"the stream ROLE_CHANGES is 88% full"}},
		"a run goes on": {func(s *Standing) { s.Runs = []Run{{3, "replay", "ann", *ago(time.Hour), *ago(time.Second), "7"}} }, nil},
		"a run was cut off": {func(s *Standing) { s.Runs = []Run{{3, "replay", "ann", *ago(time.Hour), *ago(5 * time.Minute), "7"}} },
			[]string{"replay (run 3 of ann) has said nothing for 5m: if it was cut off, give it again; replay goes on with --resume 3"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := well()
			test.but(s)
			got := s.judge()
			if len(got) != len(test.want) {
				t.Fatalf("got %q, want %q", got, test.want)
			}
			for i, want := range test.want {
				if !strings.HasPrefix(got[i], want) {
					t.Errorf("got %q, want %q", got[i], want)
				}
			}
		})
	}
}

// What strangers and servers say can't control the terminal of whoever looks.
func TestNothingControlsTheTerminal(t *testing.T) {
	t.Parallel()
	const evil = "a\x1b[2J\u009b31m\u202e\x07"
	s := Standing{
		At: noon, Database: Server{Answers: true}, Broker: Server{Answers: true},
		DeadLetters: []DeadLetters{{evil, "reassigner", "invalid", 3, noon, "invalid: " + evil}},
		Notices:     Notices{Hold: &notify.MailHold{By: evil, Reason: evil + "\n" + evil}, Undecided: []Notice{{RecipientID: evil, AccountID: evil, Subject: evil}}},
		Runs:        []Run{{ID: 1, Command: "replay", Actor: evil, Cursor: evil}},
		Operations:  []Operation{{ID: evil, Kind: evil}},
	}
	s.Attention = s.judge()
	var out bytes.Buffer
	s.Print(&out)
	for _, r := range out.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Fatalf("%U in %q", r, &out)
		}
	}
}

func TestShort(t *testing.T) {
	t.Parallel()
	for want, d := range map[string]time.Duration{
		"0s": -time.Second, "1s": 700 * time.Millisecond, "1m": time.Minute, "59m59s": time.Hour - time.Second, "1h": time.Hour + 59*time.Second,
		"23h59m": 24*time.Hour - time.Second, "1d": 24*time.Hour + 59*time.Minute, "400d1h": 400*24*time.Hour + time.Hour,
	} {
		if got := short(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	s := well()
	s.waits("reassigner", 2, 3*time.Second)
	s.report("reassigner").Rates = parts.Rates{parts.Changes: 812.3, parts.TasksMoved: 2.5}
	s.troubled("sender", "mail channel is out of order: 535 no", time.Minute)
	s.gone("notifier")
	s.gone("relay")
	s.report("relay").Stopped = true
	for i := range 2 {
		s.Parts = append(s.Parts, parts.Report{Part: "reassigner", Process: fmt.Sprintf("box:%d", 8+i), Running: true, StartedAt: *ago(2 * time.Hour), SeenAt: *ago(time.Second),
			Rates: parts.Rates{parts.Changes: 100}, Errors: 1, Trouble: &parts.Trouble{Error: "batch failed", At: *ago(time.Hour), Since: *ago(time.Hour), WellSince: ago(time.Minute)}})
	}
	s.Notices = Notices{Open: 1, Ambiguous: 1, Undecided: []Notice{{7, "demo", "ann", "a-1", "2 tasks moved to you", noon.Add(-time.Hour)}}}
	s.DeadLetters = []DeadLetters{{"demo", "reassigner", "invalid", 3, noon, "role: is no role"}}
	s.Operations = []Operation{{"op-1", "demo", "bulk_edit", "applying", *ago(time.Minute), 10, 4, 1, 20}}
	s.Runs = []Run{{3, "replay", "ann", *ago(time.Hour), *ago(time.Second), "700"}}
	s.Attention = []string{"look here"}
	var got strings.Builder
	s.Print(&got)
	testkit.Golden(t, "status.txt", []byte(got.String()))

	got.Reset()
	Standing{At: noon, Database: Server{Problem: "refused"}, Broker: Server{Answers: true}, Attention: []string{"look here"}}.Print(&got)
	testkit.Golden(t, "away.txt", []byte(got.String()))
}

// TestReadTellsHalf: each of the two servers is asked, whatever is wrong with the other.
func TestReadTellsHalf(t *testing.T) {
	t.Parallel()
	pool, broker := testkit.Postgres(t), testkit.NATS(t)
	away, err := postgres.Open(t.Context(), "postgres://x@127.0.0.1:1/x", postgres.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	gone := func(context.Context) (bus.StreamsStatus, error) { return nil, errors.New("no broker") }

	all := Read(t.Context(), pool, broker.Status)
	if !all.Database.Answers || !all.Broker.Answers || len(all.Work) != 3 || len(all.Streams) != 3 || len(all.Attention) != 3 {
		t.Errorf("all: %+v", all)
	}
	database := Read(t.Context(), pool, gone)
	if !database.Database.Answers || database.Broker.Answers || len(database.Work) != 3 || len(database.Attention) != 1 || !strings.Contains(database.Attention[0], "no broker") {
		t.Errorf("the database alone: %+v", database)
	}
	streams := Read(t.Context(), away, broker.Status)
	if streams.Database.Answers || !streams.Broker.Answers || len(streams.Streams) != 3 || len(streams.Attention) == 0 || !strings.Contains(streams.Attention[0], "127.0.0.1") {
		t.Errorf("the broker alone: %+v", streams)
	}
}

// TestReadFindsWhatWaits asks a database in which everything that can wait does.
func TestReadFindsWhatWaits(t *testing.T) {
	t.Parallel()
	pool, broker := testkit.Postgres(t), testkit.NATS(t)
	testkit.Exec(t, pool, `INSERT INTO tenants (tenant_id) VALUES ('demo')`)
	testkit.Exec(t, pool, `INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state)
	  VALUES ('op-1', 'demo', 'bulk_edit', 'ann', clock_timestamp() - interval '1 hour', '{}', 'expanding')`)
	testkit.Exec(t, pool, `WITH o AS (INSERT INTO outbox (message_id, tenant_id, stream, subject, body, created_at)
	  VALUES ('m', 'demo', 'ROLE_CHANGES', 's', '', clock_timestamp() - interval '90 seconds') RETURNING key) INSERT INTO outbox_owed SELECT key FROM o`)
	testkit.Exec(t, pool, `INSERT INTO notices (tenant_id, recipient_id, account_id, state, opened_at, close_at, next_try_at)
	  SELECT 'demo', 'ann', 'a-1', 'closed', t, t, t FROM (SELECT clock_timestamp() - interval '2 hours') AS x (t)`)
	testkit.Exec(t, pool, `INSERT INTO mail_hold (reason, held_by) VALUES ('restored', 'ann')`)
	testkit.Exec(t, pool, `INSERT INTO operator_runs (command, actor, arguments, updated_at) VALUES ('replay', 'ann', '{}', clock_timestamp() - interval '1 hour')`)
	watch := parts.NewWatch()
	watch.Listen(zap.NewNop()).Warn("not published", zap.String("part", "relay"), zap.Error(errors.New("full")))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- parts.NewReporter(pool, watch, parts.Config{
			Parts: func() []string { return []string{"relay"} }, Counters: prometheus.NewRegistry(), Logger: zap.NewNop(),
		}).Run(ctx)
	}()
	defer func() { cancel(); <-ended }()
	var s Standing
	testkit.Eventually(t, "the relay is heard of", func() (bool, string) {
		s = Read(t.Context(), pool, broker.Status)
		return len(s.Parts) == 1, fmt.Sprintf("%+v", s)
	})
	said := strings.Join(s.Attention, "\n")
	for _, want := range []string{
		"nobody runs the expander (never heard of), and 1 operation waits for it, the oldest for 1h",
		"the relay is behind by 1m30s, 1 message waits: it says: not published: full",
		"nobody runs the sender (never heard of), and 1 mail waits for it, the oldest for 2h",
		"mails are on hold for 0s, by ann: restored",
		"replay (run 1 of ann) has said nothing for 1h",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("not said: %s\nin\n%s", want, said)
		}
	}
}

func TestCollector(t *testing.T) {
	t.Parallel()
	reads := 0
	c := NewCollector(func(context.Context) Standing {
		if reads++; reads == 1 {
			return Standing{Broker: Server{Answers: true}, Streams: bus.StreamsStatus{{Stream: "ROLE_CHANGES", Bytes: 5}}}
		}
		s := well()
		s.waits("relay", 5, 30*time.Second)
		s.troubled("relay", "full", time.Minute)
		s.gone("sender")
		s.DeadLetters = []DeadLetters{{"demo", "notifier", "invalid", 2, noon, ""}}
		s.Runs = []Run{{3, "replay", "ann", noon, *ago(time.Minute), "7"}, {4, "replay", "ann", noon, *ago(2 * time.Minute), "7"}}
		return *s
	})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	gather := func() map[string]float64 {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				name := strings.TrimPrefix(f.GetName(), "handover_")
				for _, l := range m.GetLabel() {
					name += " " + l.GetValue()
				}
				got[name] = m.GetGauge().GetValue()
			}
		}
		return got
	}
	half := gather()
	if half["server_up broker"] != 1 || half["server_up database"] != 0 || half["stream_bytes ROLE_CHANGES"] != 5 || len(half) != 7 {
		t.Errorf("of a broker without the database: %v", half)
	}
	if gather(); reads != 1 {
		t.Errorf("%d reads at once", reads)
	}
	c.at = time.Time{}
	got := gather()
	for name, want := range map[string]float64{
		"server_up database": 1, "waiting relay": 5, "lag_seconds relay": 30, "lag_seconds sender": 0, "parts_running relay": 1, "parts_running sender": 0,
		"parts_in_trouble relay": 1, "parts_in_trouble sender": 0, "dead_letters notifier invalid demo": 2, "operations_under_way": 0,
		"operator_runs replay": 2, "operator_run_silent_seconds replay": 120, "stream_limit_bytes ROLE_CHANGES": 1 << 20, "mails ambiguous": 0, "mail_on_hold": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v", name, v, want)
		}
	}
}
