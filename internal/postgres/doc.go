// Package postgres is everything about PostgreSQL that is not about the domain: the pool, the transaction, the
// migrations, what an error means, and the private server of those who have none.
//
// Invariant: every connection works in UTC and names itself; every transaction is READ COMMITTED and is either committed
// or has left nothing behind; a schema is only ever changed by the embedded migrations, under a lock, in order.
//
// It fails with PostgreSQL's own errors, wrapped, and says which kind they are: worth trying again later ([Unavailable]),
// at once ([Retryable], which [InTx] does by itself), or not at all ([BadData]). The private server ([StartServer]) is a
// child process that outlives a crash of ours by no more than its own shutdown; whatever a crash leaves behind (a running
// server, a stale lock file, half an initdb) is put in order by the next start.
package postgres
