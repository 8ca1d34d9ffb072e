package operation

import (
	"errors"
	"testing"

	"handover.io/internal/roster"
)

// A cursor is one that a page ended with, character by character, or it is refused.
func FuzzCursor(f *testing.F) {
	for _, seed := range []string{"1767225600000000.op-1", "", ".", "+1.x", "-1.a", "9223372036854775807.y", "-9223372036854775808.y", "1.a\x00b", "01.a", "1.a.b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		at, id, err := openCursor(cursor)
		var invalid *roster.Invalid
		switch {
		case err == nil && (cursorAt(at, id) != cursor || at.Year() < 1 || at.Year() > 9999):
			t.Fatalf("%q is %v %q, which is %q", cursor, at, id, cursorAt(at, id))
		case err != nil && (!errors.As(err, &invalid) || invalid.Field != "cursor"):
			t.Fatalf("%q: %v", cursor, err)
		}
	})
}
