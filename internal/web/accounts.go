package web

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"

	"handover.io/internal/roster"
)

// Account is a customer of the tenant.
type Account struct {
	ID         string             `json:"id" example:"a-1"`
	Name       string             `json:"name" example:"Acme"`
	Attributes json.RawMessage    `json:"attributes" doc:"An object; what filters look at."`
	Roles      map[string]*string `json:"roles" doc:"Who holds each role; null for nobody."`
}

// AccountRow is what an upstream system says of an account.
type AccountRow struct {
	Name       string             `json:"name,omitempty" doc:"Required for a new account."`
	Attributes map[string]any     `json:"attributes,omitempty" doc:"Replaces the object before."`
	Roles      map[string]*string `json:"roles,omitempty" doc:"Role to user id, null for nobody. A role that isn't named stays as it is. Only an owner that differs from what was said before is news."`
}

// AccountFilter says which accounts are meant; all that is set must hold.
type AccountFilter struct {
	Attributes map[string]any `json:"attributes,omitempty" doc:"What the account's attributes must contain."`
	Name       string         `json:"name,omitempty" doc:"A part of the name, whatever its case."`
	Role       string         `json:"role,omitempty" doc:"Narrows owner_id to one role; without owner_id: somebody holds this role."`
	OwnerID    *string        `json:"owner_id,omitempty" nullable:"true" doc:"Who holds the role, or any role; null: nobody does."`
}

func (s *server) accounts() {
	// A filter is read by the roster, and documented here.
	s.api.OpenAPI().Components.Schemas.RegisterTypeAlias(reflect.TypeFor[roster.Filter](), reflect.TypeFor[AccountFilter]())
	registerRows(s, kind[roster.AccountSaid, roster.AccountDetails, Account]{
		one: "account", many: "accounts", decode: roster.DecodeAccount, sync: s.Roster.SyncAccounts, chunkRows: 1000, read: s.Roster.Account,
		show: func(a roster.AccountDetails) Account { return Account(a) }, schema: schemaOf[AccountRow](s),
		about:   "What the upstream system knows of a customer. An owner that differs from what it said before is a role change, which tasks follow by the policy.",
		example: `{"id":"a-1","name":"Acme","attributes":{"segment":"enterprise"},"roles":{"success_manager":"u-1"}}`,
	})
	register(s, route{
		method: http.MethodGet, path: "/v1/accounts", right: roster.RightRead, id: "list-accounts", tag: "Roster",
		summary: "List accounts", about: "By id; either those of a `filter`, as assignments take it, or by `name`, `role` and `owner_id`.",
	}, func(ctx context.Context, in *accountsInput) (*list[Account], error) {
		filter, err := in.filter()
		if err != nil {
			return nil, err
		}
		p, err := s.Roster.Accounts(ctx, callerOf(ctx).TenantID, roster.AccountQuery{PageQuery: in.query(), Filter: filter})
		return pageOf(p, func(a roster.AccountDetails) Account { return Account(a) }), err
	})
	type history struct {
		RowID
		Paging
	}
	register(s, route{
		method: http.MethodGet, path: "/v1/accounts/{id}/history", right: roster.RightRead, id: "get-account-history", tag: "Roster",
		summary: "List what happened on an account", about: "Its role changes and the moves of its tasks, the newest first: who had it, when and why.",
	}, func(ctx context.Context, in *history) (*list[roster.AccountEvent], error) {
		p, err := s.Roster.AccountHistory(ctx, callerOf(ctx).TenantID, in.ID, in.query())
		return pageOf(p, asIs), err
	})
}

type accountsInput struct {
	Filter  string `query:"filter" maxLength:"10000" doc:"A filter as JSON: {\"attributes\": {…}, \"name\": \"…\", \"role\": \"…\", \"owner_id\": \"…\" or null}." example:"{\"attributes\":{\"segment\":\"enterprise\"}}"`
	Name    string `query:"name" doc:"A part of the name, whatever its case."`
	Role    string `query:"role" doc:"Narrows owner_id to one role; without owner_id: somebody holds this role."`
	OwnerID string `query:"owner_id" doc:"Who holds the role, or any role."`
	Paging
}

func (in *accountsInput) filter() (roster.Filter, error) {
	f := roster.Filter{Name: in.Name, Role: in.Role, Owner: roster.Maybe[string]{Given: in.OwnerID != "", Value: in.OwnerID}}
	if in.Filter == "" {
		return f, nil
	}
	if in.Name != "" || in.Role != "" || in.OwnerID != "" {
		return f, &roster.Invalid{Field: "filter", Remedy: "says it all: put name, role and owner_id into it"}
	}
	f = roster.Filter{}
	if err := json.Unmarshal([]byte(in.Filter), &f); err != nil {
		var invalid *roster.Invalid
		if errors.As(err, &invalid) {
			return f, err
		}
		return f, &roster.Invalid{Field: "filter", Remedy: "can't be read: " + err.Error()}
	}
	return f, nil
}
