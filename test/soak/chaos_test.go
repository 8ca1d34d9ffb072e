package soak_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// losesStreams has the chaos delete streams too. The service must notice that by itself and send again what they lack.
const losesStreams = true

// fault is one way in which things break. strike breaks something, leaves it so for a while, and mends it.
type fault struct {
	name   string
	copies int // in the deck; 0 means 1
	strike func(r *rand.Rand) error
	hits   func(r *rand.Rand) []*part // who must be ready again afterwards; everybody by default
}

// lane is a thread of the chaos: its faults come one after the other, those of other lanes at the same time.
type lane struct {
	name  string
	every time.Duration // on average, in a long soak; a short one has as many faults in less time
	deck  []fault
}

// stroke is one fault of the schedule.
type stroke struct {
	at    time.Duration
	fault fault
	seed  uint64
}

// schedule is drawn whole, before anything happens: the same for the same seed and length. Each deck is shuffled and dealt
// to its end before it is shuffled again, so that a short soak meets everything, too.
func (l lane) schedule(seed, number uint64, length time.Duration) []stroke {
	r := rand.New(rand.NewPCG(seed, number))
	every := min(l.every, length/12)
	var deck, left []fault
	for _, f := range l.deck {
		for range max(1, f.copies) {
			deck = append(deck, f)
		}
	}
	var out []stroke
	for at := every / 2; at < length; at += every/2 + time.Duration(r.Int64N(int64(every))) {
		if len(left) == 0 {
			left = append(left, deck...)
			r.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		}
		out = append(out, stroke{at, left[0], r.Uint64()})
		left = left[1:]
	}
	return out
}

// run strikes by its timer until the schedule or ctx has ended.
func (w *world) run(ctx context.Context, l lane, schedule []stroke) {
	began := time.Now()
	for _, s := range schedule {
		if !wait(ctx, s.at-time.Since(began)) {
			return
		}
		r := rand.New(rand.NewPCG(s.seed, 0))
		if err := s.fault.strike(r); err != nil {
			w.wrong("%s: %v", s.fault.name, err)
			return
		}
		w.tally.injected(s.fault.name)
		hit := w.parts
		if s.fault.hits != nil {
			hit = s.fault.hits(rand.New(rand.NewPCG(s.seed, 0)))
		}
		w.recoveries.Go(func() { w.recover(s.fault.name, hit) })
	}
}

// recover waits until everybody who was hit works again.
func (w *world) recover(name string, hit []*part) {
	const patience = 2 * time.Minute
	began := time.Now()
	for _, p := range hit {
		var err error
		if !poll(patience-time.Since(began), func() bool { err = p.ready(); return err == nil }) {
			w.wrong("%v after %q %s is still not ready: %v\n%s", patience, name, p.name, err, tail(p.log))
			return
		}
	}
	w.tally.survived(name, time.Since(began))
}

// wait is a pause of the schedule; false means that ctx was done first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// between draws how long something lasts, and lasts so long. Short soaks have shorter troubles.
func (w *world) between(ctx context.Context, r *rand.Rand, least, most time.Duration) {
	d := least + time.Duration(r.Int64N(int64(most-least)))
	if w.short {
		d = min(d, time.Second+d/4)
	}
	wait(ctx, d)
}

func (w *world) lanes(ctx context.Context) []lane {
	return []lane{w.killing(ctx), w.databaseLane(ctx), w.brokerLane(ctx), w.network(ctx), w.smtp(ctx)}
}

// killing kills the parts, and has them stand still. The steady ones are killed in the first fifth only.
func (w *world) killing(ctx context.Context) lane {
	var deck []fault
	began := time.Now()
	for _, p := range w.parts {
		hits := func(*rand.Rand) []*part { return []*part{p} }
		if !p.steady {
			deck = append(deck, fault{name: "killed " + p.name, copies: 3, hits: hits, strike: func(r *rand.Rand) error {
				p.kill()
				w.tally.killed(1)
				w.between(ctx, r, 0, 2*time.Second)
				return p.start()
			}})
		}
		deck = append(deck, fault{name: "stood still " + p.name, hits: hits, strike: func(r *rand.Rand) error {
			p.still(func() { w.between(ctx, r, time.Second, 12*time.Second) })
			return nil
		}})
	}
	deck = append(deck, fault{name: "killed everybody", strike: func(r *rand.Rand) error {
		for _, p := range w.parts {
			if !p.steady || w.short || time.Since(began) < w.length/5 {
				p.kill()
				w.tally.killed(1)
			}
		}
		w.between(ctx, r, 0, 2*time.Second)
		for _, p := range w.parts {
			p.mu.Lock()
			gone := p.p == nil
			p.mu.Unlock()
			if gone {
				if err := p.start(); err != nil {
					return err
				}
			}
		}
		return nil
	}})
	return lane{"parts", 5 * time.Second, deck}
}

func (w *world) databaseLane(ctx context.Context) lane {
	d := w.database
	restart := func(signal syscall.Signal, kills int) func(*rand.Rand) error {
		return func(*rand.Rand) error {
			w.tally.killed(kills)
			return d.restart(signal)
		}
	}
	deck := []fault{
		{name: "PostgreSQL restarted fast", strike: restart(syscall.SIGINT, 0)},
		{name: "PostgreSQL restarted at once", copies: 2, strike: restart(syscall.SIGQUIT, 1)},
		{name: "PostgreSQL killed", strike: restart(syscall.SIGKILL, 1)},
		{name: "sessions terminated", copies: 2, strike: func(*rand.Rand) error {
			// It may be starting again just now: then there are none.
			_, _ = w.pool.Exec(ctx, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'handover' AND pid <> pg_backend_pid()`)
			return nil
		}},
	}
	if d.small {
		deck = append(deck, fault{name: "disk of PostgreSQL full", copies: 2, strike: func(r *rand.Rand) error {
			if err := d.fill(r.IntN(1 << 10)); err != nil {
				return err
			}
			w.between(ctx, r, 2*time.Second, 8*time.Second)
			if err := d.free(); err != nil {
				return err
			}
			// It goes on by itself, or has ended, when it could not even write its log; then somebody starts it again.
			ended := false
			if poll(time.Minute, func() bool { ended = d.ended(); return ended || w.pool.Ping(context.Background()) == nil }) {
				if ended {
					return d.again()
				}
				return nil
			}
			return fmt.Errorf("PostgreSQL neither works nor has ended a minute after its disk had room again:\n%s", tail(d.options.Dir+"/log"))
		}})
	}
	return lane{"PostgreSQL", 20 * time.Second, deck}
}

func (w *world) brokerLane(ctx context.Context) lane {
	b := w.broker
	restart := func(signal syscall.Signal, kills int) func(*rand.Rand) error {
		return func(r *rand.Rand) error {
			w.tally.killed(kills)
			return b.restart(signal, func() { w.between(ctx, r, 0, 3*time.Second) })
		}
	}
	deck := []fault{
		{name: "broker killed", copies: 3, strike: restart(syscall.SIGKILL, 1)},
		{name: "broker restarted", strike: restart(syscall.SIGTERM, 0)},
		{name: "stream full", copies: 2, strike: func(r *rand.Rand) error {
			if r.IntN(2) == 0 {
				w.limit(func(l *bus.Limits, used int64) { l.TaskReassignments = used }, event.StreamTaskReassignments)
			} else {
				w.limit(func(l *bus.Limits, used int64) { l.RoleChanges = used }, event.StreamRoleChanges)
			}
			w.between(ctx, r, 2*time.Second, 6*time.Second)
			return w.ensureStreams(bus.Limits{})
		}},
		{name: "consumer deleted", strike: func(r *rand.Rand) error {
			of := [][2]string{
				{event.StreamRoleChanges, event.ConsumerReassigner}, {event.StreamRoleChanges, event.ConsumerReassignerBulk},
				{event.StreamTaskReassignments, event.ConsumerNotifier},
			}[r.IntN(3)]
			return w.deleteConsumer(of[0], of[1])
		}},
	}
	if b.small {
		deck = append(deck, fault{name: "disk of the broker full", strike: func(r *rand.Rand) error {
			if err := b.fill(r.IntN(64)); err != nil {
				return err
			}
			w.between(ctx, r, 2*time.Second, 6*time.Second)
			if err := b.free(); err != nil {
				return err
			}
			// A broker that ran out of space has switched its streams off until it is started anew.
			return b.restart(syscall.SIGTERM, func() {})
		}})
	}
	if losesStreams {
		deck = append(deck, fault{name: "stream deleted", strike: func(r *rand.Rand) error {
			if r.IntN(2) == 0 {
				return w.deleteStream(event.StreamTaskReassignments)
			}
			if err := w.deleteStream(event.StreamRoleChanges); err != nil {
				return err
			}
			// Only the stream had what upstream services have published and nobody has read yet. They are told, and
			// publish the last minutes again.
			w.upstreamAgain.Store(true)
			return nil
		}})
	}
	return lane{"broker", 16 * time.Second, deck}
}

// limit lowers the most bytes of a stream to little more than it has. A broker that is away has no streams to fill.
func (w *world) limit(set func(*bus.Limits, int64), stream string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	status, err := w.bus.Status(ctx)
	if err != nil {
		return
	}
	for _, s := range status {
		if s.Stream == stream {
			var l bus.Limits
			set(&l, int64(s.Bytes)+4096)
			_ = w.bus.EnsureStreams(ctx, l)
		}
	}
}

// network cuts and spoils the way of one part to one server.
func (w *world) network(ctx context.Context) lane {
	drawn := func(r *rand.Rand) (*part, *link) {
		p := w.parts[r.IntN(len(w.parts))]
		return p, []*link{p.database, p.broker}[r.IntN(2)]
	}
	hits := func(r *rand.Rand) []*part {
		p, _ := drawn(r)
		return []*part{p}
	}
	spoiled := func(toxics ...string) func(*rand.Rand) error {
		return func(r *rand.Rand) error {
			_, l := drawn(r)
			for _, toxic := range toxics {
				if err := l.spoil(toxic); err != nil {
					return err
				}
			}
			w.between(ctx, r, time.Second, 8*time.Second)
			return l.mend()
		}
	}
	return lane{"network", 6 * time.Second, []fault{
		{name: "connections cut", copies: 3, hits: hits, strike: func(r *rand.Rand) error {
			_, l := drawn(r)
			l.cut()
			w.between(ctx, r, 0, 3*time.Second)
			return l.mend()
		}},
		{name: "connections slow", hits: hits, strike: spoiled(
			`{"name": "down", "type": "latency", "stream": "downstream", "attributes": {"latency": 100, "jitter": 100}}`,
			`{"name": "up", "type": "latency", "stream": "upstream", "attributes": {"latency": 50, "jitter": 50}}`)},
		{name: "connections narrow", hits: hits, strike: spoiled(`{"name": "down", "type": "bandwidth", "stream": "downstream", "attributes": {"rate": 20}}`)},
		{name: "connections in slices", hits: hits, strike: spoiled(`{"name": "up", "type": "slicer", "stream": "upstream", "attributes": {"average_size": 64, "size_variation": 32, "delay": 200}}`)},
		{name: "connections silent: answers are lost", hits: hits, strike: spoiled(`{"name": "down", "type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`)},
		{name: "connections silent: both ways", hits: hits, strike: spoiled(
			`{"name": "down", "type": "timeout", "stream": "downstream", "attributes": {"timeout": 0}}`,
			`{"name": "up", "type": "timeout", "stream": "upstream", "attributes": {"timeout": 0}}`)},
		{name: "connections reset", hits: hits, strike: spoiled(`{"name": "down", "type": "reset_peer", "stream": "downstream", "attributes": {"timeout": 300}}`)},
		{name: "connections break in the middle of an answer", hits: hits, strike: spoiled(`{"name": "down", "type": "limit_data", "stream": "downstream", "attributes": {"bytes": 7000}}`)},
	}}
}

// smtp has the mail server fail in every way that it knows.
func (w *world) smtp(ctx context.Context) lane {
	faults := []testkit.Fault{
		testkit.SMTPConnect421, testkit.SMTPMail451, testkit.SMTPRcpt550, testkit.SMTPRcptGoesOn, testkit.SMTPDataDrop, testkit.SMTPDot451, testkit.SMTPDot552,
		testkit.SMTPDropAfterDot, testkit.SMTPDropBeforeRset, testkit.SMTPDropOnQuit,
	}
	if !w.short {
		faults = append(faults, testkit.SMTPStallAfterDot) // it takes the sender a minute to give up
	}
	var deck []fault
	for _, f := range faults {
		deck = append(deck, fault{name: "mail server: " + string(f), strike: func(r *rand.Rand) error {
			w.sink.Set(f)
			w.between(ctx, r, time.Second, 4*time.Second)
			w.sink.Set(testkit.SMTPOK)
			return nil
		}, hits: func(*rand.Rand) []*part { return nil }})
	}
	return lane{"mail", 7 * time.Second, deck}
}
