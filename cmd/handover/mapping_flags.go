package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"handover.io/cmd/handover/internal/tabular"
	"handover.io/cmd/handover/internal/upload"
)

// mappingHelp is the part of the help that import and publish share.
const mappingHelp = `
Files are CSV with a header line, or NDJSON (one JSON object per line), by their name or --format;
- reads stdin. A column that is named like a field needs no flag. The others are ignored, or:

  --map FIELD=COLUMN               take the field from that column
  --set FIELD=VALUE                the same value in every row
  --derive FIELD=TEMPLATE          made of columns by a Go template: '{{slug .name}}@example.com'
                                   ({{index . "A column"}} where a name has spaces)
  --values FIELD:FROM=TO,…,*=TO    translate values; * is every other one
  --where COLUMN=A,B  COLUMN!=A,B  take only these rows
  --lookup NEW=FILE:KEY:VALUE      a new column: VALUE of the row of FILE that has the same KEY
                                   (KEY is MINE=THEIRS where the columns are named differently)
  --most NEW=FILE:KEY:VALUE[:COLUMN=A,B]
                                   a new column: the VALUE that most rows of FILE with the same KEY
                                   have, counting only rows where COLUMN is A or B

Templates know ` + tabular.FunctionsHelp + `.
Dates without a zone are UTC. An empty cell leaves a field as it is.
`

// mapped is a file with the flags that say how to read it.
type mapped struct {
	spec       tabular.Spec
	format     string
	delimiter  string
	errorsFile string
	errors     *os.File
}

func (m *mapped) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&m.spec.Map, "map", nil, "FIELD=COLUMN")
	f.StringArrayVar(&m.spec.Set, "set", nil, "FIELD=VALUE")
	f.StringArrayVar(&m.spec.Derive, "derive", nil, "FIELD=TEMPLATE")
	f.StringArrayVar(&m.spec.Values, "values", nil, "FIELD:FROM=TO,…")
	f.StringArrayVar(&m.spec.Where, "where", nil, "COLUMN=A,B or COLUMN!=A,B")
	f.StringArrayVar(&m.spec.Lookup, "lookup", nil, "NEW=FILE:KEY:VALUE")
	f.StringArrayVar(&m.spec.Most, "most", nil, "NEW=FILE:KEY:VALUE[:COLUMN=A,B]")
	f.BoolVar(&m.spec.Unique, "unique", false, "take the first row of each id, leave the others out")
	f.StringVar(&m.format, "format", "", "csv or ndjson; by the file's name unless given")
	f.StringVar(&m.delimiter, "delimiter", "", "of CSV; comma, semicolon or tab by the header line unless given")
	f.StringVar(&m.errorsFile, "errors", "", "write a JSON line per refused row to this file, instead of plain ones to stderr")
}

// rows returns what reads objects from the file, and the progress that watches it.
func (m *mapped) rows(a *app, name, what string) (rows, *upload.Progress, error) {
	format := tabular.Format{Name: m.format}
	if m.delimiter != "" {
		if format.Delimiter, _ = utf8.DecodeRuneInString(m.delimiter); m.delimiter == `\t` {
			format.Delimiter = '\t'
		}
	}
	var in io.Reader = a.stdin
	size := int64(-1)
	if name != "-" {
		file, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("there is no file %s", name)
		}
		if err != nil {
			return nil, nil, err
		}
		// It is closed by the end of the process.
		if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
			size = info.Size()
		}
		in = file
	}
	var refused io.Writer
	if m.errorsFile != "" {
		var err error
		if m.errors, err = os.Create(m.errorsFile); err != nil {
			return nil, nil, err
		}
		refused = m.errors
	}
	terminal := false
	if f, ok := a.stderr.(*os.File); ok {
		terminal = term.IsTerminal(int(f.Fd()))
	}
	progress := upload.NewProgress(a.stderr, terminal, what, size, refused)
	sheet, err := tabular.Open(progress.Reader(in), name, format)
	if err != nil {
		return nil, nil, err
	}
	mapping, err := m.spec.Compile(sheet.Columns)
	if err != nil {
		return nil, nil, err
	}
	if ignored := mapping.Ignored(sheet.Columns); len(ignored) > 0 && !a.json {
		fmt.Fprintf(a.stderr, "Ignored columns: %q\n", ignored)
	}
	return func() (*tabular.Row, *tabular.Body, error) {
		row, err := sheet.Next()
		if err != nil {
			return nil, nil, err
		}
		object, err := mapping.Apply(row)
		return row, object, err
	}, progress, nil
}

// rows reads the next row, and the object that the mapping makes of it; nil for one that is left out.
type rows func() (*tabular.Row, *tabular.Body, error)

// lines makes lines of NDJSON of objects; those that say the same of the field key, if it isn't "", may be sent together.
func lines(objects rows, key string) upload.Next {
	return func(body []byte) (upload.Row, []byte, error) {
		row, object, err := objects()
		if err != nil || object == nil {
			return upload.Row{}, body, err
		}
		return upload.Row{Line: row.Line, ID: object.Text("id"), Key: object.Text(key)}, append(object.AppendJSON(body), '\n'), nil
	}
}

// finish prints the summary and turns refused rows into the exit code.
func (m *mapped) finish(a *app, what string, words [4]string, sum upload.Summary, progress *upload.Progress, err error) error {
	took := progress.Done()
	if m.errors != nil {
		err = errors.Join(err, m.errors.Close())
	}
	result := struct {
		upload.Summary
		Complete bool    `json:"complete"`
		Seconds  float64 `json:"seconds"`
	}{sum, err == nil, took.Seconds()}
	printErr := a.print(result, func(w io.Writer) {
		if sum.DryRun {
			fmt.Fprint(w, "Dry run, nothing was done. ")
		}
		fmt.Fprintf(w, "%s: %d rows in %.1f s", what, sum.Rows, took.Seconds())
		for i, n := range []int{sum.Created, sum.Updated, sum.Unchanged, sum.Failed} {
			if words[i] != "" {
				fmt.Fprintf(w, ", %d %s", n, words[i])
			}
		}
		if sum.LeftOut > 0 {
			fmt.Fprintf(w, ", %d left out", sum.LeftOut)
		}
		if sum.TasksMoved != nil {
			fmt.Fprintf(w, ", %d tasks moved", *sum.TasksMoved)
		}
		fmt.Fprintln(w, ".")
		if m.errors != nil && sum.Failed > 0 {
			fmt.Fprintf(w, "What is wrong with the %d is in %s.\n", sum.Failed, m.errorsFile)
		}
	})
	if err = errors.Join(err, printErr); err != nil {
		return failed(err)
	}
	if sum.Failed > 0 {
		return &failedError{}
	}
	return nil
}
