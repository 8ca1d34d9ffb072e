package rawjson_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"handover.io/internal/rawjson"
)

// FuzzWalk takes values apart all the way down, and holds the parts against those of encoding/json, for which the last of
// two members of one name counts.
func FuzzWalk(f *testing.F) {
	for _, s := range []string{
		`{}`, ` [ ] `, `"\"\\"`, `{"a":1,"A":-2e3 ,"\u0061" : [null,true , "}]",{"":{}}]}`, `[[],[{}],"\\",0]`, "{\"\":\"\ufffd\",\"\":\t\n\r{}}",
		`{"\ud800":1,"\ufffd":2}`, `{"z":0` + strings.Repeat(`,"b":1,"a":2,"ä":3`, 7) + `}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if json.Valid(raw) && utf8.Valid(raw) {
			walk(t, bytes.TrimSpace(raw))
		}
	})
}

// FuzzParse holds what is taken for an object against encoding/json, and its members against those of a walk.
func FuzzParse(f *testing.F) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}" }
	for _, s := range []string{
		``, ` `, `{}`, "\t{ \r\n} ", `{} {}`, `{"a":1,}`, `{"a" 1}`, `{"a":}`, `{,}`, `{"a":[1,]}`, `{"a":[,]}`, `{"a":[1 2]}`, `{"a":{"b":{}},"c":[[],{}]}`, `{a:1}`, `[]`, `null`, `"{}"`,
		`{"a":0}`, `{"a":-0.0e+00}`, `{"a":01}`, `{"a":1.}`, `{"a":.1}`, `{"a":-}`, `{"a":1e}`, `{"a":+1}`, `{"a":1E-9 , "b":truex}`, `{"a":nul}`, `{"a":false}`,
		`{"a":"\u00e9\n\/"}`, `{"a":"\u00g0"}`, `{"a":"\x"}`, `{"a":"`, `{"a":"\`, `{"a":"\u12`, "{\"a\":\"\t\"}", "{\"a\":\"\x00\"}", "{\"a\":\"\xff\"}", "{\"a\":\"\u00e9\"}", "{\"a\":1\x00}",
		deep(9999), deep(10000),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		object := bytes.TrimSpace(raw)
		want := json.Valid(raw) && utf8.Valid(raw) && object[0] == '{'
		got, ok := rawjson.Object(nil).Parse(raw)
		if ok != want {
			t.Fatalf("%.100q is an object: %v, want %v", raw, ok, want)
		}
		if !ok {
			return
		}
		for i, m := range rawjson.Object(nil).Append(object) {
			if i >= len(got) || !bytes.Equal(got[i].Name, m.Name) || !bytes.Equal(got[i].Value, m.Value) || !bytes.HasPrefix(raw[got[i].At:], m.Value) || !bytes.HasPrefix(object[m.At:], m.Value) {
				t.Fatalf("%q: member %d of %d isn't %q: %q", raw, i, len(got), m.Name, m.Value)
			}
		}
	})
}

func walk(t *testing.T, raw []byte) {
	switch rawjson.Kind(raw) {
	case "a string":
		if want, got := parse[string](t, raw), rawjson.Unquote(raw); got != want {
			t.Fatalf("%s: %q, want %q", raw, got, want)
		}
	case "an array":
		var got []json.RawMessage
		rawjson.Elements(raw, func(value []byte) { got = append(got, value) })
		if want := parse[[]json.RawMessage](t, raw); !slices.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("%s: elements %q, want %q", raw, got, want)
		}
		for _, value := range got {
			walk(t, value)
		}
	case "an object":
		o, want := rawjson.Object(nil).Append(raw), parse[map[string]json.RawMessage](t, raw)
		times, repeat := map[string]int{}, -1
		for i, m := range o {
			if times[string(m.Name)]++; times[string(m.Name)] == 2 && repeat < 0 {
				repeat = i
			}
			walk(t, m.Value)
		}
		for name, value := range want {
			if got, twice := o.Get(name); !bytes.Equal(got, value) || twice != (times[name] > 1) {
				t.Fatalf("%s: %q is %q, twice %v", raw, name, got, twice)
			}
		}
		if got := o.Repeat(); got != repeat || len(times) != len(want) {
			t.Fatalf("%s: the first repeat of %d names is %d, not %d of %d", raw, len(want), repeat, got, len(times))
		}
	default:
		parse[any](t, raw)
	}
}

func parse[V any](t *testing.T, raw []byte) (v V) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil || d.InputOffset() != int64(len(raw)) {
		t.Fatalf("%q is not one value: %v", raw, err)
	}
	return v
}

func TestWhereNothingIsEscapedNothingIsAllocated(t *testing.T) {
	raw, room := []byte(`{"a": [1, {"b": "c"}], "d" : "\n", "e":null}`), make(rawjson.Object, 0, 3)
	if n := testing.AllocsPerRun(100, func() {
		o := room.Append(raw)
		if p, ok := room.Parse(raw); !ok || len(p) != len(o) {
			t.Fatal(p)
		}
		if value, twice := o.Get("e"); value == nil || twice || o.Repeat() >= 0 {
			t.Fatal(o)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
