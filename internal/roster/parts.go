package roster

import (
	"cmp"
	"hash/maphash"
	"slices"

	"handover.io/internal/postgres"
)

const (
	// syncParts is how many transactions a sync of many tasks uses at a time: while one waits for the disk or for us,
	// another has the database work.
	syncParts = 2
	// partRows is from where it is worth it.
	partRows = 500
)

var partSeed = maphash.MakeSeed()

// apart divides rows into parts that hardly meet: by the accounts that they name, so that they lock different heads. Rows
// of one id are in the same part, in their rounds.
func apart(rows []TaskSaid, rounds [][]int) [][][]int {
	if len(rows) < syncParts*partRows {
		return [][][]int{rounds}
	}
	parts := make([][][]int, syncParts)
	for n := range parts {
		parts[n] = make([][]int, len(rounds))
	}
	of := map[string]int{} // ids that come again
	for n := len(rounds) - 1; n >= 0; n-- {
		for _, i := range rounds[n] {
			row := &rows[i]
			part, again := of[row.ID]
			if !again {
				part = int(maphash.String(partSeed, cmp.Or(row.AccountID.Value, row.ID)) % syncParts)
			}
			if n > 0 {
				of[row.ID] = part
			}
			parts[part][n] = append(parts[part][n], i)
		}
	}
	return slices.DeleteFunc(parts, func(rounds [][]int) bool { return len(rounds[0]) == 0 })
}

// room is what a part of a sync needs for its rows, and the next one can use again.
type room struct {
	changes []taskChange
	rows    postgres.Rows
}

func (r *room) of(n int) []taskChange {
	clear(r.changes)
	r.changes = slices.Grow(r.changes[:0], n)[:n]
	return r.changes
}

func (r *Roster) takeRoom() *room {
	select {
	case free := <-r.rooms:
		return free
	default:
		return new(room)
	}
}

// leaveRoom leaves nothing of the rows in it.
func (r *Roster) leaveRoom(left *room) {
	clear(left.changes)
	select {
	case r.rooms <- left:
	default:
	}
}
