package web

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", lineLimit+1)
	longest := strings.Repeat("y", lineLimit-1)
	type read struct {
		Number int
		Text   string
		Err    error
	}
	for name, c := range map[string]struct {
		in   string
		want []read
	}{
		"nothing":                        {"", nil},
		"blank lines count, and no more": {"\n\n a\r\n\nb\n", []read{{3, "a", nil}, {5, "b", nil}}},
		"no line break at the end":       {"a\nb", []read{{1, "a", nil}, {2, "b", nil}}},
		"a long line is passed over":     {"a\n" + long + "\nb\n", []read{{1, "a", nil}, {2, "", errLineTooLong}, {3, "b", nil}}},
		"a long line at the end":         {long, []read{{1, "", errLineTooLong}}},
		"the longest line":               {longest + "\nb", []read{{1, longest, nil}, {2, "b", nil}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []read
			l := newLines(strings.NewReader(c.in))
			for {
				line, err := l.next()
				if errors.Is(err, io.EOF) {
					break
				}
				got = append(got, read{l.number, string(line), err})
			}
			same := cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) })
			if diff := cmp.Diff(c.want, got, same); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLinesTellsABrokenBodyFromItsEnd(t *testing.T) {
	t.Parallel()
	l := newLines(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(io.ErrUnexpectedEOF)))
	if line, err := l.next(); err != nil || string(line) != "a" {
		t.Fatalf("%q, %v", line, err)
	}
	if line, err := l.next(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("half a line was taken for a whole one: %q, %v", line, err)
	}
}
