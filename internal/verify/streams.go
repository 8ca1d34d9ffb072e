package verify

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

// askBroker notes how the streams stand. Whatever is compared with it is read later.
func (v *verifier) askBroker(ctx context.Context) error {
	if v.broker.Streams == nil {
		if v.Account == "" {
			v.unknown("the streams: there is no broker to ask")
		}
		return nil
	}
	all, err := v.broker.Streams(ctx)
	if err != nil {
		return err
	}
	v.streams = map[string]Stream{}
	for _, s := range all {
		v.streams[s.Name] = s
	}
	return nil
}

// streamed is one message of ROLE_CHANGES.
type streamed struct {
	event.Message
	change  event.AccountRoleChanged
	bad     bool // it can't be read
	handled bool // whoever it is for has acknowledged it
}

const (
	unrecorded = `
SELECT k.n FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS k(digest, content, n)
WHERE (SELECT true FROM role_changes c WHERE c.digest = k.digest AND c.content = k.content LIMIT 1) IS NULL`
	unissued = `
SELECT k.n FROM unnest($1::text[]) WITH ORDINALITY AS k(message_id, n)
WHERE (SELECT true FROM outbox o WHERE o.message_id = k.message_id AND o.stream = 'ROLE_CHANGES' LIMIT 1) IS NULL`
)

// roleChanges looks for the role changes that the stream holds. One that is acknowledged is recorded or a dead letter; one
// of ours is in the outbox, which keeps its rows longer than the stream its messages.
func (v *verifier) roleChanges(ctx context.Context) error {
	s, ok := v.streams[event.StreamRoleChanges]
	if !ok {
		return nil
	}
	live, bulk := s.Consumers[event.ConsumerReassigner], s.Consumers[event.ConsumerReassignerBulk]
	if live.Handled == 0 && bulk.Handled == 0 && s.LastSeq > 0 {
		v.unknown("whether the role changes on the stream are recorded: no reassigner has acknowledged any")
	}
	if s.LastSeq < s.FirstSeq || s.LastSeq == 0 {
		return nil
	}
	return v.broker.Read(ctx, s.Name, s.FirstSeq, s.LastSeq, func(ctx context.Context, batch []event.Message) error {
		read := make([]streamed, 0, len(batch))
		for _, m := range batch {
			if v.Tenant != "" && event.TenantOf(m.Subject) != v.Tenant {
				continue
			}
			one := streamed{Message: m, handled: m.Sequence <= live.Handled}
			if consumerOf(m) == event.ConsumerReassignerBulk {
				one.handled = m.Sequence <= bulk.Handled
			}
			c, err := event.DecodeAccountRoleChanged(m)
			one.change, one.bad = c, err != nil
			read = append(read, one)
		}
		if err := v.compareChanges(ctx, read); err != nil {
			return err
		}
		v.report.Looked.RoleChanges += int64(len(read))
		v.Progress("role changes", int64(batch[len(batch)-1].Sequence-s.FirstSeq+1), int64(s.LastSeq-s.FirstSeq+1))
		return nil
	})
}

// consumerOf is the lane of a role change.
func consumerOf(m event.Message) string {
	if m.Subject == event.SubjectRoleBulk(event.TenantOf(m.Subject)) {
		return event.ConsumerReassignerBulk
	}
	return event.ConsumerReassigner
}

func (v *verifier) compareChanges(ctx context.Context, read []streamed) error {
	if len(read) == 0 {
		return nil
	}
	var digests, contents [][16]byte
	var asked, lacking, ours, strange []*streamed
	var ids []string
	var ourDigests, ourContents [][16]byte
	for i := range read {
		switch m := &read[i]; {
		case m.bad && m.handled:
			lacking = append(lacking, m)
		case m.bad:
		default:
			if m.handled {
				asked, digests, contents = append(asked, m), append(digests, m.change.Digest()), append(contents, m.change.Content())
			}
			if m.change.Source == event.SourceHandover && m.ID != "" {
				ours, ids = append(ours, m), append(ids, m.ID)
				ourDigests, ourContents = append(ourDigests, m.change.Digest()), append(ourContents, m.change.Content())
			}
		}
	}
	unread := lacking
	if err := v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		lacking, strange = slices.Clone(unread), nil
		n, err := numbers(ctx, tx, unrecorded, digests, contents)
		if err != nil {
			return err
		}
		for _, i := range n {
			lacking = append(lacking, asked[i-1])
		}
		letters := make([]letter, len(lacking))
		for i, m := range lacking {
			letters[i] = letter{consumerOf(m.Message), m.Message}
		}
		dead, err := buried(ctx, tx, letters)
		if err != nil {
			return err
		}
		lacking = slices.DeleteFunc(lacking, func(m *streamed) bool { return dead[string(m.Body)] })
		strange, err = neverSeen(ctx, tx, ours, ids, ourDigests, ourContents)
		return err
	}); err != nil {
		return err
	}
	for _, m := range lacking {
		f := Finding{Kind: MissingChange, TenantID: event.TenantOf(m.Subject), AccountID: m.change.AccountID, Role: m.change.Role, OperationID: m.change.OperationID,
			Stream: m.Stream, Sequence: m.Sequence, MessageID: m.ID}
		f.Says = fmt.Sprintf("%s %d, stored %s: the change %s of %s to account %s is neither recorded nor a dead letter", m.Stream, m.Sequence,
			m.StoredAt.UTC().Format(time.RFC3339), m.change.ID, m.change.Source, m.change.AccountID)
		if m.bad {
			f.Says = fmt.Sprintf("%s %d, stored %s: it can't be read, and is no dead letter", m.Stream, m.Sequence, m.StoredAt.UTC().Format(time.RFC3339))
		}
		f.Remedy = replayOf(m.Sequence, m.Sequence)
		v.found(f)
	}
	for _, m := range strange {
		v.found(Finding{Kind: Ahead, TenantID: event.TenantOf(m.Subject), AccountID: m.change.AccountID, Stream: m.Stream, Sequence: m.Sequence, MessageID: m.ID,
			Says:   fmt.Sprintf("%s %d, stored %s: a change of ours that this database never issued", m.Stream, m.Sequence, m.StoredAt.UTC().Format(time.RFC3339)),
			Remedy: replayOf(m.Sequence, m.Sequence, "--no-mail")})
	}
	return nil
}

// neverSeen are those of our own changes that this database knows nothing of: neither issued, nor recorded since, as those
// are that a replay has brought back, nor a dead letter.
func neverSeen(ctx context.Context, tx pgx.Tx, ours []*streamed, ids []string, digests, contents [][16]byte) ([]*streamed, error) {
	issued, err := numbers(ctx, tx, unissued, ids)
	if err != nil || len(issued) == 0 {
		return nil, err
	}
	lacking, err := numbers(ctx, tx, unrecorded, digests, contents)
	if err != nil {
		return nil, err
	}
	var out []*streamed
	var letters []letter
	for _, i := range issued {
		if slices.Contains(lacking, i) {
			out, letters = append(out, ours[i-1]), append(letters, letter{consumerOf(ours[i-1].Message), ours[i-1].Message})
		}
	}
	dead, err := buried(ctx, tx, letters)
	return slices.DeleteFunc(out, func(m *streamed) bool { return dead[string(m.Body)] }), err
}

// numbers are those, from 1, of what the query returns of its lists.
func numbers(ctx context.Context, tx pgx.Tx, sql string, args ...any) ([]int64, error) {
	rows, err := tx.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

const (
	// Messages are looked for while the stream must still have them: it keeps them for 30 days. What is before its first one
	// was purged, or is too old, and isn't lost.
	streamKeeps = 29 * 24 * time.Hour

	// Acknowledged before the broker was asked how the stream stands.
	goneAtAll = `
SELECT EXISTS (
  SELECT FROM outbox_published p WHERE p.stream = $1 AND p.published_at > $4::timestamptz AND p.published_at <= $5::timestamptz
    AND (p.stream_created <> $2 OR p.last_sequence > $3))`
	gone = `
WITH stood AS MATERIALIZED (
  SELECT e.k, e.s, p.stream_created AS created, p.stream_created = $2 AND e.s <= $3 AS there
  FROM outbox_published p CROSS JOIN LATERAL unnest(p.keys, p.sequences) AS e(k, s)
  WHERE p.stream = $1 AND p.published_at > $4::timestamptz AND p.published_at <= $5::timestamptz
), last AS (
  SELECT k, max(created) AS created, (array_agg(s ORDER BY created DESC, s DESC))[1] AS s FROM stood GROUP BY k HAVING NOT bool_or(there)
)
SELECT l.k, o.message_id, o.tenant_id, l.created, l.s FROM last l JOIN outbox o ON o.key = l.k
WHERE ($6 = '' OR o.tenant_id = $6) AND NOT EXISTS (SELECT FROM outbox_owed w WHERE w.key = l.k)
  AND NOT EXISTS (
    SELECT FROM outbox_published p CROSS JOIN LATERAL unnest(p.keys) AS e(k)
    WHERE p.stream = $1 AND p.stream_created = $2 AND p.published_at > $5::timestamptz AND e.k = l.k)
ORDER BY l.k`
)

// compareStreams compares what the outbox knows to be published with what the streams hold.
func (v *verifier) compareStreams(ctx context.Context) error {
	for _, name := range []string{event.StreamRoleChanges, event.StreamTaskReassignments, event.StreamDeadLetters} {
		s, ok := v.streams[name]
		if !ok {
			continue
		}
		if v.wants(Lost) {
			if err := v.lost(ctx, s); err != nil {
				return err
			}
			if err := v.identities(ctx, s); err != nil {
				return err
			}
		}
		if v.wants(Ahead) && name != event.StreamRoleChanges {
			if err := v.ahead(ctx, s); err != nil {
				return err
			}
		}
		v.Progress("streams", 1, 1)
	}
	return nil
}

func (v *verifier) lost(ctx context.Context, s Stream) error {
	var found []Finding
	if err := v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		found = nil
		args := []any{s.Name, s.Created, int64(s.LastSeq), v.report.At.Add(-streamKeeps), v.report.At}
		var some bool
		if err := tx.QueryRow(ctx, goneAtAll, args...).Scan(&some); err != nil || !some {
			return err
		}
		rows, err := tx.Query(ctx, gone, append(args, v.Tenant)...)
		if err != nil {
			return err
		}
		f := Finding{Kind: Lost, Stream: s.Name, Remedy: v.fix(Lost)}
		var created time.Time
		var at int64
		_, err = pgx.ForEachRow(rows, []any{&f.Key, &f.MessageID, &f.TenantID, &created, &at}, func() error {
			f.Sequence = uint64(at)
			switch {
			case !created.Equal(s.Created):
				f.Says = fmt.Sprintf("%s was made anew at %s; message %s stood at %d on the one before", s.Name, s.Created.UTC().Format(time.RFC3339), f.MessageID, at)
			default:
				f.Says = fmt.Sprintf("%s ends at %d; message %s stood at %d", s.Name, s.LastSeq, f.MessageID, at)
			}
			found = append(found, f)
			return nil
		})
		return err
	}); err != nil {
		return err
	}
	for _, f := range found {
		v.report.todo.again = append(v.report.todo.again, f.Key)
		v.found(f)
	}
	return nil
}

const (
	samples     = 10
	sampleRows  = 10
	pageRows    = 200
	publishedOn = `
SELECT e.k, e.s, o.message_id, o.tenant_id, p.last_sequence
FROM (
  SELECT * FROM outbox_published p
  WHERE p.stream = $1 AND p.stream_created = $2 AND p.last_sequence > $3 AND p.last_sequence <= $4 ORDER BY p.last_sequence LIMIT $5) p
CROSS JOIN LATERAL unnest(p.keys, p.sequences) AS e(k, s)
JOIN outbox o ON o.key = e.k
WHERE e.s >= $6`
)

// identities compares the ids of messages at their sequences: of a sample, or of all when thorough.
func (v *verifier) identities(ctx context.Context, s Stream) error {
	if s.LastSeq == 0 || s.LastSeq < s.FirstSeq {
		return nil
	}
	if !v.Thorough {
		for range samples {
			if _, err := v.comparePage(ctx, s, s.FirstSeq+rand.Uint64N(s.LastSeq-s.FirstSeq+1)-1, sampleRows); err != nil {
				return err
			}
		}
		return nil
	}
	for after := s.FirstSeq - 1; after < s.LastSeq; {
		last, err := v.comparePage(ctx, s, after, pageRows)
		if err != nil {
			return err
		}
		if last == 0 {
			return nil
		}
		after = last
		v.Progress(s.Name, int64(after-s.FirstSeq+1), int64(s.LastSeq-s.FirstSeq+1))
	}
	return nil
}

// comparePage compares what was published together a few times, next after a sequence. It returns up to where it is, or 0
// at the end.
func (v *verifier) comparePage(ctx context.Context, s Stream, after uint64, limit int) (uint64, error) {
	type stood struct {
		key        int64
		id, tenant string
	}
	want := map[uint64]stood{}
	var last, least, most uint64
	if err := v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		clear(want)
		last, least, most = 0, 0, 0
		rows, err := tx.Query(ctx, publishedOn, s.Name, s.Created, int64(after), int64(s.LastSeq), limit, int64(s.FirstSeq))
		if err != nil {
			return err
		}
		var one stood
		var at, page int64
		_, err = pgx.ForEachRow(rows, []any{&one.key, &at, &one.id, &one.tenant, &page}, func() error {
			seq := uint64(at)
			want[seq], last, most = one, max(last, uint64(page)), max(most, seq)
			if least == 0 || seq < least {
				least = seq
			}
			return nil
		})
		return err
	}); err != nil || len(want) == 0 {
		return last, err
	}
	wrong := func(seq uint64, w stood, says string) {
		if v.Tenant != "" && w.tenant != v.Tenant {
			return
		}
		if v.wants(Lost) {
			v.report.todo.again = append(v.report.todo.again, w.key)
		}
		v.found(Finding{Kind: Lost, TenantID: w.tenant, Stream: s.Name, Sequence: seq, MessageID: w.id, Key: w.key, Says: says, Remedy: v.fix(Lost)})
	}
	if err := v.broker.Read(ctx, s.Name, least, most, func(_ context.Context, batch []event.Message) error {
		for _, m := range batch {
			if w, ours := want[m.Sequence]; ours {
				if m.ID != w.id {
					wrong(m.Sequence, w, fmt.Sprintf("%s %d: should be message %s, is %q", s.Name, m.Sequence, w.id, m.ID))
				}
				delete(want, m.Sequence)
			}
		}
		return nil
	}); err != nil {
		return 0, err
	}
	for seq, w := range want {
		wrong(seq, w, fmt.Sprintf("%s %d: message %s is not there any more", s.Name, seq, w.id))
	}
	return last, nil
}

const (
	knownUpTo = `SELECT coalesce(max(last_sequence), 0) FROM outbox_published WHERE stream = $1 AND stream_created = $2`
	// What is published and not marked yet is still owed.
	ownIDs   = `SELECT DISTINCT message_id FROM outbox WHERE stream = $1 AND message_id = ANY($2)`
	knownIDs = `
SELECT o.message_id FROM outbox_owed w JOIN outbox o USING (key) WHERE o.stream = $1
UNION ALL
SELECT o.message_id FROM outbox_published p CROSS JOIN LATERAL unnest(p.keys) AS e(k) JOIN outbox o ON o.key = e.k WHERE p.stream = $1 AND p.stream_created = $3 AND p.last_sequence > $2`
)

// ahead finds messages past all that the outbox knows of: of a stream on which all are ours.
func (v *verifier) ahead(ctx context.Context, s Stream) error {
	var known int64
	if err := v.pool.QueryRow(ctx, knownUpTo, s.Name, s.Created).Scan(&known); err != nil {
		return err
	}
	from := max(uint64(known)+1, s.FirstSeq)
	if from > s.LastSeq {
		return nil
	}
	tail := map[string]event.Message{}
	if err := v.broker.Read(ctx, s.Name, from, s.LastSeq, func(_ context.Context, batch []event.Message) error {
		for _, m := range batch {
			if v.Tenant == "" || event.TenantOf(m.Subject) == v.Tenant {
				m.Body = nil
				tail[m.ID] = m
			}
		}
		return nil
	}); err != nil {
		return err
	}
	if err := v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := tx.Query(ctx, knownIDs, s.Name, known, s.Created)
		if err != nil {
			return err
		}
		var id string
		if _, err := pgx.ForEachRow(rows, []any{&id}, func() error { delete(tail, id); return nil }); err != nil || len(tail) == 0 {
			return err
		}
		// Through all of the outbox, which is only for what nobody would expect.
		if rows, err = tx.Query(ctx, ownIDs, s.Name, slices.Collect(maps.Keys(tail))); err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, []any{&id}, func() error { delete(tail, id); return nil })
		return err
	}); err != nil {
		return err
	}
	unknown := make([]event.Message, 0, len(tail))
	for _, m := range tail {
		unknown = append(unknown, m)
	}
	slices.SortFunc(unknown, func(a, b event.Message) int { return int(int64(a.Sequence) - int64(b.Sequence)) })
	for _, m := range unknown {
		v.found(Finding{Kind: Ahead, TenantID: event.TenantOf(m.Subject), Stream: s.Name, Sequence: m.Sequence, MessageID: m.ID,
			Says:   fmt.Sprintf("%s %d, stored %s: a message of ours that this database never wrote", s.Name, m.Sequence, m.StoredAt.UTC().Format(time.RFC3339)),
			Remedy: "the database was restored from an older dump: replay the role changes since then (deploy/RUNBOOK.md)"})
	}
	return nil
}
