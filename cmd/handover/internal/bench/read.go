package bench

import (
	"cmp"
	"context"
	"slices"
	"time"

	"handover.io/internal/roster"
)

// pageSize is that of the pages that the mix read reads.
const pageSize = 50

// runRead reads the first page of one person's open tasks over and over.
func (b *bench) runRead(ctx context.Context) ([]Result, error) {
	d := b.tenTenants()
	t := templateOf(d, false)
	if err := b.need(ctx, t); err != nil {
		return nil, err
	}
	want := d.firstPage(0, pageSize)
	var r Result
	err := b.with(ctx, t, nil, func(w *world) error {
		took := make([]time.Duration, b.changes)
		var v verdict
		query := roster.TaskQuery{AssigneeID: userID(0), PageQuery: roster.PageQuery{Limit: pageSize}}
		read := func() (time.Duration, error) {
			began := time.Now()
			page, err := w.Roster.Tasks(ctx, tenantID(0), query)
			spent := time.Since(began)
			var got []string
			for _, t := range page.Items {
				got = append(got, t.ID)
			}
			if err == nil && !slices.Equal(got, want) {
				v.differs("the first page of %s of %s is %v, must be %v", userID(0), tenantID(0), got, want)
			}
			return spent, err
		}
		if _, err := read(); err != nil { // the statement is prepared, the pages are read
			return err
		}
		spent, err := w.measured(ctx, func() error {
			for i := range took {
				var err error
				if took[i], err = read(); err != nil {
					return err
				}
			}
			return nil
		})
		r = newResult(Handover, "read", b.changes, spent, v)
		r.P50, r.P99 = percentile(took, .5), percentile(took, .99)
		return err
	})
	return []Result{r}, err
}

// firstPage are the first of the open tasks, by account and id, that a person of the first tenant has at first.
func (d dataset) firstPage(user, n int) []string {
	type task struct{ account, id string }
	var tasks []task
	for row := range d.rows() {
		account := d.accountOf(row)
		if _, open := d.kind(row); open && d.tenant(account) == 0 && d.owner(account) == user {
			tasks = append(tasks, task{accountID(account), taskID(row)})
		}
	}
	slices.SortFunc(tasks, func(a, b task) int { return cmp.Or(cmp.Compare(a.account, b.account), cmp.Compare(a.id, b.id)) })
	ids := make([]string, min(n, len(tasks)))
	for i := range ids {
		ids[i] = tasks[i].id
	}
	return ids
}
