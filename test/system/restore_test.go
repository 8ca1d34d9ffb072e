package system_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"handover.io/internal/testkit"
)

// The database is restored from a backup, under streams that went on. Mails are on hold from the start, status says so, and
// after the documented steps nobody has been mailed twice, what was in doubt is shown, and everything goes on.
func TestDatabaseRestoredFromABackup(t *testing.T) {
	t.Parallel()
	sink := testkit.SMTP(t, testkit.SMTPOK)
	p := start(t, "HANDOVER_NOTICE_WINDOW=3s", "HANDOVER_SMTP_URL="+sink.URL())
	p.want(http.StatusOK, "PUT", "/v1/policy", body{"tasks": "move_all_tasks"})
	for _, u := range []string{"ann", "bob", "cyd", "dee", "eve"} {
		p.want(http.StatusCreated, "PUT", "/v1/users/"+u, body{"name": u, "email": u + "@example.com"})
	}
	p.want(http.StatusCreated, "PUT", "/v1/accounts/x", body{"name": "X", "roles": body{"success_manager": "ann"}})
	p.want(http.StatusCreated, "PUT", "/v1/tasks/x", body{"account_id": "x", "title": "Call", "assignee_id": "ann"})
	hand := func(to string) {
		t.Helper()
		answer := p.want(http.StatusAccepted, "PUT", "/v1/accounts/x/roles/success_manager", body{"owner_id": to, "reason": "api"})
		p.done(answer["operation_id"])
	}
	mailed := func(to string) int {
		n := 0
		for _, m := range sink.Accepted() {
			if len(m.To) == 1 && m.To[0] == to+"@example.com" {
				n++
			}
		}
		return n
	}
	isMailed := func(to string) {
		t.Helper()
		testkit.Eventually(t, to+" is mailed", func() (bool, string) { return mailed(to) == 1, fmt.Sprint(mailed(to)) })
	}
	hand("bob")
	isMailed("bob")
	hand("cyd") // the backup has the window, and doesn't know that it was mailed
	database := p.database()
	testkit.Eventually(t, "cyd's window is open", func() (bool, string) {
		n := testkit.One[int](t, database, `SELECT count(*) FROM notices WHERE recipient_id = 'cyd'`)
		return n == 1, fmt.Sprint(n)
	})
	database.Close()
	p.stop()
	if n := mailed("cyd"); n != 0 {
		t.Fatalf("too late for this test: cyd was mailed %d times", n)
	}
	dir, err := filepath.EvalSymlinks(filepath.Join(p.dir, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	copied := func(from, to string) {
		t.Helper()
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	copied(dir, backup)
	p.start()
	isMailed("cyd")
	hand("dee") // the backup knows nothing of this
	isMailed("dee")
	p.stop()

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	copied(backup, dir)
	p.start()
	p.says(1, "mails are on hold", "status")
	p.says(1, "it is older than the stream TASK_REASSIGNMENTS, which holds 1 of our own messages", "notices", "list")
	now := time.Now().UTC().Format(time.RFC3339)
	p.says(0, "mails would be released: 0 windows, while 1 held back as ambiguous", "notices", "release", "--sent-before", now)
	hand("eve") // life goes on, and is told when mails are released
	if got := p.items("/v1/tasks?assignee_id=eve"); len(got) != 1 {
		t.Errorf("eve has %d tasks", len(got))
	}
	p.says(0, "1 mail may have been sent before, and is held back as ambiguous", "notices", "release", "--sent-before", now, "--apply")
	isMailed("eve")
	p.says(1, "the database was restored; it may have been sent before", "notices", "list")
	var listed struct {
		Items []struct {
			ID        int64  `json:"notice_id"`
			Recipient string `json:"recipient_id"`
		}
	}
	_, out := p.give("notices", "list", "--json")
	if err := json.NewDecoder(bytes.NewBufferString(out)).Decode(&listed); err != nil || len(listed.Items) != 1 || listed.Items[0].Recipient != "cyd" {
		t.Fatalf("%v: %s", err, out)
	}
	p.says(0, "1 of 1 counted as sent", "notices", "settle", fmt.Sprint(listed.Items[0].ID), "--apply")
	p.says(0, "No mail needs a person.", "notices", "list")
	// Raised once: a restart after the release doesn't put mails on hold again.
	p.stop()
	p.start()
	p.says(0, "No mail needs a person.", "notices", "list")
	for _, who := range []string{"bob", "cyd", "dee", "eve"} {
		if n := mailed(who); n != 1 {
			t.Errorf("%s was mailed %d times", who, n)
		}
	}
	testkit.CheckFold(t, p.database())
}
