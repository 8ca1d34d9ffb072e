package main

import (
	"bytes"
	"encoding/json"
	"io"
	"regexp"
	"strings"
	"testing"

	"handover.io/internal/testkit"
)

// What operators' commands print for programs, and keep of what they were asked to do, has names of one kind.
func TestNamesInJSONAreOfOneKind(t *testing.T) {
	t.Parallel()
	b := newLetterbox(t)
	b.deliver(changeTo(b, "1", "zoe", ""), changeTo(b, "2", "bob", "move_all_tasks"))
	testkit.Exec(t, b.pool, `INSERT INTO notices (tenant_id, recipient_id, account_id, state, opened_at, close_at, next_try_at, finished_at, message_id, to_address, subject, mime)
SELECT 'acme', 'bob', '', 'ambiguous', now(), now(), now(), now(), '<n.1.a@x>', 'bob@example.com', 'Tasks', ''`)
	testkit.Exec(t, b.pool, `INSERT INTO accounts (tenant_id, account_id, name) VALUES ('acme', 'a-1', 'A')`)
	b.environ = append(b.environ, "HANDOVER_NATS_URL=nats://127.0.0.1:1")
	const snake = `^[a-z][a-z0-9_]*$`
	check := func(what string, out io.Reader) {
		t.Helper()
		for d := json.NewDecoder(out); d.More(); {
			var v any
			if err := d.Decode(&v); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			walk(v, func(name string) {
				if !regexp.MustCompile(snake).MatchString(name) {
					t.Errorf("%s says %q", what, name)
				}
			})
		}
	}
	for _, args := range []string{
		"replay --from database", "status", "verify --fix --tenant acme --account a-1", "dead-letters list --summary", "dead-letters list --state all",
		"dead-letters drop --reason owner_unknown --since 1h --until 0s --because x --apply", "notices list", "notices release",
		"notices settle --recipient bob --since 1h --apply", "replay list",
	} {
		var out, said bytes.Buffer
		if code := Main(t.Context(), append(strings.Fields(args), "--json"), b.environ, nil, &out, &said); code > 1 {
			t.Errorf("%s: exit %d %s", args, code, &said)
		}
		check(args, &out)
	}
	for _, kept := range testkit.All[string](t, b.pool, `SELECT arguments::text FROM operator_runs`) {
		check("a run's arguments", strings.NewReader(kept))
	}
}

func walk(v any, name func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for n, of := range v {
			name(n)
			walk(of, name)
		}
	case []any:
		for _, of := range v {
			walk(of, name)
		}
	}
}
