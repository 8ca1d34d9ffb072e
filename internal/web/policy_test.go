package web_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"handover.io/internal/web"
)

func TestSettingThePolicyRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.people("u-1", "u-2")
	past, ahead := time.Now().Add(-time.Hour).UTC(), time.Now().Add(time.Hour).UTC()
	for _, c := range []struct {
		body  object
		field string
	}{
		{object{"tasks": "move_all_tasks", "effective_from": ahead}, "body.effective_from"},
		{object{"tasks": "move_all_tasks", "effective_from": "yesterday"}, "body.effective_from"},
		{object{"tasks": "move_some", "effective_from": past}, "body.tasks"},
		{object{"tasks": "move_all_tasks", "take_back": true}, "body.take_back"},
		{object{"tasks": "move_all_tasks", "takeback": true, "effective_from": past}, "body.takeback"},
	} {
		for _, path := range []string{"/v1/policy", "/v1/policy?dry_run=true"} {
			p := w.send("PUT", path, c.body).problem(t, http.StatusUnprocessableEntity)
			if len(p.Errors) != 1 || !strings.HasPrefix(p.Errors[0].Location, c.field) || p.Errors[0].Message == "" {
				t.Errorf("%v: %+v", c.body, p)
			}
		}
	}
	choice := object{"tasks": "move_all_tasks", "effective_from": past}
	before := w.fingerprint("acme")
	var shown, set web.PolicySet
	w.send("PUT", "/v1/policy?dry_run=true", choice, as("policy")).want(t, http.StatusOK, &shown)
	if shown.Preview == nil || shown.OperationID != nil || shown.Unchanged || w.fingerprint("acme") != before {
		t.Errorf("dry run: %+v", shown)
	}
	w.send("PUT", "/v1/policy", choice, as("assign")).problem(t, http.StatusForbidden)
	first := w.send("PUT", "/v1/policy", choice, as("policy"), header("Idempotency-Key", "k")).want(t, http.StatusAccepted, &set)
	if set.OperationID == nil || first.header.Get("Location") != "/v1/operations/"+*set.OperationID || !set.EffectiveFrom.Equal(past.Truncate(time.Microsecond)) || *set.ChangedBy != "u-1" {
		t.Errorf("set: %+v %v", set, first.header)
	}
	again := w.send("PUT", "/v1/policy", choice, as("policy"), header("Idempotency-Key", "k")).want(t, http.StatusAccepted)
	if again.header.Get("Idempotent-Replayed") != "true" || string(again.body) != string(first.body) {
		t.Errorf("again: %s", again.body)
	}
	// Its operation isn't done yet: nobody expands here.
	refused := w.send("PUT", "/v1/policy", object{"tasks": "keep_tasks", "effective_from": past})
	if p := refused.problem(t, http.StatusConflict); !strings.Contains(p.Detail, *set.OperationID) || refused.header.Get("Location") != first.header.Get("Location") {
		t.Errorf("a second one: %+v", p)
	}
	var op web.Operation
	w.send("GET", first.header.Get("Location"), nil).want(t, http.StatusOK, &op)
	if op.Kind != "policy_corrected" || op.State != "expanding" {
		t.Errorf("%+v", op)
	}
	// It kept some, and they are to be taken back after all: that is too late, and the answer says so.
	w.exec(`UPDATE operations SET state = 'done', finished_at = now(), tasks_kept = 3 WHERE operation_id = $1`, *set.OperationID)
	for _, path := range []string{"/v1/policy", "/v1/policy?dry_run=true"} {
		for _, takeBack := range []bool{true, false} {
			var late web.PolicySet
			w.send("PUT", path, object{"tasks": "move_all_tasks", "effective_from": past, "take_back": takeBack}).want(t, http.StatusOK, &late)
			if k := late.KeptBefore; !late.Unchanged || (k != nil) != takeBack || k != nil && (k.Tasks != 3 || k.OperationID != *set.OperationID || !strings.Contains(k.Remedy, "/assign")) {
				t.Errorf("%s, take_back %v: %+v", path, takeBack, late)
			}
		}
	}
	// Without effective_from everything is as before.
	var plain web.PolicySet
	w.send("PUT", "/v1/policy", object{"tasks": "keep_tasks"}).want(t, http.StatusOK, &plain)
	if plain.OperationID != nil || plain.Preview != nil || plain.Tasks != "keep_tasks" {
		t.Errorf("from now on: %+v", plain)
	}
}
