package web

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"handover.io/internal/handover"
	"handover.io/internal/roster"
)

// Policy says which open tasks follow a role change, and since when.
type Policy struct {
	Tasks         handover.Policy `json:"tasks" enum:"keep_tasks,move_automated_tasks,move_all_tasks"`
	EffectiveFrom *time.Time      `json:"effective_from" doc:"A role change is judged by the policy in force when it occurred. null: since ever."`
	ChangedBy     *string         `json:"changed_by"`
	ChangedAt     *time.Time      `json:"changed_at"`
}

// TenantSettings are a tenant's choices.
type TenantSettings struct {
	NoticeMode        string `json:"notice_mode" enum:"account,summary" doc:"account: an e-mail per recipient and account; summary: one per recipient."`
	AllowTaskOverride bool   `json:"allow_task_override" doc:"Whether a role change from outside may carry its own policy."`
}

// Roles are the roles that owners can hold on accounts.
type Roles struct {
	Items []roster.Role `json:"items" nullable:"false" maxItems:"100"`
}

// PolicyChoice is a policy to be set.
type PolicyChoice struct {
	Tasks handover.Policy `json:"tasks" enum:"keep_tasks,move_automated_tasks,move_all_tasks" doc:"keep_tasks: account ownership only; move_automated_tasks: all open tasks but manual ones; move_all_tasks: all open tasks."`
}

// SettingsChange is settings to be changed.
type SettingsChange struct {
	NoticeMode        *string `json:"notice_mode,omitempty" enum:"account,summary" doc:"account: an e-mail per recipient and account; summary: one per recipient."`
	AllowTaskOverride *bool   `json:"allow_task_override,omitempty" doc:"Whether a role change from outside may carry its own policy."`
}

func shownPolicy(e roster.PolicyEntry) Policy { return Policy(e) }

func (s *server) policy() {
	base := route{path: "/v1/policy", right: roster.RightPolicy, tag: "Policy"}
	get := base
	get.method, get.id, get.summary, get.about = http.MethodGet, "get-policy", "Get the policy", "The one in force."
	register(s, get, func(ctx context.Context, _ *struct{}) (*body[Policy], error) {
		e, err := s.Roster.Policy(ctx, callerOf(ctx).TenantID, time.Now())
		return &body[Policy]{Policy(e)}, err
	})
	put := base
	put.method, put.id, put.summary = http.MethodPut, "set-policy", "Set the policy"
	put.about = "For everything that occurs from now on. The policy that is in force already is left as it is."
	type input struct {
		DryRunParam
		Body PolicyChoice
	}
	register(s, put, func(ctx context.Context, in *input) (*body[Policy], error) {
		who := callerOf(ctx)
		e, err := s.Roster.SetPolicy(ctx, who.TenantID, who.UserID, in.Body.Tasks, in.DryRun)
		return &body[Policy]{Policy(e)}, err
	})
	history := base
	history.method, history.path, history.id, history.summary = http.MethodGet, "/v1/policy/history", "list-policies", "List the policies"
	history.about = "The newest first, each with the time from which it is or was in force."
	register(s, history, func(ctx context.Context, in *struct{ Paging }) (*list[Policy], error) {
		p, err := s.Roster.PolicyHistory(ctx, callerOf(ctx).TenantID, in.query())
		return pageOf(p, shownPolicy), err
	})
	s.settings()
	s.roles()
}

func (s *server) settings() {
	base := route{path: "/v1/settings", right: roster.RightPolicy, tag: "Policy"}
	get := base
	get.method, get.id, get.summary, get.about = http.MethodGet, "get-settings", "Get the settings", "The tenant's choices."
	register(s, get, func(ctx context.Context, _ *struct{}) (*body[TenantSettings], error) {
		v, err := s.Roster.Settings(ctx, callerOf(ctx).TenantID)
		return &body[TenantSettings]{TenantSettings(v)}, err
	})
	put := base
	put.method, put.id, put.summary, put.about = http.MethodPut, "set-settings", "Change the settings", "An absent field is unchanged. Answers what they are then."
	register(s, put, func(ctx context.Context, in *struct{ Body SettingsChange }) (*body[TenantSettings], error) {
		v, err := s.Roster.SetSettings(ctx, callerOf(ctx).TenantID, roster.SettingsSaid(in.Body))
		return &body[TenantSettings]{TenantSettings(v)}, err
	})
}

func (s *server) roles() {
	register(s, route{
		method: http.MethodGet, path: "/v1/roles", right: roster.RightRead, id: "list-roles", tag: "Roster",
		summary: "List the roles", about: "The roles that somebody can hold on an account, all on one page.",
	}, func(ctx context.Context, _ *struct{}) (*list[roster.Role], error) {
		found, err := s.Roster.Roles(ctx, callerOf(ctx).TenantID)
		return listOf(found, "", asIs), err
	})
	register(s, route{
		method: http.MethodPut, path: "/v1/roles", right: roster.RightSync, id: "set-roles", tag: "Roster",
		summary: "Set the roles", about: "The list replaces the one before. A role that is in use can't be removed.",
	}, func(ctx context.Context, in *struct{ Body Roles }) (*list[roster.Role], error) {
		found, err := s.Roster.SetRoles(ctx, callerOf(ctx).TenantID, in.Body.Items)
		var invalid *roster.Invalid
		if errors.As(err, &invalid) { // the roster speaks of roles, the body of items
			err = &roster.Invalid{Field: "items" + strings.TrimPrefix(invalid.Field, "roles"), Remedy: invalid.Remedy}
		}
		return listOf(found, "", asIs), err
	})
}
