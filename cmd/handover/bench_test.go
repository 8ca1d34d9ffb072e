package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"handover.io/cmd/handover/internal/bench"
	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// benchDir is a folder that the user who runs PostgreSQL can reach, which t.TempDir is not when the tests are run by root.
func benchDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

var tiny = []string{"--accounts", "40", "--tasks", "2000", "--huge", "600"}

func TestBenchOfEveryMixIsRight(t *testing.T) {
	t.Parallel()
	dir := benchDir(t)
	picture := filepath.Join(dir, "chart.svg")
	code, out, said := call(t, dir, "", append([]string{"bench", "--mix", "all", "--changes", "20", "--dir", dir, "--json", "--chart", picture}, tiny...)...)
	if code != 0 {
		t.Fatalf("exit %d\n%s\n%s", code, said, out)
	}
	var report struct {
		Machine map[string]any
		Results []map[string]any
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	contenders := map[string][]string{}
	for _, r := range report.Results {
		mix, _, _ := strings.Cut(r["mix"].(string), "-")
		contenders[mix] = append(contenders[mix], r["contender"].(string))
		for _, name := range []string{"mix", "changes", "seconds", "changes_per_s", "tasks_per_s", "ratio_to_limit", "p50_ms", "p99_ms", "wal_bytes",
			"service_cpu_s", "postgres_cpu_s", "peak_rss_bytes", "right"} {
			if _, there := r[name]; !there {
				t.Errorf("%v: there is no %s", r, name)
			}
		}
		if r["right"] != true || r["changes_per_s"].(float64) <= 0 {
			t.Errorf("got %v", r)
		}
		if timed := mix == "trickle" || mix == "trickle+bulk" || mix == "read"; timed != (r["p99_ms"] != nil) {
			t.Errorf("latencies of %s: %v", mix, r["p99_ms"])
		}
	}
	mixes, _ := bench.Mixes()
	for _, mix := range mixes {
		want := []string{"handover"}
		switch mix {
		case "unique", "hot":
			want = []string{"handover", "limit", "jetstream"}
		case "bulk", "huge":
			want = []string{"handover", "limit"}
		case "replay":
			want = []string{"handover", "jetstream"}
		case "steady":
			want = slices.Repeat(want, 10)
		}
		if !slices.Equal(contenders[mix], want) {
			t.Errorf("contenders of %s: %v, want %v", mix, contenders[mix], want)
		}
	}
	wellFormed(t, picture)
	left, err := filepath.Glob(filepath.Join(dir, "bench-nats-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	// What was measured is shown again, with others' results beside.
	report.Results = append(report.Results, map[string]any{"contender": "other", "mix": "unique", "changes": 20, "changes_per_s": 1.5, "right": false})
	file := filepath.Join(dir, "results.json")
	text, err := json.Marshal(report)
	if err := errors.Join(err, os.WriteFile(file, text, 0o600)); err != nil {
		t.Fatal(err)
	}
	code, out, said = call(t, dir, "", "bench", "--from", file, "--chart", picture)
	if code != 0 || !strings.Contains(out, "The answer of other to unique is WRONG") || !strings.Contains(out, "jetstream") {
		t.Errorf("shown again: exit %d\n%s\n%s", code, said, out)
	}
	if drawn := wellFormed(t, picture); !strings.Contains(drawn, "wrong answer") || !strings.Contains(drawn, "prefers-color-scheme: dark") {
		t.Errorf("the picture doesn't tell of the wrong answer, or not in the dark:\n%s", drawn)
	}
}

func wellFormed(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(bytes.NewReader(text)); ; {
		if _, err := d.Token(); err == io.EOF {
			return string(text)
		} else if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
}

// TestBenchSeesAWrongAnswer has a run end with a task at the wrong person, a wrong owner, and a move announced that never
// was: none of them may count.
func TestBenchSeesAWrongAnswer(t *testing.T) {
	t.Parallel()
	log := testkit.Logger(t)
	report, err := bench.Run(t.Context(), bench.Options{
		Accounts: 40, Tasks: 2000, Changes: 20, Dir: benchDir(t), Logger: log,
		Assemble: func(ctx context.Context, databaseURL string, broker *bus.Server) (bench.System, error) {
			s, err := assemble(log)(ctx, databaseURL, broker)
			start := s.Start
			s.Start = func(ctx context.Context) error { return errors.Join(falsify(ctx, s), start(ctx)) }
			return s, err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ours := report.Results[0]
	if ours.Right || report.AllRight() || ours.DifferenceCount < 3 {
		t.Fatalf("it passes as right: %+v", ours)
	}
	differences := strings.Join(ours.Differences, "\n")
	for _, want := range []string{`is with "nobody-knows"`, `its owner is "nobody-knows"`, `announcements says "user-00003"`} {
		if !strings.Contains(differences, want) {
			t.Errorf("%q is not among the differences:\n%s", want, differences)
		}
	}
	if !report.Results[1].Right || !report.Results[2].Right {
		t.Errorf("the limits are wrong too: %+v", report.Results[1:])
	}
	var shown bytes.Buffer
	if report.Print(&shown); !strings.Contains(shown.String(), "The answer of handover to unique is WRONG") {
		t.Errorf("shown as\n%s", &shown)
	}
}

func falsify(ctx context.Context, s bench.System) error {
	var tenant, account, task, with string
	if err := s.Pool.QueryRow(ctx, `
UPDATE task_rows SET closed_assignee = 'nobody-knows' WHERE (tenant_id, task_id) = (SELECT tenant_id, task_id FROM tasks WHERE status = 'completed' LIMIT 1)
RETURNING tenant_id, account_id`).Scan(&tenant, &account); err != nil {
		return err
	}
	// Tenants keep their tasks by the policy of the first two, so nothing else moves there.
	if err := s.Pool.QueryRow(ctx, `
SELECT tenant_id, account_id, task_id, assignee_id FROM tasks WHERE tenant_id = 'tenant-0' AND status = 'completed' AND assignee_id <> 'user-00003' ORDER BY task_id DESC LIMIT 1`).Scan(&tenant, &account, &task, &with); err != nil {
		return err
	}
	messages := event.TaskReassigned{
		Source: event.SourceHandover, Time: time.Now(), TenantID: tenant, AccountID: account, FromID: with, ToID: "user-00003", Reason: event.ByAssigned,
		InitiatedBy: "user-00000", Tasks: []event.ReassignedTask{{ID: task, Revision: 1, Title: "Never moved", Source: "success_play"}},
	}.Messages(uuid.NewString)
	_, published := s.Bus.Publish(ctx, messages)
	_, owners := s.Pool.Exec(ctx, `
UPDATE account_roles SET owner_id = 'nobody-knows'
WHERE (tenant_id, account_id) = (SELECT tenant_id, account_id FROM account_roles WHERE role = 'success_manager' ORDER BY account_id LIMIT 1)`)
	return errors.Join(published, owners)
}

// TestBenchStops interrupts a bench in the middle of it: it says so, and leaves neither files nor servers.
func TestBenchStops(t *testing.T) {
	t.Parallel()
	dir := benchDir(t)
	cmd := exec.Command(os.Args[0], append([]string{"bench", "--runs", "1000", "--changes", "20"}, tiny...)...)
	cmd.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+dir)
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	var said strings.Builder
	lines := bufio.NewScanner(errs)
	for lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
		if strings.Contains(lines.Text(), "checking") {
			if err := cmd.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	for lines.Scan() {
		fmt.Fprintln(&said, lines.Text())
	}
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(said.String(), "stopped before the end") {
		t.Errorf("exit %d\n%s", cmd.ProcessState.ExitCode(), &said)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestBenchRefusesWhatItCannotMeasure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, says string }{
		{"--mix lukewarm", `there is no mix "lukewarm"`},
		{"--accounts 45", "--accounts must be a multiple of ten"},
		{"--accounts 40 --tasks 2001", "--tasks must be a multiple of --accounts"},
		{"--changes -1", "--changes must not be negative"},
		{"--mix trickle,trickle+bulk --accounts 40 --tasks 2000 --changes 30", "at most 20 with 40 accounts"},
		{"--from x.json --runs 3", "leave out --runs"},
		{"--runs -1", "--runs must not be negative"},
	} {
		code, _, said := call(t, t.TempDir(), "", append([]string{"bench"}, strings.Fields(c.args)...)...)
		if code != 2 || !strings.Contains(said, c.says) {
			t.Errorf("%s: exit %d, %s", c.args, code, said)
		}
	}
}
