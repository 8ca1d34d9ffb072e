package letters

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"handover.io/cmd/handover/internal/safe"
	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

const (
	// shownDetail is how much of what is wrong a table has room for, in characters, and shownBody how much of an original
	// is shown, in bytes.
	shownDetail = 90
	shownBody   = 16 << 10
	pageWidth   = 100
)

// Table shows letters one a line. Last names its last column, and last what stands there.
func Table(w io.Writer, letters []journal.Letter, now time.Time, last string, text func(journal.Letter) string) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "KEY\tSTATE\tAGE\tTENANT\tCONSUMER\tREASON\tTRIES\t%s\n", last)
	for _, l := range letters {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%d\t%s\n", l.Key, l.State, Age(now.Sub(l.CreatedAt)), orDash(l.TenantID), safe.Text(l.Consumer),
			safe.Text(l.Reason), l.Tries, cut(safe.Text(text(l)), shownDetail))
	}
	_ = table.Flush()
}

// Groups shows how many there are of each kind.
func Groups(w io.Writer, groups []journal.LetterGroup, now time.Time) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "LETTERS\tSTATE\tTENANT\tCONSUMER\tREASON\tOLDEST\tNEWEST")
	for _, g := range groups {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", g.Count, g.State, orDash(g.TenantID), safe.Text(g.Consumer), safe.Text(g.Reason), Age(now.Sub(g.OldestAt)), Age(now.Sub(g.NewestAt)))
	}
	_ = table.Flush()
}

// Detail is what is wrong without the reason, which stands in a column of its own.
func Detail(l journal.Letter) string {
	switch l.State {
	case journal.Resolved:
		return Outcome(l)
	case journal.Superseded:
		return fmt.Sprintf("refused for another reason since: dead letter %d", *l.SupersededBy)
	case journal.Dropped:
		return "dropped: " + l.Because
	}
	return strings.TrimPrefix(l.Detail, l.Reason+": ")
}

// Outcome is what came of a letter that is resolved.
func Outcome(l journal.Letter) string {
	if l.Outcome == journal.Recorded && l.TasksMoved != nil {
		return "recorded, " + Count(*l.TasksMoved, "task") + " moved"
	}
	return cmp.Or(l.Outcome, "resolved")
}

// Count writes a number with what it counts.
func Count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return strconv.FormatInt(n, 10) + " " + what
}

// Age is how long ago something was, to two units.
func Age(d time.Duration) string {
	d = max(0, d)
	switch days := d / (24 * time.Hour); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case days == 0:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%dd%dh", days, d%(24*time.Hour)/time.Hour)
	}
}

// Unreadable is what is wrong with the original of a letter by itself, as this version reads it: retried, it
// is sure to fail again. It is nil when that depends on what else is known.
func Unreadable(l journal.Letter) (err error) {
	switch l.Stream {
	case event.StreamRoleChanges:
		_, err = event.DecodeAccountRoleChanged(l.Message())
	case event.StreamTaskReassignments:
		_, err = event.DecodeTaskReassigned(l.Message())
	}
	return err
}

// Show shows a letter with its original, and what to do.
func Show(w io.Writer, l journal.Letter, now time.Time) {
	fmt.Fprintf(w, "Dead letter %d: %s, first seen %s (%s ago)\n\n", l.Key, l.State, l.CreatedAt.UTC().Format(time.RFC3339), Age(now.Sub(l.CreatedAt)))
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(table, "  %s\t%s\n", name, safe.Text(value)) }
	row("reason", l.Reason)
	row("why", strings.TrimPrefix(l.Detail, l.Reason+": "))
	if l.State != journal.Dead && l.State != journal.Retried {
		row("what came of it", Detail(l)+", "+l.UpdatedAt.UTC().Format(time.RFC3339))
	}
	row("tried", fmt.Sprintf("%s, %s of them retries; last change %s", Count(int64(l.Retries)+1, "time"), strconv.Itoa(l.Retries), l.UpdatedAt.UTC().Format(time.RFC3339)))
	row("consumer", l.Consumer)
	row("tenant", orDash(l.TenantID))
	row("stood", fmt.Sprintf("%s, sequence %d, subject %s", l.Stream, l.Sequence, l.Subject))
	if l.UserID != "" {
		row("waits for user", l.UserID)
	}
	if l.OperationID != "" {
		row("operation", l.OperationID)
	}
	_ = table.Flush()
	if l.State == journal.Dead {
		fmt.Fprintf(w, "\nWhat to do\n%s\n", wrap(journal.Remedy(l.Reason)))
		retry := fmt.Sprintf("  retry it                handover dead-letters retry %d --apply", l.Key)
		hopeless := Unreadable(l) != nil
		if !hopeless {
			fmt.Fprintln(w, retry)
		}
		fmt.Fprintf(w, "  mend it and send it     handover dead-letters export %d --output mend.ndjson, edit, handover publish mend.ndjson\n", l.Key)
		fmt.Fprintf(w, "  done with it            handover dead-letters drop %d --because '…' --apply\n", l.Key)
		if hopeless {
			fmt.Fprintln(w, retry+" (as it is, it is sure to fail again)")
		}
	}
	fmt.Fprintln(w, "\nOriginal")
	for _, name := range slices.Sorted(maps.Keys(l.Header)) {
		for _, v := range l.Header[name] {
			fmt.Fprintf(w, "  %s: %s\n", safe.Text(name), safe.Text(v))
		}
	}
	fmt.Fprintf(w, "\n%s\n", original(l.Body))
}

// original is a body as a person can read it: JSON with line breaks, anything else quoted.
func original(body []byte) string {
	if len(body) == 0 {
		return "  (an empty body)"
	}
	var pretty bytes.Buffer
	if !utf8.Valid(body) || json.Indent(&pretty, bytes.TrimSpace(body), "  ", "  ") != nil {
		shown := body[:min(len(body), shownBody)]
		return fmt.Sprintf("  %s of no JSON:\n  %s%s", Count(int64(len(body)), "byte"), strconv.Quote(string(shown)), more(len(body)-len(shown)))
	}
	text := safe.JSON(pretty.Bytes())
	shown := text[:min(len(text), shownBody)]
	return "  " + strings.ToValidUTF8(string(shown), "") + more(len(text)-len(shown))
}

func more(bytes int) string {
	if bytes == 0 {
		return ""
	}
	return fmt.Sprintf("\n  … and %d bytes more; dead-letters export has all of it", bytes)
}

// Full is a letter with its original, for programs.
type Full struct {
	journal.Letter
	Remedy     string              `json:"remedy"`
	Header     map[string][]string `json:"header"`
	BodyJSON   json.RawMessage     `json:"body_json,omitempty"` // one of these three
	Body       string              `json:"body,omitempty"`
	BodyBase64 string              `json:"body_base64,omitempty"`
}

// FullOf is the letter with its original in the form that it has.
func FullOf(l journal.Letter) Full {
	f := Full{Letter: l, Remedy: journal.Remedy(l.Reason), Header: l.Header}
	switch {
	case !utf8.Valid(l.Body):
		f.BodyBase64 = base64.StdEncoding.EncodeToString(l.Body)
	case json.Valid(l.Body):
		f.BodyJSON = l.Body
	default:
		f.Body = string(l.Body)
	}
	return f
}

// wrap breaks a text into lines of a page, indented.
func wrap(s string) string {
	var out strings.Builder
	width := 0
	for word := range strings.FieldsSeq(s) {
		n := utf8.RuneCountInString(word) + 1
		if width > 0 && width+n > pageWidth {
			out.WriteByte('\n')
			width = 0
		}
		if width == 0 {
			out.WriteByte(' ')
		}
		out.WriteString(" " + word)
		width += n
	}
	return out.String()
}

func cut(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return safe.Text(s)
}
