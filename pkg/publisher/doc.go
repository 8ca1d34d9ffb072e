// Package publisher is for the services upstream of Handover, which know when an account changes hands. It tells Handover,
// either now or as part of the service's own database transaction.
//
// The smallest program:
//
//	nc, err := nats.Connect(url, nats.MaxReconnects(-1))
//	…
//	js, err := jetstream.New(nc)
//	…
//	p := publisher.New(js, "//crm.example.com")
//	err = p.Publish(ctx, event.AccountRoleChanged{
//		TenantID: "demo", AccountID: "a-1", Role: "success_manager", NewOwnerID: "u-2",
//		Reason: event.ByAPI, InitiatedBy: "u-9",
//	})
//
// Publish blocks until the stream has the change. A service that dies between its own commit and Publish never tells; one
// that must not lose a change puts it into the same transaction, and lets a relay publish what was committed:
//
//	err = publisher.EnsureTable(ctx, pool) // once; or put publisher.Schema among your migrations
//	…
//	go p.Relay(ctx, pool) // in as many processes as you like
//	…
//	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
//		if _, err := tx.Exec(ctx, `UPDATE accounts SET owner = $1 WHERE id = $2`, "u-2", "a-1"); err != nil {
//			return err
//		}
//		return p.EnqueueTx(ctx, tx, change)
//	})
//
// Give ID when the service has one of its own for what happened: then telling it twice is telling it once, for ever. Give
// PreviousOwnerID only if you know it; else Handover takes the last person who held the role. Give Time when it occurred
// earlier than now. Work on thousands of accounts goes through a Publisher made [WithBulk], so that nobody waits behind it.
//
// Invariant: what Publish returned nil for, and what a transaction with EnqueueTx committed, reaches the stream at least
// once, and Handover counts it once: the broker removes repeats of two minutes, and Handover itself those of all time.
// What was rolled back is never published. The order of publishing means nothing to Handover; Time does.
//
// It fails with an [*Error] that names the changes concerned, as they were to be published: publish those again and
// nothing happens twice. A change that is wrong in itself gives an [*event.Invalid], before anything is published.
package publisher
