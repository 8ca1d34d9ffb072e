package roster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/pkg/event"
)

const account = `{"id": "a", "name": "A", "roles": {"success_manager": %s}}`

func says(owner string) string {
	if owner == "" {
		return fmt.Sprintf(account, "null")
	}
	return fmt.Sprintf(account, `"`+owner+`"`)
}

func TestAccountSync(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		rows []string
		want []string
		then string
	}{
		{"new", []string{`{"id": "a", "name": "A"}`}, []string{"created"}, "A {}"},
		{"attributes are replaced as one", []string{`{"id": "a", "name": "A", "attributes": {"x": 1, "y": {"z": ["é", null]}}}`, `{"id": "a", "attributes": {"x": 2}}`},
			[]string{"created", "updated"}, `A {"x": 2}`},
		{"absent is unchanged, null is emptied", []string{`{"id": "a", "name": "A", "attributes": {"x": 1}}`, `{"id": "a"}`, `{"id": "a", "attributes": {"x": 1.0}}`, `{"id": "a", "attributes": null}`},
			[]string{"created", "unchanged", "unchanged", "updated"}, "A {}"},
		{"no name", []string{`{"id": "a", "attributes": {"x": 1}}`}, []string{"name: is required for an account that isn't known yet"}, "null"},
		{"no such role", []string{`{"id": "a", "name": "A", "roles": {"boss": "ann"}}`}, []string{"roles.boss: there is no such role; add it to the tenant's roles first"}, "null"},
		{"no such user", []string{`{"id": "a", "name": "A", "roles": {"sales_manager": "ann", "success_manager": "eve"}}`},
			[]string{`roles.success_manager: there is no user "eve"; sync the user first`}, "null"},
		{"nothing of a bad row is taken", []string{says("ann"), `{"id": "a", "name": "B", "roles": {"sales_manager": "bob", "success_manager": "eve"}}`},
			[]string{"created", `roles.success_manager: there is no user "eve"; sync the user first`}, "A {}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var got []string
			for _, row := range c.rows {
				got = append(got, w.accounts(row)...)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Fatal(diff)
			}
			w.wants(c.then, `SELECT name || ' ' || attributes FROM accounts WHERE account_id = 'a'`)
			w.wants("0", `SELECT count(*) FROM account_roles WHERE role = 'sales_manager'`)
		})
	}
}

// Upstream names owners one after the other; here and there the role changes without upstream.
func TestOwnersAreMergedThreeWays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		steps  []string // "name": upstream says; "> name": changed elsewhere
		owner  string
		issued int // changes of ours
	}{
		{"the first value is no change", []string{"ann"}, "ann", 0},
		{"nobody is a value", []string{""}, "null", 0},
		{"another value is news", []string{"ann", "bob"}, "bob", 1},
		{"nobody is news", []string{"ann", ""}, "null", 1},
		{"and back", []string{"ann", "", "ann"}, "ann", 2},
		{"the same value again is nothing", []string{"ann", "bob", "bob", "bob"}, "bob", 1},
		{"a nightly sync of the old owner undoes nothing", []string{"ann", "> bob", "ann", "ann"}, "bob", 0},
		{"news that we know already", []string{"ann", "> bob", "bob"}, "bob", 0},
		{"known already, then news", []string{"ann", "> bob", "bob", "ann"}, "ann", 1},
		{"the first value after a change is the first owner, not the owner", []string{"> bob", "ann"}, "bob", 0},
		{"then another", []string{"> bob", "ann", "cyd"}, "cyd", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for _, step := range c.steps {
				if len(step) > 2 && step[0] == '>' {
					w.change("a", success, "", step[2:], ago(0))
					continue
				}
				w.accounts(says(step))
				w.deliver()
			}
			w.owner(c.owner, "a", success)
			w.wants(fmt.Sprint(c.issued), `SELECT count(*) FROM role_changes WHERE source = '//handover.io'`)
		})
	}
}

func TestNewsIsIssuedAsARoleChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ahead := event.Micro(time.Now().Add(time.Minute))
	w.accounts(says("ann"), `{"id": "b", "name": "B", "roles": {"success_manager": "ann"}}`)
	w.change("a", sales, "", "dee", ahead)
	w.exec(`DELETE FROM outbox`)
	w.offered = nil
	w.accounts(says("bob"))
	if len(w.offered) != 1 || w.offered[0].Subject != event.SubjectRoleChanged(tenant) || w.offered[0].Stream != event.StreamRoleChanges {
		t.Fatalf("offered: %+v", w.offered)
	}
	got, err := event.DecodeAccountRoleChanged(w.offered[0].Message)
	w.must(err)
	want := event.AccountRoleChanged{
		ID: got.ID, Source: event.SourceHandover, Time: ahead.Add(time.Microsecond), TenantID: tenant, AccountID: "a", Role: success,
		NewOwnerID: "bob", Reason: event.ByAPI, InitiatedBy: "root",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	w.wants("bob", `SELECT latest_owner FROM account_roles WHERE account_id = 'a' AND role = $1`, success)
	w.owner("ann", "a", success)
	w.offered = nil
	// Issued is judged by what was issued, not by what has come back; and each is later than the one before.
	w.accounts(says("ann"), `{"id": "b", "roles": {"success_manager": "bob"}}`, says("cyd"))
	if len(w.offered) != 3 || w.offered[0].Subject != event.SubjectRoleBulk(tenant) {
		t.Fatalf("offered: %+v", w.offered)
	}
	w.deliver()
	w.owner("cyd", "a", success)
	w.owner("bob", "b", success)
	w.wants("1,2,3", `SELECT string_agg(extract(microseconds FROM occurred_at - $1)::int::text, ',' ORDER BY occurred_at)
		FROM role_changes WHERE account_id = 'a' AND role = $2`, ahead, success)
}

func TestTheFirstValueFoldsWhatIsKnownAlready(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.accounts(`{"id": "a", "name": "A"}`)
	w.tasks(fmt.Sprintf(`{"id": "t", "account_id": "a", "title": "Call", "assignee_id": "ann", "created_at": %q}`, stamp(ago(time.Hour))))
	w.change("a", success, "", "bob", ago(time.Minute))
	w.assignee("ann", "t") // nobody is known to have held the role before bob
	w.accounts(says("ann"))
	w.assignee("bob", "t")
	w.owner("bob", "a", success)
	w.wants("1", `SELECT count(*) FROM outbox WHERE stream = 'TASK_REASSIGNMENTS'`)
}

func TestWhatUpstreamGivesToSomebodyWhoHasLeft(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		leaves [][2]string
		says   []string
		want   string
		owner  string
	}{
		{"goes to their successor", [][2]string{{"bob", "cyd"}}, []string{"ann", "bob"}, "updated", "cyd"},
		{"goes to the last of their successors", [][2]string{{"bob", "cyd"}, {"cyd", "dee"}}, []string{"ann", "bob"}, "updated", "dee"},
		{"stays when the successor has it", [][2]string{{"bob", "ann"}}, []string{"ann", "bob"}, "updated", "ann"},
		{"is refused without a successor", [][2]string{{"bob", ""}}, []string{"ann", "bob"},
			`roles.success_manager: "bob" has left, and nobody takes over from them; name somebody who is here, or a successor`, "ann"},
		{"is refused when the last successor has none", [][2]string{{"bob", "cyd"}, {"cyd", ""}}, []string{"ann", "bob"},
			`roles.success_manager: "cyd" has left, and nobody takes over from them; name somebody who is here, or a successor`, "ann"},
		{"is handed on as a first value", [][2]string{{"bob", "cyd"}}, []string{"bob"}, "created", "cyd"},
		{"is listed as a first value without a successor", [][2]string{{"bob", ""}}, []string{"bob"}, "created", "bob"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for i, l := range c.leaves {
				w.leaves(l[0], l[1], ago(time.Hour-time.Duration(i)*time.Minute))
			}
			var got []string
			for _, owner := range c.says {
				got = w.accounts(says(owner))
			}
			if got[0] != c.want {
				t.Fatalf("%s, want %s", got[0], c.want)
			}
			w.deliver()
			w.owner(c.owner, "a", success)
			w.wants("0", `SELECT count(*) FROM dead_letters`)
		})
	}
}
