package postgres

import (
	"bytes"
	"context"
	"encoding/binary"
	"time"

	"github.com/jackc/pgx/v5"
)

// Rows gathers rows for COPY in its binary format, which costs the server, and us, less than anything else. Every row is
// begun with Row, and then has its columns in their order. After a Copy, which empties it, the room is there for other rows.
type Rows struct{ buf []byte }

// binarySignature is followed by no flags and no header extension.
const binarySignature = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// Row begins a row of so many columns.
func (r *Rows) Row(columns int) {
	if len(r.buf) == 0 {
		r.buf = append(r.buf, binarySignature...)
	}
	r.buf = binary.BigEndian.AppendUint16(r.buf, uint16(columns))
}

// Text is a column of type text.
func (r *Rows) Text(s string) {
	r.buf = binary.BigEndian.AppendUint32(r.buf, uint32(len(s)))
	r.buf = append(r.buf, s...)
}

// Null is a column of any type without a value.
func (r *Rows) Null() { r.buf = binary.BigEndian.AppendUint32(r.buf, 0xffffffff) }

// Bigint is a column of type bigint.
func (r *Rows) Bigint(n int64) {
	r.buf = binary.BigEndian.AppendUint32(r.buf, 8)
	r.buf = binary.BigEndian.AppendUint64(r.buf, uint64(n))
}

// epoch is where PostgreSQL's times begin.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// Time is a column of type timestamptz.
func (r *Rows) Time(t time.Time) { r.Bigint(t.UnixMicro() - epoch) }

// Copy sends the rows by a COPY … FROM STDIN (FORMAT binary), whose columns must have the types of theirs. Without
// rows it does nothing.
func (r *Rows) Copy(ctx context.Context, tx pgx.Tx, sql string) error {
	if len(r.buf) == 0 {
		return nil
	}
	r.buf = binary.BigEndian.AppendUint16(r.buf, 0xffff)
	_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(r.buf), sql)
	r.buf = r.buf[:0]
	return err
}
