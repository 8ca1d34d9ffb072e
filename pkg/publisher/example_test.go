package publisher_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/pkg/event"
	"handover.io/pkg/publisher"
)

func ExamplePublisher_Publish() {
	t := &exampleT{}
	defer t.end()
	_, js := broker(t) // in your service: jetstream.New(nc)

	p := publisher.New(js, "//crm.example.com")
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	err := p.Publish(ctx, event.AccountRoleChanged{
		ID:       "audit-4711", // of your own record of it; left out, it gets a new one
		TenantID: "demo", AccountID: "a-1", Role: "success_manager", NewOwnerID: "u-2", Reason: event.ByAPI, InitiatedBy: "u-9",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, c := range arrived(t, js) {
		fmt.Println(c.Source, c.ID, c.AccountID, c.Role, "goes to", c.NewOwnerID)
	}
	// Output: //crm.example.com audit-4711 a-1 success_manager goes to u-2
}

func ExamplePublisher_Publish_invalid() {
	t := &exampleT{}
	defer t.end()
	_, js := broker(t)

	p := publisher.New(js, "//crm.example.com")
	err := p.Publish(context.Background(), event.AccountRoleChanged{
		TenantID: "demo", AccountID: "a-1", NewOwnerID: "u-2", Reason: event.ByAPI, InitiatedBy: "u-9",
	})
	var invalid *event.Invalid
	fmt.Println(errors.As(err, &invalid))
	fmt.Println(err)
	// Output:
	// true
	// role change 0 (account a-1): invalid: data.role: is required with the reason "api"
}

func ExamplePublisher_EnqueueTx() {
	t := &exampleT{}
	defer t.end()
	_, js := broker(t)
	pool := database(t) // in your service: your own pool, and publisher.EnsureTable or publisher.Schema

	p := publisher.New(js, "//crm.example.com")
	ctx := context.Background()
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// … your own UPDATE of the account …
		return p.EnqueueTx(ctx, tx, event.AccountRoleChanged{
			TenantID: "demo", AccountID: "a-1", Role: "success_manager", NewOwnerID: "u-2", Reason: event.ByAPI, InitiatedBy: "u-9",
		})
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("on the stream:", len(arrived(t, js)))
	n, err := p.RelayOnce(ctx, pool) // in your service: go p.Relay(ctx, pool)
	fmt.Println("published:", n, err)
	fmt.Println("on the stream:", len(arrived(t, js)))
	// Output:
	// on the stream: 0
	// published: 1 <nil>
	// on the stream: 1
}
