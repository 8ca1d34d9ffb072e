// Package roster is what Handover knows: tenants, users, accounts, roles, tasks and the policy; their tables, what
// upstream systems tell of them (syncs), and what a person may change directly.
//
// Invariant: whoever writes an assignee, a base, a status, a task's account or a role's owner first locks the heads of
// the accounts concerned ([LockHeads]), in one order, in a statement of its own, and decides nothing by what was read
// before. So the assignee of every open task equals the fold of internal/handover at every commit, and each open
// task is in a holding of its kind ([holding]).
//
// It fails by refusing: a row that can't be taken is answered with an [*Invalid] that names the field and the remedy, and
// the other rows of the request are taken. An error of the database undoes the whole transaction.
package roster
