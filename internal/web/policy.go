package web

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"handover.io/internal/handover"
	"handover.io/internal/operation"
	"handover.io/internal/roster"
)

// Policy says which open tasks follow a role change, and since when.
type Policy struct {
	Tasks         handover.Policy `json:"tasks" enum:"keep_tasks,move_automated_tasks,move_all_tasks"`
	EffectiveFrom *time.Time      `json:"effective_from" doc:"A role change is judged by the policy in force when it occurred. null: since ever."`
	ChangedBy     *string         `json:"changed_by"`
	ChangedAt     *time.Time      `json:"changed_at"`
	OperationID   *string         `json:"operation_id" doc:"The operation that set it with effect from the past."`
	SupersededBy  *string         `json:"superseded_by" doc:"Who put it out of force by setting the policy right with effect from before it; null: it counts."`
	SupersededAt  *time.Time      `json:"superseded_at"`
}

// PolicySet is the policy that was set; set right with effect from the past, also what that does.
type PolicySet struct {
	Policy
	Unchanged bool `json:"unchanged,omitempty" doc:"It was in force since then, and every role change is judged by it: nothing is to be done."`
	// Only where nothing is to be done though take_back was asked for.
	KeptBefore *KeptBefore        `json:"kept_before,omitempty" doc:"With take_back, where it was set right before without: what stayed then, and is not taken back now."`
	Preview    *CorrectionPreview `json:"preview,omitempty" doc:"With effective_from: what is done, or on a dry run would be."`
}

// KeptBefore are tasks that stayed when the policy was set right without take_back.
type KeptBefore struct {
	OperationID string `json:"operation_id" doc:"The operation that set the policy right, and kept them."`
	Tasks       int64  `json:"tasks"`
	Remedy      string `json:"remedy" doc:"What to do instead."`
}

func shownKept(k *operation.Kept) *KeptBefore {
	if k == nil {
		return nil
	}
	return &KeptBefore{k.OperationID, k.Tasks, "they count as assigned, since then, to who has them, and can't be taken back as a whole any more: " +
		"give back each by POST /v1/tasks/{id}/assign; kept_tasks in the answer of then, or the history of its account, says whose it was"}
}

// CorrectionPreview is what a policy set right does to accounts and tasks as they are now.
type CorrectionPreview struct {
	Accounts   int64            `json:"accounts" doc:"Accounts on which role changes are judged anew."`
	Changes    int64            `json:"changes" doc:"Role changes that are judged anew."`
	TaskCount  int64            `json:"task_count" doc:"Open tasks that go to somebody else."`
	TakenBack  int64            `json:"taken_back" doc:"Of these, tasks that by the policy set right should never have been with who has them; only with take_back."`
	Kept       int64            `json:"kept" doc:"Open tasks that should never have been with who has them, but stay; only without take_back."`
	LeftBehind int64            `json:"left_behind" doc:"Of task_count, tasks that come to people who have left without handing on all of theirs. Repeat their departure with tasks to hand these on too."`
	Tasks      []TaskCorrection `json:"tasks" nullable:"false" doc:"The first 100 of the tasks that go, by account and id."`
	KeptTasks  []TaskCorrection `json:"kept_tasks" nullable:"false" doc:"The first 100 of the tasks that stay; to is who would get them back."`
	MailCount  int64            `json:"mail_count" doc:"People who get an e-mail."`
	Mails      []Mailed         `json:"mails" nullable:"false" doc:"The first 100 of them, by id."`
	Partial    bool             `json:"partial,omitempty" doc:"There are so many accounts that only the first ones could be counted in time; all of them are set right."`
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
	TakenBack int64  `json:"taken_back" doc:"Of which they had been told that they are theirs."`
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
	Tasks         handover.Policy `json:"tasks" enum:"keep_tasks,move_automated_tasks,move_all_tasks" doc:"keep_tasks: account ownership only; move_automated_tasks: all open tasks but manual ones; move_all_tasks: all open tasks."`
	EffectiveFrom *time.Time      `json:"effective_from,omitempty" doc:"In the past: sets the policy right with effect from then, as an operation. Whatever was set for later is superseded."`
	TakeBack      bool            `json:"take_back,omitempty" doc:"With effective_from: tasks that by this policy should never have gone to who has them are taken from them again. Otherwise they stay, as if assigned now, also when the same is asked for again with take_back (see kept_before)."`
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
	put.about = "For everything that occurs from now on. The policy that is in force already is left as it is.\n\n" +
		"With `effective_from` the policy is set right with effect from the past: it counts from then until now and on, whatever was set for later is superseded " +
		"(the history keeps it, with who did that), and an operation judges the role changes since then anew and moves the tasks that follow; changes that carried their own policy are left alone. " +
		"Answers 202 with `operation_id` and what it does; try it with `dry_run=true`. Without `take_back`, tasks that should never have gone to who has them stay with them. 409 while another one is under way."
	put.once = true
	put.answers = answers[PolicySet](s, http.StatusAccepted, "Set; an operation sets right what follows from it", "application/json")
	type input struct {
		DryRunParam
		Body PolicyChoice
	}
	type output struct {
		Status   int
		Location string `header:"Location" doc:"The operation."`
		Body     PolicySet
	}
	register(s, put, func(ctx context.Context, in *input) (*output, error) {
		who := callerOf(ctx)
		switch {
		case in.Body.EffectiveFrom != nil:
			c, err := s.Operations.CorrectPolicy(ctx, who.TenantID, who.UserID, operation.PolicyCorrection{
				Policy: in.Body.Tasks, EffectiveFrom: *in.Body.EffectiveFrom, TakeBack: in.Body.TakeBack,
			}, in.DryRun)
			out := &output{Status: http.StatusOK, Body: PolicySet{Policy: Policy(c.Policy), Unchanged: c.Unchanged, KeptBefore: shownKept(c.KeptBefore), Preview: shownCorrection(c.Preview)}}
			if c.OperationID != "" {
				out.Status, out.Location = http.StatusAccepted, "/v1/operations/"+url.PathEscape(c.OperationID)
			}
			return out, err
		case in.Body.TakeBack:
			return nil, &roster.Invalid{Field: "take_back", Remedy: "is for a policy set right with effect from the past; name that time in effective_from, or leave it out"}
		}
		e, err := s.Roster.SetPolicy(ctx, who.TenantID, who.UserID, in.Body.Tasks, in.DryRun)
		return &output{Status: http.StatusOK, Body: PolicySet{Policy: Policy(e)}}, err
	})
	history := base
	history.method, history.path, history.id, history.summary = http.MethodGet, "/v1/policy/history", "list-policies", "List the policies"
	history.about = "The newest first, each with the time from which it is or was in force. Those with `superseded_at` are out of force: the policy was set right with effect from before them."
	register(s, history, func(ctx context.Context, in *struct{ Paging }) (*list[Policy], error) {
		p, err := s.Roster.PolicyHistory(ctx, callerOf(ctx).TenantID, in.query())
		return pageOf(p, shownPolicy), err
	})
	s.settings()
	s.roles()
}

func shownCorrection(p operation.CorrectionPreview) *CorrectionPreview {
	shown := &CorrectionPreview{
		Accounts: p.Accounts, Changes: p.Changes, TaskCount: p.TaskCount, TakenBack: p.TakenBack, Kept: p.Kept, LeftBehind: p.LeftBehind, MailCount: p.MailCount, Partial: p.Partial,
		Tasks: make([]TaskCorrection, len(p.Tasks)), KeptTasks: make([]TaskCorrection, len(p.KeptTasks)), Mails: make([]Mailed, len(p.Mails)),
	}
	for i, t := range p.Tasks {
		shown.Tasks[i] = TaskCorrection(t)
	}
	for i, t := range p.KeptTasks {
		shown.KeptTasks[i] = TaskCorrection(t)
	}
	for i, m := range p.Mails {
		shown.Mails[i] = Mailed(m)
	}
	return shown
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
