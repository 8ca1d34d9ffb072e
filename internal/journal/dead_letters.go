package journal

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
)

// DeadLetter is a message that a consumer can't use, and why.
type DeadLetter struct {
	Consumer    string
	Message     event.Message
	Reason      string // one of event.Reason…
	Detail      string // for the person who looks at it: what is wrong and what to do
	UserID      string // whom event.ReasonOwnerUnknown waits for
	OperationID string // of ours, if the message belongs to one
}

// Headers of a dead letter on its stream; the original's headers and body stay as they were.
const (
	HeaderReason   = deadPrefix + "Reason"
	HeaderDetail   = deadPrefix + "Detail"
	HeaderStream   = deadPrefix + "Stream"
	HeaderSequence = deadPrefix + "Sequence"
	HeaderSubject  = deadPrefix + "Subject"

	deadPrefix = "Handover-Dead-"
)

// States of a dead letter.
const (
	Dead       = "dead"       // waits for somebody
	Retried    = "retried"    // was sent again; nobody has handled it yet
	Resolved   = "resolved"   // sent again it was handled
	Superseded = "superseded" // sent again it was refused for another reason, and is another dead letter now
	Dropped    = "dropped"    // somebody decided that it isn't needed
)

const (
	buriedState = `SELECT state FROM dead_letters WHERE digest = $1 FOR UPDATE`
	// What somebody dropped stays dropped when it is merely delivered again, as by a replay; $13 is that it was retried.
	bury = `
INSERT INTO dead_letters AS d (digest, tenant_id, consumer, reason, detail, user_id, operation_id, stream, stream_sequence, subject, header, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (digest) DO UPDATE SET state = 'dead', tries = d.tries + 1, detail = excluded.detail, outcome = NULL, tasks_moved = NULL,
  superseded_by = NULL, updated_at = clock_timestamp()
WHERE d.state IN ('retried', 'resolved', 'superseded') OR d.state = 'dropped' AND $13
RETURNING key, tries`
	supersede = `
UPDATE dead_letters d SET state = 'superseded', superseded_by = n.key, updated_at = clock_timestamp()
FROM (SELECT key FROM dead_letters WHERE digest = $2) n
WHERE d.key = $1 AND d.key <> n.key AND d.state IN ('dead', 'retried')
RETURNING coalesce(d.operation_id, '')`
)

// Buried is what burying came to.
type Buried struct {
	Entries []Entry      // to offer after the commit
	Fresh   []DeadLetter // that weren't dead before: a redelivered message is the same dead letter
	// Refused is by how many the changes of each of our operations that are dead letters became more, or less.
	Refused map[string]int
}

// Bury keeps the letters and announces them on the dead-letter stream, as part of tx. One that was a retry of a dead
// letter is that one again, or takes its place when it is refused for another reason now.
func Bury(ctx context.Context, tx pgx.Tx, letters []DeadLetter) (Buried, error) {
	done := Buried{Refused: map[string]int{}}
	if len(letters) == 0 {
		return done, nil
	}
	messages := make([]event.Message, len(letters))
	for i, l := range letters {
		messages[i] = l.Message
	}
	retried, err := genuine(ctx, tx, messages)
	if err != nil {
		return done, err
	}
	for i, l := range letters {
		if err := done.bury(ctx, tx, l, retried[i]); err != nil {
			return done, err
		}
	}
	delete(done.Refused, "")
	return done, Append(ctx, tx, done.Entries)
}

func (b *Buried) bury(ctx context.Context, tx pgx.Tx, l DeadLetter, retried int64) error {
	if l.Message.Body == nil {
		l.Message.Body = []byte{} // an empty message is one too
	}
	l.Message.Header = original(l.Message.Header)
	header, err := json.Marshal(l.Message.Header)
	if err != nil {
		return fmt.Errorf("dead letter: header: %w", err)
	}
	digest, tenant := l.Digest(), event.TenantOf(l.Message.Subject)
	var was string
	if err := tx.QueryRow(ctx, buriedState, digest).Scan(&was); err != nil && err != pgx.ErrNoRows {
		return fmt.Errorf("dead letter: %w", err)
	}
	var key int64
	var tries int
	err = tx.QueryRow(ctx, bury, digest, tenant, l.Consumer, l.Reason, l.Detail, null(l.UserID), null(l.OperationID),
		l.Message.Stream, int64(l.Message.Sequence), l.Message.Subject, header, l.Message.Body, retried != 0).Scan(&key, &tries)
	switch {
	case err == pgx.ErrNoRows: // dead already, or dropped
	case err != nil:
		return fmt.Errorf("dead letter: %w", err)
	default:
		if tries == 1 || was == Resolved || was == Superseded {
			b.Refused[l.OperationID]++
		}
		b.Fresh = append(b.Fresh, l)
		b.Entries = append(b.Entries, l.entry(tenant, fmt.Sprintf("dead-%s-%d", hex.EncodeToString(digest[:]), tries)))
	}
	if retried == 0 {
		return nil
	}
	var operation string
	err = tx.QueryRow(ctx, supersede, retried, digest).Scan(&operation)
	switch {
	case err == nil:
		b.Refused[operation]--
	case err != pgx.ErrNoRows: // none: it is the same dead letter
		return fmt.Errorf("dead letter %d: %w", retried, err)
	}
	return nil
}

// Digest is that of consumer, reason and original, not of Detail: what makes a dead letter one, however often it is delivered.
func (l DeadLetter) Digest() [16]byte {
	h := sha256.New()
	for _, part := range []string{l.Consumer, l.Reason, l.Message.Subject, string(l.Message.Body)} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	header := original(l.Message.Header)
	for _, name := range slices.Sorted(maps.Keys(header)) {
		fmt.Fprintf(h, "%q=%q;", name, header[name])
	}
	return [16]byte(h.Sum(nil)[:16])
}

func (l DeadLetter) entry(tenant, id string) Entry {
	header := map[string][]string{}
	for name, values := range l.Message.Header {
		// What is ours to say nobody else says.
		if len(name) < len(deadPrefix) || !strings.EqualFold(name[:len(deadPrefix)], deadPrefix) {
			header[name] = values
		}
	}
	header[HeaderReason] = []string{l.Reason}
	header[HeaderDetail] = []string{oneLine(l.Detail)}
	header[HeaderStream] = []string{l.Message.Stream}
	header[HeaderSequence] = []string{strconv.FormatUint(l.Message.Sequence, 10)}
	header[HeaderSubject] = []string{l.Message.Subject}
	if tenant == "" {
		tenant = "unknown"
	}
	return Entry{Stream: event.StreamDeadLetters, Message: event.Message{
		ID: id, Subject: event.SubjectDead(l.Consumer, tenant), Header: header, Body: l.Message.Body,
	}}
}

const (
	// By tenant, since a sync may bring thousands of users, and locks are few.
	lockUnknown = `SELECT pg_advisory_xact_lock_shared(hashtextextended('handover.users.' || $1, 0))`
	lockKnown   = `SELECT pg_advisory_xact_lock(hashtextextended('handover.users.' || $1, 0))`
)

// BeforeUnknown is called before somebody is found unknown, and BeforeKnown before somebody becomes known: of the two
// transactions one waits for the other, so that either the first finds them, or the second finds the dead letter.
func BeforeUnknown(ctx context.Context, tx pgx.Tx, tenant string) error {
	_, err := tx.Exec(ctx, lockUnknown, tenant)
	return err
}

// BeforeKnown is the other side of [BeforeUnknown].
func BeforeKnown(ctx context.Context, tx pgx.Tx, tenant string) error {
	_, err := tx.Exec(ctx, lockKnown, tenant)
	return err
}

// oneLine makes a text fit for a header of the broker: no line breaks, not endless.
func oneLine(s string) string {
	b := make([]rune, 0, len(s))
	for _, r := range s {
		if r < 0x20 || r == 0x7f {
			r = ' '
		}
		if b = append(b, r); len(b) == 500 {
			break
		}
	}
	return string(b)
}

// original is the header of a message as its publisher gave it, without what PostgreSQL can't keep in a text, NUL and
// broken UTF-8: the broker's own differ between deliveries of one event, and ours says only that it is a retry.
func original(header map[string][]string) map[string][]string {
	clean := func(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�") }
	out := make(map[string][]string, len(header))
	for _, name := range slices.Sorted(maps.Keys(header)) {
		if strings.HasPrefix(name, "Nats-") || name == HeaderRetry {
			continue
		}
		for _, v := range header[name] {
			out[clean(name)] = append(out[clean(name)], clean(v))
		}
	}
	return out
}

func null(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
