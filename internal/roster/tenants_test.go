package roster_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/handover"
	"handover.io/internal/roster"
)

func refused(t *testing.T, err error, field string) {
	t.Helper()
	var invalid *roster.Invalid
	if !errors.As(err, &invalid) || invalid.Field != field {
		t.Errorf("%v, want a problem with %s", err, field)
	}
}

func TestTenants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	refused(t, w.EnsureTenant(w.ctx, "Acme!"), "tenant_id")
	w.must(w.EnsureTenant(w.ctx, tenant))
	got, err := w.Settings(w.ctx, tenant)
	w.must(err)
	if diff := cmp.Diff(roster.Settings{NoticeMode: "account"}, got); diff != "" {
		t.Fatal(diff)
	}
	summary, yes, bad := "summary", true, "never"
	_, err = w.SetSettings(w.ctx, tenant, roster.SettingsSaid{NoticeMode: &bad})
	refused(t, err, "notice_mode")
	_, err = w.SetSettings(w.ctx, tenant, roster.SettingsSaid{NoticeMode: &summary})
	w.must(err)
	got, err = w.SetSettings(w.ctx, tenant, roster.SettingsSaid{AllowTaskOverride: &yes})
	w.must(err)
	if diff := cmp.Diff(roster.Settings{NoticeMode: "summary", AllowTaskOverride: true}, got); diff != "" {
		t.Fatal(diff)
	}
	for _, call := range []func() error{
		func() error { _, err := w.Settings(w.ctx, "globex"); return err },
		func() error { _, err := w.SetSettings(w.ctx, "globex", roster.SettingsSaid{}); return err },
		func() error { _, err := w.Policy(w.ctx, "globex", time.Now()); return err },
		func() error { _, err := w.SetPolicy(w.ctx, "globex", "root", handover.KeepTasks, false); return err },
		func() error { _, err := w.SetRoles(w.ctx, "globex", nil); return err },
		func() error { _, _, err := w.CreateToken(w.ctx, "globex", "root", "", []string{"read"}); return err },
	} {
		if err := call(); !errors.Is(err, roster.ErrNotFound) {
			t.Errorf("of an unknown tenant: %v", err)
		}
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts(`{"id": "a", "name": "A", "roles": {"success_manager": "ann"}}`)
	manager := roster.Role{Role: success, Name: "Kundenbetreuung"}
	_, err := w.SetRoles(w.ctx, tenant, []roster.Role{{Role: "boss", Name: "Boss"}})
	refused(t, err, "roles")
	_, err = w.SetRoles(w.ctx, tenant, []roster.Role{manager, manager})
	refused(t, err, "roles[1].role")
	_, err = w.SetRoles(w.ctx, tenant, []roster.Role{{Role: "9", Name: "Nine"}})
	refused(t, err, "roles[0].role")
	_, err = w.SetRoles(w.ctx, tenant, []roster.Role{{Role: "nine"}})
	refused(t, err, "roles[0].name")
	got, err := w.SetRoles(w.ctx, tenant, []roster.Role{manager, {Role: "boss", Name: "Boss"}})
	w.must(err)
	if diff := cmp.Diff([]roster.Role{{Role: "boss", Name: "Boss"}, manager}, got); diff != "" {
		t.Fatal(diff)
	}
	w.tasks(`{"id": "t", "account_id": "a", "title": "Call", "role": "boss"}`)
	_, err = w.SetRoles(w.ctx, tenant, []roster.Role{manager})
	refused(t, err, "roles")
}

func TestPolicyHasAHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.EnsureTenant(w.ctx, "globex"))
	none, err := w.Policy(w.ctx, "globex", time.Now())
	w.must(err)
	if diff := cmp.Diff(roster.PolicyEntry{Tasks: handover.KeepTasks}, none); diff != "" {
		t.Fatal(diff)
	}
	_, err = w.SetPolicy(w.ctx, "globex", "root", "move_some_tasks", false)
	refused(t, err, "tasks")
	dry, err := w.SetPolicy(w.ctx, "globex", "root", handover.MoveAllTasks, true)
	w.must(err)
	if dry.Tasks != handover.MoveAllTasks || dry.EffectiveFrom == nil {
		t.Fatalf("%+v", dry)
	}
	w.wants("0", `SELECT count(*) FROM policy_history WHERE tenant_id = 'globex'`)
	// Set by many at once, each entry is later than the one before.
	w.exec(`INSERT INTO policy_history VALUES ('globex', now() + interval '1 hour', 'move_all_tasks', 'root')`)
	var group sync.WaitGroup
	for i := range 6 {
		group.Go(func() {
			if _, err := w.SetPolicy(context.Background(), "globex", "root", handover.AllPolicies[i%3], false); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	var seen []roster.PolicyEntry
	for q := (roster.PageQuery{Limit: 1}); ; {
		page, err := w.PolicyHistory(w.ctx, "globex", q)
		w.must(err)
		seen = append(seen, page.Items...)
		if page.NextCursor == nil {
			break
		}
		q.Cursor = *page.NextCursor
	}
	for i := 1; i < len(seen); i++ {
		if !seen[i-1].EffectiveFrom.After(*seen[i].EffectiveFrom) || seen[i-1].Tasks == seen[i].Tasks {
			t.Errorf("entry %d: %+v, then %+v", i, seen[i], seen[i-1])
		}
	}
	last := seen[0]
	again, err := w.SetPolicy(w.ctx, "globex", "root", last.Tasks, false)
	w.must(err)
	if diff := cmp.Diff(last, again); diff != "" {
		t.Errorf("the same policy: %s", diff)
	}
	at, err := w.Policy(w.ctx, "globex", seen[1].EffectiveFrom.Add(0))
	w.must(err)
	if diff := cmp.Diff(seen[1], at); diff != "" {
		t.Errorf("at the very time: %s", diff)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, rights := range [][]string{nil, {"root"}, {"read", ""}} {
		_, _, err := w.CreateToken(w.ctx, tenant, "ann", "", rights)
		refused(t, err, "rights")
	}
	token, plaintext, err := w.CreateToken(w.ctx, tenant, "ann", "CRM", []string{"sync", "sync"})
	w.must(err)
	if !strings.HasPrefix(plaintext, "handover_"+token.ID+"_") || len(plaintext) < 80 {
		t.Fatalf("a token like %s", plaintext)
	}
	w.wants("0", `SELECT count(*) FROM tokens t WHERE t::text LIKE '%' || $1 || '%'`, plaintext[len(plaintext)-20:])
	got, err := w.Authenticate(w.ctx, plaintext)
	w.must(err)
	if diff := cmp.Diff(roster.Identity{TenantID: tenant, UserID: "ann", Rights: []string{"sync", "read"}}, got); diff != "" {
		t.Fatal(diff)
	}
	used := w.get(`SELECT last_used_at FROM tokens`)
	if used == "null" {
		t.Fatal("not noted as used")
	}
	_, err = w.Authenticate(w.ctx, plaintext)
	w.must(err)
	w.wants(used, `SELECT last_used_at FROM tokens`)
	w.exec(`UPDATE tokens SET last_used_at = last_used_at - interval '61 seconds'`)
	_, err = w.Authenticate(w.ctx, plaintext)
	w.must(err)
	w.wants("true", `SELECT last_used_at >= $1::timestamptz FROM tokens`, used)

	_, admin, err := w.CreateToken(w.ctx, tenant, "root", "", []string{"admin"})
	w.must(err)
	got, err = w.Authenticate(w.ctx, admin)
	w.must(err)
	if len(got.Rights) != 5 {
		t.Errorf("an administrator has %v", got.Rights)
	}
	if err := w.RevokeToken(w.ctx, "globex", token.ID); !errors.Is(err, roster.ErrNotFound) {
		t.Errorf("revoked by another tenant: %v", err)
	}
	w.must(w.RevokeToken(w.ctx, tenant, token.ID))
	for _, bad := range []string{plaintext, "", "handover_", admin[:len(admin)-1], "handover_\x00"} {
		if _, err := w.Authenticate(w.ctx, bad); !errors.Is(err, roster.ErrUnauthorized) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	list, err := w.ListTokens(w.ctx, tenant, roster.PageQuery{})
	w.must(err)
	if len(list.Items) != 2 || list.Items[0].RevokedAt == nil || list.Items[1].RevokedAt != nil {
		t.Errorf("listed: %+v", list.Items)
	}
}

func TestATokenOfSomebodyWhoHasLeft(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.EnsureTenant(w.ctx, "globex"))
	good := func(want bool, plaintext string) {
		t.Helper()
		if _, err := w.Authenticate(w.ctx, plaintext); errors.Is(err, roster.ErrUnauthorized) == want || (want && err != nil) {
			t.Errorf("want %v: %v", want, err)
		}
	}
	token := func(tenant, user string) string {
		t.Helper()
		_, plaintext, err := w.CreateToken(w.ctx, tenant, user, "", []string{"read"})
		w.must(err)
		return plaintext
	}
	bob, service, elsewhere := token(tenant, "bob"), token(tenant, "crm-sync"), token("globex", "bob")
	good(true, bob)
	for _, status := range []string{"disabled", "deleted"} {
		w.users(`{"id": "bob", "status": "` + status + `"}`)
		good(false, bob)
	}
	good(true, service)
	good(true, elsewhere)
	good(false, token(tenant, "bob"))
	w.users(`{"id": "bob", "status": "active"}`)
	good(true, bob)
}
