package notify

import (
	"bytes"
	"mime/quotedprintable"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestQuotedPrintableIsWhatTheStandardLibraryWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOf(rapid.OneOf(
			rapid.SampledFrom([]string{" ", "  ", "\n", " \n", "=", "é", ".", strings.Repeat("x", 70), strings.Repeat("y", 74), strings.Repeat("z ", 40)}),
			rapid.String(),
		)).Draw(t, "text"), "")
		text = strings.NewReplacer("\r", "", "\t", "").Replace(text) // of which it makes something else; mails have neither
		var want bytes.Buffer
		w := quotedprintable.NewWriter(&want)
		_, _ = w.Write([]byte(strings.ReplaceAll(text, "\n", "\r\n")))
		_ = w.Close()
		if got := quotedPrintable(nil, text); string(got) != want.String() {
			t.Fatalf("%q\nis written\n%s\nwant\n%s", text, got, want.String())
		}
	})
}
