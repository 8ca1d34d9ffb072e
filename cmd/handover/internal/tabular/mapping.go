package tabular

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mapping makes objects of rows.
type Mapping struct {
	fields      Fields
	joins       []join
	where       []condition
	made        []field
	used        []string
	numbers     []string
	rest        bool // of the columns become attributes; only for files without a header
	emptyIsNull bool
	seen        map[[16]byte]struct{}
}

// Ignored lists the columns that nothing uses.
func (m *Mapping) Ignored(columns []string) []string {
	return slices.DeleteFunc(slices.Clone(columns), func(c string) bool {
		return slices.Contains(m.used, c) ||
			slices.ContainsFunc(m.made, func(f field) bool { return f.column == c })
	})
}

// Apply makes one object. It is nil when the row is left out: by a condition, or as a repeat. The error is a *Problem.
func (m *Mapping) Apply(row Row) (map[string]any, error) {
	for _, j := range m.joins {
		row.Values[j.column] = j.values[text(row.Values[j.key])]
	}
	for _, w := range m.where {
		if !w.holds(row.Values) {
			return nil, nil
		}
	}
	out := make(map[string]any, len(m.fields))
	// The id first: it names the row in what may be wrong with the others.
	for _, isID := range []bool{true, false} {
		for _, f := range m.made {
			if (f.target == "id") != isID {
				continue
			}
			if err := m.make(f, row, out); err != nil {
				return nil, &Problem{Line: row.Line, ID: text(out["id"]), Field: f.name(), Problem: err.Error()}
			}
		}
	}
	if m.rest {
		m.addRest(row, out)
	}
	if m.repeated(text(out["id"])) {
		return nil, nil
	}
	return out, nil
}

func (f field) name() string {
	if f.key != "" {
		return f.target + "." + f.key
	}
	return f.target
}

func (m *Mapping) make(f field, row Row, out map[string]any) error {
	value, present, err := f.value(row)
	if err != nil || !present {
		return err
	}
	if from, isText := value.(string); isText {
		if value, err = m.convert(f, from); err != nil {
			return err
		}
		if value == "" {
			if !m.emptyIsNull {
				return nil
			}
			value = nil
		}
	}
	if f.key == "" {
		out[f.target] = value
		return nil
	}
	inside, _ := out[f.target].(map[string]any)
	if inside == nil {
		inside = map[string]any{}
		out[f.target] = inside
	}
	inside[f.key] = value
	return nil
}

// value is what the row says; not present is a column that an NDJSON row doesn't have.
func (f field) value(row Row) (any, bool, error) {
	switch {
	case f.template != nil:
		var b strings.Builder
		if err := f.template.Execute(&b, texts(row.Values)); err != nil {
			return nil, false, plain(err)
		}
		return b.String(), true, nil
	case f.column != "":
		v, ok := row.Values[f.column]
		return v, ok, nil
	}
	return f.constant, true, nil
}

func (m *Mapping) convert(f field, value string) (any, error) {
	if to, ok := f.values[value]; ok {
		value = to
	} else if to, ok := f.values["*"]; ok {
		value = to
	}
	switch {
	case value == "":
	case f.Type == Time:
		t, err := parseTime(value)
		if err != nil {
			return nil, err
		}
		return t.UTC().Format(time.RFC3339Nano), nil
	case f.Type == Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return nil, fmt.Errorf("is %q; must be true or false", value)
		}
		return b, nil
	case f.Type == Object && f.key == "":
		var object map[string]any
		if json.Unmarshal([]byte(value), &object) != nil {
			return nil, fmt.Errorf("is %q; must be a JSON object", value)
		}
		return object, nil
	case f.target == "attributes" && slices.Contains(m.numbers, f.key):
		n := json.Number(strings.TrimSpace(value))
		if _, err := json.Marshal(n); err != nil {
			return nil, fmt.Errorf("is %q; --numbers says it is a number", value)
		}
		return n, nil
	}
	return value, nil
}

func (m *Mapping) addRest(row Row, out map[string]any) {
	attributes, _ := out["attributes"].(map[string]any)
	if attributes == nil {
		attributes = map[string]any{}
	}
	for column, value := range row.Values {
		if !slices.Contains(m.used, column) && value != "" {
			attributes[column] = value
		}
	}
	if len(attributes) > 0 {
		out["attributes"] = attributes
	}
}

func (m *Mapping) repeated(id string) bool {
	if m.seen == nil || id == "" {
		return false
	}
	sum := sha256.Sum256([]byte(id))
	key := [16]byte(sum[:16])
	_, repeated := m.seen[key]
	m.seen[key] = struct{}{}
	return repeated
}

// text is a value as a CSV cell would have it.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case json.Number:
		return v.String()
	}
	b, _ := json.Marshal(v)
	return string(b)
}

// texts is the row for a template, which compares and joins texts.
func texts(values map[string]any) map[string]string {
	out := make(map[string]string, len(values))
	for name := range maps.Keys(values) {
		out[name] = text(values[name])
	}
	return out
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
