package upload_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"handover.io/cmd/handover/internal/tabular"
	"handover.io/cmd/handover/internal/upload"
	"handover.io/pkg/event"
)

// notebook is a reporter that remembers.
type notebook struct {
	refused []int
	rows    []int
	waiting int
}

func (n *notebook) Waiting(error, time.Duration) { n.waiting++ }

func (n *notebook) Refused(p tabular.Problem) { n.refused = append(n.refused, p.Line) }
func (n *notebook) Progress(s upload.Summary) { n.rows = append(n.rows, s.Rows) }
func numbered(n int) upload.Next {
	line := 0
	return func(body []byte) (upload.Row, []byte, error) {
		line++
		switch {
		case line > n:
			return upload.Row{}, body, io.EOF
		case line%10 == 3:
			return upload.Row{}, body, &tabular.Problem{Line: line, Problem: "wrong"}
		case line%10 == 4:
			return upload.Row{}, body, nil
		}
		return upload.Row{Line: line}, fmt.Appendln(body, line), nil
	}
}

func TestEveryRowIsCountedOnce(t *testing.T) {
	t.Parallel()
	var to notebook
	sum, err := upload.Run(t.Context(), numbered(25), func(_ context.Context, c upload.Chunk) (upload.Answer, error) {
		for i, line := range c.Lines() {
			if want := fmt.Sprint(c.Rows[i].Line); string(line) != want {
				t.Errorf("line %s of the body is %q", want, line)
			}
		}
		return upload.Answer{Created: len(c.Rows) - 1, Refused: []tabular.Problem{{Line: c.Rows[0].Line}}}, nil
	}, &to, upload.Options{Rows: 10, Bytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	want := upload.Summary{Rows: 25, Created: 16, Failed: 6, LeftOut: 3}
	if diff := cmp.Diff(want, sum); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]int{11, 22, 25}, to.rows); diff != "" {
		t.Errorf("progress (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]int{1, 3, 12, 13, 23, 25}, to.refused); diff != "" {
		t.Errorf("refused (-want +got)\n%s", diff)
	}
}

// However rows are gathered, each is sent once with its own line, and those of one id in the order of the file.
func TestRowsOfOneKeyAreSentTogether(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var rows []upload.Row
		for i := range rapid.IntRange(0, 40).Draw(t, "rows") {
			rows = append(rows, upload.Row{Line: i + 1, ID: fmt.Sprint(rapid.IntRange(0, 200).Draw(t, "id")), Key: rapid.StringMatching("[xyz]?").Draw(t, "key")})
		}
		read := 0
		next := func(body []byte) (upload.Row, []byte, error) {
			if read == len(rows) {
				return upload.Row{}, body, io.EOF
			}
			read++
			return rows[read-1], fmt.Appendln(body, rows[read-1]), nil
		}
		var sent []upload.Row
		apart := 0 // times that a row doesn't follow one of its own key
		send := func(_ context.Context, c upload.Chunk) (upload.Answer, error) {
			for i, line := range c.Lines() {
				if want := fmt.Sprint(c.Rows[i]); string(line) != want {
					t.Fatalf("row %s has the line %q", want, line)
				}
				if i == 0 || c.Rows[i].Key != c.Rows[i-1].Key {
					apart++
				}
			}
			sent = append(sent, c.Rows...)
			return upload.Answer{Created: len(c.Rows)}, nil
		}
		sum, err := upload.Run(t.Context(), next, send, &notebook{}, upload.Options{Rows: 15, Bytes: 1000})
		if err != nil || sum.Rows != len(rows) {
			t.Fatalf("%+v, %v", sum, err)
		}
		lines, last, ids := map[int]bool{}, map[string]int{}, map[string]bool{}
		for _, r := range sent {
			if lines[r.Line] || last[r.ID] > r.Line || rows[r.Line-1] != r {
				t.Fatalf("%v was sent twice, or too late, or as another one: %v", r, sent)
			}
			lines[r.Line], last[r.ID], ids[r.ID] = true, r.Line, true
		}
		if len(ids) == len(rows) && apart > 4*(len(rows)/15+1) {
			t.Fatalf("rows of one key aren't together: %v", sent)
		}
	})
}

func TestAServiceThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(30 * time.Second)
		send := func(_ context.Context, c upload.Chunk) (upload.Answer, error) {
			if time.Now().Before(back) {
				return upload.Answer{}, errors.New("connection refused")
			}
			return upload.Answer{Created: len(c.Rows)}, nil
		}
		to := &notebook{}
		sum, err := upload.Run(t.Context(), numbered(2), send, to, upload.Options{Rows: 10, Bytes: 10, Patience: time.Minute})
		if err != nil || sum.Created != 2 || to.waiting != 1 {
			t.Errorf("got %+v, %v; told of the wait %d times", sum, err, to.waiting)
		}
		back = time.Now().Add(time.Hour)
		_, err = upload.Run(t.Context(), numbered(2), send, &notebook{}, upload.Options{Rows: 10, Bytes: 10, Patience: time.Minute})
		if err == nil || err.Error() != "lines 1 to 2 were not taken: connection refused" {
			t.Errorf("got %v", err)
		}
	})
}

func TestWhatNoRepeatCanMendEndsAtOnce(t *testing.T) {
	t.Parallel()
	tries := 0
	_, err := upload.Run(t.Context(), numbered(2), func(context.Context, upload.Chunk) (upload.Answer, error) {
		tries++
		return upload.Answer{}, &upload.Fatal{Err: errors.New("the token is not valid")}
	}, &notebook{}, upload.Options{Rows: 10, Bytes: 10, Patience: time.Hour})
	if err == nil || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

// change makes a role change of the first row of NDJSON.
func change(t *testing.T, p upload.Publisher, lines string) (event.AccountRoleChanged, error) {
	t.Helper()
	sheet, err := tabular.Open(strings.NewReader(lines), "", tabular.Format{Name: "ndjson"})
	if err != nil {
		t.Fatal(err)
	}
	mapping, err := tabular.Spec{Fields: tabular.RoleChanges, EmptyIsNull: true}.Compile(sheet.Columns)
	if err != nil {
		t.Fatal(err)
	}
	row, err := sheet.Next()
	if err != nil {
		t.Fatal(err)
	}
	object, err := mapping.Apply(row)
	if err != nil {
		return event.AccountRoleChanged{}, err
	}
	return p.Change(row, object)
}

func TestTheSameRowIsTheSameEvent(t *testing.T) {
	t.Parallel()
	p := upload.Publisher{Tenant: "demo", Source: "urn:x", Reason: event.ByAPI, InitiatedBy: "me"}
	row := `{"time": "2026-01-31T09:00:00Z", "account_id": "a", "role": "r", "new_owner_id": null}`
	first, err := change(t, p, row)
	if err != nil {
		t.Fatal(err)
	}
	second, _ := change(t, p, "\n"+row)
	third, _ := change(t, p, strings.Replace(row, "null", `"b"`, 1))
	if first != second || first.ID == third.ID || first.NewOwnerID != "" || first.Reason != "api" {
		t.Errorf("%+v\n%+v\n%+v", first, second, third)
	}
	m, err := first.Message(event.SubjectRoleBulk("demo"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := event.DecodeAccountRoleChanged(m); err != nil || again != first {
		t.Errorf("as a message: %+v, %v", again, err)
	}
	if again, err := change(t, p, string(m.Body)); err != nil || again != first {
		t.Errorf("as a row: %+v, %v", again, err)
	}
}

func TestRowsThatAreNoChangesSayWhy(t *testing.T) {
	t.Parallel()
	p := upload.Publisher{Tenant: "demo", Source: "urn:x", Reason: event.ByAPI, InitiatedBy: "me"}
	for row, want := range map[string]string{
		`{"time": "2026-01-31T09:00:00Z"}`:                                   "line 3: new_owner_id: is required; empty means nobody",
		`{"new_owner_id": "b"}`:                                              "line 3: time: is required: when the role changed",
		`{"new_owner_id": "b", "time": null}`:                                "line 3: time: is required: when the role changed",
		`{"new_owner_id": "b", "time": 7}`:                                   "line 3: time: must be RFC 3339",
		`{"new_owner_id": "b", "time": "now"}`:                               `line 3: time: is "now"; must be a date`,
		`{"new_owner_id": "b", "time": "2026-01-31T09:00:00Z", "role": "r"}`: "line 3: account_id: is empty",
		`{"specversion": "1.0", "id": "e", "source": "s", "type": "other"}`:  "line 3 (e): type: ",
	} {
		if _, err := change(t, p, "\n\n"+row); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// What a file and a server say can't control a terminal.
func TestRefusedRowsAreHarmless(t *testing.T) {
	t.Parallel()
	evil := tabular.Problem{Line: 2, ID: "\u009b2J", Field: "name", Problem: "is \x1b]0;owned\a \u202e"}
	var out, file strings.Builder
	upload.NewProgress(&out, false, "users", -1, nil).Refused(evil)
	upload.NewProgress(&out, false, "users", -1, &file).Refused(evil)
	for _, r := range out.String() + file.String() {
		if r != '\n' && !unicode.IsPrint(r) {
			t.Errorf("%U in %q", r, out.String()+file.String())
		}
	}
	var read tabular.Problem
	if err := json.Unmarshal([]byte(file.String()), &read); err != nil || read != evil || !strings.Contains(out.String(), `\u009b2J`) {
		t.Errorf("%v %+v %q", err, read, out.String())
	}
}

func TestProgressInALogFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := upload.NewProgress(&out, false, "tasks", 100, nil)
		p.Progress(upload.Summary{Rows: 10})
		p.Refused(tabular.Problem{Line: 7, ID: "t-7", Field: "due_at", Problem: "is late"})
		<-time.After(10 * time.Second)
		p.Progress(upload.Summary{Rows: 1000, Failed: 1})
		want := "line 7 (t-7): due_at: is late\n1000 rows so far, 1 of them with problems (100 rows a second)\n"
		if out.String() != want || p.Done() != 10*time.Second {
			t.Errorf("got %q", out.String())
		}
	})
}
