// Package soak holds the tests of the whole under faults: the soak, which drives random role changes over the running
// program, each part a process of its own, while everything they stand on is killed, cut, slowed and filled; and two
// drills, a broker of three losing its leader and a PostgreSQL failing over to its standby.
//
// What breaks, when, and for how long is drawn from a seed before anything starts (SOAK_SEED; printed). The schedule is
// a matter of timers, and so are the pauses of the clients: they are the load and the faults themselves, never a way of
// waiting for something to have happened.
//
// What is judged stands in check_test.go: when the faults have ended and all has come to rest, nothing is lost and
// nothing happened twice. The oracles are what others can see: rows, streams, mails, answers, metrics.
//
//	go test ./test/soak               a short form of the soak, and the drills: a minute or two
//	make soak                         30 minutes; SOAK_TIME, SOAK_SEED, SOAK_REPORT=file.json, SOAK_DIR to keep the logs
//	make drills                       the drills alone, with their measurements shown
package soak
