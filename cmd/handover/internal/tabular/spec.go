package tabular

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/template"
)

// Spec is a mapping as the flags of a command spell it. A column whose name is a field's needs no flag.
type Spec struct {
	Fields Fields
	Map    []string // FIELD=COLUMN
	Set    []string // FIELD=VALUE
	Derive []string // FIELD=TEMPLATE
	Values []string // FIELD:FROM=TO,FROM=TO,*=TO
	Lookup []string // NEW=FILE:KEY:VALUE
	Most   []string // NEW=FILE:KEY:VALUE[:COLUMN=A,B]
	Where  []string // COLUMN=A,B or COLUMN!=A,B

	Attributes     []string // columns that become attributes of the account
	AttributesRest bool     // every column that nothing else uses does
	Numbers        []string // attributes that are numbers
	Unique         bool     // the first row of an id counts, the others are left out
	EmptyIsNull    bool     // an empty cell empties the field, instead of leaving it alone

	// Open opens the files of Lookup and Most; nil means the file system.
	Open func(name string) (io.ReadCloser, error)
}

// field is how one field of the result is made.
type field struct {
	target, key string // key is inside an object
	Type
	column   column // where it comes from: a column, unless it has no name, a constant, or a template
	constant string
	template *template.Template
	values   map[string]string
	number   bool
}

// Compile checks the spec against the columns of a file (nil: unknown until the rows are read) and reads the files it
// joins. The error holds everything that is wrong.
func (s Spec) Compile(columns []string) (*Mapping, error) {
	c := compiler{Spec: s, columns: slices.Clone(columns)}
	if c.Open == nil {
		c.Open = func(name string) (io.ReadCloser, error) { return os.Open(name) }
	}
	m := &Mapping{emptyIsNull: s.EmptyIsNull, rest: s.AttributesRest}
	m.joins = c.joins()
	m.made = c.made()
	m.where = c.conditions()
	if s.AttributesRest && columns != nil {
		m.rest, s.Attributes = false, append(slices.Clone(s.Attributes), c.unused(columns)...)
	}
	for _, column := range s.Attributes {
		c.need("--attributes", column)
		m.made = append(m.made, field{target: "attributes", key: column, column: c.find(column)})
	}
	if (len(s.Attributes) > 0 || s.AttributesRest) && !slices.Contains(s.Fields, Field{"attributes", Object}) {
		c.wrong("--attributes: only accounts have attributes")
	}
	for _, n := range s.Numbers {
		i := slices.IndexFunc(m.made, func(f field) bool { return f.target == "attributes" && f.key == n })
		if i >= 0 {
			m.made[i].number = true
		} else if !m.rest {
			c.wrong("--numbers %s: is not an attribute", n)
		}
	}
	if columns != nil && !s.optionalID() && !slices.ContainsFunc(m.made, func(f field) bool { return f.target == "id" }) {
		c.wrong("no column is named id: say which one is, with --map id=COLUMN (the columns are %s)", strings.Join(columns, ", "))
	}
	if s.Unique {
		m.seen = map[[16]byte]struct{}{}
	}
	m.used = c.used
	// The id first: it names the row in what may be wrong with the others.
	if i := slices.IndexFunc(m.made, func(f field) bool { return f.target == "id" }); i > 0 {
		id := m.made[i]
		m.made = slices.Insert(slices.Delete(m.made, i, i+1), 0, id)
	}
	return m, errors.Join(c.problems...)
}

// optionalID: the publisher of role changes derives ids from what the rows say.
func (s Spec) optionalID() bool { return slices.Contains(s.Fields, Field{"new_owner_id", Text}) }

type compiler struct {
	Spec
	columns  []string // those of the file, then those that joins make; nil when unknown
	joined   []string // those alone
	used     []string
	problems []error
}

// find places a column; what a join makes goes before what the file has.
func (c *compiler) find(name string) column {
	return column{name: name, cell: slices.Index(c.columns[:max(0, len(c.columns)-len(c.joined))], name), join: slices.Index(c.joined, name)}
}

func (c *compiler) wrong(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

func (c *compiler) need(flag, column string) {
	c.used = append(c.used, column)
	if c.columns != nil && !slices.Contains(c.columns, column) {
		c.wrong("%s: there is no column %q; there are %s", flag, column, strings.Join(c.columns, ", "))
	}
}

func (c *compiler) joins() []join {
	var specs []joinSpec
	for _, f := range []struct {
		flag  string
		texts []string
	}{{"lookup", c.Lookup}, {"most", c.Most}} {
		for _, t := range f.texts {
			j, err := parseJoin(f.flag, t)
			if err != nil {
				c.problems = append(c.problems, err)
				continue
			}
			specs = append(specs, j)
		}
	}
	specs, err := inOrder(specs)
	if err != nil {
		c.problems = append(c.problems, err)
	}
	var out []join
	for _, s := range specs {
		c.need("--"+s.flag+" "+s.column, s.key)
		j, err := s.read(c.find(s.key), c.Open)
		if err != nil {
			c.problems = append(c.problems, err)
		}
		out = append(out, j)
		c.joined = append(c.joined, s.column)
		if c.columns != nil {
			c.columns = append(c.columns, s.column)
		}
	}
	return out
}

func (c *compiler) made() []field {
	var out []field
	add := func(flag, text string, from func(f *field, value string)) {
		target, value, ok := strings.Cut(text, "=")
		if !ok || target == "" {
			c.wrong("--%s %q: must be FIELD=…", flag, text)
			return
		}
		known, key, ok := c.Fields.find(target)
		if !ok {
			c.wrong("--%s: there is no field %q; the fields are %s", flag, target, c.Fields)
			return
		}
		f := field{target: known.Name, key: key, Type: known.Type}
		if slices.ContainsFunc(out, func(o field) bool { return o.target == f.target && o.key == f.key }) {
			c.wrong("--%s: the field %s is given twice", flag, target)
			return
		}
		from(&f, value)
		out = append(out, f)
	}
	for _, t := range c.Map {
		add("map", t, func(f *field, column string) {
			f.column = c.find(column)
			c.need("--map "+t, column)
		})
	}
	for _, t := range c.Set {
		add("set", t, func(f *field, value string) { f.constant = value })
	}
	for _, t := range c.Derive {
		add("derive", t, func(f *field, text string) {
			parsed, err := parseTemplate(f.target, text)
			if err != nil {
				c.wrong("--derive %s: %w", f.target, err)
				return
			}
			for _, column := range columnsOf(parsed) {
				c.need("--derive "+f.target, column)
			}
			f.template = parsed
		})
	}
	for _, known := range c.Fields {
		given := slices.ContainsFunc(out, func(o field) bool { return o.target == known.Name })
		if !given && (c.columns == nil || slices.Contains(c.columns, known.Name)) {
			out = append(out, field{target: known.Name, Type: known.Type, column: c.find(known.Name)})
			c.used = append(c.used, known.Name)
		}
	}
	c.translate(out)
	return out
}

func (c *compiler) translate(fields []field) {
	for _, t := range c.Values {
		target, list, ok := strings.Cut(t, ":")
		known, key, found := c.Fields.find(target)
		i := slices.IndexFunc(fields, func(f field) bool { return f.target == known.Name && f.key == key })
		if !ok || !found || i < 0 {
			c.wrong("--values %q: must be FIELD:FROM=TO,FROM=TO with a field that has a value", t)
			continue
		}
		fields[i].values = map[string]string{}
		for _, pair := range strings.Split(list, ",") {
			from, to, ok := strings.Cut(pair, "=")
			if !ok {
				c.wrong("--values %q: %q must be FROM=TO", t, pair)
			}
			fields[i].values[from] = to
		}
	}
}

func (c *compiler) conditions() []condition {
	var out []condition
	for _, t := range c.Where {
		w, err := parseCondition("where", t)
		if err != nil {
			c.problems = append(c.problems, err)
			continue
		}
		c.need("--where "+t, w.column.name)
		w.column = c.find(w.column.name)
		out = append(out, w)
	}
	return out
}

func (c *compiler) unused(columns []string) []string {
	return slices.DeleteFunc(slices.Clone(columns), func(column string) bool {
		return slices.Contains(c.used, column) || slices.Contains(c.Attributes, column)
	})
}
