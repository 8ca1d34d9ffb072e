package tabular

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"handover.io/internal/rawjson"
)

// Mapping makes objects of rows.
type Mapping struct {
	joins       []join
	where       []condition
	made        []field // the id first
	used        []string
	rest        bool // of the columns become attributes; only for files without a header
	emptyIsNull bool
	seen        map[[16]byte]struct{}
	body        Body
}

// Ignored lists the columns that nothing uses.
func (m *Mapping) Ignored(columns []string) []string {
	return slices.DeleteFunc(slices.Clone(columns), func(c string) bool {
		return slices.Contains(m.used, c) ||
			slices.ContainsFunc(m.made, func(f field) bool { return f.column.name == c })
	})
}

// Apply makes one object. It is nil when the row is left out: by a condition, or as a repeat. The error is a *Problem.
func (m *Mapping) Apply(row *Row) (*Body, error) {
	row.joined = row.joined[:0]
	for _, j := range m.joins {
		row.joined = append(row.joined, j.values[row.text(j.key)])
	}
	for _, w := range m.where {
		if !w.holds(row) {
			return nil, nil
		}
	}
	out := &m.body
	out.members = out.members[:0]
	for i := range m.made {
		f := &m.made[i]
		v, made, err := m.make(f, row)
		if err != nil {
			id, _ := out.get("id")
			return nil, &Problem{Line: row.Line, ID: id.String(), Field: f.name(), Problem: err.Error()}
		}
		if made {
			out.add(f.target, f.key, v)
		}
	}
	if m.rest {
		m.addRest(row, out)
	}
	if m.seen != nil {
		if id, _ := out.get("id"); m.repeated(id.String()) {
			return nil, nil
		}
	}
	return out, nil
}

func (f *field) name() string {
	if f.key != "" {
		return f.target + "." + f.key
	}
	return f.target
}

// make is what the row makes of the field; not made is one that stays as it is.
func (m *Mapping) make(f *field, row *Row) (value, bool, error) {
	v, present, err := m.source(f, row)
	if err != nil || !present || !v.isText() {
		return v, present, err
	}
	if v, err = f.convert(v); err != nil || !v.empty() {
		return v, true, err
	}
	return null, m.emptyIsNull, nil
}

// source is what the row says; not present is a column that a row of NDJSON doesn't have.
func (m *Mapping) source(f *field, row *Row) (value, bool, error) {
	switch {
	case f.template != nil:
		var b strings.Builder
		if err := f.template.Execute(&b, row.texts(m.joins)); err != nil {
			return value{}, false, plain(err)
		}
		return value{text: b.String()}, true, nil
	case f.column.name != "":
		v, present := row.get(f.column)
		return v, present, nil
	}
	return value{text: f.constant}, true, nil
}

// convert makes of a text what the field is.
func (f *field) convert(v value) (value, error) {
	if f.values == nil && f.Type == Text && !f.number {
		return v, nil
	}
	s := v.String()
	if to, ok := f.values[s]; ok {
		s = to
	} else if to, ok := f.values["*"]; ok {
		s = to
	}
	switch {
	case s == "":
	case f.Type == Time:
		t, err := parseTime(s)
		if err != nil {
			return value{}, err
		}
		if !canonical(s) {
			s = t.UTC().Format(time.RFC3339Nano)
		}
	case f.Type == Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return value{}, fmt.Errorf("is %q; must be true or false", s)
		}
		return value{json: strconv.AppendBool(nil, b)}, nil
	case f.Type == Object && f.key == "":
		var object bytes.Buffer
		if _, ok := (rawjson.Object{}).Parse([]byte(s)); !ok || json.Compact(&object, []byte(s)) != nil {
			return value{}, fmt.Errorf("is %q; must be a JSON object", s)
		}
		return value{json: object.Bytes()}, nil
	case f.number:
		n, err := json.Marshal(json.Number(strings.TrimSpace(s)))
		if err != nil {
			return value{}, fmt.Errorf("is %q; --numbers says it is a number", s)
		}
		return value{json: n}, nil
	}
	return value{text: s}, nil
}

// canonical tells of a time whether it is written as all are that come out of here, as most are that go in.
func canonical(s string) bool {
	return len(s) == len("2006-01-02T15:04:05Z") && s[10] == 'T' && s[19] == 'Z'
}

func (m *Mapping) addRest(row *Row, out *Body) {
	for i, rest := range row.object {
		name := string(rest.Name)
		later := slices.ContainsFunc(row.object[i+1:], func(o rawjson.Member) bool { return string(o.Name) == name })
		joined := slices.ContainsFunc(m.joins, func(j join) bool { return j.column == name })
		if v := (value{json: rest.Value}); !later && !joined && !slices.Contains(m.used, name) && !v.empty() {
			out.add("attributes", name, v)
		}
	}
	for i, j := range m.joins {
		if found := row.joined[i]; found != "" && !slices.Contains(m.used, j.column) {
			out.add("attributes", j.column, value{text: found})
		}
	}
}

func (m *Mapping) repeated(id string) bool {
	if id == "" {
		return false
	}
	sum := sha256.Sum256([]byte(id))
	key := [16]byte(sum[:16])
	_, repeated := m.seen[key]
	m.seen[key] = struct{}{}
	return repeated
}

// plain takes away what text/template says about itself.
func plain(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	s := err.Error()
	if i := strings.LastIndex(s, ">: "); i >= 0 {
		s = s[i+3:]
	}
	return errors.New(s)
}
