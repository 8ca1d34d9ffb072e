package tabular

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxLine bounds one line of NDJSON; a longer one is not a row but a file of another kind.
const maxLine = 1 << 20

// Problem is what is wrong with one row.
type Problem struct {
	Line    int    `json:"line"`
	ID      string `json:"id,omitempty"`
	Field   string `json:"field,omitempty"`
	Problem string `json:"problem"`
}

func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "line %d", p.Line)
	if p.ID != "" {
		fmt.Fprintf(&b, " (%s)", p.ID)
	}
	if p.Field != "" {
		b.WriteString(": " + p.Field)
	}
	return b.String() + ": " + p.Problem
}

// Format says how a file is written, as far as its name doesn't.
type Format struct {
	Name      string // "csv", "ndjson", or empty: by the file's name
	Delimiter rune   // of CSV, or 0: what the header uses
}

// Sheet is an open file of rows.
type Sheet struct {
	// Columns are the names in the header of a CSV file; nil for NDJSON, where each row brings its own.
	Columns []string
	row     Row
	read    func(*Row) error
}

// Next returns the next row, a [*Problem] for a row that can't be read, or io.EOF after the last. Any other error ends
// the file.
func (s *Sheet) Next() (*Row, error) {
	err := s.read(&s.row)
	return &s.row, err
}

// Open begins to read rows. The name decides between CSV and NDJSON unless the format says which.
func Open(r io.Reader, name string, format Format) (*Sheet, error) {
	if format.Name == "" {
		switch strings.ToLower(filepath.Ext(name)) {
		case ".csv", ".tsv", ".txt":
			format.Name = "csv"
		case ".ndjson", ".jsonl", ".json":
			format.Name = "ndjson"
		default:
			return nil, fmt.Errorf("%s: can't tell CSV from NDJSON by the name; add --format csv or --format ndjson", name)
		}
	}
	buffered := bufio.NewReaderSize(r, 64<<10)
	if bom, _ := buffered.Peek(3); bytes.Equal(bom, []byte("\xef\xbb\xbf")) {
		_, _ = buffered.Discard(3)
	}
	switch format.Name {
	case "csv":
		return openCSV(buffered, name, format.Delimiter)
	case "ndjson":
		return &Sheet{read: ndjsonRows(buffered)}, nil
	}
	return nil, fmt.Errorf("format %q: must be csv or ndjson", format.Name)
}

func openCSV(r *bufio.Reader, name string, delimiter rune) (*Sheet, error) {
	if delimiter == 0 {
		delimiter = guessDelimiter(r)
	}
	in := csv.NewReader(r)
	in.Comma, in.FieldsPerRecord, in.ReuseRecord = delimiter, -1, true
	header, err := in.Read()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: is empty; the first line must name the columns", name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: header: %w", name, err)
	}
	columns := slices.Clone(header)
	for i, c := range columns {
		columns[i] = strings.TrimSpace(c)
		if slices.Contains(columns[:i], columns[i]) {
			return nil, fmt.Errorf("%s: the header names the column %q twice", name, columns[i])
		}
	}
	return &Sheet{Columns: columns, read: csvRows(in, columns)}, nil
}

func guessDelimiter(r *bufio.Reader) rune {
	head, _ := r.Peek(64 << 10)
	line, _, _ := bytes.Cut(head, []byte("\n"))
	best, most := ',', bytes.Count(line, []byte(","))
	for _, c := range ";\t" {
		if n := bytes.Count(line, []byte(string(c))); n > most {
			best, most = c, n
		}
	}
	return best
}

func csvRows(in *csv.Reader, columns []string) func(*Row) error {
	return func(row *Row) error {
		record, err := in.Read()
		var wrong *csv.ParseError
		switch {
		case errors.As(err, &wrong):
			return &Problem{Line: wrong.StartLine, Problem: "is not CSV: " + wrong.Err.Error()}
		case err != nil:
			return err
		}
		row.Line, _ = in.FieldPos(0)
		if len(record) > len(columns) {
			return &Problem{Line: row.Line, Problem: fmt.Sprintf("has %d cells, but the header names %d columns", len(record), len(columns))}
		}
		for i, cell := range record {
			if !utf8.ValidString(cell) {
				return &Problem{Line: row.Line, Field: columns[i], Problem: "is not valid UTF-8; save the file as UTF-8"}
			}
		}
		row.names, row.cells = columns, append(row.cells[:0], record...)
		for len(row.cells) < len(columns) {
			row.cells = append(row.cells, "")
		}
		return nil
	}
}

func ndjsonRows(r *bufio.Reader) func(*Row) error {
	in := lineReader{r: r}
	return func(row *Row) error {
		for {
			text, tooLong, err := in.next()
			if len(text) == 0 && err != nil {
				return err
			}
			row.Line++
			if tooLong {
				return &Problem{Line: row.Line, Problem: "is longer than 1 MiB; NDJSON is one small object per line"}
			}
			if text = bytes.TrimSpace(text); len(text) == 0 {
				continue
			}
			var ok bool
			if row.object, ok = row.object[:0].Parse(text); !ok {
				return &Problem{Line: row.Line, Problem: whyNoObject(text)}
			}
			row.line = text
			return nil
		}
	}
}

func whyNoObject(text []byte) string {
	in := json.NewDecoder(bytes.NewReader(text))
	var first map[string]json.RawMessage
	switch err := in.Decode(&first); {
	case err != nil || first == nil:
		return "is not a JSON object on one line"
	case !utf8.Valid(text):
		return "is not valid UTF-8; save the file as UTF-8"
	}
	return "has something after its JSON object"
}

// lineReader reads line by line, keeping at most maxLine of each.
type lineReader struct {
	r    *bufio.Reader
	text []byte
}

// next returns a line, valid until the next one is read.
func (l *lineReader) next() (text []byte, tooLong bool, err error) {
	l.text = l.text[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		if len(l.text)+len(part) > maxLine {
			tooLong = true
		} else {
			l.text = append(l.text, part...)
		}
		if err != bufio.ErrBufferFull {
			if len(l.text) == 0 && tooLong {
				l.text = append(l.text, ' ')
			}
			return l.text, tooLong, err
		}
	}
}
