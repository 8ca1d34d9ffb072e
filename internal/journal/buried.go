package journal

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const takenGraves = `
SELECT k.n FROM unnest($1::uuid[]) WITH ORDINALITY AS k(digest, n)
WHERE (SELECT d.state FROM dead_letters d WHERE d.digest = k.digest LIMIT 1) IN ('dead', 'dropped')`

// Grave is where a letter would be buried: letters of one digest are one. It is taken when burying it would change
// nothing, since it is dead already or somebody dropped it.
type Grave struct {
	Digest [16]byte
	Taken  bool
}

// Graves are those of letters that aren't buried yet, or are.
func Graves(ctx context.Context, tx pgx.Tx, letters []*DeadLetter) ([]Grave, error) {
	out := make([]Grave, len(letters))
	if len(letters) == 0 {
		return out, nil
	}
	digests := make([][16]byte, len(letters))
	for i, l := range letters {
		digests[i] = l.Digest()
		out[i].Digest = digests[i]
	}
	rows, err := tx.Query(ctx, takenGraves, digests)
	if err != nil {
		return nil, fmt.Errorf("dead letters that there are: %w", err)
	}
	var n int
	_, err = pgx.ForEachRow(rows, []any{&n}, func() error { out[n-1].Taken = true; return nil })
	return out, err
}
