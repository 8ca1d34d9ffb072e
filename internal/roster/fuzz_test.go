package roster

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// A filter that is read is written to one that reads the same; one that isn't names the field.
func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"attributes":{"tier":"gold","n":[1.50,null]},"name":"ac\u0000me","role":"success_manager","owner_id":null}`, `{"owner_id":"\ud800"}`,
		`{"attributes":null,"name":null,"role":null}`, `{"name":"ß"}`, `{"attributes":{"a":1,"a":2}}`, ` {"owner_id" : ""} `, `{"attributes":{"\u003c":"<"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		read, err := DecodeFilter(text)
		var invalid *Invalid
		if err != nil {
			if !errors.As(err, &invalid) || invalid.Remedy == "" || !strings.HasPrefix(invalid.Field, "filter") {
				t.Fatalf("%q: %#v", text, err)
			}
			return
		}
		written, err := json.Marshal(read)
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		again, err := DecodeFilter(written)
		if err != nil || !sameFilter(t, read, again) {
			t.Fatalf("%q is %+v, written %s, then %+v, %v", text, read, written, again, err)
		}
	})
}

// sameFilter compares attributes as what they say: encoding/json writes some characters in another way.
func sameFilter(t *testing.T, a, b Filter) bool {
	t.Helper()
	var in [2]any
	for i, f := range []*Filter{&a, &b} {
		if f.Attributes != nil {
			if err := json.Unmarshal(f.Attributes, &in[i]); err != nil {
				t.Fatalf("%s: %v", f.Attributes, err)
			}
		}
		f.Attributes = nil
	}
	return reflect.DeepEqual(a, b) && reflect.DeepEqual(in[0], in[1])
}

// A cursor is read to the parts that it was made of, or refused by its name; no part is one that PostgreSQL can't take.
func FuzzCursor(f *testing.F) {
	cursorOf := func(parts ...string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(strings.Join(parts, "\x00")))
	}
	for _, seed := range []string{"", "x", "====", cursorOf("accounts", "a-1"), cursorOf("history", "1767225600000000", "7"), cursorOf("history", "9223372036854775807", "x"), cursorOf("accounts", "\xff"), cursorOf("accounts")} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		for list, n := range map[string]int{"accounts": 1, "history": 2} {
			_, parts, err := PageQuery{Cursor: cursor}.open(list, n)
			var invalid *Invalid
			if err != nil {
				if !errors.As(err, &invalid) || invalid.Field != "cursor" {
					t.Fatalf("%q: %v", cursor, err)
				}
				continue
			}
			if len(parts) != n {
				t.Fatalf("%q has the parts %q", cursor, parts)
			}
			if _, again, err := (PageQuery{Cursor: cursorOf(append([]string{list}, parts...)...)}).open(list, n); cursor != "" && (err != nil || !reflect.DeepEqual(parts, again)) {
				t.Fatalf("%q is %q, then %q, %v", cursor, parts, again, err)
			}
			for i := range parts {
				if at, err := parts.time(i); err == nil && (at.Year() < -4000 || at.Year() > 10000) {
					t.Fatalf("%q is the time %v", cursor, at)
				} else if err != nil && !errors.As(err, &invalid) {
					t.Fatal(err)
				}
				if _, err := parts.number(i, 1); err != nil && !errors.As(err, &invalid) {
					t.Fatal(err)
				}
			}
		}
	})
}
