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

// Row is one row of a file: texts in CSV, any JSON value in NDJSON.
type Row struct {
	Line   int
	Values map[string]any
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
	next    func() (Row, error)
}

// Next returns the next row, a [*Problem] for a row that can't be read, or io.EOF after the last. Any other error ends
// the file.
func (s *Sheet) Next() (Row, error) { return s.next() }

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
		return &Sheet{next: ndjsonRows(buffered)}, nil
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
	return &Sheet{Columns: columns, next: csvRows(in, columns)}, nil
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

func csvRows(in *csv.Reader, columns []string) func() (Row, error) {
	return func() (Row, error) {
		record, err := in.Read()
		var wrong *csv.ParseError
		switch {
		case errors.As(err, &wrong):
			return Row{}, &Problem{Line: wrong.StartLine, Problem: "is not CSV: " + wrong.Err.Error()}
		case err != nil:
			return Row{}, err
		}
		line, _ := in.FieldPos(0)
		if len(record) > len(columns) {
			return Row{}, &Problem{Line: line, Problem: fmt.Sprintf("has %d cells, but the header names %d columns", len(record), len(columns))}
		}
		row := Row{Line: line, Values: make(map[string]any, len(columns)+4)}
		for i, c := range columns {
			cell := ""
			if i < len(record) {
				cell = record[i]
			}
			if !utf8.ValidString(cell) {
				return Row{}, &Problem{Line: line, Field: c, Problem: "is not valid UTF-8; save the file as UTF-8"}
			}
			row.Values[c] = cell
		}
		return row, nil
	}
}

func ndjsonRows(r *bufio.Reader) func() (Row, error) {
	line := 0
	return func() (Row, error) {
		for {
			text, tooLong, err := readLine(r)
			if len(text) == 0 && err != nil {
				return Row{}, err
			}
			line++
			if tooLong {
				return Row{}, &Problem{Line: line, Problem: "is longer than 1 MiB; NDJSON is one small object per line"}
			}
			if text = bytes.TrimSpace(text); len(text) == 0 {
				continue
			}
			values := map[string]any{}
			in := json.NewDecoder(bytes.NewReader(text))
			in.UseNumber()
			if err := in.Decode(&values); err != nil || values == nil {
				return Row{}, &Problem{Line: line, Problem: "is not a JSON object on one line"}
			}
			if _, err := in.Token(); err != io.EOF {
				return Row{}, &Problem{Line: line, Problem: "has something after its JSON object"}
			}
			return Row{Line: line, Values: values}, nil
		}
	}
}

// readLine reads to the end of the line, keeping at most maxLine of it.
func readLine(r *bufio.Reader) (text []byte, tooLong bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if len(text)+len(part) > maxLine {
			tooLong = true
		} else {
			text = append(text, part...)
		}
		if err != bufio.ErrBufferFull {
			if len(text) == 0 && tooLong {
				text = []byte{' '}
			}
			return text, tooLong, err
		}
	}
}
