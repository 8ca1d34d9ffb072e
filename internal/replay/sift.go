package replay

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Judge is what delivering messages would come to, without locking or writing anything.
type Judge func(ctx context.Context, tx pgx.Tx, messages []event.Message) ([]roster.Judged, error)

// sift keeps of what it is given what would have an effect: changes that are missing, and dead letters that are new. The
// rest it counts.
type sift struct {
	*Replay
	Selection
	// What it has kept: it comes again on the stream as known, or as refused.
	missing map[[16]byte][16]byte // content by digest
	graves  map[[16]byte]bool
}

func (r *Replay) sift(s Selection) *sift {
	return &sift{Replay: r, Selection: s, missing: map[[16]byte][16]byte{}, graves: map[[16]byte]bool{}}
}

// take judges a batch in one read-only transaction.
func (s *sift) take(ctx context.Context, batch []event.Message) (keep []roster.Judged, counts Counts, err error) {
	err = s.look(ctx, func(tx pgx.Tx) error {
		judged, err := s.Judge(ctx, tx, batch)
		if err != nil {
			return err
		}
		var selected []roster.Judged
		var letters []*journal.DeadLetter
		for _, j := range judged {
			if !s.has(j) {
				continue
			}
			s.again(&j)
			selected = append(selected, j)
			if j.Refused != nil {
				letters = append(letters, j.Refused)
			}
		}
		graves, err := journal.Graves(ctx, tx, letters)
		if err != nil {
			return err
		}
		keep, counts = s.count(selected, graves)
		return nil
	})
	return keep, counts, err
}

// again judges by what has been kept: that isn't recorded yet, but will be.
func (s *sift) again(j *roster.Judged) {
	if !j.Missing() {
		return
	}
	switch content, kept := s.missing[j.Digest]; {
	case !kept:
		s.missing[j.Digest] = j.Content
	case content == j.Content:
		j.Known = true
	default:
		j.Refused = &journal.DeadLetter{
			Consumer: event.ConsumerOf(j.Message.Subject), Message: j.Message, Reason: event.ReasonIDReused,
			Detail: "an event of this source and id comes before it and says something else",
		}
	}
}

func (s *sift) count(selected []roster.Judged, graves []journal.Grave) (keep []roster.Judged, counts Counts) {
	counts = Counts{Messages: len(selected), DeadLetters: map[string]int{}}
	for _, j := range selected {
		if j.Refused == nil {
			if j.Known {
				counts.Known++
			} else {
				counts.Missing++
				keep = append(keep, j)
			}
			continue
		}
		grave := graves[0]
		graves = graves[1:]
		if grave.Taken || s.graves[grave.Digest] {
			counts.DeadAlready++
			continue
		}
		s.graves[grave.Digest] = true
		counts.DeadLetters[j.Refused.Reason]++
		keep = append(keep, j)
	}
	return keep, counts
}

// look runs do in a snapshot of the database that can't be written.
func (r *Replay) look(ctx context.Context, do func(tx pgx.Tx) error) error {
	if err := pgx.BeginTxFunc(ctx, r.Pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, do); err != nil {
		return fmt.Errorf("look at the database: %w", err)
	}
	return nil
}
