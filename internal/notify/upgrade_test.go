package notify

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"handover.io/internal/postgres"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// What an older program left in the tables: a window in each state, a mail that it has written and not got rid of, a claim
// that it is at, one that it died at before the attempt, a message to be published, and a dead letter.
const leftByAnOlderProgram = `
INSERT INTO notices (tenant_id, recipient_id, account_id, state, opened_at, close_at, next_try_at, lease_until, fence, tries, message_id, to_address, subject, mime, tasks_told, finished_at)
SELECT 'demo', n.*, CASE WHEN n.state = 'sent' THEN now() END
FROM (VALUES
  ('ada', 'acme', 'open', now(), now() + interval '15 min', now() + interval '15 min', NULL::timestamptz, 0, 0, NULL, NULL, NULL, NULL::bytea, NULL::int),
  ('ada', 'globex', 'closed', now() - interval '1 h', now() - interval '45 min', now(), NULL, 1, 1, '<n.2@old>', 'ada@example.com', 'Old', 'Subject: written by the older program'::bytea, 1),
  ('lee', 'acme', 'sending', now() - interval '1 h', now() - interval '45 min', now(), now() + interval '5 min', 1, 0, '<n.3@old>', 'lee@example.com', 'Old', 'Subject: nobody knows'::bytea, 1),
  ('lee', 'globex', 'sending', now() - interval '1 h', now() - interval '45 min', now(), now() - interval '1 min', 1, 0, NULL, NULL, NULL, NULL, NULL),
  ('noa', 'acme', 'sent', now() - interval '1 h', now() - interval '45 min', now(), NULL, 1, 0, '<n.5@old>', 'noa@example.com', 'Old', NULL, 1)
) n (recipient_id, account_id, state, opened_at, close_at, next_try_at, lease_until, fence, tries, message_id, to_address, subject, mime, tasks_told);
INSERT INTO notice_moves (notice_id, kind, account_id, from_id, moved_by, reason, moved_at, task_ids, revisions)
SELECT notice_id, 'received', account_id, 'maya', 'noa', 'profile', now(), ARRAY['old-' || notice_id], ARRAY[1] FROM notices;
INSERT INTO notice_items (tenant_id, recipient_id, task_id, revision, kind, notice_id) SELECT tenant_id, recipient_id, 'old-' || notice_id, 1, 'received', notice_id FROM notices;
INSERT INTO notice_attempts (notice_id, fence, ended_at, outcome) VALUES (2, 1, now(), 'rejected_for_now'), (3, 1, NULL, NULL), (5, 1, now(), 'accepted');
INSERT INTO outbox (message_id, tenant_id, stream, subject, header, body) VALUES ('m', 'demo', 'TASK_REASSIGNMENTS', 'handover.task.reassigned.demo', '{}', 'x');
INSERT INTO dead_letters (digest, tenant_id, consumer, reason, detail, stream, stream_sequence, subject, header, body)
VALUES (gen_random_uuid(), 'demo', 'notifier', 'invalid', 'x', 'TASK_REASSIGNMENTS', 1, 'handover.task.reassigned.demo', '{}', 'x');
INSERT INTO policy_history (tenant_id, effective_from, policy, changed_by) VALUES ('demo', '-infinity', 'move_all_tasks', 'noa');
INSERT INTO operations (operation_id, tenant_id, kind, initiated_by, accepted_at, request, state) VALUES ('op', 'demo', 'bulk_edit', 'noa', now(), '{}', 'expanding')`

// While a database is migrated older processes go on taking moves in. Nothing of before is lost or altered, and what comes
// meanwhile is told once.
func TestAnUpgradeUnderWorkLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	all := len(testkit.All[int](t, testkit.Postgres(t), `SELECT 1 FROM goose_db_version WHERE version_id > 0`))
	for _, from := range []int{2, all - 1} { // the first release, and the one before this
		t.Run(fmt.Sprint("from ", from), func(t *testing.T) {
			t.Parallel()
			upgraded(t, from)
		})
	}
}

func upgraded(t *testing.T, from int) {
	ctx := context.Background()
	url, pool := testkit.OlderDatabase(t, from)
	w := newWorldOn(t, pool)
	w.exec(leftByAnOlderProgram)
	w.post.accepted = []Frozen{{ID: 5}}
	for i, to := range []string{"ada", "ada", "lee", "lee", "noa"} {
		w.move([]string{"acme", "globex"}[i%2], "maya", to, fmt.Sprint("old-", i+1))
	}
	moves := make([]event.TaskReassigned, 120)
	for i := range moves {
		moves[i] = w.move([]string{"acme", "globex"}[i%2], "maya", []string{"ada", "lee", "noa"}[i%3], fmt.Sprint("new-", i))
		moves[i].InitiatedBy = "maya"
	}
	// All rows as they are, to be found again in whatever has more columns then.
	tables := testkit.All[string](t, pool, `SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'goose_db_version'`)
	for _, table := range tables {
		w.exec(`CREATE TABLE was_` + table + ` AS SELECT to_jsonb(t) AS row FROM ` + table + ` t`)
	}
	var next atomic.Int64
	var migrated atomic.Bool
	var workers errgroup.Group
	began := make(chan struct{})
	for range 2 {
		older := w.restart()
		workers.Go(func() error {
			for !migrated.Load() || next.Load() < int64(len(moves)) {
				if i := next.Add(1) - 1; i < int64(len(moves)) {
					if i == 5 {
						close(began)
					}
					if err := older.Handle(ctx, moves[i].Messages(func() string { return fmt.Sprint("id-", i) })); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	<-began
	err := postgres.Migrate(ctx, url)
	during := next.Load()
	migrated.Store(true)
	if err := workers.Wait(); err != nil {
		t.Errorf("an older process failed while the database was migrated: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("migrated after %d moves of %d were taken in", during, len(moves))
	for _, table := range tables {
		if lost := w.number(`SELECT count(*) FROM was_` + table + ` w WHERE NOT EXISTS (SELECT FROM ` + table + ` t WHERE to_jsonb(t) @> w.row)`); lost > 0 {
			t.Errorf("%d rows of %s are lost or altered", lost, table)
		}
		w.exec(`DROP TABLE was_` + table)
	}

	// The newer process: what comes again is known, and what was open, due or under way goes on.
	w.Notifier = w.restart()
	windows := w.number(`SELECT count(*) FROM notices`)
	w.handle(moves...)
	if n := w.number(`SELECT count(*) FROM notices`); n != windows {
		t.Errorf("moves that came again opened %d windows", n-windows)
	}
	states := w.settled()
	if states[Ambiguous] != 1 || states[Ambiguous]+states[Sent] != windows {
		t.Errorf("%d windows ended as %v, want one ambiguous and the others sent", windows, states)
	}
	told := map[string]int{}
	for i, mail := range w.post.accepted {
		switch mail.ID {
		case 5: // by the older program
			continue
		case 2:
			if !bytes.Equal(mail.MIME, []byte("Subject: written by the older program")) {
				t.Errorf("what the older program has written was written again: %q", mail.MIME)
			}
			continue
		}
		for line := range strings.SplitSeq(w.text(i), "\n") {
			if _, task, found := strings.Cut(line, "Title of "); found {
				told[strings.TrimSuffix(strings.TrimSpace(task), ".")]++
			}
		}
	}
	want := []string{"old-1", "old-4"}
	for i := range moves {
		want = append(want, fmt.Sprint("new-", i))
	}
	for _, task := range want {
		if told[task] != 1 {
			t.Errorf("%s was told %d times", task, told[task])
		}
	}
	if len(told) != len(want) {
		t.Errorf("%d tasks were told, want %d", len(told), len(want))
	}
}
