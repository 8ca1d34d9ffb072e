package soak_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
)

const (
	// shortTime is for how long things break in the short form, which is part of every test run.
	shortTime = 24 * time.Second
	// settled is the share of a soak after which the steady parts are killed no more, and watched.
	settled = 5
)

// The soak. Three companies hand over in all four ways, sync, let people go and change their policies, while five threads
// of chaos break something at any time, from a schedule drawn from the seed. When all has come to rest, see check.
func TestSoak(t *testing.T) {
	t.Parallel()
	length, short := shortTime, true
	if text := os.Getenv("SOAK_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil || length < 10*time.Second {
			t.Fatalf("SOAK_TIME is %q; it must be a duration from 10s on, such as 30m", text)
		}
		short = length < 2*time.Minute
	}
	seed := uint64(time.Now().UnixNano()) % 1_000_000
	if text := os.Getenv("SOAK_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("SOAK_SEED is %q; it must be a whole number", text)
		}
	}
	t.Logf("seed %d: SOAK_SEED=%d SOAK_TIME=%v go test ./test/soak -run '^TestSoak$' -v has the same schedule", seed, seed, length)
	w := newWorld(t, seed, length, short)

	began := time.Now()
	faults, endFaults := context.WithTimeout(context.Background(), length)
	defer endFaults()
	load, endLoad := context.WithTimeout(context.Background(), length)
	defer endLoad()
	var chaos, drivers sync.WaitGroup
	for i, l := range w.lanes(faults) {
		schedule := l.schedule(seed, uint64(i+1), length)
		t.Logf("%d faults are scheduled for: %s", len(schedule), l.name)
		chaos.Go(func() { w.run(faults, l, schedule) })
	}
	for i, tn := range w.tenants {
		drivers.Go(func() { tn.drive(load, uint64(100+2*i), 50*time.Millisecond, tn.upstream()) })
		drivers.Go(func() { tn.drive(load, uint64(101+2*i), 80*time.Millisecond, tn.staff()) })
	}
	every := time.NewTicker(10 * time.Second)
	defer every.Stop()
	for faults.Err() == nil {
		select {
		case <-faults.Done():
		case <-every.C:
			w.gather(time.Since(began) > length/settled)
			w.sendAgain()
			w.progress(began)
		}
	}
	chaos.Wait()
	w.mend()
	drivers.Wait()
	w.recoveries.Wait()
	lasted := time.Since(began)
	t.Logf("%4.0f s  no more faults; coming to rest", lasted.Seconds())
	if !t.Failed() {
		w.rest()
	}
	r := w.judge(lasted)
	t.Logf("%4.0f s  done\n%s", time.Since(began).Seconds(), r)
	if file := os.Getenv("SOAK_REPORT"); file != "" {
		if err := r.write(file); err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.Logf("again: SOAK_SEED=%d SOAK_TIME=%v", seed, length)
	}
}

// mend ends every fault that may still be.
func (w *world) mend() {
	w.sink.Set(testkit.SMTPOK)
	for _, p := range w.parts {
		if err := cmp.Or(p.database.mend(), p.broker.mend()); err != nil {
			w.wrong("mend: %v", err)
		}
	}
	if err := w.ensureStreams(bus.Limits{}); err != nil {
		w.wrong("streams after the faults: %v", err)
	}
}

// sendAgain is what upstream does when it is told that a stream was lost.
func (w *world) sendAgain() {
	if !w.upstreamAgain.CompareAndSwap(true, false) {
		return
	}
	for _, t := range w.tenants {
		t.mu.Lock()
		again := slices.Clone(t.sent)
		t.mu.Unlock()
		for _, s := range again {
			t.publish(s.m)
		}
	}
}

// rest tells the tenants of those whom events named too early, has time pass for the mails, and waits until nothing is
// under way.
func (w *world) rest() {
	w.upstreamAgain.CompareAndSwap(losesStreams, true)
	w.sendAgain()
	r := rand.New(rand.NewPCG(w.seed, 2000))
	for _, t := range w.tenants {
		for id := range t.late {
			if a := t.json(r, "PUT", "/v1/users/"+id, body{"name": id, "email": id + "@" + t.id + ".example"}); !a.taken() {
				w.wrong("%s %s: %d %s", t.id, id, a.status, a.raw)
			}
		}
	}
	w.atRest(underWay)
	w.later()
	w.atRest(underWay, windows)
	w.gather(false)
}

// later is some hours later: claims whose sender is gone have run out, and whatever is to be tried again is due. Nobody
// sends just now, so that no claim of somebody alive is among them.
func (w *world) later() {
	for _, p := range w.those("notifier") {
		if err := p.stop(); err != nil {
			w.wrong("%v", err)
		}
	}
	testkit.Exec(w, w.pool, `UPDATE notices SET lease_until = lease_until - interval '1 hour', next_try_at = next_try_at - interval '1 hour' WHERE state IN ('closed', 'sending')`)
	for _, p := range w.those("notifier") {
		if err := p.start(); err != nil {
			w.wrong("%v", err)
		}
	}
}

const (
	underWay = `
SELECT concat_ws(', ',
  (SELECT count(*) || ' unpublished' FROM outbox_owed HAVING count(*) > 0),
  (SELECT count(*) || ' operations' FROM operations WHERE finished_at IS NULL HAVING count(*) > 0))`
	windows = `
SELECT concat_ws(', ', (SELECT count(*) || ' windows' FROM notices WHERE state IN ('open', 'closed', 'sending') HAVING count(*) > 0))`
)

func (w *world) atRest(asked ...string) {
	w.Helper()
	calm := func() (bool, string) {
		for _, sql := range asked {
			var left string
			if err := w.pool.QueryRow(w.Context(), sql).Scan(&left); err != nil || left != "" {
				return false, left
			}
		}
		return true, ""
	}
	await(w, 5*time.Minute, "rest", func() (bool, string) {
		if ok, why := calm(); !ok {
			return false, why
		}
		status, err := w.bus.Status(w.Context())
		if err != nil {
			return false, err.Error()
		}
		for _, s := range status {
			for _, c := range s.Consumers {
				if c.Pending > 0 || c.AckPending > 0 {
					return false, c.Consumer + " is behind"
				}
			}
		}
		// Once more: what a consumer has just done may have put something into the outbox.
		return calm()
	})
}
