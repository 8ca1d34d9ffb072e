package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"handover.io/internal/notify"
	"handover.io/internal/operation"
	"handover.io/internal/roster"
)

// Notice is an e-mail window.
type Notice struct {
	ID          int64      `json:"id"`
	RecipientID string     `json:"recipient_id" doc:"Whom the mail is for."`
	AccountID   *string    `json:"account_id" doc:"null when it is about all accounts of the recipient."`
	State       string     `json:"state" enum:"open,closed,sending,sent,suppressed,undeliverable,ambiguous,merged" doc:"suppressed: nothing was left to tell. ambiguous: it may have arrived; a person decides. merged: told by the mail of merged_into."`
	Tasks       int        `json:"tasks" doc:"Tasks that the mail tells of; until it is written, tasks that moved."`
	Subject     *string    `json:"subject" doc:"Of the mail, once it is written."`
	OpenedAt    time.Time  `json:"opened_at"`
	CloseAt     time.Time  `json:"close_at" doc:"When the window closes and the mail goes out."`
	NextTryAt   *time.Time `json:"next_try_at"`
	FinishedAt  *time.Time `json:"finished_at"`
	Problem     *string    `json:"problem"`
	MergedInto  *int64     `json:"merged_into"`
}

type noticesInput struct {
	RecipientID string `query:"recipient_id" doc:"Only those for this user."`
	AccountID   string `query:"account_id" doc:"Only those about this account."`
	State       string `query:"state" enum:"open,closed,sending,sent,suppressed,undeliverable,ambiguous,merged" doc:"Only those in this state."`
	Paging
}

func (s *server) notices() {
	register(s, route{
		method: http.MethodGet, path: "/v1/notices", right: roster.RightRead, id: "list-notices", tag: "Notices",
		summary: "List the e-mails", about: "The e-mail windows of the tenant, the latest first.",
	}, func(ctx context.Context, in *noticesInput) (*list[Notice], error) {
		found, next, err := s.Notices.List(ctx, callerOf(ctx).TenantID, notify.Filter{
			RecipientID: in.RecipientID, AccountID: in.AccountID, State: in.State, Cursor: in.Cursor, Limit: in.Limit,
		})
		var invalid *notify.InvalidFilterError
		if errors.As(err, &invalid) {
			return nil, unprocessable(FieldProblem{"query." + invalid.Field, invalid.Remedy})
		}
		return listOf(found, next, shownNotice), err
	})
}

func shownNotice(n notify.Notice) Notice {
	return Notice{
		ID: n.ID, RecipientID: n.RecipientID, AccountID: orNull(n.AccountID), State: n.State, Tasks: n.Tasks, Subject: orNull(n.Subject),
		OpenedAt: n.OpenedAt, CloseAt: n.CloseAt, NextTryAt: n.NextTryAt, FinishedAt: n.FinishedAt, Problem: orNull(n.Problem), MergedInto: n.MergedInto,
	}
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Notification is what a person is told in the product.
type Notification struct {
	ID          int64           `json:"id"`
	OperationID *string         `json:"operation_id"`
	Kind        string          `json:"kind"`
	Title       string          `json:"title"`
	Data        json.RawMessage `json:"data"`
	CreatedAt   time.Time       `json:"created_at"`
	ReadAt      *time.Time      `json:"read_at"`
}

func (s *server) notifications() {
	type input struct {
		Unread bool `query:"unread" doc:"Only what hasn't been read."`
		Paging
	}
	register(s, route{
		method: http.MethodGet, path: "/v1/notifications", right: roster.RightRead, id: "list-notifications", tag: "Notices",
		summary: "List what you were told", about: "The in-app notices of the token's user, the newest first.",
	}, func(ctx context.Context, in *input) (*list[Notification], error) {
		who := callerOf(ctx)
		found, next, err := s.Operations.Notifications(ctx, who.TenantID, who.UserID, in.Cursor, in.Limit, in.Unread)
		return listOf(found, next, func(n operation.Notification) Notification { return Notification(n) }), err
	})
	type one struct {
		ID int64 `path:"id"`
	}
	type marked struct {
		Marked int64 `json:"marked" doc:"1, or 0 when it was read before."`
	}
	register(s, route{
		method: http.MethodPost, path: "/v1/notifications/{id}/read", right: roster.RightRead, id: "read-notification", tag: "Notices",
		summary: "Mark as read", about: "One in-app notice of the token's user.",
	}, func(ctx context.Context, in *one) (*body[marked], error) {
		who := callerOf(ctx)
		n, err := s.Operations.MarkRead(ctx, who.TenantID, who.UserID, in.ID)
		return &body[marked]{marked{n}}, err
	})
}
