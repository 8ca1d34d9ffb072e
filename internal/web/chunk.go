package web

import "errors"

// chunkBytes bounds what is decoded, and in one transaction, at a time, beside the number of rows: whatever is sent, an
// import needs no more memory than two chunks.
const chunkBytes = 4 << 20

// chunk is rows of an import that are taken at once.
type chunk[T any] struct {
	rows    []T   // that could be read
	numbers []int // of their lines
	refused []ImportLine
	lines   int   // that were read for it
	end     error // why nothing follows; nil when something may
}

// fill reads and decodes up to so many rows.
func (c *chunk[T]) fill(from *lines, decode func([]byte) (T, error), most int) {
	for bytes := 0; c.lines < most && bytes < chunkBytes; {
		line, err := from.next()
		switch {
		case errors.Is(err, errLineTooLong):
			c.refused = append(c.refused, ImportLine{Line: from.number, Problem: err.Error()})
		case err != nil:
			c.end = err
			return
		default:
			bytes += len(line)
			if row, err := decode(line); err != nil {
				c.refused = append(c.refused, refusedRow(from.number, idOf(line), err))
			} else {
				c.rows, c.numbers = append(c.rows, row), append(c.numbers, from.number)
			}
		}
		c.lines++
	}
}

// empty makes room for other rows.
func (c *chunk[T]) empty() {
	clear(c.rows)
	clear(c.refused)
	c.rows, c.numbers, c.refused, c.lines = c.rows[:0], c.numbers[:0], c.refused[:0], 0
}
