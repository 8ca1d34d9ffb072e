package web

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// lineLimit is the longest line of an import: far more than any row of ours may be.
const lineLimit = 1 << 20

// errLineTooLong is about one line; reading goes on after it.
var errLineTooLong = errors.New("is longer than 1 MB")

// lines reads line by line in bounded memory.
type lines struct {
	r      *bufio.Reader
	number int // of the line last read, from 1
	buf    []byte
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next line that isn't blank, without its end. The slice is valid until the next call. The error is
// io.EOF at the end, errLineTooLong for a line that was passed over, or that of the reader.
func (l *lines) next() ([]byte, error) {
	for {
		line, err := l.read()
		if err != nil {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

func (l *lines) read() ([]byte, error) {
	l.buf = l.buf[:0]
	tooLong := false
	for {
		part, err := l.r.ReadSlice('\n')
		if !tooLong {
			tooLong = len(l.buf)+len(part) > lineLimit
			l.buf = append(l.buf, part[:min(len(part), lineLimit)]...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(part) == 0 && len(l.buf) == 0:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		}
		l.number++
		if tooLong {
			return nil, errLineTooLong
		}
		return l.buf, nil
	}
}
