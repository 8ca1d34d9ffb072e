package roster

import "context"

// Settings are a tenant's choices.
type Settings struct {
	NoticeMode        string `json:"notice_mode"`         // account: an e-mail per recipient and account; summary: per recipient
	AllowTaskOverride bool   `json:"allow_task_override"` // whether a role change from outside may carry its own policy
}

// SettingsSaid are settings to change; nil stays as it is.
type SettingsSaid struct {
	NoticeMode        *string `json:"notice_mode,omitempty"`
	AllowTaskOverride *bool   `json:"allow_task_override,omitempty"`
}

// Role is a role that an owner can hold on an account.
type Role struct {
	Role string `json:"role"` // matches [a-z][a-z0-9_]{0,62}
	Name string `json:"name"` // for people
}

// EnsureTenant creates the tenant unless it exists, with the roles success_manager and sales_manager. An id that can't
// be a tenant's is an [*Invalid].
func (r *Roster) EnsureTenant(ctx context.Context, tenant string) error { panic("not yet") }

// Settings returns the tenant's settings. It fails with [ErrNotFound] without the tenant.
func (r *Roster) Settings(ctx context.Context, tenant string) (Settings, error) { panic("not yet") }

// SetSettings changes settings and returns what they are then. A value that can't be is an [*Invalid].
func (r *Roster) SetSettings(ctx context.Context, tenant string, said SettingsSaid) (Settings, error) {
	panic("not yet")
}

// Roles lists the tenant's roles by name.
func (r *Roster) Roles(ctx context.Context, tenant string) ([]Role, error) { panic("not yet") }

// SetRoles makes the tenant's roles those given, and returns them. A role that is in use can't be removed; that, and a
// role that can't be, is an [*Invalid].
func (r *Roster) SetRoles(ctx context.Context, tenant string, roles []Role) ([]Role, error) {
	panic("not yet")
}
