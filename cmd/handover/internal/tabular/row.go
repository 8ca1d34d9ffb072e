package tabular

import (
	"slices"

	"handover.io/internal/rawjson"
)

// Row is one row of a file, valid until the next one is read.
type Row struct {
	Line   int
	names  []string       // of the columns of CSV
	cells  []string       // in them
	line   []byte         // of NDJSON
	object rawjson.Object // in it
	joined []string       // what each join found
}

// JSON is the row as it is written in NDJSON, or nil.
func (r *Row) JSON() []byte { return r.line }

// Has tells whether the row has a column of that name.
func (r *Row) Has(name string) bool {
	_, has := r.get(unplaced(name))
	return has
}

// column is a column of a file, or one that a join makes, found before the first row as far as possible.
type column struct {
	name string
	cell int // of CSV; -1: to be looked for by name
	join int // that makes it; -1: none
}

func unplaced(name string) column { return column{name, -1, -1} }

// get is what the row says in a column. Only rows of NDJSON may have none.
func (r *Row) get(c column) (value, bool) {
	switch {
	case c.join >= 0:
		return value{text: r.joined[c.join]}, true
	case c.cell >= 0:
		return value{text: r.cells[c.cell]}, true
	case r.line != nil:
		raw, _ := r.object.Get(c.name)
		return value{json: raw}, raw != nil
	}
	if i := slices.Index(r.names, c.name); i >= 0 {
		return value{text: r.cells[i]}, true
	}
	return value{}, false
}

// text is what the row says in a column, as a CSV cell would have it.
func (r *Row) text(c column) string {
	v, _ := r.get(c)
	return v.String()
}

// texts are all columns, for a template.
func (r *Row) texts(joins []join) map[string]string {
	out := make(map[string]string, len(r.names)+len(r.object)+len(joins))
	for i, name := range r.names {
		out[name] = r.cells[i]
	}
	for _, m := range r.object {
		out[string(m.Name)] = value{json: m.Value}.String()
	}
	for i, j := range joins {
		out[j.column] = r.joined[i]
	}
	return out
}

// value is a text, or any value of JSON as it is written.
type value struct {
	text string
	json []byte // nil where there is but the text
}

var null = value{json: []byte("null")}

func (v value) isText() bool { return v.json == nil || v.json[0] == '"' }

func (v value) isNull() bool { return v.json != nil && v.json[0] == 'n' }

// empty tells whether it is the text without a character.
func (v value) empty() bool { return v.json == nil && v.text == "" || string(v.json) == `""` }

func (v value) String() string {
	switch {
	case v.json == nil:
		return v.text
	case v.isText():
		return rawjson.Unquote(v.json)
	case v.isNull():
		return ""
	}
	return string(v.json)
}

func (v value) append(b []byte) []byte {
	if v.json != nil {
		return append(b, v.json...)
	}
	return rawjson.AppendText(b, v.text)
}
