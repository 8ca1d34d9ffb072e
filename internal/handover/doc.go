// Package handover is the domain: who an open task belongs to, and why. It is pure: no I/O, no clock.
//
// The words: a tenant's user holds a role on an account (at most one owner per role). A role change takes a role from one
// owner to another at one time. A task belongs to an account and has an assignee. The tenant's policy says which open
// tasks follow a role change; a change is judged by the policy in force when it occurred, and keeps that judgement unless the
// policy is set right with effect from before it ([Account.Judge]).
//
// The idea: an assignee is never a thing that events push along; it is derived. Known for an account are the set of its
// role changes, the first owner of each role, and for each task its base: the last assignment somebody made on purpose,
// and since when. The assignee is the base, with the account's changes since then applied in the order in which they
// occurred ([Account.Fold], [History.Assignee]).
//
// Invariant: the result depends on the set of changes alone. Delivering them twice, late, or in any order ends alike, so
// nothing above this package needs ordered consumers, partitions or leases.
//
// It can't fail: every value has a meaning. Whether a value may enter at all is decided before (pkg/event, roster).
package handover
