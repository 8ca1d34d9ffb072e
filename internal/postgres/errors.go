package postgres

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/puddle/v2"
)

// Retryable tells whether the same transaction can succeed when it is run again at once: a deadlock or a serialization
// failure.
func Retryable(err error) bool {
	switch sqlState(err) {
	case "40001", "40P01":
		return true
	}
	return false
}

// BadData tells whether PostgreSQL refused the data itself (SQLSTATE classes 22 and 23), so that trying again is in vain.
func BadData(err error) bool {
	state := sqlState(err)
	return strings.HasPrefix(state, "22") || strings.HasPrefix(state, "23")
}

// UniqueViolation tells whether err is a violation of the named unique constraint or index.
func UniqueViolation(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "23505" && pg.ConstraintName == constraint
}

// Unavailable tells whether the database could not be reached, was shutting down, or was out of resources: the same
// transaction can succeed later. A wrong password or a missing database is not that. Cancelling is not that either.
func Unavailable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var connect *pgconn.ConnectError
	if state := sqlState(err); state != "" {
		switch state {
		case "57P01", "57P02", "57P03", // shutting down, crashed, starting
			"25P03", // we were silent for too long
			"25006": // read only: a standby, or a primary that has just been demoted
			return true
		}
		if strings.HasPrefix(state, "XX") && errors.As(err, &connect) {
			return true // it can't even begin a session: that is its trouble, such as a full disk, not that of a statement
		}
		return strings.HasPrefix(state, "08") || strings.HasPrefix(state, "53")
	}
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || pgconn.Timeout(err) || pgconn.SafeToRetry(err) ||
		errors.Is(err, puddle.ErrClosedPool) || errors.Is(err, pgconn.ErrConnClosed) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// sqlState is the SQLSTATE that the server sent, or "".
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
