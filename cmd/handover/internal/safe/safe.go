// Package safe makes texts harmless to a terminal: what strangers send, what servers answer, what upstream systems call things.
//
// Invariant: what comes out has no control character (of C0 or C1), no direction mark, nothing but what can be seen, and
// line ends and spaces where they are allowed. Whoever prints such a text, alone or in a table, puts it through here.
//
// It doesn't fail: bytes that are no character are shown as the bytes that they are.
package safe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Text is s on one line, with an escape for all that isn't visible.
func Text(s string) string {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\x%02x`, s[i])
		case unicode.IsPrint(r):
			out = append(out, s[i:i+size]...)
		default:
			quoted := strconv.QuoteRune(r)
			out = append(out, quoted[1:len(quoted)-1]...)
		}
		i += size
	}
	return string(out)
}

// Brief is [Text] of as much of s as a sentence bears, for where all of it stands elsewhere.
func Brief(s string) string {
	const enough = 480
	words := []rune(strings.Join(strings.Fields(s), " "))
	if len(words) > enough {
		words = append(words[:enough], '…')
	}
	return Text(string(words))
}

// Lines is [Text] of each line of s.
func Lines(s string) string {
	lines := strings.Split(s, "\n")
	for i, line := range lines {
		lines[i] = Text(line)
	}
	return strings.Join(lines, "\n")
}

// Writer makes [Lines] of what is written, each time a text of its own.
type Writer struct{ io.Writer }

func (w Writer) Write(text []byte) (int, error) {
	if _, err := io.WriteString(w.Writer, Lines(string(text))); err != nil {
		return 0, err
	}
	return len(text), nil
}

// JSON is JSON that says the same and is visible all of it, but for line ends and spaces between values.
func JSON(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		switch {
		case r == '\n' || unicode.IsPrint(r) && r != utf8.RuneError:
			out = append(out, text[i:i+size]...)
		case r < ' ': // only space may stand there
			out = append(out, ' ')
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default: // as encoding/json reads bytes that are no character
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		i += size
	}
	return out
}

// Line is v as one line of JSON.
func Line(v any) ([]byte, error) {
	var b bytes.Buffer
	out := json.NewEncoder(&b)
	out.SetEscapeHTML(false)
	err := out.Encode(v)
	return JSON(b.Bytes()), err
}
