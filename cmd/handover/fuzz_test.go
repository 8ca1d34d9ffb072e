package main

import (
	"strings"
	"testing"
	"time"
)

// A time flag is read to a time that is written and read to the same, before or at now when it is an age; or refused with
// what to give instead.
func FuzzMoment(f *testing.F) {
	for _, seed := range []string{"2h", "3d", "1w", "65535w", "2026-01-31", "2026-01-31 09:00", "2026-01-31T09:00:00.123456789+23:59", "", "-1h", "1d2h", "0d", "9999-12-31T23:59:59-23:00", "292y", "1e3s", "٣d"} {
		f.Add(seed)
	}
	now := time.Date(2026, 3, 1, 10, 0, 0, 0, time.FixedZone("here", 3600))
	f.Fuzz(func(t *testing.T, text string) {
		at, err := parseMoment(text, now)
		if err != nil {
			if !strings.Contains(err.Error(), "RFC 3339") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if age, ok := parseAge(text); ok && (age < 0 || !at.Equal(now.Add(-age)) || at.After(now)) {
			t.Fatalf("%q is %v, the age %v", text, at, age)
		}
		if at.Year() < 1 || at.Year() > 9999 {
			return // no form of RFC 3339
		}
		if again, err := parseMoment(at.Format(time.RFC3339Nano), now); err != nil || !again.Equal(at) {
			t.Fatalf("%q is %v, which is %v, %v", text, at, again, err)
		}
	})
}
