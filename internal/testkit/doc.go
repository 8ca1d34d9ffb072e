// Package testkit is for tests only: what they need of the outside world, each test with its own.
//
//   - [Postgres], [NewDatabase]: a database of its own, with the schema, cloned from a template in some ten milliseconds.
//   - [NATS], [NATSServer]: a broker of its own, in this process.
//   - [SMTP]: a mail server that can be told to fail in every way that matters.
//   - [Exec], [One], [All]: statements and queries that fail the test.
//   - [Eventually], [Golden], [Logger].
//
// Invariant: tests share nothing they can see, so all of them can run in parallel, in any number of processes. Nothing is
// ever skipped: what is missing fails the test with one line that says what to install.
//
// The PostgreSQL server is the one of HANDOVER_TEST_DATABASE_URL (a superuser's or a database creator's), or else one
// private server for all test processes of a user, started by the first and left running for the next run, without
// durability. It lives in handover-test-postgres-<uid> in the folder for temporary files; removing that folder stops it
// within a minute.
package testkit
