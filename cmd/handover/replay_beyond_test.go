package main

import (
	"strings"
	"testing"

	"handover.io/internal/journal"
	"handover.io/internal/testkit"
)

// Who left since the dump is active again, and only the replayed changes tell so.
func TestReplaySaysWhoLeftAndIsActive(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	testkit.Exec(t, pool, `INSERT INTO tenants (tenant_id) VALUES ('acme')`)
	testkit.Exec(t, pool, `INSERT INTO users (tenant_id, user_id, name, status, left_at) VALUES ('acme', 'ann', 'Ann', 'active', NULL),
('acme', 'bob', 'Bob', 'active', NULL), ('acme', 'cy', 'Cy', 'disabled', now()), ('acme', 'dee', 'Dee', 'active', NULL)`)
	change := func(id, from, reason, operation string) {
		testkit.Exec(t, pool, `INSERT INTO role_changes (digest, content, tenant_id, account_id, role, from_id, to_id, occurred_at, source, id, policy, reason, initiated_by, operation_id)
VALUES (gen_random_uuid(), gen_random_uuid(), 'acme', 'a', 'r', $2, 'dee', '2026-03-01T09:00Z', 's', $1, 'keep_tasks', $3, 'x', nullif($4, ''))`, id, from, reason, operation)
	}
	change("0", "dee", "user_disabled", "op-0") // before the run
	run, err := journal.BeginRun(t.Context(), pool, "replay", "oscar", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	look := func(restored int) *beyond {
		t.Helper()
		b, err := lookBeyond(t.Context(), pool, run, restored)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	change("1", "bob", "api", "")
	if b := look(0); b != nil {
		t.Errorf("of a database that wasn't restored: %+v", b)
	}
	if b := look(3); b == nil || len(b.Departures) != 0 {
		t.Errorf("where only revisions were restored: %+v", b)
	}
	change("2", "ann", "user_disabled", "op-1")
	change("3", "ann", "user_disabled", "op-1")
	change("4", "bob", "api", "op-2")
	change("5", "cy", "user_deleted", "op-3")
	b := look(0)
	if b == nil || b.Operations != 3 || len(b.Departures) != 1 {
		t.Fatalf("got %+v", b)
	}
	var out strings.Builder
	replayed{Beyond: b}.print(&out)
	for _, want := range []string{
		"The stream can't bring back", "3 operations forgotten", "ann of acme left by operation op-1 (user_disabled, 2026-03-01 09:00", "and is active here: disable them again",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
