package tabular

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// join is a column that another file supplies: the value of the row there whose key equals this row's.
type join struct {
	column string // the new one
	key    column // of this row, to look up
	values map[string]string
}

// joinSpec is the text of --lookup or --most, taken apart.
type joinSpec struct {
	flag, column, file, key, theirs, value string
	where                                  condition
}

func parseJoin(flag, text string) (joinSpec, error) {
	shape := "NEW=FILE:KEY:VALUE"
	if flag == "most" {
		shape += "[:COLUMN=A,B]"
	}
	column, rest, ok := strings.Cut(text, "=")
	parts := strings.SplitN(rest, ":", 4)
	if !ok || column == "" || len(parts) < 3 || slices.Contains(parts, "") || (len(parts) == 4 && flag != "most") {
		return joinSpec{}, fmt.Errorf("--%s %q: must be %s", flag, text, shape)
	}
	j := joinSpec{flag: flag, column: column, file: parts[0], key: parts[1], theirs: parts[1], value: parts[2]}
	if mine, theirs, renamed := strings.Cut(parts[1], "="); renamed {
		j.key, j.theirs = mine, theirs
	}
	if len(parts) == 4 {
		var err error
		if j.where, err = parseCondition(flag, parts[3]); err != nil {
			return joinSpec{}, err
		}
	}
	return j, nil
}

// read takes the other file into memory: one value per key. With --lookup the first row of a key counts, with --most the
// value that most of its rows have, of equally frequent ones the first in byte order.
func (j joinSpec) read(key column, open func(string) (io.ReadCloser, error)) (join, error) {
	file, err := open(j.file)
	if err != nil {
		return join{}, fmt.Errorf("--%s %s: %w", j.flag, j.column, err)
	}
	defer file.Close()
	sheet, err := Open(file, j.file, Format{})
	if err != nil {
		return join{}, fmt.Errorf("--%s %s: %w", j.flag, j.column, err)
	}
	for _, c := range []string{j.theirs, j.value, j.where.column.name} {
		if c != "" && sheet.Columns != nil && !slices.Contains(sheet.Columns, c) {
			return join{}, fmt.Errorf("--%s %s: %s has no column %q; it has %s", j.flag, j.column, j.file, c, strings.Join(sheet.Columns, ", "))
		}
	}
	counts := map[string]map[string]int{}
	out := join{column: j.column, key: key, values: map[string]string{}}
	theirs, theirValue := unplaced(j.theirs), unplaced(j.value)
	for {
		row, err := sheet.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			// A row that is left out of a join would silently change what others get.
			return join{}, fmt.Errorf("--%s %s: %s: %w", j.flag, j.column, j.file, err)
		}
		key, value := row.text(theirs), row.text(theirValue)
		if key == "" || value == "" || !j.where.holds(row) {
			continue
		}
		if j.flag == "lookup" {
			if _, known := out.values[key]; !known {
				out.values[key] = value
			}
			continue
		}
		if counts[key] == nil {
			counts[key] = map[string]int{}
		}
		counts[key][value]++
		if best := out.values[key]; best == "" || counts[key][value] > counts[key][best] ||
			(counts[key][value] == counts[key][best] && value < best) {
			out.values[key] = value
		}
	}
	return out, nil
}

// inOrder sorts joins so that each comes after those whose columns it looks up.
func inOrder(specs []joinSpec) ([]joinSpec, error) {
	var out []joinSpec
	made := func(column string, by []joinSpec) bool {
		return slices.ContainsFunc(by, func(j joinSpec) bool { return j.column == column })
	}
	for len(out) < len(specs) {
		before := len(out)
		for _, j := range specs {
			if !made(j.column, out) && (!made(j.key, specs) || made(j.key, out)) {
				out = append(out, j)
			}
		}
		if len(out) == before {
			return nil, errors.New("--lookup and --most: each needs a column that another one makes; or one makes the same column twice")
		}
	}
	return out, nil
}

// condition is "the column has one of these values", or none of them.
type condition struct {
	column column
	not    bool
	values []string
}

func parseCondition(flag, text string) (condition, error) {
	name, values, ok := strings.Cut(text, "=")
	name, not := strings.CutSuffix(name, "!")
	if !ok || name == "" {
		return condition{}, fmt.Errorf("--%s %q: must be COLUMN=A,B or COLUMN!=A,B", flag, text)
	}
	return condition{column: unplaced(name), not: not, values: strings.Split(values, ",")}, nil
}

func (c condition) holds(row *Row) bool {
	return c.column.name == "" || slices.Contains(c.values, row.text(c.column)) != c.not
}
