package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/service"
	"handover.io/internal/testkit"
)

// asCommand makes this test binary the command itself, so that a test can kill it as nothing else can.
const asCommand = "HANDOVER_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
	}
	os.Exit(m.Run())
}

// started is a run in a process of its own.
type started struct {
	*exec.Cmd
	service.RunFile
	log *bytes.Buffer
}

// start runs everything on dir, on free ports, and returns when it is ready.
func start(t *testing.T, dir string) *started {
	t.Helper()
	r := &started{Cmd: exec.Command(os.Args[0], "run", "--json"), log: &bytes.Buffer{}}
	r.Env = append(os.Environ(), asCommand+"=1", "HANDOVER_DATA_DIR="+dir, "HANDOVER_HTTP_ADDR=127.0.0.1:0", "HANDOVER_NATS_ADDR=127.0.0.1:0",
		"HANDOVER_NOTICE_WINDOW=1s", "HANDOVER_LOG_FORMAT=json")
	r.Stderr = r.log
	out, err := r.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Process.Kill() })
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || !strings.Contains(line, `"http_url"`) {
		_ = r.Wait()
		t.Fatalf("it did not start: %v\n%s", err, r.log)
	}
	if r.RunFile, err = service.ReadRunFile(dir); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *started) stop(t *testing.T) {
	t.Helper()
	if err := r.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(); err != nil {
		t.Errorf("it ended with %v\n%s", err, r.log)
	}
}

// call gives a command on dir and returns its exit code and output.
func call(t *testing.T, dir, stdin string, args ...string) (int, string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	code := Main(t.Context(), append([]string{"--data-dir", dir}, args...), nil, strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func (r *started) request(t *testing.T, method, path, body string) map[string]any {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.HTTPURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.Token)
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	var out map[string]any
	if err := json.Unmarshal(text, &out); err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
	return out
}

// TestADayOfALocalRun is what a newcomer does: start it, change hands, read the mail, load their own files, look at the
// status; and what happens to them: a second start, a crash.
func TestADayOfALocalRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// The private PostgreSQL of a test by root belongs to somebody else, who must get in.
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	r := start(t, dir)

	if code, _, said := call(t, dir, "", "run"); code != 1 || !strings.Contains(said, "another handover run has this data directory") {
		t.Errorf("a second run on the same directory: exit %d, %s", code, said)
	}
	changed := r.request(t, "PUT", "/v1/accounts/acc-001/roles/success_manager", `{"owner_id":"amara.okafor","reason":"profile"}`)
	if changed["operation_id"] == nil {
		t.Errorf("got %v", changed)
	}
	var mails []string
	testkit.Eventually(t, "the new owner has a mail", func() (bool, string) {
		mails, _ = filepath.Glob(filepath.Join(dir, "mail", "*.eml"))
		return len(mails) == 1, fmt.Sprint(mails)
	})
	mail, err := os.ReadFile(mails[0])
	if err != nil || !bytes.Contains(mail, []byte("Amara Okafor")) {
		t.Errorf("%v\n%s", err, mail)
	}
	loadFiles(t, dir)
	publishChanges(t, dir)
	if resp, err := http.Get(r.HTTPURL + "/metrics"); err != nil {
		t.Error(err)
	} else if text, _ := io.ReadAll(resp.Body); !bytes.Contains(text, []byte("handover_waiting{part=\"reassigner\"} 0")) {
		t.Errorf("metrics: %s", text)
	}

	// A crash leaves nothing that the next start trips over, and the tools find it under the same token.
	token := r.Token
	if err := r.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = r.Wait()
	r = start(t, dir)
	if r.Token != token {
		t.Error("the second start made another token")
	}
	if got := r.request(t, "GET", "/v1/accounts/acc-001", "")["roles"].(map[string]any)["success_manager"]; got != "amara.okafor" {
		t.Errorf("after the crash acc-001 is owned by %v", got)
	}
	r.stop(t)
	if code, _, said := call(t, dir, "", "status"); code != 1 || !strings.Contains(said, "still running?") {
		t.Errorf("status of a stopped run: exit %d, %s", code, said)
	}
}

func loadFiles(t *testing.T, dir string) {
	t.Helper()
	teams := "agent,lead\nMoses Frase,Dustin Brinkmann\nDarcel Schlecht,Melvin Marxen\n"
	for _, step := range []struct {
		stdin string
		args  []string
		code  int
		want  string
		said  string
	}{
		{teams, []string{"import", "users", "-", "--format", "csv", "--map", "id=agent", "--map", "name=agent", "--dry-run"}, 0, "Dry run, nothing was done. users: 2 rows in", ""},
		{teams, []string{"import", "users", "-", "--format", "csv", "--map", "id=agent", "--map", "name=agent", "--json"}, 0, `"created": 2`, ""},
		{teams, []string{"import", "users", "-", "--format", "csv", "--map", "id=lead", "--map", "name=lead", "--unique"}, 0, "2 created, 0 updated, 0 unchanged, 0 failed", ""},
		{`{"id":"isdom","name":"Isdom","roles":{"sales_manager":"Moses Frase"}}`, []string{"import", "accounts", "-", "--format", "ndjson"}, 0, "1 created", ""},
		{`{"id":"acc-001","roles":{"success_manager":"Moses Frase"}}`, []string{"import", "accounts", "-", "--format", "ndjson", "--dry-run", "--json"}, 0, `"tasks_moved": `, ""},
		{"id,account_id,title,assignee_id,due_at\nO1,isdom,One,Moses Frase,2026-01-31\nO2,,Two,Moses Frase,\nO3,isdom,Three,Moses Frase,soon\n",
			[]string{"import", "tasks", "-", "--format", "csv", "--set", "source=success_play"}, 1, "3 rows in", "line 3 (O2): account_id"},
	} {
		code, out, said := call(t, dir, step.stdin, step.args...)
		if code != step.code || !strings.Contains(out, step.want) || !strings.Contains(said, step.said) {
			t.Errorf("%v: exit %d\n%s%s", step.args, code, out, said)
		}
	}
}

func publishChanges(t *testing.T, dir string) {
	t.Helper()
	if code, _, said := call(t, dir, "", "status"); code != 0 {
		t.Errorf("status: exit %d, %s", code, said)
	}
	at := time.Now().UTC().Format(time.RFC3339)
	changes := fmt.Sprintf("when,account_id,role,to\n%s,isdom,sales_manager,Darcel Schlecht\n%s,isdom,sales_manager,nobody.known\n,isdom,sales_manager,x\n", at, at)
	for _, straight := range [][]string{nil, {"--nats"}} {
		code, out, said := call(t, dir, changes, append([]string{"publish", "-", "--format", "csv", "--map", "time=when", "--map", "new_owner_id=to", "--json"}, straight...)...)
		var sum struct{ Rows, Created, Unchanged, Failed int }
		if err := json.Unmarshal([]byte(out), &sum); err != nil || code != 1 || sum.Rows != 3 || sum.Created+sum.Unchanged != 2 || sum.Failed != 1 || !strings.Contains(said, "line 4: time: is required") {
			t.Errorf("publish %v: exit %d, %v\n%s%s", straight, code, err, out, said)
		}
	}
	var status struct {
		DeadLetters []struct {
			Reason, Newest string
			Count          int
		} `json:"dead_letters"`
		Attention []string
	}
	testkit.Eventually(t, "the change to somebody unknown is a dead letter", func() (bool, string) {
		code, out, said := call(t, dir, "", "status", "--json")
		return json.Unmarshal([]byte(out), &status) == nil && code == 1 && len(status.DeadLetters) == 1, out + said
	})
	if d := status.DeadLetters[0]; d.Reason != "owner_unknown" || d.Count != 1 || !strings.Contains(d.Newest, "user is synced") || len(status.Attention) != 1 {
		t.Errorf("got %+v", status)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	environ := []string{"HANDOVER_DATABASE_URL=" + pool.Config().ConnString(), "HANDOVER_DATA_DIR=" + t.TempDir()}
	call := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		code := Main(t.Context(), append([]string{"token", "--tenant", "acme", "--json"}, args...), environ, nil, &out, &errs)
		return code, out.String(), errs.String()
	}
	if code, _, said := call("create", "--user", "root", "--right", "admin"); code != 1 || !strings.Contains(said, `there is no tenant "acme"; make it with --new-tenant`) {
		t.Errorf("without the tenant: exit %d, %s", code, said)
	}
	code, out, said := call("create", "--user", "root", "--right", "admin", "--new-tenant")
	var token struct{ ID, Token string }
	if err := json.Unmarshal([]byte(out), &token); err != nil || code != 0 || token.Token == "" {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, said)
	}
	if !strings.Contains(said, `Warning: tenant "acme" knows no user "root"`) {
		t.Errorf("a user nobody knows: %s", said)
	}
	if _, err := pool.Exec(t.Context(), `INSERT INTO users (tenant_id, user_id, name, status, left_at)
		VALUES ('acme', 'ann', 'Ann', 'active', NULL), ('acme', 'bob', 'Bob', 'disabled', '2026-01-02')`); err != nil {
		t.Fatal(err)
	}
	if code, _, said := call("create", "--user", "bob", "--right", "read"); code != 1 || !strings.Contains(said, `"bob" left on 2026-01-02`) {
		t.Errorf("somebody who left: exit %d, %s", code, said)
	}
	if code, _, said := call("create", "--user", "ann", "--right", "read"); code != 0 || said != "" {
		t.Errorf("somebody known: exit %d, %s", code, said)
	}
	if code, _, said := call("revoke", token.ID); code != 0 {
		t.Errorf("revoke: exit %d, %s", code, said)
	}
	if _, out, _ := call("list"); strings.Contains(out, token.Token) || !strings.Contains(out, `"revoked_at": "2`) {
		t.Errorf("list: %s", out)
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	empty := "HANDOVER_DATA_DIR=" + t.TempDir()
	for name, test := range map[string]struct {
		args    []string
		environ []string
		code    int
		said    string
	}{
		"help":                        {args: []string{"--help"}, code: 0},
		"no such command":             {args: []string{"frobnicate"}, code: 2, said: "unknown command"},
		"no such flag":                {args: []string{"status", "--loud"}, code: 2, said: "unknown flag"},
		"no local run":                {args: []string{"status"}, environ: []string{empty}, code: 2, said: "start handover run here"},
		"no such part":                {args: []string{"run", "--only", "api,mailer"}, code: 2, said: `there is no part "mailer"; the parts are api, relay`},
		"parts without servers":       {args: []string{"run", "--only", "api"}, environ: []string{empty}, code: 2, said: "HANDOVER_NATS_URL is required"},
		"a misspelt variable":         {args: []string{"run"}, environ: []string{empty, "HANDOVER_SMPT_URL=x"}, code: 2, said: "did you mean HANDOVER_SMTP_URL?"},
		"configuration explained":     {args: []string{"run", "--print-config"}, environ: []string{empty}, code: 0},
		"wrong configuration checked": {args: []string{"run", "--print-config"}, environ: []string{empty, "HANDOVER_SMTP_URL=ftp://x"}, code: 2, said: "HANDOVER_SMTP_URL"},
		"a missing file":              {args: []string{"import", "users", "nope.csv", "--url", "http://x", "--token", "y"}, environ: []string{empty}, code: 2, said: "there is no file nope.csv"},
		"a URL without its token":     {args: []string{"import", "users", "nope.csv", "--url", "http://x"}, environ: []string{empty}, code: 2, said: "which token for http://x?"},
		"verify of no kind":           {args: []string{"verify", "--only", "owner,colour"}, environ: []string{empty}, code: 2, said: `--only: there is no kind "colour"; there are missing_change, owner`},
		"verify of an account alone":  {args: []string{"verify", "--account", "a"}, environ: []string{empty}, code: 2, said: "--account: give --tenant too"},
		"verify that applies nothing": {args: []string{"verify", "--apply"}, environ: []string{empty}, code: 2, said: "--apply: goes with --fix"},
		"verify without a database":   {args: []string{"verify"}, environ: []string{empty}, code: 2, said: "start handover run here"},
		"a database that is away":     {args: []string{"migrate"}, environ: []string{empty, "HANDOVER_DATABASE_URL=postgres://x@127.0.0.1:1/x"}, code: 1, said: "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out, errs bytes.Buffer
			code := Main(t.Context(), test.args, test.environ, strings.NewReader(""), &out, &errs)
			if code != test.code || !strings.Contains(errs.String(), test.said) {
				t.Errorf("exit %d: %s", code, errs.String())
			}
		})
	}
}

// TestPartsWaitForTheirServers starts parts while neither server is there: they wait, say so, and stop when told to.
func TestPartsWaitForTheirServers(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "run", "--only", "api,relay,reassigner,notifier")
	cmd.Env = append(os.Environ(), asCommand+"=1", "HANDOVER_DATA_DIR="+t.TempDir(), "HANDOVER_HTTP_ADDR=127.0.0.1:0",
		"HANDOVER_DATABASE_URL=postgres://x@127.0.0.1:1/x", "HANDOVER_NATS_URL=nats://127.0.0.1:1", "HANDOVER_LOG_FORMAT=json")
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(said)
	for waited := 0; waited < 2 && lines.Scan(); {
		if strings.Contains(lines.Text(), "not ready yet; trying again") {
			waited++
		}
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestShellQuote(t *testing.T) {
	t.Parallel()
	got := []string{shellQuote("/tmp/a-b_c.json"), shellQuote("/tmp/my data"), shellQuote("it's")}
	if diff := cmp.Diff([]string{"/tmp/a-b_c.json", "'/tmp/my data'", `'it'\''s'`}, got); diff != "" {
		t.Error(diff)
	}
}
