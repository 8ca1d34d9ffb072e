package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// momentHelp is what flags that take a point in time say of it.
const momentHelp = "RFC 3339, an age such as 2h or 3d, or a date and time of this machine such as 2026-01-31 or 2026-01-31 09:00"

var localForms = []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05", "2006-01-02T15:04", "2006-01-02T15:04:05"}

// moment reads a point in time as people give it to a flag. Now is what an age counts back from: the clock of the
// database, since that one's times are compared with it. A date and time without a zone is one of zone.
func moment(flag, value string, now time.Time, zone *time.Location) (time.Time, error) {
	text := strings.TrimSpace(value)
	at, err := time.Parse(time.RFC3339Nano, text)
	for i := 0; err != nil && i < len(localForms); i++ {
		at, err = time.ParseInLocation(localForms[i], text, zone)
	}
	if err == nil {
		// What PostgreSQL has no room for, or JSON no form.
		if year := at.UTC().Year(); year < 1 || year > 9999 {
			return time.Time{}, fmt.Errorf("--%s: %q is not between the years 1 and 9999", flag, value)
		}
		return at, nil
	}
	if age, ok := parseAge(text); ok {
		return now.Add(-age), nil
	}
	return time.Time{}, fmt.Errorf("--%s: %q is no time; give %s", flag, value, momentHelp)
}

// maxAge is the longest age: a century.
const maxAge = 100 * 365 * 24 * time.Hour

// parseAge reads an age of at most a century: days, then what Go takes for a duration, such as 3d, 1d12h or 90m.
func parseAge(text string) (time.Duration, bool) {
	var age time.Duration
	if days, rest, found := strings.Cut(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, false
		}
		age, text = time.Duration(n)*24*time.Hour, rest
	}
	if text != "" || age == 0 {
		more, err := time.ParseDuration(text)
		if err != nil || more < 0 || more > maxAge {
			return 0, false
		}
		age += more
	}
	return age, age <= maxAge
}
