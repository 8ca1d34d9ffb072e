package journal_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// dump copies the database; the function that it returns goes on with the copy, as after a restore.
func (w *watched) dump() (restore func()) {
	w.Helper()
	w.pool.Reset()
	url := testkit.CopyDatabase(w, w.url)
	return func() {
		pool, err := postgres.Open(w.Context(), url, postgres.Options{})
		w.must(err)
		w.Cleanup(pool.Close)
		w.url, w.pool = url, pool
		w.on(pool)
	}
}

func TestADatabaseThatIsOlderThanTheStreamIsNoticedOnce(t *testing.T) {
	t.Parallel()
	for _, looked := range []bool{false, true} {
		w := newWatched(t)
		before := w.commit("before", 120)
		w.sweep()
		if looked {
			w.look()
		}
		owed := w.commit("owed", 30) // at the time of the dump
		restore := w.dump()
		w.sweep()
		after := w.commit("after", 40)
		w.sweep()
		w.look()
		restore()
		w.expect("found", w.look(), []string{"TASK_REASSIGNMENTS database_older 0 40"})
		if len(w.older) != 1 || !strings.Contains(w.older[0], "40 of our own messages that are not in it (sequences 151 to 190)") {
			t.Errorf("told: %q", w.older)
		}
		// What went out after the dump doesn't go out again.
		w.expect("published again", w.sweep(), 0)
		w.expect("on the stream", w.ids(), idsOf(before, owed, after))
		more := w.commit("more", 10)
		w.sweep()
		w.expect("found again", w.look(), nothing)
		w.expect("on the stream", w.ids(), idsOf(before, owed, after, more))
		w.expect("told", len(w.older), 1)
	}
}

func TestADatabaseThatIsNewIsOlderThanTheStream(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	w.commit("lost", 25)
	w.sweep()
	_, w.pool = testkit.NewDatabase(t)
	w.on(w.pool)
	w.expect("found", w.look(), []string{"TASK_REASSIGNMENTS database_older 0 25"})
	w.expect("found again", w.look(), nothing)
}

func TestAnOlderDatabaseIsToldUntilItIsHeard(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	restore := w.dump()
	w.commit("lost", 5)
	w.sweep()
	restore()
	w.refuse = errRefused
	if _, err := w.watch.Look(t.Context()); err == nil {
		t.Fatal("the one who was told refused, and nobody noticed")
	}
	w.refuse = nil
	w.expect("found", w.look(), []string{"TASK_REASSIGNMENTS database_older 0 5"})
}

func TestAnEndBetweenTheAcknowledgementAndTheMarkIsQuiteOrdinary(t *testing.T) {
	t.Parallel()
	for _, looked := range []bool{false, true} {
		w := newWatched(t)
		all := w.commit("a", 60)
		w.sweep()
		if looked {
			w.look()
		}
		unmarked := w.commit("b", 25)
		_, err := w.bus.Publish(t.Context(), messagesOf(unmarked))
		w.must(err)
		// Another relay has published, and marked, what came after it.
		marked := appendTo(t, w.pool, announcements("c", 30)...)
		stored, err := w.bus.Publish(t.Context(), messagesOf(marked))
		w.must(err)
		for i, e := range marked {
			testkit.Exec(t, w.pool, `WITH gone AS (DELETE FROM outbox_owed WHERE key = $1::bigint) INSERT INTO outbox_published (stream, stream_created, last_sequence, keys, sequences) VALUES ($2, $3, $4::bigint, ARRAY[$1::bigint], ARRAY[$4::bigint])`,
				e.Key, stored[i].Stream, stored[i].Created, int64(stored[i].Sequence))
		}
		w.expect("found", w.look(), nothing)
		w.expect("published again", w.sweep(), 0)
		w.holdsAll(all, unmarked, marked)
		w.expect("told", w.older, nothing)
	}
}

func TestWhatOthersPublishSaysNothingOfTheDatabase(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	foreign := make([]event.Message, 30)
	for i := range foreign {
		id := fmt.Sprint("crm-", i)
		foreign[i] = event.Message{ID: id, Subject: event.SubjectRoleChanged("acme"), Body: fmt.Appendf(nil, `{"id":%q,"source":"//crm.example"}`, id)}
		if i%2 == 1 { // in binary mode
			foreign[i].Header, foreign[i].Body = map[string][]string{"ce-source": {"//crm.example"}}, []byte(`{"source":"//handover.io"}`)
		}
	}
	_, err := w.bus.Publish(t.Context(), foreign)
	w.must(err)
	w.expect("found", w.look(), nothing)
	ours := event.Message{ID: "ours", Subject: event.SubjectRoleChanged("acme"), Body: []byte(`{"id":"ours","source":"//handover.io"}`)}
	_, err = w.bus.Publish(t.Context(), append(foreign, ours))
	w.must(err)
	w.expect("found", w.look(), []string{"ROLE_CHANGES database_older 0 1"})
}

func TestAnOlderDatabaseUnderAStreamThatWasMadeAgain(t *testing.T) {
	t.Parallel()
	w := newWatched(t)
	before := w.commit("before", 50)
	w.sweep()
	restore := w.dump()
	w.deleteStream()
	w.look()
	w.sweep() // the 50 stand on the new stream
	after := w.commit("after", 20)
	w.sweep()
	restore()
	w.expect("found", w.look(), []string{"TASK_REASSIGNMENTS recreated 50 0", "TASK_REASSIGNMENTS database_older 0 20"})
	w.expect("published again", w.sweep(), 0)
	w.expect("on the stream", slices.Sorted(slices.Values(w.ids())), slices.Sorted(slices.Values(idsOf(before, after))))
}
