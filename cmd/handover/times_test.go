package main

import (
	"strings"
	"testing"
	"time"
)

func TestMomentsAreWhatOperatorsWrite(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("there", 2*60*60)
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"2026-03-01T09:00:00Z":           time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC),
		"2026-03-01T09:00:00.5+01:00":    time.Date(2026, 3, 1, 8, 0, 0, 500_000_000, time.UTC),
		"2026-03-01":                     time.Date(2026, 3, 1, 0, 0, 0, 0, zone),
		"2026-03-01 09:00":               time.Date(2026, 3, 1, 9, 0, 0, 0, zone),
		"2026-03-01T09:00":               time.Date(2026, 3, 1, 9, 0, 0, 0, zone),
		"2026-03-01T09:00:07":            time.Date(2026, 3, 1, 9, 0, 7, 0, zone),
		"90s":                            now.Add(-90 * time.Second),
		"1h30m":                          now.Add(-90 * time.Minute),
		"3d":                             now.Add(-72 * time.Hour),
		"1w":                             now.Add(-7 * 24 * time.Hour),
		"0s":                             now,
		"2026-03-01T09:00:00.123456789Z": time.Date(2026, 3, 1, 9, 0, 0, 123456789, time.UTC),
	} {
		if got, err := parseMoment(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "yesterday", "-2h", "-3d", "1.5d", "d", "2026-13-01", "09:00", "99999999999d"} {
		if got, err := parseMoment(text, now); err == nil || !strings.Contains(err.Error(), "RFC 3339") {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	if err := inOrder(moment{now}, moment{now}, "since", "until"); err == nil || !strings.Contains(err.Error(), "--since (2026-03-04T12:00:00+02:00) is not before --until") {
		t.Errorf("an empty period: %v", err)
	}
}
