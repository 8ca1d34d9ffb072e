package event

import (
	"bytes"
	"errors"
	"math"
	"strconv"
	"time"

	"handover.io/internal/rawjson"
)

// object is one JSON object, whose names are exact, and where what is asked for must not be there twice: other readers of
// the same event might take the other one. Members that nobody asks for are left alone, so that later versions may add some.
//
// The first thing wrong is kept for all objects of one event together; what can't be read is zero.
type object struct {
	path    string // "data" or "data.tasks[3]"; empty for the envelope
	members rawjson.Object
	wrong   *checks
}

// usualMembers is room for any object of ours, so that it need not grow.
const usualMembers = 12

// newObject reads raw, which must be valid JSON.
func newObject(path string, raw []byte, wrong *checks) *object {
	o := &object{path: path, wrong: wrong}
	raw = bytes.TrimSpace(raw)
	if raw[0] != '{' {
		wrong.fail(path, "must be an object, not %s", kind(raw))
		return o
	}
	o.members = make(rawjson.Object, 0, usualMembers).Append(raw)
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
	value, twice := o.members.Get(name)
	if twice {
		o.wrong.fail(o.field(name), "is there twice")
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
		o.wrong.fail(o.field(name), "is empty; give a value, or leave it out if it is optional")
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
	raw := o.get(name)
	if raw == nil || raw[0] == 'n' {
		return ""
	}
	s := o.text(name, raw)
	if s == "" {
		o.wrong.fail(o.field(name), "is empty; null means %s", null)
	}
	return s
}

func (o *object) text(name string, raw []byte) string {
	if raw[0] != '"' {
		o.wrong.fail(o.field(name), "must be a string, not %s", kind(raw))
		return ""
	}
	return rawjson.Unquote(raw)
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

// flag is a boolean that may be absent or null.
func (o *object) flag(name string) bool {
	if raw := o.get(name); raw == nil || raw[0] == 'n' {
		return false
	}
	return o.boolean(name)
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
	rawjson.Elements(raw, func(value []byte) {
		out = append(out, newObject(o.field(name)+"["+strconv.Itoa(len(out))+"]", value, o.wrong))
	})
	return out
}

// kind names the type of a value, and shows numbers, for messages.
func kind(raw []byte) string {
	if k := rawjson.Kind(raw); k != rawjson.Number {
		return k
	}
	return "the number " + quote(string(raw))
}
