package web

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"handover.io/internal/roster"
)

// TestAnImportIsTakenInChunks checks what keeps its memory flat: whatever is sent, no more than a chunk is held at a time.
func TestAnImportIsTakenInChunks(t *testing.T) {
	t.Parallel()
	const chunkRows = 1000
	for name, c := range map[string]struct{ lines, width, rows, bytes int }{
		"short lines": {25_000, 10, chunkRows, chunkBytes},
		"long lines":  {50, lineLimit - 1, chunkRows, chunkBytes + lineLimit},
		"wrong lines": {25_000, 0, 0, chunkBytes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			taken, room := 0, 0
			w := httptest.NewRecorder()
			im := importing[string]{
				ctx: t.Context(), chunkRows: chunkRows, out: &lineWriter{w: w, conn: http.NewResponseController(w)},
				decode: func(line []byte) (string, error) {
					if string(line) == "-" {
						return "", &roster.Invalid{Remedy: "is wrong"}
					}
					return string(line), nil
				},
				sync: func(_ context.Context, rows []string) ([]roster.RowResult, error) {
					size := 0
					for _, r := range rows {
						size += len(r)
					}
					if len(rows) > c.rows || size > c.bytes {
						return nil, fmt.Errorf("%d rows of %d bytes at once", len(rows), size)
					}
					taken, room = taken+len(rows), max(room, cap(rows))
					return slices.Repeat([]roster.RowResult{{Outcome: roster.Unchanged}}, len(rows)), nil
				},
			}
			line := strings.Repeat("x", c.width) + "\n"
			wanted := c.lines
			if c.width == 0 {
				line, wanted = "-\n", 0
			}
			readers := make([]io.Reader, c.lines)
			for i := range readers {
				readers[i] = strings.NewReader(line)
			}
			if err := im.takeAll(newLines(io.MultiReader(readers...)), nil); err != nil {
				t.Fatal(err)
			}
			if taken != wanted || im.sum.Rows != c.lines || room > 2*chunkRows {
				t.Errorf("%d taken, %+v, room for %d", taken, im.sum, room)
			}
		})
	}
}
