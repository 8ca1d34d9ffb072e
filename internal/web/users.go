package web

import (
	"context"
	"net/http"
	"time"

	"handover.io/internal/roster"
)

// User is a person of the tenant.
type User struct {
	ID          string     `json:"id" example:"u-1"`
	Name        string     `json:"name" example:"Ann Lee"`
	Email       *string    `json:"email" example:"ann@example.com"`
	TimeZone    string     `json:"time_zone" doc:"IANA name." example:"Europe/Paris"`
	Status      string     `json:"status" enum:"active,disabled,deleted"`
	Notices     bool       `json:"notices" doc:"Whether they get e-mails."`
	LeftAt      *time.Time `json:"left_at" doc:"Since when they are disabled or deleted."`
	SuccessorID *string    `json:"successor_id" doc:"Who takes over what they leave."`
}

// UserRow is what an upstream system says of a user.
type UserRow struct {
	Name     string  `json:"name,omitempty" doc:"Required for a new user."`
	Email    *string `json:"email,omitempty" nullable:"true" format:"email"`
	TimeZone *string `json:"time_zone,omitempty" nullable:"true" doc:"IANA name; UTC for null."`
	Status   string  `json:"status,omitempty" enum:"active,disabled,deleted" doc:"disabled and deleted: they have left, and a successor can be named later."`
	Notices  *bool   `json:"notices,omitempty" nullable:"true" doc:"Whether they get e-mails; true for null."`
}

func (s *server) users() {
	registerRows(s, kind[roster.UserSaid, roster.UserDetails, User]{
		one: "user", many: "users", decode: roster.DecodeUser, sync: s.Roster.SyncUsers, chunkRows: 1000, read: s.Roster.User,
		show: func(u roster.UserDetails) User { return User(u) }, schema: schemaOf[UserRow](s),
		about:   "What the upstream system knows of a person.",
		example: `{"id":"u-1","name":"Ann Lee","email":"ann@example.com","time_zone":"Europe/Paris"}`,
	})
	type input struct {
		Status     string `query:"status" enum:"active,disabled,deleted" doc:"Only those of this status."`
		LeftBehind bool   `query:"left_behind" doc:"Only those who have left and still hold roles or open tasks: disable them again, with a successor, to hand that on."`
		Paging
	}
	register(s, route{
		method: http.MethodGet, path: "/v1/users", right: roster.RightRead, id: "list-users", tag: "Roster",
		summary: "List users", about: "By id.",
	}, func(ctx context.Context, in *input) (*list[User], error) {
		p, err := s.Roster.Users(ctx, callerOf(ctx).TenantID, roster.UserQuery{PageQuery: in.query(), Status: in.Status, LeftBehind: in.LeftBehind})
		return pageOf(p, func(u roster.UserDetails) User { return User(u) }), err
	})
	register(s, route{
		method: http.MethodPost, path: "/v1/users/{id}/reinstate", right: roster.RightAssign, id: "reinstate-user", tag: "Handing over",
		summary: "Take a user back",
		about: "Who was disabled or deleted is active again and can receive again, and what comes late no longer goes to their successor. " +
			"What upstream said of their status stays said, so a sync that repeats it changes nothing. " +
			"It gives nothing back: roles and tasks that were handed on stay where they went, until somebody hands them on again. Who is active stays as they are.",
	}, func(ctx context.Context, in *struct {
		ID string `path:"id"`
	}) (*body[User], error) {
		u, err := s.Roster.Reinstate(ctx, callerOf(ctx).TenantID, in.ID)
		return &body[User]{User(u)}, err
	})
}
