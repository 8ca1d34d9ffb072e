package standing

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"handover.io/cmd/handover/internal/parts"
	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/bus"
	"handover.io/pkg/event"
)

const (
	// late is how old waiting work may be before somebody should look: far more than it takes, also during a bulk edit's
	// single changes; bulk work itself may queue for as long as it needs. It is also for how long a part may be in trouble.
	late     = 30 * time.Second
	lateBulk = 30 * time.Minute
	lateMail = time.Minute
	// cutOff is how long a run of an operator may say nothing.
	cutOff = 2 * time.Minute
	// full is the share of its limit from which a stream needs room.
	full = 0.8
)

// Part is one that every installation needs.
type Part struct {
	Name, Only string // as the parts are reported, and as handover run --only takes them
	late       time.Duration
	work       string // what waits for it
	look       string // what to ask when it runs and is late
}

// Parts are all of them, in the order in which the work flows.
var Parts = []Part{
	{Name: "api", Only: "api"},
	{Name: "expander", Only: "api", late: lateBulk, work: "operation", look: "the log of the API says why"},
	{Name: "relay", Only: "relay", late: late, work: "message", look: "is the broker there and not full? one whose disk was full takes nothing until it is restarted"},
	{Name: event.ConsumerReassigner, Only: "reassigner", late: late, work: "role change", look: "is the database slow, or a batch failing?"},
	{Name: event.ConsumerReassignerBulk, Only: "reassigner", late: lateBulk, work: "role change", look: "is the database slow, or a batch failing?"},
	{Name: event.ConsumerNotifier, Only: "notifier", late: late, work: "announcement", look: "is the database slow, or a batch failing?"},
	{Name: "sender", Only: "notifier", late: lateMail, work: "mail", look: "does the mail server take mails?"},
	{Name: "watch", Only: "relay"}, // of the streams
}

// judge lists what needs somebody, the causes before the consequences.
func (s Standing) judge() []string {
	out := []string{}
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, harmless(args)...)) }
	if !s.Database.Answers {
		say("the database doesn't answer (%s): start it, or mend what it says; everything waits for it and goes on by itself", safe.Brief(s.Database.Problem))
	}
	if !s.Broker.Answers {
		say("the broker doesn't answer (%s): start it, or mend what it says; changes are accepted and wait, and go on by themselves", safe.Brief(s.Broker.Problem))
	}
	s.judgeParts(say)
	s.judgeOthers(say)
	s.judgeLetters(say)
	s.judgeMails(say)
	for _, stream := range s.Streams {
		if share := fullness(stream); share > full {
			say("the stream %s is %.0f%% full, and takes no more when it is full: RUNBOOK.md, Disk full, says how to make room", stream.Stream, 100*share)
		}
	}
	for _, r := range s.Runs {
		if s.At.Sub(r.UpdatedAt) > cutOff {
			say("%s (run %d of %s) has said nothing for %s: if it was cut off, give it again; replay goes on with --resume %d", r.Command, r.ID, r.Actor, s.age(r.UpdatedAt), r.ID)
		}
	}
	return out
}

// judgeParts: one line for each part, about the first thing that is wrong with it.
func (s Standing) judgeParts(say func(string, ...any)) {
	for _, p := range Parts {
		now, last := s.running(p.Name)
		w, known := s.work(p.Name)
		waits := w.Waiting+w.AtWork > 0
		switch {
		case s.Database.Answers && len(now) == 0 && waits:
			heard := "never heard of"
			if last != nil {
				heard = fmt.Sprintf("last heard of %s ago in %s", s.age(last.SeenAt), last.Process)
			}
			say("nobody runs the %s (%s), and %s for it, the oldest for %s: start it with handover run --only %s",
				p.Name, heard, countWaiting(w, p.work), w.lag(), p.Only)
		case s.Broker.Answers && !known && isConsumer(p.Name):
			say("there is no consumer %s: it was never run; start it with handover run --only %s", p.Name, p.Only)
		case p.Name == "sender" && s.Notices.Hold != nil: // which is said apart
		case waits && p.late > 0 && w.Lag > p.late.Seconds():
			why := p.look
			if t := s.trouble(now, 0); t != nil {
				why = "it says: " + safe.Brief(t.Error)
			}
			say("the %s is behind by %s, %s: %s", p.Name, w.lag(), countWaiting(w, p.work), why)
		case s.Database.Answers && s.Broker.Answers:
			if t := s.trouble(now, late); t != nil {
				say("the %s is in trouble for %s, and goes on trying: %s", p.Name, s.age(t.Since), safe.Brief(t.Error))
			}
		}
	}
}

// judgeOthers is about what isn't one of Parts: connections, our own servers, whatever else runs in a process.
func (s Standing) judgeOthers(say func(string, ...any)) {
	if !s.Database.Answers || !s.Broker.Answers {
		return // which says why
	}
	for _, r := range s.Parts {
		known := slices.ContainsFunc(Parts, func(p Part) bool { return p.Name == r.Part })
		if t := s.trouble([]parts.Report{r}, late); !known && r.Running && t != nil {
			say("the %s of %s is in trouble for %s, and goes on trying: %s", r.Part, r.Process, s.age(t.Since), safe.Brief(t.Error))
		}
	}
}

// trouble is the longest that the processes are in, if any has been for that long.
func (s Standing) trouble(of []parts.Report, atLeast time.Duration) *parts.Trouble {
	var worst *parts.Trouble
	for _, r := range of {
		if t := r.Trouble; t != nil && t.WellSince == nil && t.At.Sub(t.Since) >= atLeast && (worst == nil || t.Since.Before(worst.Since)) {
			worst = t
		}
	}
	return worst
}

func (s Standing) judgeLetters(say func(string, ...any)) {
	for _, d := range s.DeadLetters {
		newest := ""
		if d.Count > 1 {
			newest = "the newest: "
		}
		where := "without a tenant"
		if d.TenantID != "" {
			where = "in tenant " + d.TenantID
		}
		say("%s of %s %s: %s (%s%s): handover dead-letters list%s --reason %s shows them, dead-letters retry or drop settles them",
			count(d.Count, "dead letter"), d.Consumer, where, d.Reason, newest, safe.Brief(strings.TrimPrefix(d.Newest, d.Reason+": ")), flag("tenant", d.TenantID), d.Reason)
	}
}

func (s Standing) judgeMails(say func(string, ...any)) {
	if h := s.Notices.Hold; h != nil {
		say("mails are on hold for %s, by %s: %s; handover notices release shows what would go out, and lets it go", s.age(h.Since), h.By, safe.Brief(h.Reason))
	}
	if n := s.Notices.Ambiguous; n > 0 {
		say("%s may or may not have arrived, and none is sent twice by itself: handover notices list --state ambiguous shows them; ask the recipients, then notices settle or resend", count(int64(n), "mail"))
	}
}

// flag is one of a command, or nothing for a letter whose subject names no tenant.
func flag(name, value string) string {
	if value == "" {
		return ""
	}
	return " --" + name + " " + value
}

func isConsumer(part string) bool {
	return part == event.ConsumerReassigner || part == event.ConsumerReassignerBulk || part == event.ConsumerNotifier
}

func fullness(s bus.StreamStatus) float64 {
	if s.MaxBytes <= 0 {
		return 0
	}
	return float64(s.Bytes) / float64(s.MaxBytes)
}

func (w Work) lag() string { return short(time.Duration(w.Lag * float64(time.Second))) }

// short is an age in its two largest units.
func short(d time.Duration) string {
	n := int64(max(0, d).Round(time.Second) / time.Second)
	for _, unit := range []struct {
		seconds      int64
		large, small string
	}{{24 * 3600, "d", "h"}, {3600, "h", "m"}, {60, "m", "s"}} {
		if n < unit.seconds {
			continue
		}
		out := fmt.Sprint(n/unit.seconds) + unit.large
		per := map[string]int64{"h": 3600, "m": 60, "s": 1}[unit.small]
		if rest := n % unit.seconds / per; rest > 0 {
			out += fmt.Sprint(rest) + unit.small
		}
		return out
	}
	return fmt.Sprint(n) + "s"
}

func countWaiting(w Work, what string) string {
	n := w.Waiting + w.AtWork
	if n == 1 {
		return "1 " + what + " waits"
	}
	return fmt.Sprintf("%d %ss wait", n, what)
}

func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
