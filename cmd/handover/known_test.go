package main

import (
	"bytes"
	"strings"
	"testing"

	"handover.io/internal/testkit"
)

// A typo in a name isn't mistaken for a system that is well.
func TestNamesThatNobodyKnows(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	testkit.Exec(t, pool, `INSERT INTO tenants (tenant_id) VALUES ('acme'), ('other')`)
	testkit.Exec(t, pool, `INSERT INTO account_heads (tenant_id, account_id) VALUES ('acme', 'headed')`)
	testkit.Exec(t, pool, `INSERT INTO accounts (tenant_id, account_id, name) VALUES ('acme', 'a', 'A'), ('other', 'b', 'B')`)
	environ := []string{"HANDOVER_DATABASE_URL=" + pool.Config().ConnString(), "HANDOVER_DATA_DIR=" + t.TempDir()}
	for args, want := range map[string]struct {
		code int
		says string
	}{
		"verify --tenant nope --account a":                    {2, `--tenant: there is no tenant "nope"`},
		"verify --tenant acme --account b":                    {2, `--account: nothing is known of an account "b"`},
		"verify --tenant acme --account a":                    {0, "All is right."},
		"verify --tenant acme --account headed":               {0, "All is right."},
		"replay --from database --tenant nope":                {2, `--tenant: there is no tenant "nope"`},
		"replay --from database --tenant nope --apply":        {2, `--tenant: there is no tenant "nope"`},
		"replay --from database --tenant acme --account b":    {2, `--account: nothing is known of an account "b"`},
		"replay --from database --account nope":               {2, `--account: nothing is known of an account "nope"`},
		"replay --from database --account b":                  {0, "Nothing was done, and nothing is to be done."},
		"dead-letters list --tenant nope":                     {2, `--tenant: there is no tenant "nope"`},
		"dead-letters retry --tenant acme":                    {0, "nothing is to be done: no dead letter would be retried"},
		"notices list --tenant nope":                          {2, `--tenant: there is no tenant "nope"`},
		"notices list --account nope":                         {2, `--account: nothing is known of an account "nope"`},
		"notices resend --account a":                          {0, "nothing is to be done"},
		"notices list --tenant acme --account headed --all":   {0, "None."},
		"notices resend --tenant other --account a --as oona": {2, `--account: nothing is known of an account "a"`},
	} {
		var out, said bytes.Buffer
		code := Main(t.Context(), strings.Fields(args), environ, nil, &out, &said)
		if code != want.code || !strings.Contains(out.String()+said.String(), want.says) {
			t.Errorf("%s: exit %d, want %d with %q:\n%s%s", args, code, want.code, want.says, &out, &said)
		}
	}
	if n := testkit.One[int](t, pool, `SELECT count(*) FROM operator_runs`); n != 0 {
		t.Errorf("%d runs of commands that did nothing", n)
	}
}
