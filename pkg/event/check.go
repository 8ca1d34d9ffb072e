package event

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of texts, in characters; of envelope attributes, in bytes.
const (
	MaxIDLength    = 128
	MaxTitleLength = 500
	MaxURLLength   = 2000

	maxAttribute = 512
	// maxRevision is the greatest whole number that every reader of JSON has exactly.
	maxRevision = 1<<53 - 1
)

// ValidTenantID tells whether s can be a tenant id: [a-z0-9][a-z0-9-]{0,62}.
func ValidTenantID(s string) bool {
	if len(s) == 0 || len(s) > 63 || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// CheckID says what is wrong with an upstream id, or "" when nothing is: 1 to 128 characters of valid UTF-8, no control
// characters, not "." or "..".
func CheckID(s string) string {
	switch {
	case s == "":
		return "is empty; give the id of the upstream system, 1 to 128 characters"
	case !utf8.ValidString(s):
		return "is not valid UTF-8"
	case utf8.RuneCountInString(s) > MaxIDLength:
		return "is longer than 128 characters"
	case s == "." || s == "..":
		return `must not be "." or ".."`
	case strings.ContainsFunc(s, isControl):
		return "contains a control character"
	}
	return ""
}

func isControl(r rune) bool { return r < 0x20 || (r >= 0x7f && r < 0xa0) }

// Micro is t as it is kept everywhere: UTC, cut to microseconds, which is what PostgreSQL stores.
func Micro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

func checkEventID(id string) string {
	switch {
	case strings.TrimSpace(id) == "":
		return "is required: a value that no other event of this source has"
	case len(id) > maxAttribute:
		return "is longer than 512 bytes"
	case !utf8.ValidString(id):
		return "is not valid UTF-8"
	case strings.ContainsFunc(id, isControl):
		return "contains a control character"
	}
	return ""
}

// checkSource leaves the text as it is: a URI that is parsed and written again can be another text, and then one event
// would have two names.
func checkSource(source string) string {
	if strings.TrimSpace(source) == "" || len(source) > maxAttribute {
		return "is required: a URI reference of at most 512 bytes that names the publisher"
	}
	if _, err := url.Parse(source); err != nil || !utf8.ValidString(source) || strings.ContainsFunc(source, isControl) {
		return "is not a URI reference"
	}
	return ""
}

// checks keeps the first thing wrong with an event, and refuses it for reason.
type checks struct {
	reason string
	wrong  *Invalid
}

func (c *checks) fail(field, format string, args ...any) {
	if c.wrong == nil {
		c.wrong = &Invalid{Reason: c.reason, Field: field, Remedy: fmt.Sprintf(format, args...)}
	}
}

// err is c.wrong without the trap of a nil pointer in an interface.
func (c *checks) err() error {
	if c.wrong == nil {
		return nil
	}
	return c.wrong
}

func (c *checks) that(field, wrong string) {
	if wrong != "" {
		c.fail(field, "%s", wrong)
	}
}

func (c *checks) tenant(id string) {
	if !ValidTenantID(id) {
		c.fail("data.tenant_id", "must match [a-z0-9][a-z0-9-]{0,62}")
	}
}

func (c *checks) id(field, id string) { c.that(field, CheckID(id)) }

func (c *checks) idOrNone(field, id string) {
	if id != "" {
		c.id(field, id)
	}
}

func (c *checks) oneOf(field, value string, values []string) {
	if !slices.Contains(values, value) {
		c.fail(field, "must be one of %s, not %s", strings.Join(values, ", "), quote(value))
	}
}

// attribute is the id or source of an event that was checked when it came in.
func (c *checks) attribute(field, s string) {
	if s == "" || utf8.RuneCountInString(s) > maxAttribute || strings.ContainsFunc(s, isControl) {
		c.fail(field, "must be 1 to %d characters, none of them control characters", maxAttribute)
	}
}

// text has no control characters that a database or a mail can't hold, and is not endless.
func (c *checks) text(field, s string, limit int) {
	switch {
	case !utf8.ValidString(s):
		c.fail(field, "is not valid UTF-8")
	case strings.Contains(s, "\x00"):
		c.fail(field, "contains the character U+0000")
	case utf8.RuneCountInString(s) > limit:
		c.fail(field, "is longer than %d characters", limit)
	}
}

// time must be there and be one that means something: nobody kept tasks here before 1970.
func (c *checks) time(field string, t time.Time) {
	switch year := t.UTC().Year(); {
	case t.IsZero():
		c.fail(field, "is required: when it occurred, RFC 3339")
	case year < 1970 || year > 9999:
		c.fail(field, "is not between the years 1970 and 9999")
	}
}

// checkTenant holds the tenant of the data against that of the subject, which wins.
func checkTenant(m Message, tenant string) error {
	if m.Subject == "" || TenantOf(m.Subject) == tenant {
		return nil
	}
	return &Invalid{Reason: ReasonTenantMismatch, Field: "data.tenant_id",
		Remedy: "is not the tenant of the subject " + m.Subject + ", which wins"}
}
