package system_test

import (
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

	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
)

// built is the path of the program, built once for all stories.
var built string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "handover-story-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	built = filepath.Join(dir, "handover")
	if out, err := exec.Command("go", "build", "-o", built, "handover.io/cmd/handover").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build the program: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program is `handover run` on the embedded default, in a data directory of its own, used from outside.
type program struct {
	*testing.T
	dir   string
	env   []string
	cmd   *exec.Cmd
	local struct {
		HTTP     string `json:"http_url"`
		NATS     string `json:"nats_url"`
		Database string `json:"database_url"`
		Token    string `json:"token"`
		Tenant   string `json:"tenant"`
	}
}

// start starts the program and waits until it is ready.
func start(t *testing.T, env ...string) *program {
	t.Helper()
	p := &program{T: t, dir: t.TempDir(), env: env}
	// Run by root, the private PostgreSQL belongs to another user, who must be able to get there.
	if err := os.Chmod(filepath.Dir(p.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	p.start()
	t.Cleanup(p.stop)
	return p
}

func (p *program) start() {
	p.Helper()
	runFile := filepath.Join(p.dir, "run.json")
	_ = os.Remove(runFile)
	log, err := os.OpenFile(filepath.Join(p.dir, "run.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(built, "run")
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, log, log
	p.cmd.Env = append(os.Environ(), "HANDOVER_DATA_DIR="+p.dir, "HANDOVER_HTTP_ADDR=127.0.0.1:0", "HANDOVER_NATS_ADDR=127.0.0.1:0")
	p.cmd.Env = append(p.cmd.Env, p.env...)
	if err := p.cmd.Start(); err != nil {
		p.Fatal(err)
	}
	testkit.Eventually(p, "ready", func() (bool, string) {
		b, err := os.ReadFile(runFile)
		if err != nil {
			return false, err.Error() + "\n" + p.log()
		}
		if err := json.Unmarshal(b, &p.local); err != nil {
			return false, err.Error()
		}
		res, err := http.Get(p.local.HTTP + "/readyz")
		if err != nil {
			return false, err.Error()
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK, res.Status
	})
}

func (p *program) log() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "run.log"))
	return string(b[max(0, len(b)-4000):])
}

// stop stops it as Ctrl-C does.
func (p *program) stop() {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	if err := p.cmd.Wait(); err != nil {
		p.Errorf("stopped with %v\n%s", err, p.log())
	}
	p.cmd = nil
}

// kill kills it without a chance to do anything.
func (p *program) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	p.cmd = nil
}

// call makes a request and returns the status and the decoded answer.
func (p *program) call(method, path string, body any) (int, map[string]any) {
	p.Helper()
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			p.Fatal(err)
		}
		in = bytes.NewReader(b)
	}
	status, answer := p.send(method, path, "application/json", in)
	var out map[string]any
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &out); err != nil {
			p.Fatalf("%s %s answered %d: %s", method, path, status, answer)
		}
	}
	return status, out
}

func (p *program) send(method, path, contentType string, in io.Reader) (int, []byte) {
	p.Helper()
	req, err := http.NewRequestWithContext(p.Context(), method, p.local.HTTP+path, in)
	if err != nil {
		p.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+p.local.Token)
	req.Header.Set("Content-Type", contentType)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		p.Fatalf("%s %s: %v\n%s", method, path, err, p.log())
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		p.Fatal(err)
	}
	return res.StatusCode, answer
}

// want is call for a request that must be answered so.
func (p *program) want(status int, method, path string, body any) map[string]any {
	p.Helper()
	got, answer := p.call(method, path, body)
	if got != status {
		p.Fatalf("%s %s answered %d, want %d: %v", method, path, got, status, answer)
	}
	return answer
}

// done follows an operation to its end.
func (p *program) done(operation any) map[string]any {
	p.Helper()
	var last map[string]any
	testkit.Eventually(p, "operation done", func() (bool, string) {
		last = p.want(http.StatusOK, "GET", fmt.Sprintf("/v1/operations/%v", operation), nil)
		return last["state"] == "done", fmt.Sprint(last)
	})
	return last
}

// items are those of a list, all pages.
func (p *program) items(path string) []map[string]any {
	p.Helper()
	var out []map[string]any
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for cursor := ""; ; {
		page := p.want(http.StatusOK, "GET", path+separator+"limit=1000"+cursor, nil)
		for _, i := range page["items"].([]any) {
			out = append(out, i.(map[string]any))
		}
		next, more := page["next_cursor"].(string)
		if !more || next == "" {
			return out
		}
		cursor = "&cursor=" + next
	}
}

// mails are the messages under mail/, by the name of their file.
func (p *program) mails() map[string]string {
	p.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "mail", "*.eml"))
	if err != nil {
		p.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			p.Fatal(err)
		}
		out[filepath.Base(f)] = string(b)
	}
	return out
}

func (p *program) database() *pgxpool.Pool {
	p.Helper()
	pool, err := postgres.Open(p.Context(), p.local.Database, postgres.Options{})
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(pool.Close)
	return pool
}

// within is how long something took, for the log: tests don't judge time.
func (p *program) within(what string, since time.Time) {
	p.Logf("%s: %v", what, time.Since(since).Round(time.Millisecond))
}

// give gives a command about this program and returns its exit code and all that it says.
func (p *program) give(args ...string) (int, string) {
	p.Helper()
	cmd := exec.CommandContext(p.Context(), built, append([]string{"--data-dir", p.dir}, args...)...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		p.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// says is give for a command that must exit so and say that; it returns all that it says.
func (p *program) says(code int, what string, args ...string) string {
	p.Helper()
	got, out := p.give(args...)
	if got != code || !strings.Contains(out, what) {
		p.Fatalf("handover %s: exit %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, what, out)
	}
	return out
}
