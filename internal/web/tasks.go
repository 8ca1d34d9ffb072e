package web

import (
	"context"
	"net/http"
	"time"

	"handover.io/internal/roster"
)

// Task is work to do on an account.
type Task struct {
	ID         string     `json:"id" example:"t-1"`
	AccountID  string     `json:"account_id" example:"a-1"`
	Title      string     `json:"title" example:"Call about renewal"`
	AssigneeID *string    `json:"assignee_id" example:"u-1"`
	Status     string     `json:"status" enum:"open,in_progress,completed,cancelled"`
	Source     string     `json:"source" doc:"manual when a person made it by hand; everything else is automated." example:"success_play"`
	Role       *string    `json:"role" doc:"The role it is bound to; null: it follows whatever role its assignee holds."`
	Priority   *string    `json:"priority"`
	DueAt      *time.Time `json:"due_at"`
	CreatedAt  *time.Time `json:"created_at"`
	AssignedAt time.Time  `json:"assigned_at" doc:"When somebody last chose its assignee on purpose."`
	URL        *string    `json:"url"`
	Revision   int64      `json:"revision" doc:"Counts the changes of assignee."`
}

// TaskRow is what an upstream system says of a task.
type TaskRow struct {
	AccountID  string     `json:"account_id,omitempty" doc:"Required for a new task."`
	Title      string     `json:"title,omitempty" maxLength:"500" doc:"Required for a new task."`
	AssigneeID *string    `json:"assignee_id,omitempty" nullable:"true" doc:"null for nobody. Naming anyone who has held the task since it was last assigned on purpose assigns nothing: it is the echo of our own move."`
	Status     string     `json:"status,omitempty" enum:"open,in_progress,completed,cancelled"`
	Source     *string    `json:"source,omitempty" nullable:"true" doc:"manual for null."`
	Role       *string    `json:"role,omitempty" nullable:"true" doc:"The role it is bound to."`
	Priority   *string    `json:"priority,omitempty" nullable:"true"`
	DueAt      *time.Time `json:"due_at,omitempty" nullable:"true"`
	CreatedAt  *time.Time `json:"created_at,omitempty" nullable:"true"`
	AssignedAt *time.Time `json:"assigned_at,omitempty" nullable:"true" doc:"When assignee_id was assigned, by upstream's clock: the later assignment wins."`
	URL        *string    `json:"url,omitempty" nullable:"true" maxLength:"2000"`
}

// TaskAssigned says what assigning a task did, or would do.
type TaskAssigned struct {
	OperationID string  `json:"operation_id,omitempty" doc:"Absent on a dry run."`
	TaskID      string  `json:"task_id"`
	AccountID   string  `json:"account_id"`
	FromID      *string `json:"from_id"`
	ToID        *string `json:"to_id"`
	Revision    int64   `json:"revision" doc:"Of the task, afterwards."`
	Moved       bool    `json:"moved" doc:"false when the task was with that person already."`
}

func (s *server) tasks() {
	registerRows(s, kind[roster.TaskSaid, roster.TaskDetails, Task]{
		one: "task", many: "tasks", decode: roster.DecodeTask, sync: s.Roster.SyncTasks, chunkRows: roster.MaxSyncTasks, read: s.Roster.Task,
		show: func(t roster.TaskDetails) Task { return Task(t) }, schema: schemaOf[TaskRow](s),
		about:   "What the upstream system knows of a task. Its account and its assignee must be known.",
		example: `{"id":"t-1","account_id":"a-1","title":"Call about renewal","assignee_id":"u-1","status":"open","source":"success_play"}`,
	})
	type input struct {
		AssigneeID string `query:"assignee_id" doc:"Only those of this user."`
		AccountID  string `query:"account_id" doc:"Only those on this account."`
		Status     string `query:"status" enum:"open,closed,all" default:"open" doc:"open (in progress, too), closed, or all."`
		Paging
	}
	register(s, route{
		method: http.MethodGet, path: "/v1/tasks", right: roster.RightRead, id: "list-tasks", tag: "Roster",
		summary: "List tasks", about: "By id, somebody's open ones by account and id; the open ones unless `status` says otherwise.",
	}, func(ctx context.Context, in *input) (*list[Task], error) {
		p, err := s.Roster.Tasks(ctx, callerOf(ctx).TenantID, roster.TaskQuery{
			PageQuery: in.query(), AssigneeID: in.AssigneeID, AccountID: in.AccountID, Status: in.Status,
		})
		return pageOf(p, func(t roster.TaskDetails) Task { return Task(t) }), err
	})
	type history struct {
		RowID
		Paging
	}
	register(s, route{
		method: http.MethodGet, path: "/v1/tasks/{id}/history", right: roster.RightRead, id: "get-task-history", tag: "Roster",
		summary: "List who had a task", about: "Its moves, the newest first: who had it, when and why.",
	}, func(ctx context.Context, in *history) (*list[roster.TaskMoved], error) {
		p, err := s.Roster.TaskHistory(ctx, callerOf(ctx).TenantID, in.ID, in.query())
		return pageOf(p, asIs), err
	})
	s.assignTask()
}

// TaskAssignment says who gets a task.
type TaskAssignment struct {
	AssigneeID *string `json:"assignee_id" doc:"Who gets it; null for nobody." example:"u-2"`
}

func (s *server) assignTask() {
	type input struct {
		RowID
		DryRunParam
		Body TaskAssignment
	}
	register(s, route{
		method: http.MethodPost, path: "/v1/tasks/{id}/assign", right: roster.RightAssign, id: "assign-task", tag: "Handing over",
		summary: "Assign one task", about: "On purpose, and now: role changes that occurred before have no say in it any more.",
	}, func(ctx context.Context, in *input) (*body[TaskAssigned], error) {
		who := callerOf(ctx)
		a, err := s.Roster.AssignTask(ctx, who.TenantID, who.UserID, in.ID, in.Body.AssigneeID, in.DryRun)
		return &body[TaskAssigned]{TaskAssigned(a)}, err
	})
}
