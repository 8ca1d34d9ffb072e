// Package rawjson walks JSON where it lies, for readers stricter than encoding/json: that one takes "Tenant_ID" for
// "tenant_id", and the last of two members of one name.
//
// Invariant: names are exact, members and elements come in their order, repeats are kept and can be asked for, and nothing
// is copied but what is escaped. What is handed out is part of what was given.
//
// How it fails: not at all, by relying on [encoding/json.Valid], or on [Object.Parse] before. All other input must be one
// valid value without space around it, and of the kind that the function is for, which the first byte tells; with anything
// else it may panic. Values inside of such a value are such values.
package rawjson

import (
	"bytes"
	"encoding/json"
	"slices"
)

// Object is the members of a JSON object.
type Object []Member

// Member is the name of a member, unquoted, and its value as it is written.
type Member struct {
	Name, Value []byte
	At          int // where Value begins in what was given
}

// Append appends the members of a JSON object to o.
func (o Object) Append(raw []byte) Object {
	for i := skipSpace(raw, 1); raw[i] != '}'; {
		end := skipValue(raw, i)
		m := Member{Name: unquote(raw[i:end])}
		i = skipSpace(raw, skipSpace(raw, end)+1) // the colon
		end = skipValue(raw, i)
		m.Value, m.At = raw[i:end], i
		o = append(o, m)
		i = next(raw, end)
	}
	return o
}

// Get is the value of the last member of that name, nil when there is none, and whether there is another one.
func (o Object) Get(name string) (value []byte, twice bool) {
	for _, m := range o {
		if string(m.Name) == name {
			value, twice = m.Value, value != nil
		}
	}
	return value, twice
}

// few is up to where comparing all names with each other is cheaper than sorting them.
const few = 16

// Repeat is the index of the first member whose name came before, or -1.
func (o Object) Repeat() int {
	if len(o) <= few {
		for i := range o {
			for j := range i {
				if bytes.Equal(o[i].Name, o[j].Name) {
					return i
				}
			}
		}
		return -1
	}
	order := make([]int, len(o))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return bytes.Compare(o[i].Name, o[j].Name) })
	first := -1
	for k, i := range order[1:] {
		if (first < 0 || i < first) && bytes.Equal(o[i].Name, o[order[k]].Name) {
			first = i
		}
	}
	return first
}

// Elements calls visit for every element of a JSON array.
func Elements(raw []byte, visit func(value []byte)) {
	for i := skipSpace(raw, 1); raw[i] != ']'; {
		end := skipValue(raw, i)
		visit(raw[i:end])
		i = next(raw, end)
	}
}

// Unquote is the text of a JSON string.
func Unquote(raw []byte) string { return string(unquote(raw)) }

func unquote(raw []byte) []byte {
	if inner := raw[1 : len(raw)-1]; bytes.IndexByte(inner, '\\') < 0 {
		return inner
	}
	var s string
	_ = json.Unmarshal(raw, &s) // valid JSON that begins with a quote is a string
	return []byte(s)
}

// Number is the [Kind] of numbers.
const Number = "a number"

// Kind names the type of a value, for messages.
func Kind(raw []byte) string {
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
	return Number
}

func skipSpace(raw []byte, i int) int {
	for raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\r' || raw[i] == '\t' {
		i++
	}
	return i
}

// next is where the next member or element begins, or the end of the whole stands.
func next(raw []byte, end int) int {
	i := skipSpace(raw, end)
	if raw[i] == ',' {
		i = skipSpace(raw, i+1)
	}
	return i
}

// skipValue is where the value that begins at i ends. Something follows it: it is inside of another one.
func skipValue(raw []byte, i int) int {
	for depth := 0; ; i++ {
		switch raw[i] {
		case '"':
			for i++; raw[i] != '"'; i++ {
				if raw[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return i // a number or a word that ends with what it is in
			}
			if depth == 0 {
				return i + 1
			}
		case ',', ':', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return i
			}
		}
	}
}
