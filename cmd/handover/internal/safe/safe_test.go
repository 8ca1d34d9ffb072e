package safe

import (
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestNothingThatATerminalObeysGetsThrough(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		// Bytes of all kinds, and the characters that matter among them.
		raw := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) +
			string(rapid.SliceOf(rapid.SampledFrom([]rune("a \x00\x07\x1b\n\x7f\u0085\u009b\u202e\u2066\ufeff→é"))).Draw(t, "characters"))
		for name, shown := range map[string]string{"Text": Text(raw), "Brief": Brief(raw)} {
			for _, r := range shown {
				if !unicode.IsPrint(r) || !utf8.ValidString(shown) {
					t.Fatalf("%s of %q is %q", name, raw, shown)
				}
			}
		}
	})
}

func TestWhatIsVisibleStays(t *testing.T) {
	t.Parallel()
	for said, want := range map[string]string{"Müller → 3": "Müller → 3", "a\x1b[31mb": `a\x1b[31mb`, "\xff": `\xff`, "\u009b": `\u009b`} {
		if got := Text(said); got != want {
			t.Errorf("%q is shown as %q, want %q", said, got, want)
		}
	}
}
