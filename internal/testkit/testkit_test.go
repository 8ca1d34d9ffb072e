package testkit

import (
	"context"
	"testing"
	"time"
)

func TestEveryTestHasADatabaseOfItsOwnWithTheSchema(t *testing.T) {
	t.Parallel()
	for range 3 {
		start := time.Now()
		pool := Postgres(t)
		t.Logf("%v", time.Since(start))
		var n int
		if err := pool.QueryRow(context.Background(), `SELECT count(*) FROM tenants`).Scan(&n); err != nil || n != 0 {
			t.Fatalf("got %d tenants (%v), want none", n, err)
		}
		if _, err := pool.Exec(context.Background(), `INSERT INTO tenants (tenant_id) VALUES ('demo')`); err != nil {
			t.Fatal(err)
		}
	}
}
