package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// moment is the value of a flag that names a time. The zero value is none.
type moment struct{ time.Time }

// momentHelp explains such flags, for the long help of a command.
const momentHelp = `Times are RFC 3339 (2026-03-01T09:00:00Z), local (2026-03-01, "2026-03-01 09:00"), or an age (90s, 2h, 3d, 1w).`

var localLayouts = []string{"2006-01-02T15:04:05", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02 15:04", time.DateOnly}

// parseMoment reads a time as an operator gives it: RFC 3339, a date or date-time where now is local, or an age before now.
func parseMoment(s string, now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	for _, layout := range localLayouts {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	if age, ok := parseAge(s); ok {
		return now.Add(-age), nil
	}
	return time.Time{}, fmt.Errorf("%q is no time: give RFC 3339 such as 2026-03-01T09:00:00Z, a local 2026-03-01 or 2026-03-01T09:00, or an age such as 90s, 2h, 3d or 1w", s)
}

// parseAge reads a duration that also knows days and weeks, of 24 hours each.
func parseAge(s string) (time.Duration, bool) {
	for unit, length := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if n, found := strings.CutSuffix(s, unit); found {
			units, err := strconv.ParseUint(n, 10, 16)
			age := time.Duration(units) * length
			return age, err == nil && age/length == time.Duration(units) // what doesn't fit is more than 290 years
		}
	}
	age, err := time.ParseDuration(s)
	return age, err == nil && age >= 0
}

// String implements pflag.Value.
func (m *moment) String() string {
	if m.IsZero() {
		return ""
	}
	return m.Format(time.RFC3339Nano)
}

// Set implements pflag.Value.
func (m *moment) Set(s string) (err error) {
	m.Time, err = parseMoment(s, time.Now())
	return err
}

// Type implements pflag.Value: how the help names the value.
func (m *moment) Type() string { return "time" }

// momentFlag adds a flag that names a time.
func momentFlag(c *cobra.Command, to *moment, name, usage string) { c.Flags().Var(to, name, usage) }

// inOrder refuses a period that ends before it begins; names are those of its flags.
func inOrder(since, until moment, names ...string) error {
	if since.IsZero() || until.IsZero() || since.Before(until.Time) {
		return nil
	}
	return fmt.Errorf("--%s (%s) is not before --%s (%s)", names[0], since.String(), names[1], until.String())
}
