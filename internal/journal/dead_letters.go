package journal

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
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
	HeaderReason   = "Handover-Dead-Reason"
	HeaderDetail   = "Handover-Dead-Detail"
	HeaderStream   = "Handover-Dead-Stream"
	HeaderSequence = "Handover-Dead-Sequence"
	HeaderSubject  = "Handover-Dead-Subject"
)

const bury = `
INSERT INTO dead_letters AS d (digest, tenant_id, consumer, reason, detail, user_id, operation_id, stream, stream_sequence, subject, header, body)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (digest) DO UPDATE SET state = 'dead', tries = d.tries + 1, updated_at = clock_timestamp() WHERE d.state <> 'dead'
RETURNING key, tries`

// Bury keeps the letters and announces them on the dead-letter stream, as part of tx. It returns the outbox entries to
// offer after the commit and those letters that weren't buried before: a redelivered message is the same dead letter.
func Bury(ctx context.Context, tx pgx.Tx, letters []DeadLetter) ([]Entry, []DeadLetter, error) {
	var entries []Entry
	var fresh []DeadLetter
	for _, l := range letters {
		if l.Message.Body == nil {
			l.Message.Body = []byte{} // an empty message is one too
		}
		header, err := json.Marshal(storable(l.Message.Header))
		if err != nil {
			return nil, nil, fmt.Errorf("dead letter: header: %w", err)
		}
		digest, tenant := l.digest(), event.TenantOf(l.Message.Subject)
		var key int64
		var tries int
		err = tx.QueryRow(ctx, bury, digest, tenant, l.Consumer, l.Reason, l.Detail, null(l.UserID), null(l.OperationID),
			l.Message.Stream, int64(l.Message.Sequence), l.Message.Subject, header, l.Message.Body).Scan(&key, &tries)
		if err == pgx.ErrNoRows {
			continue
		}
		if err != nil {
			return nil, nil, fmt.Errorf("dead letter: %w", err)
		}
		fresh = append(fresh, l)
		entries = append(entries, l.entry(tenant, fmt.Sprintf("dead-%s-%d", hex.EncodeToString(digest[:]), tries)))
	}
	return entries, fresh, Append(ctx, tx, entries)
}

func (l DeadLetter) digest() [16]byte {
	h := sha256.New()
	for _, part := range []string{l.Consumer, l.Reason, l.Message.Subject, string(l.Message.Body)} {
		h.Write(binary.AppendUvarint(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	names := make([]string, 0, len(l.Message.Header))
	for name := range l.Message.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		// The broker's own headers differ between deliveries of one event under two message ids.
		if len(name) > 5 && name[:5] == "Nats-" {
			continue
		}
		fmt.Fprintf(h, "%q=%q;", name, l.Message.Header[name])
	}
	return [16]byte(h.Sum(nil)[:16])
}

func (l DeadLetter) entry(tenant, id string) Entry {
	header := map[string][]string{
		HeaderReason:   {l.Reason},
		HeaderDetail:   {oneLine(l.Detail)},
		HeaderStream:   {l.Message.Stream},
		HeaderSequence: {strconv.FormatUint(l.Message.Sequence, 10)},
		HeaderSubject:  {l.Message.Subject},
	}
	for name, values := range l.Message.Header {
		if len(name) > 5 && name[:5] == "Nats-" {
			continue
		}
		header[name] = values
	}
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

const takeWaiting = `
UPDATE dead_letters SET state = 'retried', updated_at = clock_timestamp()
WHERE tenant_id = $1 AND user_id = ANY($2) AND state = 'dead' AND reason = 'owner_unknown'
RETURNING key, tries, stream, subject, header, body`

// RetryWaiting delivers again what was waiting for these users, as part of tx: into the outbox, under new message ids,
// since the broker silently drops an id that it has seen.
func RetryWaiting(ctx context.Context, tx pgx.Tx, tenant string, users []string) ([]Entry, error) {
	rows, err := tx.Query(ctx, takeWaiting, tenant, users)
	if err != nil {
		return nil, fmt.Errorf("dead letters waiting for users: %w", err)
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Entry, error) {
		var e Entry
		var key int64
		var tries int
		err := row.Scan(&key, &tries, &e.Stream, &e.Subject, &e.Header, &e.Body)
		e.ID = fmt.Sprintf("retry-%d-%d", key, tries)
		for name := range e.Header {
			if len(name) > 5 && name[:5] == "Nats-" {
				delete(e.Header, name)
			}
		}
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("dead letters waiting for users: %w", err)
	}
	return entries, Append(ctx, tx, entries)
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

// storable is the header without what PostgreSQL can't keep in a text: NUL and broken UTF-8.
func storable(header map[string][]string) map[string][]string {
	clean := func(s string) string { return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "�") }
	out := make(map[string][]string, len(header))
	for name, values := range header {
		for _, v := range values {
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
