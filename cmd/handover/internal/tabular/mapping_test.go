package tabular

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A small seller of hardware, as untidy as they come.
var files = map[string]string{
	"teams.csv": "agent,manager,office\nMoses Frase,Dustin Brinkmann,Central\nZoë O'Hara,Melvin Marxen,East\n",
	"pipeline.csv": `opportunity,agent,product,account,stage,engaged
O1,Moses Frase,GTX Pro,Isdom,Engaging,2016-10-20
O2,Zoë O'Hara,MG Special,Isdom,Prospecting,
O3,Zoë O'Hara,GTXPro,Isdom,Engaging,2016-11-01
O4,Moses Frase,MG Special,,Won,2016-10-25
O5,Moses Frase,MG Special,Plexzap,Engaging,20.10.2016
`,
	"products.csv": "product,series\nGTX Pro,GTX\nMG Special,MG\n",
	"accounts.csv": "account,sector,revenue\nIsdom,technolgy,1100.04\nPlexzap,,many\n",
}

func open(name string) (io.ReadCloser, error) {
	content, ok := files[name]
	if !ok {
		return nil, errors.New("no such file")
	}
	return io.NopCloser(strings.NewReader(content)), nil
}

// run maps a whole file: one line of JSON for each object, one of text for each row with a problem.
func run(t *testing.T, name, content string, spec Spec) string {
	t.Helper()
	sheet, err := Open(strings.NewReader(content), name, Format{})
	if err != nil {
		t.Fatal(err)
	}
	spec.Open = open
	mapping, err := spec.Compile(sheet.Columns)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for {
		row, err := sheet.Next()
		if err == io.EOF {
			return strings.TrimSpace(out.String())
		}
		var object *Body
		if err == nil {
			object, err = mapping.Apply(row)
		}
		var problem *Problem
		switch {
		case errors.As(err, &problem):
			fmt.Fprintln(&out, problem)
		case err != nil:
			t.Fatal(err)
		case object != nil:
			fmt.Fprintf(&out, "%s\n", sorted(t, object.AppendJSON(nil)))
		}
	}
}

// sorted is a line of JSON with its members in the order of their names.
func sorted(t *testing.T, line []byte) []byte {
	t.Helper()
	var object map[string]any
	in := json.NewDecoder(bytes.NewReader(line))
	in.UseNumber()
	if err := in.Decode(&object); err != nil || in.InputOffset() != int64(len(line)) || bytes.ContainsRune(line, '\n') {
		t.Fatalf("%v: %s", err, line)
	}
	line, _ = json.Marshal(object)
	return line
}

func TestMapping(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		file string
		spec Spec
		want string
	}{
		"agents become users with a derived address": {
			file: "teams.csv",
			spec: Spec{Fields: Users, Map: []string{"id=agent", "name=agent"}, Derive: []string{`email={{slug .agent}}@example.com`}},
			want: `{"email":"moses-frase@example.com","id":"Moses Frase","name":"Moses Frase"}
{"email":"zoe-o-hara@example.com","id":"Zoë O'Hara","name":"Zoë O'Hara"}`,
		},
		"opportunities become tasks: renamed, translated, derived, joined": {
			file: "pipeline.csv",
			spec: Spec{
				Fields: Tasks,
				Map:    []string{"id=opportunity", "account_id=account", "assignee_id=agent", "status=stage"},
				Values: []string{"status:Won=completed,*=open", "source:GTX=success_play,MG=manual,=manual"},
				Lookup: []string{"series=products.csv:product:series"},
				Derive: []string{"due_at={{addDays 90 .engaged}}", "source={{.series}}", "title={{.product}} for {{or .account `nobody`}}"},
			},
			want: `{"account_id":"Isdom","assignee_id":"Moses Frase","due_at":"2017-01-18T00:00:00Z","id":"O1","source":"success_play","status":"open","title":"GTX Pro for Isdom"}
{"account_id":"Isdom","assignee_id":"Zoë O'Hara","id":"O2","source":"manual","status":"open","title":"MG Special for Isdom"}
{"account_id":"Isdom","assignee_id":"Zoë O'Hara","due_at":"2017-01-30T00:00:00Z","id":"O3","source":"manual","status":"open","title":"GTXPro for Isdom"}
{"assignee_id":"Moses Frase","due_at":"2017-01-23T00:00:00Z","id":"O4","source":"manual","status":"completed","title":"MG Special for nobody"}
line 6 (O5): due_at: is "20.10.2016"; must be a date as 2026-01-31 or 2026-01-31T15:04:05Z (other layouts: --derive with date)`,
		},
		"the owner of an account is who has most open opportunities, a tie goes to the first name, and the manager follows": {
			file: "accounts.csv",
			spec: Spec{
				Fields: Accounts, Map: []string{"id=account", "roles.sales_manager=owner", "roles.success_manager=manager"},
				Lookup:         []string{"manager=teams.csv:owner=agent:manager"},
				Most:           []string{"owner=pipeline.csv:account:agent:stage=Engaging,Prospecting"},
				AttributesRest: true, Numbers: []string{"revenue"},
			},
			want: `{"attributes":{"revenue":1100.04,"sector":"technolgy"},"id":"Isdom","roles":{"sales_manager":"Zoë O'Hara","success_manager":"Melvin Marxen"}}
line 3 (Plexzap): attributes.revenue: is "many"; --numbers says it is a number`,
		},
		"a repeated id is left out": {
			file: "pipeline.csv",
			spec: Spec{Fields: Users, Map: []string{"id=agent"}, Unique: true},
			want: `{"id":"Moses Frase"}
{"id":"Zoë O'Hara"}`,
		},
		"rows that a condition excludes are left out, and an empty cell can empty a field": {
			file: "pipeline.csv",
			spec: Spec{Fields: Tasks, Map: []string{"id=opportunity", "account_id=account"}, Where: []string{"stage!=Engaging,Prospecting"}, EmptyIsNull: true},
			want: `{"account_id":null,"id":"O4"}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(test.want, run(t, test.file, files[test.file], test.spec)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestNDJSONKeepsItsValues(t *testing.T) {
	t.Parallel()
	got := run(t, "accounts.ndjson", `{"id":"a","attributes":{"arr":1200.50,"tags":["x"]},"roles":{"success_manager":null},"else":1}
not json

{"id":"b"} {"id":"c"}
{"id":"d","name":null}`, Spec{Fields: Accounts})
	want := `{"attributes":{"arr":1200.50,"tags":["x"]},"id":"a","roles":{"success_manager":null}}
line 2: is not a JSON object on one line
line 4: has something after its JSON object
{"id":"d","name":null}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestCSVAsPeopleSaveIt(t *testing.T) {
	t.Parallel()
	got := run(t, "users.csv", "\xef\xbb\xbfid;name\r\n1;\"Ann\nLee\"\r\n2;B;C\r\n3;b\"ad\r\n4;\xff\r\n5\r\n", Spec{Fields: Users})
	want := `{"id":"1","name":"Ann\nLee"}
line 4: has 3 cells, but the header names 2 columns
line 5: is not CSV: bare " in non-quoted-field
line 6: name: is not valid UTF-8; save the file as UTF-8
{"id":"5"}`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestEverythingWrongWithASpecIsSaidAtOnce(t *testing.T) {
	t.Parallel()
	spec := Spec{
		Fields: Tasks, Open: open,
		Map:    []string{"id=oportunity", "colour=agent", "title"},
		Set:    []string{"source=manual"},
		Derive: []string{"source={{.agent}}", "url={{.nothing}}", "role={{"},
		Values: []string{"priority:1=high"},
		Lookup: []string{"x=missing.csv:agent:b", "y=teams.csv:agent:color", "z=teams.csv"},
		Where:  []string{"stage"},
	}
	_, err := spec.Compile([]string{"opportunity", "agent"})
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, want := range []string{
		`there is no column "oportunity"; there are opportunity, agent`, `there is no field "colour"; the fields are id, account_id`,
		`--map "title": must be FIELD=`, `the field source is given twice`, `--derive url: there is no column "nothing"`,
		`--derive role: template`, `--values "priority:1=high"`, `--lookup x: no such file`, `teams.csv has no column "color"`,
		`--lookup "z=teams.csv": must be NEW=FILE:KEY:VALUE`, `--where "stage"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not said: %s\nin %v", want, err)
		}
	}
}

func TestJoinsThatNeedEachOtherAreRefused(t *testing.T) {
	t.Parallel()
	_, err := Spec{Fields: Users, Open: open, Lookup: []string{"a=teams.csv:b=agent:manager", "b=teams.csv:a=agent:manager"}}.Compile([]string{"id"})
	if err == nil || !strings.Contains(err.Error(), "each needs a column that another one makes") {
		t.Errorf("got %v", err)
	}
}

func FuzzRowsNeverEndTheFile(f *testing.F) {
	f.Add("id,name\n1,\"a\nb\"\n\"2\n")
	f.Add("id;name\n\xff;1\n,,,\n")
	f.Fuzz(func(t *testing.T, content string) {
		for _, format := range []string{"csv", "ndjson"} {
			sheet, err := Open(strings.NewReader(content), "", Format{Name: format})
			if err != nil {
				continue
			}
			mapping, err := Spec{Fields: Users}.Compile(nil)
			if err != nil {
				t.Fatal(err)
			}
			for {
				row, err := sheet.Next()
				if err == io.EOF {
					break
				}
				if err == nil {
					_, err = mapping.Apply(row)
				}
				var problem *Problem
				if err != nil && !errors.As(err, &problem) {
					t.Fatalf("%q ended with %v", content, err)
				}
			}
		}
	})
}
