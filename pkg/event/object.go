package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
	"time"
)

// object is one JSON object, read member by member. encoding/json would take "Tenant_ID" for "tenant_id", and the last of
// two members of one name, where other readers of the same event don't: here names are exact, and what is asked for must
// not be there twice. Members that nobody asks for are left alone, so that later versions may add some.
//
// The first thing wrong is kept for all objects of one event together; what can't be read is zero.
type object struct {
	path    string // "data" or "data.tasks[3]"; empty for the envelope
	members []member
	wrong   *checks
}

type member struct {
	name, value []byte
}

// usualMembers is room for any object of ours, so that it need not grow.
const usualMembers = 12

// newObject reads raw, which must be valid JSON.
func newObject(path string, raw []byte, wrong *checks) *object {
	o := &object{path: path, wrong: wrong, members: make([]member, 0, usualMembers)}
	raw = bytes.TrimSpace(raw)
	if raw[0] != '{' {
		wrong.fail(path, "must be an object, not %s", kind(raw))
		return o
	}
	for i := skipSpace(raw, 1); raw[i] != '}'; {
		end := skipValue(raw, i)
		m := member{name: name(raw[i:end])}
		i = skipSpace(raw, skipSpace(raw, end)+1)
		end = skipValue(raw, i)
		m.value = raw[i:end]
		o.members = append(o.members, m)
		if i = skipSpace(raw, end); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return o
}

func (o *object) field(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

// get is the value of a member, or nil when there is none.
func (o *object) get(name string) []byte {
	var value []byte
	for _, m := range o.members {
		if string(m.name) != name {
			continue
		}
		if value != nil {
			o.wrong.fail(o.field(name), "is there twice")
		}
		value = m.value
	}
	return value
}

func (o *object) has(name string) bool { return o.get(name) != nil }

// optional is a text that may be absent or null, but not empty.
func (o *object) optional(name string) string {
	raw := o.get(name)
	if raw == nil || raw[0] == 'n' {
		return ""
	}
	s := o.text(name, raw)
	if s == "" {
		o.wrong.fail(o.field(name), "is empty; leave it out instead")
	}
	return s
}

// required is a text that must be there; whether it may be empty is not decided here.
func (o *object) required(name string) string {
	raw := o.get(name)
	if raw == nil {
		o.wrong.fail(o.field(name), "is required")
		return ""
	}
	return o.text(name, raw)
}

// orNull must be there as a text or null; what null means is said where it is missing.
func (o *object) orNull(name, null string) string {
	if !o.has(name) {
		o.wrong.fail(o.field(name), "is required; null means %s", null)
	}
	return o.optional(name)
}

func (o *object) text(name string, raw []byte) string {
	if raw[0] != '"' {
		o.wrong.fail(o.field(name), "must be a string, not %s", kind(raw))
		return ""
	}
	return unquote(raw)
}

func (o *object) boolean(name string) bool {
	raw := o.get(name)
	switch {
	case raw == nil:
		o.wrong.fail(o.field(name), "is required")
	case raw[0] != 't' && raw[0] != 'f':
		o.wrong.fail(o.field(name), "must be true or false, not %s", kind(raw))
	}
	return string(raw) == "true"
}

// whole is a whole number, however it is written: JSON has 1, 1.0 and 1e0 for the same.
func (o *object) whole(name string) int64 {
	raw := o.get(name)
	if raw == nil {
		o.wrong.fail(o.field(name), "is required")
		return 0
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
		return n
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > maxRevision {
		o.wrong.fail(o.field(name), "must be a whole number of at most %d, not %s", int64(maxRevision), kind(raw))
		return 0
	}
	return int64(f)
}

// time is the instant of an RFC 3339 text, or zero when it is absent or null.
func (o *object) time(name string) time.Time {
	s := o.optional(name)
	if s == "" {
		return time.Time{}
	}
	t, err := parseTime(s)
	if err != nil {
		o.wrong.fail(o.field(name), "is not RFC 3339: %s", quote(s))
	}
	return t
}

// parseTime refuses what time.Parse lets pass: an hour of one digit, a comma before the fraction, an offset of 24 hours.
func parseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return time.Time{}, err
	}
	end := len(s)
	if s[13] != ':' || s[19] == ',' || s[end-1] != 'Z' && (s[end-5:end-3] > "23" || s[end-2:] > "59") {
		return time.Time{}, errors.New("not RFC 3339")
	}
	return Micro(t), nil
}

// inside is the object in a member, or nil when it is absent or null.
func (o *object) inside(name string) *object {
	raw := o.get(name)
	if raw == nil || raw[0] == 'n' {
		return nil
	}
	return newObject(o.field(name), raw, o.wrong)
}

// list is the objects of an array.
func (o *object) list(name string) []*object {
	raw := o.get(name)
	if raw == nil {
		o.wrong.fail(o.field(name), "is required")
		return nil
	}
	if raw[0] != '[' {
		o.wrong.fail(o.field(name), "must be an array, not %s", kind(raw))
		return nil
	}
	var out []*object
	for i := skipSpace(raw, 1); raw[i] != ']'; {
		end := skipValue(raw, i)
		out = append(out, newObject(o.field(name)+"["+strconv.Itoa(len(out))+"]", raw[i:end], o.wrong))
		if i = skipSpace(raw, end); raw[i] == ',' {
			i = skipSpace(raw, i+1)
		}
	}
	return out
}

// The scanning below relies on raw being valid JSON: nothing is checked twice, and no index runs over.

func skipSpace(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\r' || raw[i] == '\t' {
		i++
	}
	return i
}

// skipValue is where the value that begins at i ends.
func skipValue(raw []byte, i int) int {
	for depth := 0; ; {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			i++
		case '{', '[':
			depth++
			i++
		case '}', ']':
			depth--
			i++
		case ',', ':', ' ', '\n', '\r', '\t':
			i++
		default:
			for i < len(raw) && strings.IndexByte(",:]} \n\r\t", raw[i]) < 0 {
				i++
			}
		}
		if depth == 0 {
			return i
		}
	}
}

// name is a member's name, without a copy where nothing is escaped.
func name(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	return []byte(unquote(raw))
}

func unquote(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1])
	}
	var s string
	_ = json.Unmarshal(raw, &s) // valid JSON that begins with a quote is a string
	return s
}

// kind names the type of a value, for messages.
func kind(raw []byte) string {
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "the number " + quote(string(raw))
}
