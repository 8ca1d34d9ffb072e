package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"handover.io/internal/testkit"
)

func TestNotices(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	environ := []string{"HANDOVER_DATA_DIR=" + t.TempDir(), "HANDOVER_DATABASE_URL=" + pool.Config().ConnString()}
	give := func(want int, says string, args ...string) string {
		t.Helper()
		var out, said bytes.Buffer
		code := Main(t.Context(), append([]string{"notices"}, args...), environ, nil, &out, &said)
		if code != want || !strings.Contains(out.String()+said.String(), says) {
			t.Fatalf("notices %s: exit %d, want %d with %q:\n%s%s", strings.Join(args, " "), code, want, says, &out, &said)
		}
		return out.String()
	}
	give(2, `--tenant: there is no tenant "nope"`, "list", "--tenant", "nope")
	give(2, `--account: nothing is known of an account "nope"`, "list", "--account", "nope")
	give(0, "No mail needs a person.", "list")
	testkit.Exec(t, pool, `INSERT INTO tenants (tenant_id) VALUES ('demo')`)
	testkit.Exec(t, pool, `
INSERT INTO notices (tenant_id, recipient_id, account_id, state, opened_at, close_at, next_try_at, finished_at, problem, message_id, to_address, subject, mime, tasks_told)
SELECT 'demo', 'ada', 'acme', s, now() - interval '3 h', now() - interval '2 h', now(), CASE WHEN s NOT IN ('closed', 'open') THEN now() END,
  CASE WHEN s = 'ambiguous' THEN E'no\x1b[31m answer' END, CASE WHEN s = 'ambiguous' THEN '<n.1.a@x>' END,
  CASE WHEN s = 'ambiguous' THEN 'ada@example.com' END, 'Tasks moved to you: Acme',
  CASE WHEN s = 'ambiguous' THEN convert_to(E'From: x\r\nMessage-ID: <n.1.a@x>\r\nContent-Type: multipart/alternative; boundary="b"\r\n\r\n--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nHello =41da\r\n--b--\r\n', 'UTF8') END, 1
FROM unnest(ARRAY['ambiguous', 'undeliverable', 'sent', 'closed', 'ambiguous']) s`)
	testkit.Exec(t, pool, `INSERT INTO notice_attempts (notice_id, fence, ended_at, outcome, code, response) VALUES (1, 1, now(), 'unknown', NULL, 'after the mail: EOF')`)
	testkit.Exec(t, pool, `INSERT INTO notice_moves VALUES (1, 'received', 'acme', 'maya', 'noa', 'profile', '', now(), ARRAY['t1'], ARRAY[1])`)

	listed := give(1, "ambiguous", "list")
	if strings.Count(listed, "\n") != 5 || strings.Contains(listed, "\x1b") { // with the heading; the closed one is overdue
		t.Errorf("listed:\n%s", listed)
	}
	give(0, "sent", "list", "--state", "sent")
	give(0, "None.", "list", "--all", "--recipient", "lee")
	if shown := give(0, "after the mail: EOF", "show", "1"); !strings.Contains(shown, "Hello Ada") || !strings.Contains(shown, "Message-ID: <n.1.a@x>") ||
		!strings.Contains(shown, "handover notices settle 1 --apply") {
		t.Errorf("shown:\n%s", shown)
	}
	for says, args := range map[string][]string{
		"ID: \"x\" is no number":        {"show", "x"},
		"--state: \"gone\" isn't one":   {"list", "--state", "gone"},
		"--state: \"sent\" isn't one":   {"resend", "--state", "sent"},
		"which notices?":                {"resend", "--apply"},
		"give ids or filters":           {"resend", "1", "--recipient", "ada"},
		"--because: say why":            {"hold", "--apply"},
		"--sent-before":                 {"release", "--sent-before", "yesterday"},
		"--tenant: \"No\" can't be one": {"list", "--tenant", "No"},
	} {
		give(2, strings.TrimSuffix(says, " one"), args...)
	}
	give(1, "ID 99: there is no such notice", "resend", "99", "--apply")
	give(1, "ID 3: can't resend it: it is sent, the mail server has taken it; nothing was done", "resend", "1", "3", "--apply")
	give(1, "ID 2: can't settle it: it is undeliverable", "settle", "2", "--apply")
	give(0, "Nothing was done: with --apply, 3 notices would be sent again.", "resend", "--recipient", "ada")
	give(0, "Nothing was done: with --apply, 1 notice would be counted as sent.", "settle", "5")
	if n := testkit.One[int](t, pool, `SELECT count(*) FROM operator_runs`); n != 0 {
		t.Errorf("%d runs were recorded of what wasn't applied", n)
	}
	give(0, "1 of 1 counted as sent (run 1).", "settle", "5", "--apply", "--as", "zoe")
	give(0, "2 of 2 to be sent again (run 2).", "resend", "1", "2", "--apply", "--as", "zoe")
	give(1, "ID 1: can't resend it: it is closed, its mail goes out by itself", "resend", "1", "--apply")
	if got := testkit.All[string](t, pool, `SELECT concat_ws(' ', notice_id, state, resends, message_id) FROM notices ORDER BY 1`); fmt.Sprint(got) !=
		"[1 closed 1 <n.1.a.v2@x> 2 closed 1 3 sent 0 4 closed 0 5 sent 0 <n.1.a@x>]" {
		t.Errorf("%v", got)
	}

	give(0, "Nothing was done: with --apply, mails would be put on hold.", "hold", "--because", "wrong")
	give(1, "mails aren't on hold, so there is nothing to release", "release", "--apply")
	give(0, "Mails are on hold (run 3).", "hold", "--because", "wrong segment "+strings.Repeat("at length ", 80), "--apply", "--as", "zoe")
	for _, args := range [][]string{{"release"}, {"list", "--recipient", "lee"}, {"hold", "--because", "x"}} {
		if out := give(map[string]int{"list": 1}[args[0]], "wrong segment at length", args...); strings.Count(out, "at length") > 47 || !strings.Contains(out, "….") {
			t.Errorf("%v says all of it: %s", args, out)
		}
	}
	give(1, "Mails are on hold since", "list", "--recipient", "lee")
	give(0, "Nothing was done: with --apply, mails would be released: 3 windows.", "release")
	give(0, "Nothing was done: with --apply, mails would be released: 0 windows, while 3 held back as ambiguous.", "release", "--sent-before", "1h")
	var answer struct{ Ambiguous int }
	if err := json.Unmarshal([]byte(give(0, "", "release", "--sent-before", "1h", "--apply", "--as", "zoe", "--json")), &answer); err != nil || answer.Ambiguous != 3 {
		t.Errorf("%+v %v", answer, err)
	}
	if got := testkit.All[string](t, pool, `SELECT command || ' ' || actor || ' ' || state FROM operator_runs ORDER BY run_id`); fmt.Sprint(got) !=
		"[notices settle zoe done notices resend zoe done notices hold zoe done notices release zoe done]" {
		t.Errorf("%v", got)
	}
	if testkit.One[int](t, pool, `SELECT count(*) FROM mail_hold`) != 0 {
		t.Error("still on hold")
	}
}
