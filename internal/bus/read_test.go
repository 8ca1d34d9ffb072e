package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"handover.io/internal/bus"
	"handover.io/internal/testkit"
	"handover.io/pkg/event"
)

// readAll are the bodies that a range holds, and how the batches were cut.
func readAll(t *testing.T, b *bus.Bus, r bus.Range) (bodies []string, sizes []int) {
	t.Helper()
	_, err := b.Read(t.Context(), event.StreamRoleChanges, r, func(_ context.Context, batch []event.Message, _ uint64) error {
		sizes = append(sizes, len(batch))
		for _, m := range batch {
			bodies = append(bodies, string(m.Body))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return bodies, sizes
}

func TestReadTakesTheRangeInOrder(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	publish(t, b, messages(20, event.SubjectRoleChanged, "live"))
	publish(t, b, messages(20, event.SubjectRoleBulk, "bulk"))
	var at []time.Time
	if _, err := b.Read(t.Context(), event.StreamRoleChanges, bus.Range{}, func(_ context.Context, batch []event.Message, _ uint64) error {
		for _, m := range batch {
			at = append(at, m.StoredAt)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	names := func(prefix string, from, to int) (out []string) {
		for i := from; i <= to; i++ {
			out = append(out, fmt.Sprintf("%s-%d", prefix, i))
		}
		return out
	}
	all := append(names("live", 0, 19), names("bulk", 0, 19)...)
	var since, until int // messages can share a time
	for i := range at {
		if at[i].Before(at[10]) {
			since = i + 1
		}
		if at[i].Before(at[30]) {
			until = i + 1
		}
	}
	for name, c := range map[string]struct {
		of    bus.Range
		want  []string
		sizes []int
	}{
		"all":             {bus.Range{}, all, []int{40}},
		"in batches":      {bus.Range{Batch: 16}, all, []int{16, 16, 8}},
		"sequences":       {bus.Range{FromSeq: 3, ToSeq: 5}, all[2:5], []int{3}},
		"to a sequence":   {bus.Range{ToSeq: 2, Batch: 1}, all[:2], []int{1, 1}},
		"a subject":       {bus.Range{Subjects: []string{event.SubjectRoleBulk("*")}, ToSeq: 22}, all[20:22], []int{2}},
		"none of it":      {bus.Range{Subjects: []string{event.SubjectRoleBulk("other")}}, nil, nil},
		"past the end":    {bus.Range{FromSeq: 41}, nil, nil},
		"times":           {bus.Range{Since: at[10], Until: at[30]}, all[since:until], []int{until - since}},
		"from both":       {bus.Range{FromSeq: 2, Since: at[10]}, all[since:], []int{40 - since}},
		"of the future":   {bus.Range{Since: time.Now().Add(time.Hour)}, nil, nil},
		"before all time": {bus.Range{Until: at[0]}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, sizes := readAll(t, b, c.of)
			if diff := cmp.Diff([]any{c.want, c.sizes}, []any{got, sizes}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadEndsWithTheErrorOfItsHandler(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	publish(t, b, messages(3, event.SubjectRoleChanged, "m"))
	enough, calls := errors.New("enough"), 0
	_, err := b.Read(t.Context(), event.StreamRoleChanges, bus.Range{Batch: 1}, func(context.Context, []event.Message, uint64) error {
		calls++
		return enough
	})
	if !errors.Is(err, enough) || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// A reader leaves nothing at the broker, which has room for so many only.
func TestReadersAreGoneWhenTheyEnd(t *testing.T) {
	t.Parallel()
	b := testkit.NATS(t)
	if _, err := b.Publish(t.Context(), []event.Message{{ID: "1", Subject: event.SubjectTaskReassigned("acme"), Body: []byte("{}")}}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := b.Read(t.Context(), event.StreamTaskReassignments, bus.Range{}, func(context.Context, []event.Message, uint64) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := bus.Consumers(t.Context(), b, event.StreamTaskReassignments); err != nil || n != 0 {
		t.Errorf("%d consumers are left, %v", n, err)
	}
}
