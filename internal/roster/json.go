package roster

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"handover.io/internal/rawjson"
	"handover.io/pkg/event"
)

// field is one field of a JSON object, not yet read.
type field struct {
	name string
	raw  []byte // valid JSON without space around it
	said string // the same: what is read of it is a part of this, not a copy
}

// eachField calls visit for every field of a JSON object, by its exact name, each once. encoding/json alone is neither
// strict enough nor fast enough for an import. What is read of the fields keeps one copy of the object in memory.
func eachField(what string, object []byte, visit func(field) *Invalid) *Invalid {
	object = bytes.TrimSpace(object)
	members, ok := make(rawjson.Object, 0, 16).Parse(object)
	if !ok {
		return notAnObject(what, object)
	}
	text := string(object)
	repeat := members.Repeat()
	for i, m := range members {
		f := field{nameOf(m.Name), m.Value, text[m.At:][:len(m.Value)]}
		if i == repeat {
			return f.invalid("is given twice")
		}
		if problem := visit(f); problem != nil {
			return problem
		}
	}
	return nil
}

func notAnObject(what string, b []byte) *Invalid {
	switch {
	case !utf8.Valid(b):
		return invalid(what, "is not valid UTF-8")
	case !json.Valid(b):
		var v any
		return invalid(what, "is not JSON (%v)", json.Unmarshal(b, &v))
	}
	return invalid(what, "must be a JSON object")
}

// names are those that most fields have, so that a row needs no copies of them.
var names = func() map[string]string {
	m := map[string]string{}
	for _, name := range []string{"id", "name", "status", "email", "time_zone", "notices", "attributes", "roles", "account_id", "title", "assignee_id", "source", "role",
		"priority", "url", "due_at", "created_at", "assigned_at"} {
		m[name] = name
	}
	return m
}()

func nameOf(b []byte) string {
	if name, usual := names[string(b)]; usual {
		return name
	}
	return string(b)
}

func (f field) invalid(format string, args ...any) *Invalid { return invalid(f.name, format, args...) }

func (f field) null() bool { return f.raw[0] == 'n' }

func (f field) notNull() *Invalid {
	return f.invalid("can't be emptied; leave it out to keep it as it is")
}

// string reads a string that PostgreSQL can keep.
func (f field) string() (string, *Invalid) {
	if f.raw[0] != '"' {
		return "", f.invalid("must be a string, not %s", rawjson.Kind(f.raw))
	}
	s := f.said[1 : len(f.said)-1]
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	if s = rawjson.Unquote(f.raw); strings.IndexByte(s, 0) >= 0 {
		return "", f.invalid("contains a NUL character, which can't be kept; leave it out")
	}
	return s, nil
}

// text reads a text of least to most characters; null is "", where that is enough.
func (f field) text(into *Maybe[string], least, most int) *Invalid {
	if f.null() {
		if least > 0 {
			return f.notNull()
		}
		*into = Maybe[string]{Given: true}
		return nil
	}
	s, problem := f.string()
	if problem != nil {
		return problem
	}
	if n := utf8.RuneCountInString(s); n < least || n > most {
		return f.invalid("must be %d to %d characters, not %d", least, most, n)
	}
	*into = Maybe[string]{true, s}
	return nil
}

func (f field) id(into *string) *Invalid {
	s, problem := f.string()
	if problem != nil {
		return problem
	}
	if wrong := event.CheckID(s); wrong != "" {
		return f.invalid("%s", wrong)
	}
	*into = s
	return nil
}

// reference reads an id; null is "".
func (f field) reference(into *Maybe[string]) *Invalid {
	into.Given, into.Value = true, ""
	if f.null() {
		return nil
	}
	return f.id(&into.Value)
}

// checked reads a text with a rule of its own; null is empty, which no rule is asked about.
func (f field) checked(into *Maybe[string], most int, empty string, check func(string) string) *Invalid {
	if problem := f.text(into, 0, most); problem != nil {
		return problem
	}
	if into.Value == "" && (f.null() || empty == "") {
		into.Value = empty
		return nil
	}
	if wrong := check(into.Value); wrong != "" {
		return f.invalid("%s", wrong)
	}
	return nil
}

func (f field) choice(into *Maybe[string], options ...string) *Invalid {
	if f.null() {
		return f.notNull()
	}
	s, problem := f.string()
	if problem != nil {
		return problem
	}
	if !slices.Contains(options, s) {
		return f.invalid("must be one of %s", strings.Join(options, ", "))
	}
	*into = Maybe[string]{true, s}
	return nil
}

func (f field) boolean(into *Maybe[bool], empty bool) *Invalid {
	switch string(f.raw) {
	case "null":
		*into = Maybe[bool]{true, empty}
	case "true", "false":
		*into = Maybe[bool]{true, f.raw[0] == 't'}
	default:
		return f.invalid("must be true or false, not %s", rawjson.Kind(f.raw))
	}
	return nil
}

// time reads a time, cut to microseconds; null is nil.
func (f field) time(into *Maybe[*time.Time]) *Invalid {
	into.Given, into.Value = true, nil
	if f.null() {
		return nil
	}
	s, problem := f.string()
	if problem != nil {
		return problem
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return f.invalid("must be a time of RFC 3339, like 2026-03-01T09:00:00Z")
	}
	t = event.Micro(t)
	if t.Year() < 1970 || t.Year() > 9999 {
		return f.invalid("must be between the years 1970 and 9999")
	}
	into.Value = &t
	return nil
}

const (
	maxAttributeBytes = 64 << 10
	maxDepth          = 32
)

// attributes reads an object that PostgreSQL can keep as jsonb; null is {}.
func (f field) attributes(into *Maybe[json.RawMessage]) *Invalid {
	if f.null() {
		*into = Maybe[json.RawMessage]{true, json.RawMessage(`{}`)}
		return nil
	}
	if f.raw[0] != '{' {
		return f.invalid("must be an object, not %s", rawjson.Kind(f.raw))
	}
	if len(f.raw) > maxAttributeBytes {
		return f.invalid("must be at most %d bytes, not %d", maxAttributeBytes, len(f.raw))
	}
	d := json.NewDecoder(bytes.NewReader(f.raw))
	d.UseNumber()
	var v any
	err := d.Decode(&v)
	if err == nil {
		if wrong := unkeepable(v, maxDepth); wrong != "" {
			return f.invalid("%s", wrong)
		}
		// Written anew: what PostgreSQL refuses in a text, such as half a surrogate pair, has been replaced by the decoder.
		into.Value, err = json.Marshal(v)
	}
	if err != nil {
		return f.invalid("is not JSON (%v)", err)
	}
	into.Given = true
	return nil
}

// unkeepable says why a value can't be kept as jsonb, or "".
func unkeepable(v any, depth int) string {
	if depth == 0 {
		return "is nested deeper than " + strconv.Itoa(maxDepth) + " levels"
	}
	switch v := v.(type) {
	case string:
		if strings.IndexByte(v, 0) >= 0 {
			return "contains a NUL character, which can't be kept; leave it out"
		}
	case json.Number:
		if f, err := v.Float64(); err != nil || len(v) > 400 || (f == 0 && strings.ContainsAny(string(v), "eE")) {
			return "contains a number that is too large, too small or too long"
		}
	case []any:
		for _, e := range v {
			if wrong := unkeepable(e, depth-1); wrong != "" {
				return wrong
			}
		}
	case map[string]any:
		for k, e := range v {
			if wrong := unkeepable(k, depth); wrong != "" {
				return wrong
			}
			if wrong := unkeepable(e, depth-1); wrong != "" {
				return wrong
			}
		}
	}
	return ""
}
