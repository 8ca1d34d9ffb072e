package journal_test

import (
	"context"
	"errors"
	"testing"

	"handover.io/internal/journal"
	"handover.io/internal/testkit"
)

func TestRunOfAnOperatorIsKeptAndGoesOn(t *testing.T) {
	t.Parallel()
	pool := testkit.Postgres(t)
	run, err := journal.BeginRun(t.Context(), pool, "replay", "zoe", map[string]string{"tenant": "acme"})
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Save(t.Context(), "17", map[string]int{"known": 2}); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run.End(ended, map[string]int{"known": 2}, errors.New("cut off")); err != nil {
		t.Fatal(err)
	}
	found, err := journal.FindRun(t.Context(), pool, run.ID)
	if err != nil {
		t.Fatal(err)
	}
	if found.State != "failed" || found.Problem != "cut off" || found.Cursor != "17" || string(found.Arguments) != `{"tenant": "acme"}` || found.EndedAt == nil {
		t.Errorf("found %+v", found)
	}
	if err := errors.Join(found.Resume(t.Context()), found.Save(t.Context(), "20", map[string]int{"known": 5}), found.End(t.Context(), map[string]int{"known": 5}, nil)); err != nil {
		t.Fatal(err)
	}
	runs, err := journal.Runs(t.Context(), pool, "replay", 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(runs) != 1 || runs[0].State != "done" || runs[0].Problem != "" || string(runs[0].Counts) != `{"known": 5}` || runs[0].Actor != "zoe" {
		t.Errorf("kept %+v", runs)
	}
	if _, err := journal.FindRun(t.Context(), pool, run.ID+1); !errors.Is(err, journal.ErrNoRun) {
		t.Errorf("%v", err)
	}
}
