package web_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/web"
)

// importAll sends lines to an import and returns those of the answer, progress left out.
func (w *world) importAll(what string, body any) (refused []web.ImportLine, last web.ImportLine) {
	w.t.Helper()
	a := w.send("POST", "/v1/imports/"+what, body, as("sync"), header("Content-Type", "application/x-ndjson")).want(w.t, http.StatusOK)
	for text := range strings.Lines(string(a.body)) {
		last = web.ImportLine{}
		if err := json.Unmarshal([]byte(text), &last); err != nil {
			w.t.Fatalf("%v: %s", err, text)
		}
		if last.Line > 0 {
			refused = append(refused, last)
		}
	}
	return refused, last
}

func TestAnImportTakesWhatItCan(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	refused, last := w.importAll("users", strings.Join([]string{
		`{"id":"u-1","name":"Ann"}`,
		`{"id":"u-2","name":`,
		``,
		`{"id":"u-3","name":"Cem","status":"asleep"}`,
		`{"name":"nobody"}`,
		`{"id":"u-4","name":"Dee","surprise":1}`,
		`[]`,
		`{"id":"u-5","name":"` + strings.Repeat("x", 1<<20) + `"}`,
		`{"id":"u-6","name":"\u0000"}`,
		`{"id":"u-1","name":"Ann"}`,
		`{"id":"u-7","name":"Eve","email":"eve@example.com"}`,
	}, "\n"))
	var lines []int
	for _, r := range refused {
		lines = append(lines, r.Line)
		if r.Problem == "" {
			t.Errorf("no problem: %+v", r)
		}
	}
	if diff := cmp.Diff([]int{2, 4, 5, 6, 7, 8, 9}, lines); diff != "" {
		t.Errorf("lines refused: %s", diff)
	}
	if r := refused[1]; r.ID != "u-3" || r.Field != "status" {
		t.Errorf("%+v", r)
	}
	want := &web.ImportSummary{Rows: 10, Created: 2, Unchanged: 1, Failed: 7}
	if diff := cmp.Diff(want, last.Summary); diff != "" {
		t.Error(diff)
	}
	if n := w.count(`SELECT count(*) FROM users WHERE tenant_id = 'acme'`); n != 2 {
		t.Errorf("%d users", n)
	}
}

func TestAnEmptyImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if refused, last := w.importAll("tasks", ""); len(refused) > 0 || last.Summary == nil || *last.Summary != (web.ImportSummary{}) {
		t.Errorf("%v %+v", refused, last)
	}
}

// TestALargeImport streams 50,000 tasks with a wrong one in every hundred, and repeats it.
func TestALargeImport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.importAll("users", `{"id":"u-1","name":"Ann"}`)
	var accounts strings.Builder
	for i := range 500 {
		fmt.Fprintf(&accounts, `{"id":"a-%d","name":"Account %d","roles":{"success_manager":"u-1"}}`+"\n", i, i)
	}
	if refused, last := w.importAll("accounts", accounts.String()); len(refused) > 0 || last.Summary == nil || last.Summary.Created != 500 {
		t.Fatalf("%v %+v", refused, last)
	}
	const rows = 50_000
	tasks := func() io.Reader {
		r, out := io.Pipe()
		go func() {
			for i := range rows {
				title := "Task " + strings.Repeat("x", 200)
				if i%100 == 7 {
					title = ""
				}
				fmt.Fprintf(out, `{"id":"t-%d","account_id":"a-%d","title":%q,"assignee_id":"u-1","source":"success_play","created_at":"2026-01-02T03:04:05Z"}`+"\n", i, i%500, title)
			}
			out.Close()
		}()
		return r
	}
	refused, last := w.importAll("tasks", tasks())
	if len(refused) != rows/100 || refused[3].Line != 308 || refused[3].ID != "t-307" || refused[3].Field != "title" {
		t.Errorf("%d refused: %+v", len(refused), refused[3])
	}
	if want := (web.ImportSummary{Rows: rows, Created: rows - rows/100, Failed: rows / 100}); last.Summary == nil || *last.Summary != want {
		t.Errorf("%+v", last)
	}
	if _, last := w.importAll("tasks", tasks()); last.Summary == nil || last.Summary.Unchanged != rows-rows/100 {
		t.Errorf("the repeat: %+v", last)
	}
}

func TestAnImportAnswersWhileItReads(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	body, out := io.Pipe()
	r, err := http.NewRequestWithContext(t.Context(), "POST", w.url+"/v1/imports/users", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.tokens["acme-u-1-sync"])
	go func() {
		for i := range 1000 {
			fmt.Fprintf(out, `{"id":"u-%d","name":"Person %d"}`+"\n", i, i)
		}
	}()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	if !in.Scan() || in.Text() != `{"progress":{"rows":1000}}` {
		t.Fatalf("%q %v", in.Text(), in.Err())
	}
	// The body isn't at its end yet; now it breaks off in the middle of a row.
	fmt.Fprint(out, `{"id":"u-1000","name":"Person 1000"}`+"\n"+`{"id":"u-1001","na`)
	out.CloseWithError(io.ErrUnexpectedEOF)
	for in.Scan() {
		if strings.Contains(in.Text(), "summary") {
			t.Errorf("an import that broke off has a summary: %s", in.Text())
		}
	}
	if n := w.count(`SELECT count(*) FROM users WHERE tenant_id = 'acme' AND name LIKE 'Person %'`); n < 1000 || n > 1001 {
		t.Errorf("%d users", n)
	}
}

func TestImportsBelongToTheTenantOfTheToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.importAll("users", `{"id":"u-1","name":"Ann"}`)
	w.importAll("accounts", `{"id":"a-1","name":"Acme"}`)
	a := w.send("POST", "/v1/imports/tasks", `{"id":"t-1","account_id":"a-1","title":"Call","assignee_id":"u-1"}`, token("zeta-u-1-sync"))
	if !strings.Contains(string(a.body), `"failed":1`) {
		t.Errorf("a task on another tenant's account: %s", a.body)
	}
	if n := w.count(`SELECT count(*) FROM tasks`); n != 0 {
		t.Errorf("%d tasks", n)
	}
}
