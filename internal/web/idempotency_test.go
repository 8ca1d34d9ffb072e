package web_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"handover.io/internal/web"
)

const roleOf = "/v1/accounts/a-1/roles/success_manager"

func key(k string) option { return header("Idempotency-Key", k) }

func TestARepeatGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme"}).want(t, http.StatusCreated)
	var first, again web.AcceptedOperation
	w.send("PUT", roleOf+"?dry_run=true", object{"owner_id": "u-2"}, key("k-1")).want(t, http.StatusOK)
	a := w.send("PUT", roleOf, object{"owner_id": "u-2"}, key("k-1")).want(t, http.StatusAccepted, &first)
	if a.header.Get("Idempotent-Replayed") != "" {
		t.Error("the first answer says it is a repeat")
	}
	b := w.send("PUT", roleOf, object{"owner_id": "u-2"}, key("k-1")).want(t, http.StatusAccepted, &again)
	if b.header.Get("Idempotent-Replayed") != "true" || first.OperationID != again.OperationID || b.header.Get("Location") != a.header.Get("Location") ||
		b.header.Get("Content-Type") != a.header.Get("Content-Type") || string(a.body) != string(b.body) {
		t.Errorf("the repeat differs:\n%v %s\n%v %s", a.header, a.body, b.header, b.body)
	}
	if n := w.count(`SELECT count(*) FROM operations`); n != 1 {
		t.Errorf("%d operations", n)
	}
	w.send("PUT", roleOf, object{"owner_id": nil}, key("k-1")).problem(t, http.StatusConflict)
	if a := w.send("PUT", roleOf+"?dry_run=true", object{"owner_id": "u-2"}, key("k-1")).want(t, http.StatusOK); a.header.Get("Idempotent-Replayed") != "" {
		t.Error("a dry run is answered with what was done")
	}
	// The key is the user's own, and the tenant's own.
	other := w.token("acme", "u-2", "assign")
	w.send("PUT", roleOf, object{"owner_id": nil}, key("k-1"), token(other)).want(t, http.StatusAccepted)
	w.send("PUT", roleOf, object{"owner_id": nil}, key("k-1"), token("zeta-u-1-assign")).problem(t, http.StatusNotFound)
}

func TestARefusalFreesItsKey(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("PUT", roleOf, object{"owner_id": "u-2"}, key("k-1")).problem(t, http.StatusNotFound)
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme"}).want(t, http.StatusCreated)
	w.send("PUT", roleOf, object{"owner_id": "u-2"}, key("k-1")).want(t, http.StatusAccepted)
}

func TestOfManyAtOnceOneRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme"}).want(t, http.StatusCreated)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			switch a := w.send("PUT", roleOf, object{"owner_id": "u-2"}, key("k-1")); a.status {
			case http.StatusAccepted:
			case http.StatusConflict:
				if a.header.Get("Retry-After") == "" {
					t.Errorf("no Retry-After: %s", a.body)
				}
			default:
				t.Errorf("%d: %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	if n := w.count(`SELECT count(*) FROM operations`); n != 1 {
		t.Errorf("%d operations", n)
	}
}

func TestAKeyLeftByACrashIsTakenOverAfterAMinute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	w.send("PUT", "/v1/accounts/a-1", object{"name": "Acme"}).want(t, http.StatusCreated)
	change := func(owner any) answer { return w.send("PUT", roleOf, object{"owner_id": owner}, key("k-1")) }
	change("u-2").want(t, http.StatusAccepted)
	w.exec(`UPDATE idempotency_keys SET status = NULL, body = NULL, header = NULL`)
	if a := change("u-2"); a.problem(t, http.StatusConflict).Status != 409 || a.header.Get("Retry-After") == "" {
		t.Errorf("no Retry-After: %s", a.body)
	}
	w.exec(`UPDATE idempotency_keys SET created_at = clock_timestamp() - interval '61 seconds'`)
	change("u-1").problem(t, http.StatusConflict) // another request never takes it over
	var got web.AcceptedOperation
	if change("u-2").want(t, http.StatusOK, &got); !got.Unchanged {
		t.Errorf("done twice: %+v", got)
	}
	change("u-2").want(t, http.StatusOK)
}

func TestBadKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, k := range []string{"a b", "ä", string(make([]byte, 0)) + "x\tx"} {
		p := w.send("POST", "/v1/assignments", object{}, key(k)).problem(t, http.StatusUnprocessableEntity)
		if len(p.Errors) != 1 || p.Errors[0].Location != "header.Idempotency-Key" {
			t.Errorf("%q: %+v", k, p)
		}
	}
}

func TestKeysAreForgottenAfterADay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1")
	w.exec(`INSERT INTO idempotency_keys (tenant_id, user_id, key, request, created_at)
		SELECT 'acme', 'u-1', 'old-' || n, gen_random_uuid(), clock_timestamp() - interval '25 hours' FROM generate_series(1, 300) n`)
	for n := range 256 {
		w.send("POST", "/v1/users/u-9/disable", object{}, key(fmt.Sprint("k-", n))).problem(t, http.StatusNotFound)
	}
	if n := w.count(`SELECT count(*) FROM idempotency_keys`); n != 0 {
		t.Errorf("%d keys are left", n)
	}
}
