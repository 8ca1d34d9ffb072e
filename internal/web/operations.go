package web

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"handover.io/internal/operation"
	"handover.io/internal/roster"
	"handover.io/pkg/event"
)

// Operation is what was asked for and how far it is.
type Operation struct {
	ID          string     `json:"id"`
	Kind        string     `json:"kind" enum:"role_change,bulk_edit,user_disabled,user_deleted,resources_reassigned,task_assigned,policy_corrected"`
	State       string     `json:"state" enum:"expanding,applying,done,failed" doc:"expanding: finding out which accounts; applying: the changes are on their way."`
	InitiatedBy string     `json:"initiated_by"`
	AcceptedAt  time.Time  `json:"accepted_at" doc:"When all its changes occurred, as far as they are concerned."`
	FinishedAt  *time.Time `json:"finished_at"`
	Accounts    int64      `json:"accounts" doc:"Accounts it is about, as far as known."`
	Unchanged   int64      `json:"unchanged" doc:"Of these, as asked already."`
	Changes     int64      `json:"changes" doc:"Role changes issued; of a policy set right, judged anew."`
	Applied     int64      `json:"applied" doc:"Of these, recorded and acted on."`
	Refused     int64      `json:"refused" doc:"Of these, dead letters: an operator looks at them."`
	TasksMoved  int64      `json:"tasks_moved"`
	TasksKept   int64      `json:"tasks_kept" doc:"Open tasks that stay with who has them though a policy set right, without take_back, would never have given them to them."`
	Problem     *string    `json:"problem" doc:"Why it failed."`
}

// acceptance answers a write that moves tasks.
type acceptance struct {
	Status   int
	Location string `header:"Location" doc:"The operation."`
	Body     AcceptedOperation
}

// AcceptedOperation says what will happen, or on a dry run would.
type AcceptedOperation struct {
	OperationID string   `json:"operation_id,omitempty" doc:"Absent when nothing is to be done, and on a dry run."`
	Unchanged   bool     `json:"unchanged" doc:"Everything is as asked already."`
	Preview     *Preview `json:"preview,omitempty" doc:"What will happen: always for one role of one account, else on a dry run."`
}

// Preview is what a request does to accounts and tasks as they are now.
type Preview struct {
	Accounts   int64      `json:"accounts" doc:"Accounts it is about."`
	Unchanged  int64      `json:"unchanged" doc:"Of these, as asked already."`
	Roles      int64      `json:"roles" doc:"Roles that change hands."`
	TaskCount  int64      `json:"task_count" doc:"Tasks that go to somebody else."`
	LeftBehind int64      `json:"left_behind" doc:"Open tasks that stay with the person whom an off-boarding is about."`
	Tasks      []TaskMove `json:"tasks" nullable:"false" doc:"The first 100 of them, by id, where it is about one role of one account."`
}

// TaskMove is a task that goes to somebody else.
type TaskMove struct {
	ID    string `json:"id"`
	Title string `json:"title"`
	From  string `json:"from"`
	To    string `json:"to"`
}

// DryRunParam is how a dry run is asked for.
type DryRunParam struct {
	DryRun bool `query:"dry_run" doc:"Do nothing; answer what would be done."`
}

// accept turns the answer of a command into that of the request: 202 when it works on, 200 when there is nothing to do
// or nothing was to be done.
func accept(a operation.Accepted, err error) (*acceptance, error) {
	if err != nil {
		return nil, err
	}
	out := &acceptance{Status: http.StatusOK, Body: AcceptedOperation{OperationID: a.OperationID, Unchanged: a.Unchanged}}
	if a.OperationID != "" {
		out.Status = http.StatusAccepted
		out.Location = "/v1/operations/" + url.PathEscape(a.OperationID)
	}
	if p := a.Preview; p != nil {
		out.Body.Preview = &Preview{Accounts: p.Accounts, Unchanged: p.Unchanged, Roles: p.Roles, TaskCount: p.TaskCount, LeftBehind: p.LeftBehind, Tasks: make([]TaskMove, len(p.Tasks))}
		for i, t := range p.Tasks {
			out.Body.Preview.Tasks[i] = TaskMove(t)
		}
	}
	return out, nil
}

func (s *server) operations() {
	s.changeRole()
	s.assign()
	s.depart("disable", event.ByUserDisabled, "Disable a user", "The user is disabled at once; they sign in nowhere and receive nothing any more.")
	s.depart("delete", event.ByUserDeleted, "Delete a user", "The user is deleted at once; their name stays in the history.")
	s.depart("reassign", event.ByResourcesReassigned, "Hand a user's resources on", "The user stays.")
	type one struct {
		ID string `path:"id" doc:"The operation."`
	}
	register(s, route{
		method: http.MethodGet, path: "/v1/operations/{id}", right: roster.RightRead, id: "get-operation", tag: "Operations",
		summary: "Get an operation", about: "How far it is, and its result once `finished_at` is set.",
	}, func(ctx context.Context, in *one) (*body[Operation], error) {
		o, err := s.Operations.Get(ctx, callerOf(ctx).TenantID, in.ID)
		return &body[Operation]{Operation(o)}, err
	})
	register(s, route{
		method: http.MethodGet, path: "/v1/operations", right: roster.RightRead, id: "list-operations", tag: "Operations",
		summary: "List operations", about: "The operations of the tenant, the newest first.",
	}, func(ctx context.Context, in *struct{ Paging }) (*list[Operation], error) {
		found, next, err := s.Operations.List(ctx, callerOf(ctx).TenantID, in.Cursor, in.Limit)
		return listOf(found, next, func(o operation.Operation) Operation { return Operation(o) }), err
	})
}

// RoleOwner says who gets a role.
type RoleOwner struct {
	OwnerID *string `json:"owner_id" doc:"The new owner; null for nobody." example:"u-2"`
	Reason  string  `json:"reason,omitempty" enum:"api,profile" default:"api" doc:"profile when a person does it on the account's page."`
}

// AccountAssignment says who gets a role of which accounts.
type AccountAssignment struct {
	Filter     *roster.Filter `json:"filter,omitempty" doc:"The accounts, by a filter; an empty one means every account. Either this or account_ids."`
	AccountIDs []string       `json:"account_ids,omitempty" nullable:"false" minItems:"1" maxItems:"100000" doc:"The accounts, by their ids."`
	Role       string         `json:"role" example:"success_manager"`
	OwnerID    *string        `json:"owner_id" doc:"The new owner; null for nobody." example:"u-2"`
}

// Succession says who takes over from a person, and what.
type Succession struct {
	SuccessorID *string `json:"successor_id,omitempty" nullable:"true" doc:"Who takes over; absent or null when there is nothing to take." example:"u-2"`
	Tasks       bool    `json:"tasks,omitempty" doc:"Hand on every open task of theirs; otherwise only those that the policy moves with their roles."`
}

func (s *server) changeRole() {
	type input struct {
		ID   string `path:"id" doc:"The account."`
		Role string `path:"role" doc:"The role, for example success_manager."`
		DryRunParam
		Body RoleOwner
	}
	register(s, route{
		method: http.MethodPut, path: "/v1/accounts/{id}/roles/{role}", right: roster.RightAssign, id: "change-role", tag: "Handing over", once: true,
		summary: "Give a role of an account to somebody",
		about: "The open tasks of the previous owner follow by the policy in force now, within moments. Answers 202 with the operation and the tasks " +
			"that will move, or 200 with `unchanged` when the role is theirs already.",
		status:  http.StatusAccepted,
		answers: answers[AcceptedOperation](s, http.StatusOK, "Nothing to do, or a dry run", "application/json"),
	}, func(ctx context.Context, in *input) (*acceptance, error) {
		who := callerOf(ctx)
		return accept(s.Operations.ChangeRole(ctx, who.TenantID, who.UserID, in.ID, in.Role, in.Body.OwnerID, in.Body.Reason, in.DryRun))
	})
}

func (s *server) assign() {
	type input struct {
		DryRunParam
		Body AccountAssignment
	}
	register(s, route{
		method: http.MethodPost, path: "/v1/assignments", right: roster.RightAssign, id: "assign-accounts", tag: "Handing over",
		summary: "Give a role of many accounts to somebody",
		about:   "The bulk edit of a segment. An empty filter, `{}`, means every account. It is done account by account after the answer; all changes have the time of acceptance. Follow it at `/v1/operations/{id}`.",
		status:  http.StatusAccepted, limit: wideBodyLimit,
		answers: answers[AcceptedOperation](s, http.StatusOK, "Nothing to do, or a dry run", "application/json"),
	}, func(ctx context.Context, in *input) (*acceptance, error) {
		who := callerOf(ctx)
		return accept(s.Operations.Assign(ctx, who.TenantID, who.UserID, operation.Assignment(in.Body), in.DryRun))
	})
}

func (s *server) depart(verb, kind, summary, about string) {
	type input struct {
		ID string `path:"id" doc:"The user."`
		DryRunParam
		Body Succession
	}
	register(s, route{
		method: http.MethodPost, path: "/v1/users/{id}/" + verb, right: roster.RightAssign, id: verb + "-user", tag: "Handing over",
		summary: summary,
		about: about + " What they hold goes to the successor. 409 with the counts (`holds`) while they hold roles or open tasks and no successor is named. " +
			"Without `tasks`, open tasks may stay with them (`left_behind`); repeat it with `tasks` to hand those on too, also when they have left.",
		status:  http.StatusAccepted,
		answers: answers[AcceptedOperation](s, http.StatusOK, "Nothing to do, or a dry run", "application/json"),
	}, func(ctx context.Context, in *input) (*acceptance, error) {
		who := callerOf(ctx)
		return accept(s.Operations.Depart(ctx, who.TenantID, who.UserID, in.ID, operation.Departure{
			Kind: kind, SuccessorID: in.Body.SuccessorID, Tasks: in.Body.Tasks,
		}, in.DryRun))
	})
}

func conflictProblem(c *operation.Conflict) *Problem {
	p := newProblem(http.StatusConflict, sentence(c.Remedy))
	p.Holds = &Holds{Roles: c.Roles, OpenTasks: c.OpenTasks, SuccessorID: c.SuccessorID}
	return p
}
