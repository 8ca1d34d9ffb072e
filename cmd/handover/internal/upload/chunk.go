package upload

import (
	"cmp"
	"iter"
	"slices"

	"handover.io/cmd/handover/internal/tabular"
)

// Row says where a row came from.
type Row struct {
	Line int
	ID   string
	// Key is the same for rows that the service takes faster together.
	Key string
}

// Chunk is rows that are sent together.
type Chunk struct {
	Rows []Row
	Body []byte // a line for each
	ends []int  // of the lines
}

// empty is the room of the chunk.
func (c Chunk) empty() Chunk { return Chunk{c.Rows[:0], c.Body[:0], c.ends[:0]} }

// Lines are the lines of the body, without their ends.
func (c Chunk) Lines() iter.Seq2[int, []byte] {
	return func(yield func(int, []byte) bool) {
		begin := 0
		for i, end := range c.ends {
			if !yield(i, c.Body[begin:end-1]) {
				return
			}
			begin = end
		}
	}
}

// without is the chunk without those of its rows.
func (c Chunk) without(rows map[int]tabular.Problem) Chunk {
	var rest Chunk
	for i, line := range c.Lines() {
		if _, out := rows[i]; !out {
			rest.add(c.Rows[i], append(append(rest.Body, line...), '\n'))
		}
	}
	return rest
}

// add adds a row, whose line is what the body has more.
func (c *Chunk) add(row Row, body []byte) {
	c.Rows, c.Body, c.ends = append(c.Rows, row), body, append(c.ends, len(body))
}

// span is the first and the last line of the file that the rows came from.
func (c Chunk) span() (first, last int) {
	for _, row := range c.Rows {
		if first == 0 || row.Line < first {
			first = row.Line
		}
		last = max(last, row.Line)
	}
	return first, last
}

// gathered is the chunk with rows of one key next to each other, in the room of another chunk, and the room that is left.
// Rows of one id keep their order: all go where the first of them goes.
func (c Chunk) gathered(room Chunk) (gathered, left Chunk) {
	first, order, keys := make(map[string]int, len(c.Rows)), make([]int, len(c.Rows)), make([]string, len(c.Rows))
	inOrder := true
	for i, row := range c.Rows {
		order[i], keys[i] = i, row.Key
		if before, again := first[row.ID]; again {
			keys[i] = keys[before]
		}
		first[row.ID] = i
		inOrder = inOrder && (i == 0 || keys[i-1] <= keys[i])
	}
	if inOrder {
		return c, room
	}
	slices.SortFunc(order, func(i, j int) int {
		if d := cmp.Compare(keys[i], keys[j]); d != 0 {
			return d
		}
		return i - j
	})
	gathered = room.empty()
	for _, i := range order {
		begin := 0
		if i > 0 {
			begin = c.ends[i-1]
		}
		gathered.add(c.Rows[i], append(gathered.Body, c.Body[begin:c.ends[i]]...))
	}
	return gathered, c
}
