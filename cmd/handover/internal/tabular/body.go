package tabular

import (
	"bytes"
	"slices"

	"handover.io/internal/rawjson"
)

// Body is an object of the API, made of a row. It is valid until the next one is made.
type Body struct{ members []member }

type member struct {
	target, key string // key is inside an object
	value
}

func (o *Body) add(target, key string, v value) {
	o.members = append(o.members, member{target, key, v})
}

func (o *Body) get(name string) (value, bool) {
	for _, m := range o.members {
		if m.target == name && m.key == "" {
			return m.value, true
		}
	}
	return null, false
}

// Has tells whether the object says anything of a field, that it is empty included.
func (o *Body) Has(name string) bool {
	_, has := o.get(name)
	return has
}

// Null tells whether the object says nothing of a field, or that it is empty.
func (o *Body) Null(name string) bool {
	v, _ := o.get(name)
	return v.isNull()
}

// Text is the text of a field, or "" where it has none.
func (o *Body) Text(name string) string {
	if v, _ := o.get(name); v.isText() {
		return v.String()
	}
	return ""
}

// AppendJSON appends the object on one line.
func (o *Body) AppendJSON(b []byte) []byte {
	nested := slices.ContainsFunc(o.members, func(m member) bool { return m.key != "" })
	begin := len(b)
	for i := range o.members {
		m := &o.members[i]
		var inside *Body
		if nested {
			if slices.ContainsFunc(o.members[:i], func(before member) bool { return before.target == m.target }) {
				continue // it has been written where the first of them is
			}
			inside = o.inside(m)
		}
		b = append(b, ',')
		b = rawjson.AppendText(b, m.target)
		b = append(b, ':')
		if inside != nil {
			b = inside.AppendJSON(b)
		} else {
			b = m.append(b)
		}
	}
	if len(b) == begin {
		b = append(b, '{')
	}
	b[begin] = '{'
	return append(b, '}')
}

// inside is what stands in the object that the member is a part of, or nil where it is the whole. Single keys go before
// those of a whole object.
func (o *Body) inside(m *member) *Body {
	var keys []member
	for _, k := range o.members {
		if k.target == m.target && k.key != "" {
			keys = append(keys, member{target: k.key, value: k.value})
		}
	}
	if len(keys) == 0 {
		return nil
	}
	in := &Body{keys}
	if m.key == "" && m.json != nil && m.json[0] == '{' {
		for _, w := range (rawjson.Object{}).Append(m.json) {
			if name := string(w.Name); !in.Has(name) {
				in.add(name, "", value{json: bytes.Clone(w.Value)})
			}
		}
	}
	return in
}
