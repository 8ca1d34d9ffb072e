package notify

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode"

	"handover.io/pkg/event"
)

// Longest texts in a mail, in characters. What people type is longer now and then; the whole stands where the link leads.
const (
	maxName  = 100
	maxTitle = 200
)

// clean makes a text that somebody typed fit for one line: no control characters, nothing that reorders what follows it
// (a name with U+202E could otherwise turn the sentence around it), valid UTF-8.
func clean(s string) string {
	if isClean(s) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n', r == '\r', r == '\t', r == '\u2028', r == '\u2029', r == '\u0085':
			return ' '
		case unicode.IsControl(r), r == '\ufeff',
			r == '\u061c', r == '\u200e', r == '\u200f', r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	return strings.Join(strings.Fields(s), " ")
}

// isClean tells of most texts that clean would change nothing: visible ASCII with single spaces between.
func isClean(s string) bool {
	space := true
	for i := range len(s) {
		c := s[i]
		if c < ' ' || c > '~' || c == ' ' && space {
			return false
		}
		space = c == ' '
	}
	return !space || s == ""
}

// cut keeps at most n characters, with an ellipsis in place of the rest.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return strings.TrimRight(string(r[:n-1]), " ") + "…"
}

func name(known, id string) string { return cut(clean(cmp.Or(known, id)), maxName) }

func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return grouped(n) + " " + thing + "s"
}

// grouped writes thousands with commas.
func grouped(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// why is the reason of a move in words; empty for one that a later version may know.
func why(t told) string {
	role := "a role"
	if t.role != "" {
		role = "the " + name(t.roleName, strings.ReplaceAll(t.role, "_", " "))
	}
	person := name(t.fromName, cmp.Or(t.from, "the previous owner"))
	switch t.reason {
	case event.ByAPI:
		return role + " was changed by the API integration"
	case event.ByProfile:
		return role + " was changed in the account profile"
	case event.BySegment:
		return role + " was changed by a segment edit"
	case event.ByUserDisabled:
		return person + " was disabled"
	case event.ByUserDeleted:
		return person + " was deleted"
	case event.ByResourcesReassigned:
		return "the resources of " + person + " were reassigned"
	case event.ByAssigned:
		return "assigned to you"
	}
	return ""
}

// zone is the recipient's time zone, or UTC where it is unknown.
func zone(name string) *time.Location {
	if known, ok := zones.Load(name); ok {
		return known.(*time.Location)
	}
	if name == "" || name == "Local" {
		return time.UTC
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return time.UTC
	}
	zones.Store(name, loc)
	return loc
}

// zones are those asked for so far: a few hundred at most, since only names that exist are kept. Loading one reads a file.
var zones sync.Map

// day writes a due time as its recipient reads it; midnight there means the day as a whole.
func day(t time.Time, in *time.Location) string {
	t = t.In(in)
	if t.Hour() == 0 && t.Minute() == 0 {
		return t.Format("Mon 2 Jan 2006")
	}
	return t.Format("Mon 2 Jan 2006, 15:04")
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
