package verify

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/roster"
)

const nextGone = `
SELECT tenant_id, user_id FROM users
WHERE left_at IS NOT NULL AND (tenant_id, user_id) > ($1, $2) AND ($3 = '' OR tenant_id = $3) ORDER BY tenant_id, user_id LIMIT $4`

// people finds what is still with those who left.
func (v *verifier) people(ctx context.Context) error {
	var after roster.Person
	var done int64
	for {
		var gone []roster.Person
		var behind []roster.LeftBehind
		var refused map[string]string
		if err := v.snapshot(ctx, func(ctx context.Context, tx pgx.Tx) error {
			rows, err := tx.Query(ctx, nextGone, after.TenantID, after.UserID, v.Tenant, 100)
			if err != nil {
				return err
			}
			if gone, err = pgx.CollectRows(rows, pgx.RowToStructByPos[roster.Person]); err != nil || len(gone) == 0 {
				return err
			}
			if behind, err = roster.FindLeftBehind(ctx, tx, gone); err != nil {
				return err
			}
			refused, err = refusedHandOns(ctx, tx, behind)
			return err
		}); err != nil {
			return err
		}
		if len(gone) == 0 {
			return nil
		}
		v.judgeBehind(behind, refused)
		after = gone[len(gone)-1]
		done += int64(len(gone))
		v.Progress("people who left", done, done)
	}
}

// Only what was issued and isn't recorded needs a look at the dead letters.
const deadHandOns = `
SELECT o.message_id, d.reason || ': ' || d.detail FROM unnest($1::text[]) AS m(message_id)
CROSS JOIN LATERAL (SELECT * FROM outbox o WHERE o.message_id = m.message_id AND o.stream = 'ROLE_CHANGES' LIMIT 1) o
JOIN dead_letters d ON d.body = o.body AND d.subject = o.subject`

func refusedHandOns(ctx context.Context, tx pgx.Tx, behind []roster.LeftBehind) (map[string]string, error) {
	var ids []string
	for _, b := range behind {
		if b.UnderWay && b.MessageID != "" {
			ids = append(ids, b.MessageID)
		}
	}
	refused := map[string]string{}
	if len(ids) == 0 {
		return refused, nil
	}
	rows, err := tx.Query(ctx, deadHandOns, ids)
	if err != nil {
		return nil, err
	}
	var id, why string
	_, err = pgx.ForEachRow(rows, []any{&id, &why}, func() error { refused[id] = why; return nil })
	return refused, err
}

func (v *verifier) judgeBehind(behind []roster.LeftBehind, refused map[string]string) {
	type holds struct{ roles, tasks int64 }
	without := map[roster.Person]*holds{}
	var order []roster.Person
	for _, b := range behind {
		if b.SuccessorID == "" {
			p := roster.Person{TenantID: b.TenantID, UserID: b.Person}
			if without[p] == nil {
				without[p] = &holds{}
				order = append(order, p)
			}
			if without[p].tasks += b.Tasks; b.Role != "" {
				without[p].roles++
			}
			continue
		}
		why, dead := refused[b.MessageID]
		if b.Kept || (b.UnderWay && !dead) {
			continue
		}
		f := Finding{Kind: LeftBehind, TenantID: b.TenantID, AccountID: b.AccountID, Role: b.Role, UserID: b.Person, MessageID: b.MessageID,
			Remedy: v.fix(LeftBehind, "--tenant", b.TenantID)}
		what := b.Role
		if b.Role == "" {
			what = count(b.Tasks, "open task")
		}
		f.Says = fmt.Sprintf("%s of account %s: still with %s, who left; %s is the successor", what, b.AccountID, b.Person, b.SuccessorID)
		if dead {
			f.Says += "; the change that hands it on was refused: " + why
			f.Remedy = command("dead-letters", "list", "--tenant", b.TenantID)
		}
		if v.wants(LeftBehind) {
			v.report.todo.left = append(v.report.todo.left, b.Left)
		}
		v.found(f)
	}
	for _, p := range order {
		h := without[p]
		v.found(Finding{Kind: NoSuccessor, TenantID: p.TenantID, UserID: p.UserID,
			Says:   fmt.Sprintf("%s left with %s and %s, and no successor is named", p.UserID, count(h.roles, "role"), count(h.tasks, "open task")),
			Remedy: fmt.Sprintf(`POST /v1/users/%s/disable {"successor_id": "…", "tasks": true}`, p.UserID)})
	}
}
