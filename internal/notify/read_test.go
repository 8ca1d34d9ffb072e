package notify

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestListPagesThroughATenantsNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.exec(`INSERT INTO tenants (tenant_id) VALUES ('other')`)
	w.exec(`INSERT INTO notices (tenant_id, recipient_id, account_id, opened_at, close_at, next_try_at) VALUES ('other', 'x', 'y', now(), now(), now())`)
	for i := range 7 {
		w.handle(w.move(fmt.Sprintf("a%d", i%4), "maya", []string{"ada", "lee"}[i%2], fmt.Sprintf("t%d", i)))
	}
	reader := New(w.pool, Config{})
	seen := 0
	for cursor, pages := "", 0; pages == 0 || cursor != ""; pages++ {
		page, next, err := reader.List(context.Background(), "demo", Filter{Cursor: cursor, Limit: 3})
		if err != nil {
			t.Fatal(err)
		}
		seen += len(page)
		for _, n := range page {
			if n.TenantID != "demo" || n.State != Open || n.Tasks == 0 || n.CloseAt.Sub(n.OpenedAt) != DefaultWindow {
				t.Errorf("%+v", n)
			}
		}
		cursor = next
	}
	if seen != 4 {
		t.Errorf("%d notices seen, want 4", seen)
	}
	for filter, want := range map[Filter]int{
		{RecipientID: "ada"}: 2, {RecipientID: "lee", AccountID: "a1"}: 1, {AccountID: "a9"}: 0, {State: Sent}: 0, {State: Open}: 4,
	} {
		page, next, err := reader.List(context.Background(), "demo", filter)
		if err != nil || len(page) != want || next != "" {
			t.Errorf("%+v: %d notices, next %q, %v; want %d", filter, len(page), next, err, want)
		}
	}
	for _, filter := range []Filter{{Cursor: "x"}, {Cursor: "-1"}, {Limit: -1}, {Limit: 1001}} {
		var invalid *InvalidFilterError
		if _, _, err := reader.List(context.Background(), "demo", filter); !errors.As(err, &invalid) {
			t.Errorf("%+v: %v", filter, err)
		}
	}
}

func TestCountsAndMetricsSayHowThingsStand(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	w.Notifier = New(w.pool, Config{Sender: w.post, Registerer: registry})
	w.handle(w.move("acme", "maya", "ada", "t1"))
	w.elapse(DefaultWindow)
	w.post.answer = refuse(Unknown, 0)
	w.run(0)
	w.handle(w.move("acme", "maya", "ada", "t2"), w.move("globex", "maya", "lee", "t3"))
	w.exec(`UPDATE notices SET close_at = close_at - interval '20 minutes', opened_at = opened_at - interval '20 minutes' WHERE recipient_id = 'lee'`)
	c, err := w.Counts(context.Background())
	if err != nil || c.Open != 1 || c.Due != 1 || c.Ambiguous != 1 || time.Since(c.OldestDue) < 4*time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
	w.gauge(context.Background())
	for got, want := range map[string]float64{
		"finished": testutil.ToFloat64(w.metrics.finished.WithLabelValues(Ambiguous)), "open": testutil.ToFloat64(w.metrics.windows.WithLabelValues("open")),
		"told": testutil.ToFloat64(w.metrics.moves.WithLabelValues("told")) - 2, "paused": testutil.ToFloat64(w.metrics.paused),
	} {
		if want != 1 {
			t.Errorf("%s is %v", got, want)
		}
	}
	if problems, err := testutil.GatherAndLint(registry); err != nil || len(problems) != 0 {
		t.Errorf("metrics: %v %v", problems, err)
	}
}
