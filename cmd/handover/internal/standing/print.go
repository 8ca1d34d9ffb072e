package standing

import (
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// Print shows everything to a person.
func (s Standing) Print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "STREAM\tMESSAGES\tSIZE\tCONSUMER\tWAITING\tAT WORK\tOLDEST")
	for _, stream := range s.Streams {
		fmt.Fprintf(table, "%s\t%d\t%s", stream.Stream, stream.Messages, size(stream.Bytes))
		for i, c := range stream.Consumers {
			if i > 0 {
				fmt.Fprint(table, "\n\t\t")
			}
			fmt.Fprintf(table, "\t%s\t%d\t%d\t%s", c.Consumer, c.Pending, c.AckPending, s.since(c.OldestPending))
		}
		if len(stream.Consumers) == 0 {
			fmt.Fprint(table, "\t-\t\t\t")
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush()

	var oldest, due time.Time
	if s.Outbox.OldestAt != nil {
		oldest = *s.Outbox.OldestAt
	}
	if s.Notices.OldestDue != nil {
		due = *s.Notices.OldestDue
	}
	fmt.Fprintf(w, "\nOutbox: %d unpublished, oldest %s\n", s.Outbox.Unpublished, s.since(oldest))
	fmt.Fprintf(w, "Mail windows: %d open, %d due, oldest %s, %d ambiguous\n", s.Notices.Open, s.Notices.Due, s.since(due), s.Notices.Ambiguous)
	if len(s.DeadLetters) > 0 {
		table = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "\nDEAD LETTERS\tTENANT\tCONSUMER\tREASON\tOLDEST")
		for _, d := range s.DeadLetters {
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\n", d.Count, d.TenantID, d.Consumer, d.Reason, s.since(d.OldestAt))
		}
		_ = table.Flush()
	}
	if len(s.Notices.Undecided) > 0 {
		table = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "\nAMBIGUOUS MAIL\tTENANT\tRECIPIENT\tACCOUNT\tOPENED\tSUBJECT")
		for _, n := range s.Notices.Undecided {
			fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\n", n.ID, n.TenantID, n.RecipientID, n.AccountID, s.since(n.OpenedAt), n.Subject)
		}
		_ = table.Flush()
	}
	if len(s.Operations) > 0 {
		table = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "\nOPERATION\tTENANT\tKIND\tSTATE\tAPPLIED\tREFUSED\tTASKS MOVED\tSINCE")
		for _, o := range s.Operations {
			fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d of %d\t%d\t%d\t%s\n", o.ID, o.TenantID, o.Kind, o.State, o.Applied, o.Changes, o.Refused, o.TasksMoved, s.since(o.AcceptedAt))
		}
		_ = table.Flush()
	}
	if len(s.Attention) == 0 {
		fmt.Fprintln(w, "\nAll is well.")
		return
	}
	fmt.Fprintln(w, "\nNeeds attention:")
	for _, a := range s.Attention {
		fmt.Fprintln(w, "  -", a)
	}
}

func (s Standing) since(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return s.age(t).String()
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
