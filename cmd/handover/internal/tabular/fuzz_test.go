package tabular

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"unicode/utf8"
)

// What a spreadsheet writes is read to the same cells, and becomes an object of the same texts.
func FuzzCSV(f *testing.F) {
	f.Add("1", "Ann", "", byte(','))
	f.Add("a\"b", "x\ny", " z ", byte(';'))
	f.Add("é", ",;\t", "\u2028", byte('\t'))
	f.Add("", "", "", byte(','))
	f.Fuzz(func(t *testing.T, id, name, email string, delimiter byte) {
		cells := []string{id, name, email}
		for _, c := range cells {
			if !utf8.ValidString(c) || strings.Contains(c, "\r") {
				return // another encoding; and CSV keeps no carriage return before a line end
			}
		}
		if !strings.ContainsRune(",;\t", rune(delimiter)) {
			return
		}
		var file bytes.Buffer
		out := csv.NewWriter(&file)
		out.Comma = rune(delimiter)
		_ = out.WriteAll([][]string{{"id", "name", "email"}, cells})
		sheet, err := Open(&file, "users.csv", Format{})
		if err != nil {
			t.Fatal(err)
		}
		mapping, err := Spec{Fields: Users, EmptyIsNull: true}.Compile(sheet.Columns)
		if err != nil {
			t.Fatal(err)
		}
		row, err := sheet.Next()
		if err != nil {
			t.Fatal(err)
		}
		object, err := mapping.Apply(row)
		if err != nil {
			t.Fatal(err)
		}
		var said struct{ ID, Name, Email *string }
		if err := json.Unmarshal(object.AppendJSON(nil), &said); err != nil {
			t.Fatalf("%s: %v", object.AppendJSON(nil), err)
		}
		for i, got := range []*string{said.ID, said.Name, said.Email} {
			if (got == nil) != (cells[i] == "") || got != nil && *got != cells[i] {
				t.Fatalf("the cell %q became %s", cells[i], object.AppendJSON(nil))
			}
		}
		if _, err := sheet.Next(); err != io.EOF {
			t.Fatalf("a second row, %v", err)
		}
	})
}

// A row of NDJSON comes through as encoding/json reads it: every field it has that we know, with the same text.
func FuzzNDJSON(f *testing.F) {
	f.Add([]byte(`{"id":"\u0041","name":null,"email":"a@b","x":[1]}`))
	f.Add([]byte(` {"id" : 1.50 , "name":"\ud800"} `))
	f.Add([]byte(`{"id":"1","id":"2"}`))
	f.Add([]byte("{}\x00"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if bytes.ContainsAny(line, "\n") || bytes.HasPrefix(line, []byte("\xef\xbb\xbf")) || len(bytes.TrimSpace(line)) == 0 {
			return
		}
		sheet, err := Open(bytes.NewReader(line), "", Format{Name: "ndjson"})
		if err != nil {
			t.Fatal(err)
		}
		mapping, err := Spec{Fields: Users}.Compile(nil)
		if err != nil {
			t.Fatal(err)
		}
		row, err := sheet.Next()
		var problem *Problem
		var was, is map[string]any
		wrong := json.Unmarshal(line, &was)
		if err != nil {
			if !errors.As(err, &problem) || problem.Line != 1 || problem.Problem == "" {
				t.Fatalf("%q: %v", line, err)
			}
			if wrong == nil && was != nil && utf8.Valid(line) {
				t.Fatalf("%q was refused: %v", line, err)
			}
			return
		}
		if wrong != nil {
			t.Fatalf("%q was taken: %v", line, wrong)
		}
		object, err := mapping.Apply(row)
		if err != nil {
			if !errors.As(err, &problem) || problem.Field == "" {
				t.Fatalf("%q: %v", line, err)
			}
			return
		}
		if err := json.Unmarshal(object.AppendJSON(nil), &is); err != nil {
			t.Fatalf("%q became %s: %v", line, object.AppendJSON(nil), err)
		}
		for _, field := range []string{"id", "name", "email", "status"} {
			text, ok := was[field].(string)
			if got := is[field]; ok && text != "" && got != text {
				t.Fatalf("%q: %s became %v", line, field, got)
			}
		}
	})
}

// Whatever the flags say, they are refused by their name, or make JSON of a row.
func FuzzMapping(f *testing.F) {
	f.Add("id=agent", "status=active", "email={{slug .name}}@x", "status:a=b,*=c", "name!=A,B", "n=teams.csv:agent:office")
	f.Add("attributes.x=name", "roles.=", "name={{.", "=", "=", ":::")
	f.Add("id", "notices=yes", "due_at={{date \"2006\" .name}}", "id:", "name=", "a=teams.csv:name=agent:manager")
	f.Fuzz(func(t *testing.T, mapped, set, derived, values, where, lookup string) {
		if strings.Contains(derived, "range") || strings.Contains(derived, "printf") || strings.Contains(derived, "template") {
			return // who writes a template may make it run for long
		}
		for _, fields := range []Fields{Users, Accounts, Tasks, RoleChanges} {
			spec := Spec{Fields: fields, Map: []string{mapped}, Set: []string{set}, Derive: []string{derived}, Values: []string{values}, Where: []string{where}, Lookup: []string{lookup}, Open: open}
			for _, file := range []string{"id,agent,name\n1,Moses Frase,x\n", `{"id":"1","agent":"Moses Frase","name":{"x":[]}}`} {
				format := "csv"
				if file[0] == '{' {
					format = "ndjson"
				}
				sheet, err := Open(strings.NewReader(file), "", Format{Name: format})
				if err != nil {
					t.Fatal(err)
				}
				mapping, err := spec.Compile(sheet.Columns)
				if err != nil {
					if !strings.Contains(err.Error(), "--") {
						t.Fatalf("%+v: %v names no flag", spec, err)
					}
					continue
				}
				row, err := sheet.Next()
				if err != nil {
					t.Fatal(err)
				}
				object, err := mapping.Apply(row)
				var problem *Problem
				switch {
				case err != nil && (!errors.As(err, &problem) || problem.Field == ""):
					t.Fatalf("%+v: %v", spec, err)
				case err == nil && object != nil && !json.Valid(object.AppendJSON(nil)):
					t.Fatalf("%+v: %s", spec, object.AppendJSON(nil))
				}
			}
		}
	})
}
