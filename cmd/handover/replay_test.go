package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"handover.io/internal/journal"
	"handover.io/internal/notify"
	"handover.io/internal/postgres"
	"handover.io/internal/replay"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

func TestReplayRefusesWhatDoesNotGoTogether(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	run, err := journal.BeginRun(t.Context(), pool, "dead-letters retry", "oscar", map[string]string{})
	if err != nil {
		t.Fatal(err)
	}
	environ := []string{"HANDOVER_DATABASE_URL=" + pool.Config().ConnString(), "HANDOVER_NATS_URL=nats://127.0.0.1:1", "HANDOVER_DATA_DIR=" + t.TempDir()}
	for args, want := range map[string]struct {
		code int
		said string
	}{
		"--since yesterday":                       {2, "RFC 3339"},
		"--since 1h --until 2h":                   {2, "is not before --until"},
		"--occurred-since 1h --occurred-until 1d": {2, "is not before --occurred-until"},
		"--from-seq 9 --to-seq 3":                 {2, "--to-seq (3) is before --from-seq (9)"},
		"--from backup":                           {2, `--from is "backup"; it must be stream or database`},
		"--from database --from-seq 9":            {2, "with --from database give --since and --until"},
		"--rate 0":                                {2, "--rate is 0; it must be more than 0"},
		"--tenant Acme":                           {2, `--tenant "Acme" is no tenant id`},
		"--account ..":                            {2, `--account ".."`},
		"--resume=soon":                           {2, `--resume "soon" is no number of a run`},
		"--resume --since 1h":                     {2, "leave out --since"},
		"--resume 99":                             {1, "--resume 99: there is no such run; handover replay list shows them"},
		"--resume --from=stream":                  {2, "leave out --from"},
		fmt.Sprintf("--resume %d", run.ID):        {1, "is one of dead-letters retry, not of replay"},
		"everything":                              {2, `unknown command or argument "everything"`},
		"show x":                                  {2, `"x" is no number of a run`},
		"show 99":                                 {1, "run 99: there is no such run"},
		fmt.Sprintf("show %d", run.ID):            {1, "it is one of dead-letters retry"},
	} {
		var out, errs strings.Builder
		code := Main(t.Context(), append([]string{"replay"}, strings.Fields(args)...), environ, nil, &out, &errs)
		if code != want.code || !strings.Contains(errs.String(), want.said) {
			t.Errorf("replay %s: exit %d\n%s%s", args, code, out.String(), errs.String())
		}
	}
	var out, errs strings.Builder
	if code := Main(t.Context(), []string{"replay", "list", "--json"}, environ, nil, &out, &errs); code != 0 || !strings.Contains(out.String(), `"items": []`) {
		t.Errorf("no replay yet: exit %d\n%s%s", code, out.String(), errs.String())
	}
}

// atRest does something to the databases of a run that is stopped.
func atRest(t *testing.T, dir string, statements ...string) {
	t.Helper()
	server, err := postgres.StartServer(t.Context(), postgres.ServerOptions{Dir: filepath.Join(dir, "postgres")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	config, err := pgx.ParseConfig(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	config.Database = "postgres"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range statements {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// TestADatabaseRestoredUnderItsStreams is the incident: work goes on for a day after the dump, people are mailed, and then
// the dump is all that is left. The replay is killed in the middle, too.
func TestADatabaseRestoredUnderItsStreams(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	start(t, dir).stop(t)
	atRest(t, dir, `CREATE DATABASE yesterday TEMPLATE handover`)
	dumped := time.Now()

	r := start(t, dir)
	r.request(t, "PUT", "/v1/accounts/acc-001/roles/success_manager", `{"owner_id":"amara.okafor","reason":"profile"}`)
	people := []string{"amara.okafor", "grace.kim", "lucia.ferrari", "priya.nair"}
	rows := "time,account_id,role,new_owner_id\n"
	for i := range 180 {
		rows += fmt.Sprintf("%s,acc-%03d,%s,%s\n", dumped.Add(time.Duration(i)*time.Millisecond).UTC().Format(time.RFC3339Nano), i%60+1, [...]string{"success_manager", "sales_manager"}[i/60%2], people[i%4])
	}
	if code, out, said := call(t, dir, rows, "publish", "-", "--format", "csv", "--nats"); code != 0 {
		t.Fatalf("publish: exit %d\n%s%s", code, out, said)
	}
	mails := func() int {
		files, _ := filepath.Glob(filepath.Join(dir, "mail", "*.eml"))
		return len(files)
	}
	settled := func(changes int, told func() bool) {
		t.Helper()
		pool := r.pool(t)
		testkit.Eventually(t, "all changes are recorded and all mails sent", func() (bool, string) {
			left := testkit.One[string](t, pool, `SELECT concat_ws(' ', (SELECT count(*) FROM role_changes), (SELECT count(*) FROM outbox_owed), (SELECT count(*) FROM notices WHERE finished_at IS NULL))`)
			return left == fmt.Sprintf("%d 0 0", changes) && told(), left
		})
	}
	day := r.pool(t)
	settled(181, func() bool {
		return testkit.One[bool](t, day, `SELECT (SELECT count(*) FROM moves, unnest(task_ids)) = (SELECT count(*) FROM notice_items WHERE kind = 'received')`)
	})
	want, mailed := r.assignees(t), mails()
	if mailed == 0 {
		t.Fatal("nobody was mailed that day")
	}
	r.stop(t)
	atRest(t, dir, `DROP DATABASE handover`, `ALTER DATABASE yesterday RENAME TO handover`)

	r = start(t, dir)
	pool := r.pool(t)
	if held, err := notify.New(pool, notify.Config{}).Held(t.Context()); err != nil || held == nil {
		t.Errorf("mails are not on hold: %v", err)
	}
	if cmp.Equal(want, r.assignees(t)) {
		t.Fatal("nothing was lost")
	}
	since := dumped.UTC().Format(time.RFC3339)
	code, out, said := call(t, dir, "", "replay", "--since", since, "--no-mail", "--json")
	var foreseen struct {
		Missing    int `json:"missing"`
		TasksMoved int `json:"tasks_moved"`
		Restored   int `json:"revisions_restored"`
	}
	if err := json.Unmarshal([]byte(out), &foreseen); err != nil || code != 0 || foreseen.Missing != 181 || foreseen.TasksMoved == 0 || foreseen.Restored == 0 {
		t.Fatalf("dry run: exit %d, %v\n%s%s", code, err, out, said)
	}

	killed := exec.Command(os.Args[0], "--data-dir", dir, "replay", "--since", since, "--no-mail", "--apply", "--rate", "0.5", "--as", "oscar")
	killed.Env = append(os.Environ(), asCommand+"=1")
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, "a part of it is replayed", func() (bool, string) {
		left := testkit.All[int](t, pool, `SELECT coalesce((counts ->> 'missing')::int, 0) FROM operator_runs`)
		return len(left) == 1 && left[0] > 0, fmt.Sprint(left)
	})
	_ = killed.Process.Kill()
	_ = killed.Wait()
	if code, out, said := call(t, dir, "", "replay", "--resume"); code != 0 || strings.Contains(out, "Missing         0") || !strings.Contains(out, "Nothing was done") {
		t.Errorf("what is left: exit %d\n%s%s", code, out, said)
	}
	code, out, said = call(t, dir, "", "replay", "--resume", "--apply")
	if code != 0 || !strings.Contains(out, "181 changes selected, 0 known, 181 missing and recorded") || !strings.Contains(out, "Nobody is mailed") || !strings.Contains(out, "All announcements are published.") {
		t.Errorf("resumed: exit %d\n%s%s", code, out, said)
	}
	t.Log(out)
	code, out, said = call(t, dir, "", "replay", "list")
	if code != 0 || !strings.Contains(out, "done") || !strings.Contains(out, "oscar") {
		t.Errorf("list: exit %d\n%s%s", code, out, said)
	}
	if code, out, said := call(t, dir, "", "replay", "show", "1"); code != 0 || !strings.Contains(out, `"no_mail": true`) {
		t.Errorf("show: exit %d\n%s%s", code, out, said)
	}
	if code, out, said := call(t, dir, "", "replay", "--from", "database"); code != 0 || !strings.Contains(out, "0 of them differ") {
		t.Errorf("from the database: exit %d\n%s%s", code, out, said)
	}
	if diff := cmp.Diff(want, r.assignees(t)); diff != "" {
		t.Errorf("before the loss, and now:\n%s", diff)
	}
	testkit.CheckFold(t, pool)
	if _, err := notify.New(pool, notify.Config{}).Release(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	settled(181, func() bool { return true })
	r.request(t, "PUT", "/v1/accounts/acc-001/roles/success_manager", `{"owner_id":"david.cohen","reason":"profile"}`)
	settled(182, func() bool { return mails() > mailed })
	if got := mails(); got != mailed+1 {
		t.Errorf("%d mails before the loss, %d now, of which one is new", mailed, got)
	}
	r.stop(t)
}

// assignees are those of all tasks.
func (r *started) assignees(t *testing.T) map[string]any {
	t.Helper()
	out := map[string]any{}
	for cursor := ""; ; {
		page := r.request(t, "GET", "/v1/tasks?limit=1000"+cursor, "")
		for _, item := range page["items"].([]any) {
			task := item.(map[string]any)
			out[task["id"].(string)] = task["assignee_id"]
		}
		next, more := page["next_cursor"].(string)
		if !more || next == "" {
			return out
		}
		cursor = "&cursor=" + next
	}
}

// pool is on the database of the run, until the test ends or the run does.
func (r *started) pool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := postgres.Open(context.Background(), r.DatabaseURL, postgres.Options{MaxConns: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// What was refused once, and is taken when it is replayed, is no dead letter any more.
func TestReplayResolvesDeadLetters(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	testkit.Exec(t, pool, `INSERT INTO tenants (tenant_id) VALUES ('acme')`)
	m, err := event.AccountRoleChanged{
		ID: "1", Source: "//crm", Time: time.Now().Add(-time.Minute), TenantID: "acme", AccountID: "a1", Role: "success_manager", NewOwnerID: "ann", Reason: event.ByAPI, InitiatedBy: "eve",
	}.Message(event.SubjectRoleChanged("acme"))
	if err != nil {
		t.Fatal(err)
	}
	m.Stream, m.Sequence = event.StreamRoleChanges, 7
	r := replaying(pool, nil, replay.Order{}, nil)
	if done, err := r.Apply(t.Context(), []event.Message{m}); err != nil || done.DeadLetters[event.ReasonOwnerUnknown] != 1 {
		t.Fatalf("%v %+v", err, done)
	}
	testkit.Exec(t, pool, `INSERT INTO users (tenant_id, user_id, name) VALUES ('acme', 'ann', 'Ann')`)
	if done, err := r.Apply(t.Context(), []event.Message{m}); err != nil || done.Recorded != 1 {
		t.Fatalf("%v %+v", err, done)
	}
	if diff := cmp.Diff([]string{"resolved recorded"}, testkit.All[string](t, pool, `SELECT state || ' ' || outcome FROM dead_letters`)); diff != "" {
		t.Error(diff)
	}
}
