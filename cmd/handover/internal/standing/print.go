package standing

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"handover.io/cmd/handover/internal/parts"
	"handover.io/cmd/handover/internal/safe"
)

// Print shows everything to a person: what needs them first.
func (s Standing) Print(w io.Writer) {
	fmt.Fprintf(w, "%s  database %s, broker %s\n", s.At.Format("2006-01-02 15:04:05 MST"), s.Database, s.Broker)
	if len(s.Attention) == 0 {
		fmt.Fprintln(w, "All is well.")
	} else {
		fmt.Fprintln(w, "Needs attention:")
		for _, a := range s.Attention {
			fmt.Fprintln(w, "  -", a)
		}
	}
	if s.Database.Answers || s.Broker.Answers {
		s.printParts(w)
	}
	s.printTroubles(w)
	if s.Database.Answers {
		hold := ""
		if s.Notices.Hold != nil {
			hold = "; on hold"
		}
		fmt.Fprintf(w, "\nMail windows: %d open, %d due, %d ambiguous%s\n", s.Notices.Open, s.Notices.Due, s.Notices.Ambiguous, hold)
	}
	table(w, len(s.Streams) > 0, "STREAM\tMESSAGES\tSIZE\tFULL\tLAST SEQUENCE\tCREATED", func(row func(string, ...any)) {
		for _, stream := range s.Streams {
			row("%s\t%d\t%s\t%.0f%%\t%d\t%s", stream.Stream, stream.Messages, size(stream.Bytes), 100*fullness(stream), stream.LastSeq, stamp(stream.Created))
		}
	})
	table(w, len(s.Operations) > 0, "OPERATION\tTENANT\tKIND\tSTATE\tAPPLIED\tREFUSED\tTASKS MOVED\tSINCE", func(row func(string, ...any)) {
		for _, o := range s.Operations {
			row("%s\t%s\t%s\t%s\t%d of %d\t%d\t%d\t%s", o.ID, o.TenantID, o.Kind, o.State, o.Applied, o.Changes, o.Refused, o.TasksMoved, s.since(o.AcceptedAt))
		}
	})
	table(w, len(s.Runs) > 0, "OPERATOR'S RUN\tCOMMAND\tBY\tSINCE\tLAST SAID\tHOW FAR", func(row func(string, ...any)) {
		for _, r := range s.Runs {
			row("%d\t%s\t%s\t%s\t%s ago\t%s", r.ID, r.Command, r.Actor, s.since(r.StartedAt), s.since(r.UpdatedAt), r.Cursor)
		}
	})
	table(w, len(s.DeadLetters) > 0, "DEAD LETTERS\tTENANT\tCONSUMER\tREASON\tOLDEST", func(row func(string, ...any)) {
		for _, d := range s.DeadLetters {
			row("%d\t%s\t%s\t%s\t%s", d.Count, cmp.Or(d.TenantID, "-"), d.Consumer, d.Reason, s.since(d.OldestAt))
		}
	})
	table(w, len(s.Notices.Undecided) > 0, "AMBIGUOUS MAIL\tTENANT\tRECIPIENT\tACCOUNT\tOPENED\tSUBJECT", func(row func(string, ...any)) {
		for _, n := range s.Notices.Undecided {
			row("%d\t%s\t%s\t%s\t%s\t%s", n.ID, n.TenantID, n.RecipientID, n.AccountID, s.since(n.OpenedAt), n.Subject)
		}
	})
}

// String says whether it answers, and how fast.
func (s Server) String() string {
	if !s.Answers {
		return "does not answer"
	}
	return "answers in " + time.Duration(s.Seconds*float64(time.Second)).Round(time.Millisecond).String()
}

// printParts shows what waits for each part, what it does, and where it runs.
func (s Standing) printParts(w io.Writer) {
	table(w, true, "PART\tWAITING\tAT WORK\tLAG\tLAST MINUTE\tRUNS IN\tSINCE\tHEARD OF", func(row func(string, ...any)) {
		for _, p := range Parts {
			waiting, atWork, lag := "-", "-", "-"
			if work, known := s.work(p.Name); known {
				waiting = fmt.Sprint(work.Waiting)
				if isConsumer(p.Name) {
					atWork = fmt.Sprint(work.AtWork)
				}
				if work.OldestAt != nil {
					lag = work.lag()
				}
			}
			in, since, heard := "?", "-", "-"
			if s.Database.Answers {
				in, since, heard = s.where(p.Name)
			}
			row("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", p.Name, waiting, atWork, lag, s.rate(p.Name), in, since, heard)
		}
	})
}

// where is in which processes a part runs, since when the longest, and when the latest was heard of.
func (s Standing) where(part string) (in, since, heard string) {
	now, last := s.running(part)
	switch {
	case last == nil:
		return "nobody", "-", "never"
	case len(now) == 0 && last.Stopped:
		return "nobody; was stopped in " + last.Process, "-", s.since(last.SeenAt) + " ago"
	case len(now) == 0:
		return "nobody; is gone from " + last.Process, "-", s.since(last.SeenAt) + " ago"
	}
	names := make([]string, 0, 2)
	first := now[0].StartedAt
	for _, r := range now {
		if r.StartedAt.Before(first) {
			first = r.StartedAt
		}
		if len(names) < cap(names) {
			names = append(names, r.Process)
		}
	}
	in = strings.Join(names, ", ")
	if more := len(now) - len(names); more > 0 {
		in += fmt.Sprintf(" and %d more", more)
	}
	return in, s.since(first), s.since(last.SeenAt) + " ago"
}

// rate is what a part did in the last minute, in all processes.
func (s Standing) rate(part string) string {
	now, _ := s.running(part)
	var said []string
	for _, kind := range []struct{ what, name string }{
		{parts.Changes, "changes"}, {parts.TasksMoved, "tasks"}, {parts.Announcements, "announcements"}, {parts.Mails, "mails"},
	} {
		n := 0.0
		for _, r := range now {
			n += r.Rates[kind.what]
		}
		if n > 0 {
			said = append(said, perSecond(n)+" "+kind.name+"/s")
		}
	}
	if len(said) == 0 {
		return "-"
	}
	return strings.Join(said, ", ")
}

func perSecond(n float64) string {
	if n < 10 {
		return fmt.Sprintf("%.2g", n)
	}
	return fmt.Sprintf("%.0f", n)
}

// printTroubles shows the last one of each part, and how often there was any, over all processes.
func (s Standing) printTroubles(w io.Writer) {
	last := map[string]parts.Report{}
	times := map[string]int64{}
	var names []string
	for _, r := range s.Parts {
		if r.Trouble == nil {
			continue
		}
		before, seen := last[r.Part]
		if !seen {
			names = append(names, r.Part)
		}
		if !seen || r.Trouble.At.After(before.Trouble.At) {
			last[r.Part] = r
		}
		times[r.Part] += r.Errors
	}
	table(w, len(names) > 0, "LAST TROUBLE\tTIMES\tLAST\tNOW\tIN\tWHAT", func(row func(string, ...any)) {
		for _, name := range names {
			r := last[name]
			now := "still so, for " + s.since(r.Trouble.Since)
			switch {
			case !r.Running:
				now = "that process has ended"
			case r.Trouble.WellSince != nil:
				now = "well for " + s.since(*r.Trouble.WellSince)
			}
			row("%s\t%d\t%s ago\t%s\t%s\t%s", name, times[name], s.since(r.Trouble.At), now, r.Process, safe.Brief(r.Trouble.Error))
		}
	})
}

// harmless is what is said with the texts made harmless: they may be a stranger's.
func harmless(said []any) []any {
	out := slices.Clone(said)
	for i, v := range out {
		if text, is := v.(string); is {
			out[i] = safe.Text(text)
		}
	}
	return out
}

// table prints a table after an empty line, or nothing.
func table(w io.Writer, show bool, head string, rows func(row func(format string, args ...any))) {
	if !show {
		return
	}
	fmt.Fprintln(w)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, head)
	rows(func(format string, args ...any) { fmt.Fprintf(out, format+"\n", harmless(args)...) })
	_ = out.Flush()
}

func (s Standing) since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return s.age(t)
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.Format("2006-01-02 15:04:05")
}

func size(bytes uint64) string {
	n := float64(bytes)
	for _, unit := range []string{"B", "KiB", "MiB"} {
		if n < 1024 {
			return fmt.Sprintf("%.3g %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.3g GiB", n)
}
