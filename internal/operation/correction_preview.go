package operation

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/handover"
	"handover.io/internal/roster"
)

// CorrectionPreview is what setting a policy right does to accounts and tasks as they are now.
type CorrectionPreview struct {
	Accounts  int64            // on which role changes are judged anew
	Changes   int64            // role changes that are
	TaskCount int64            // open tasks that go to somebody else
	TakenBack int64            // of these, tasks that should never have been with who has them
	Kept      int64            // open tasks that should never have been with who has them, and stay
	Tasks     []TaskCorrection // the first 100 of those that go, by account and id
	KeptTasks []TaskCorrection // the first 100 of those that stay; To is who would get them back
	MailCount int64
	Mails     []Mailed // the first 100 of those who get an e-mail, by id
	// LeftBehind is how many of the tasks that go come to people who have left, and whose departure doesn't hand them on.
	LeftBehind int64
	// Partial tells that there are so many accounts that only the first ones could be counted in time.
	Partial bool
}

// TaskCorrection is a task that a policy set right gives to somebody else, or would.
type TaskCorrection struct {
	ID        string `json:"id"`
	Title     string `json:"title"`
	AccountID string `json:"account_id"`
	From      string `json:"from"`
	To        string `json:"to"`
	TakenBack bool   `json:"taken_back"`
}

// Mailed is somebody who gets an e-mail, and about how many tasks.
type Mailed struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	Received  int64  `json:"received"`
	TakenBack int64  `json:"taken_back"`
}

const (
	// listed is how many a preview lists.
	listed = 100
	// previewFor is how long a preview counts: whoever asks is waiting for the answer.
	previewFor = 30 * time.Second
)

func (r order) previewCorrection(ctx context.Context, tx pgx.Tx, c roster.Correction, policies []handover.PolicyEntry) (CorrectionPreview, error) {
	p := CorrectionPreview{Tasks: []TaskCorrection{}, KeptTasks: []TaskCorrection{}, Mails: []Mailed{}}
	mails := map[string]*Mailed{}
	began := time.Now()
	for last := ""; !p.Partial; {
		accounts, err := c.Accounts(ctx, tx, last, chunkSize)
		if err != nil {
			return p, fmt.Errorf("accounts to judge anew: %w", err)
		}
		foresight, err := roster.Foresee(ctx, tx, c, policies, accounts)
		if err != nil {
			return p, err
		}
		p.Accounts += int64(foresight.Accounts)
		p.Changes += int64(foresight.Changes)
		if err := p.add(ctx, tx, foresight.Tasks, c.TakeBack); err != nil {
			return p, err
		}
		if err := r.told(ctx, tx, mails, foresight.Tasks); err != nil {
			return p, err
		}
		if len(accounts) < chunkSize {
			break
		}
		last, p.Partial = accounts[len(accounts)-1], time.Since(began) > previewFor
	}
	return p, p.addresses(ctx, tx, r.TenantID, mails)
}

// add counts tasks, and lists as many as there is room for.
func (p *CorrectionPreview) add(ctx context.Context, tx pgx.Tx, tasks []roster.ForeseenTasks, takeBack bool) error {
	var goes, stay []roster.ForeseenTasks
	for _, t := range tasks {
		switch {
		case t.TakenBack && !takeBack:
			p.Kept += int64(t.N)
			stay = append(stay, t)
			continue
		case t.TakenBack:
			p.TakenBack += int64(t.N)
		}
		p.TaskCount += int64(t.N)
		goes = append(goes, t)
	}
	var err error
	if p.Tasks, err = list(ctx, tx, p.Tasks, goes); err == nil {
		p.KeptTasks, err = list(ctx, tx, p.KeptTasks, stay)
	}
	return err
}

// list adds to those listed as many as there is room for, by account and id.
func list(ctx context.Context, tx pgx.Tx, listedBefore []TaskCorrection, tasks []roster.ForeseenTasks) ([]TaskCorrection, error) {
	n, room := 0, listed-len(listedBefore)
	for i, t := range tasks {
		// Of an account that is listed at all, all are read.
		if n >= room && (i == 0 || tasks[i-1].AccountID != t.AccountID) {
			tasks = tasks[:i]
			break
		}
		n += t.N
	}
	read, err := roster.ReadForeseen(ctx, tx, tasks)
	if err != nil {
		return nil, err
	}
	more := make([]TaskCorrection, len(read))
	for i, one := range read {
		of := tasks[one.Of]
		more[i] = TaskCorrection{ID: one.ID, Title: one.Title, AccountID: of.AccountID, From: of.From, To: of.To, TakenBack: of.TakenBack}
	}
	slices.SortFunc(more, func(a, b TaskCorrection) int {
		return cmp.Or(cmp.Compare(a.AccountID, b.AccountID), cmp.Compare(a.ID, b.ID))
	})
	return append(listedBefore, more[:min(len(more), room)]...), nil
}

// Whoever was told by e-mail that a task is theirs is told when it is taken back; see internal/notify.
const mailedBefore = `
SELECT k.n FROM unnest($2::text[], $3::text[]) WITH ORDINALITY AS k(recipient_id, task_id, n)
WHERE (
  SELECT true FROM notice_items i
  CROSS JOIN LATERAL (
    SELECT coalesce(merged_into, notice_id) AS notice_id FROM notices
    WHERE tenant_id = i.tenant_id AND recipient_id = i.recipient_id AND notice_id = i.notice_id LIMIT 1) w
  CROSS JOIN LATERAL (
    SELECT state, mime FROM notices
    WHERE tenant_id = i.tenant_id AND recipient_id = i.recipient_id AND notice_id = w.notice_id LIMIT 1) m
  WHERE i.tenant_id = $1 AND i.recipient_id = k.recipient_id AND i.task_id = k.task_id AND i.kind = 'received' AND NOT i.left_out
    AND (m.state IN ('sending', 'sent', 'ambiguous') OR m.mime IS NOT NULL)
  LIMIT 1)`

// told counts what people are told of tasks that go: who gets them, and who was told that they are theirs. Who sets the
// policy right is told in the product.
func (r order) told(ctx context.Context, tx pgx.Tx, mails map[string]*Mailed, tasks []roster.ForeseenTasks) error {
	of := func(user string) *Mailed {
		if mails[user] == nil {
			mails[user] = &Mailed{ID: user}
		}
		return mails[user]
	}
	var back []roster.ForeseenTasks
	for _, t := range tasks {
		if t.TakenBack && !r.Request.TakeBack {
			continue
		}
		if t.To != handover.Nobody && t.To != r.InitiatedBy {
			of(t.To).Received += int64(t.N)
		}
		if t.TakenBack && t.From != r.InitiatedBy {
			back = append(back, t)
		}
	}
	read, err := roster.ReadForeseen(ctx, tx, back)
	if err != nil {
		return err
	}
	people, ids := make([]string, len(read)), make([]string, len(read))
	for i, t := range read {
		people[i], ids[i] = back[t.Of].From, t.ID
	}
	if len(people) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, mailedBefore, r.TenantID, people, ids)
	if err != nil {
		return fmt.Errorf("look for what was mailed: %w", err)
	}
	var n int
	_, err = pgx.ForEachRow(rows, []any{&n}, func() error {
		of(people[n-1]).TakenBack++
		return nil
	})
	return err
}

const recipients = `
SELECT u.user_id, u.name, u.status = 'active' AND u.notices AND u.email <> '', u.status <> 'active' FROM unnest($2::text[]) AS k(user_id)
CROSS JOIN LATERAL (SELECT * FROM users u WHERE u.tenant_id = $1 AND u.user_id = k.user_id LIMIT 1) u`

// addresses lists those who can be mailed, and counts what goes to those who have left.
func (p *CorrectionPreview) addresses(ctx context.Context, tx pgx.Tx, tenant string, mails map[string]*Mailed) error {
	rows, err := tx.Query(ctx, recipients, tenant, slices.Collect(maps.Keys(mails)))
	if err != nil {
		return fmt.Errorf("look for addresses: %w", err)
	}
	var id, name string
	var mailed, left bool
	_, err = pgx.ForEachRow(rows, []any{&id, &name, &mailed, &left}, func() error {
		m := mails[id]
		m.Name = name
		if mailed {
			p.Mails = append(p.Mails, *m)
		}
		if left {
			p.LeftBehind += m.Received
		}
		return nil
	})
	slices.SortFunc(p.Mails, func(a, b Mailed) int { return cmp.Compare(a.ID, b.ID) })
	p.MailCount = int64(len(p.Mails))
	p.Mails = p.Mails[:min(len(p.Mails), listed)]
	return err
}
