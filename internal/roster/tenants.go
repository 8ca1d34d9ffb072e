package roster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"handover.io/internal/journal"
	"handover.io/pkg/event"
)

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
	Name string `json:"name"` // for people, 1 to 500 characters
}

const (
	insertTenant = `INSERT INTO tenants (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING`
	defaultRoles = `
INSERT INTO roles (tenant_id, role, name) VALUES ($1, 'success_manager', 'Success manager'), ($1, 'sales_manager', 'Sales manager')`
)

// EnsureTenant creates the tenant unless it exists, with the roles success_manager and sales_manager. An id that can't
// be a tenant's is an [*Invalid].
func (r *Roster) EnsureTenant(ctx context.Context, tenant string) error {
	if !event.ValidTenantID(tenant) {
		return invalid("tenant_id", "must match [a-z0-9][a-z0-9-]{0,62}")
	}
	err := r.write(ctx, false, func(ctx context.Context, tx pgx.Tx) ([]journal.Entry, error) {
		created, err := tx.Exec(ctx, insertTenant, tenant)
		if err != nil || created.RowsAffected() == 0 {
			return nil, err
		}
		_, err = tx.Exec(ctx, defaultRoles, tenant)
		return nil, err
	})
	if err != nil {
		return fmt.Errorf("create tenant %s: %w", tenant, err)
	}
	return nil
}

// Settings returns the tenant's settings. It fails with [ErrNotFound] without the tenant.
func (r *Roster) Settings(ctx context.Context, tenant string) (Settings, error) {
	rows, err := r.pool.Query(ctx, `SELECT notice_mode, allow_task_override FROM tenants WHERE tenant_id = $1`, tenant)
	return one[Settings](rows, err, "tenant", tenant)
}

const setSettings = `
UPDATE tenants SET notice_mode = coalesce($2, notice_mode), allow_task_override = coalesce($3, allow_task_override)
WHERE tenant_id = $1 RETURNING notice_mode, allow_task_override`

// SetSettings changes settings and returns what they are then. A value that can't be is an [*Invalid]; without the
// tenant it fails with [ErrNotFound].
func (r *Roster) SetSettings(ctx context.Context, tenant string, said SettingsSaid) (Settings, error) {
	if m := said.NoticeMode; m != nil && *m != "account" && *m != "summary" {
		return Settings{}, invalid("notice_mode", "must be one of account, summary")
	}
	rows, err := r.pool.Query(ctx, setSettings, tenant, said.NoticeMode, said.AllowTaskOverride)
	return one[Settings](rows, err, "tenant", tenant)
}

const listRoles = `SELECT role, name FROM roles WHERE tenant_id = $1 ORDER BY role`

// Roles lists the tenant's roles.
func (r *Roster) Roles(ctx context.Context, tenant string) ([]Role, error) {
	rows, err := r.pool.Query(ctx, listRoles, tenant)
	if err != nil {
		return nil, fmt.Errorf("list roles: %w", err)
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Role])
}

const (
	setRoles = `
INSERT INTO roles AS r (tenant_id, role, name) SELECT $1, * FROM unnest($2::text[], $3::text[])
ON CONFLICT (tenant_id, role) DO UPDATE SET name = excluded.name WHERE r.name <> excluded.name`
	removeRoles = `DELETE FROM roles WHERE tenant_id = $1 AND role <> ALL ($2) RETURNING role`
	// Asked after the removal: that waits for whoever is just using the role.
	rolesInUse = `
SELECT role FROM unnest($2::text[]) AS gone(role)
WHERE EXISTS (SELECT FROM account_roles a WHERE a.tenant_id = $1 AND a.role = gone.role AND (a.latest_owner IS NOT NULL OR a.owner_id IS NOT NULL))
   OR EXISTS (SELECT FROM tasks t WHERE t.tenant_id = $1 AND t.role = gone.role)
ORDER BY role`
)

// SetRoles makes the tenant's roles those given, and returns them. A role that is in use, because somebody holds it or a
// task is bound to it, can't be removed; that, and a role that can't be, is an [*Invalid]. Without the tenant it fails
// with [ErrNotFound].
func (r *Roster) SetRoles(ctx context.Context, tenant string, roles []Role) ([]Role, error) {
	if err := checkRoles(roles); err != nil {
		return nil, err
	}
	ids := column(roles, func(r Role) string { return r.Role })
	err := r.write(ctx, false, func(ctx context.Context, tx pgx.Tx) ([]journal.Entry, error) {
		if err := waitForTenant(ctx, tx, tenant); err != nil {
			return nil, err
		}
		if _, err := tx.Exec(ctx, setRoles, tenant, ids, column(roles, func(r Role) string { return r.Name })); err != nil {
			return nil, err
		}
		gone, err := readTexts(ctx, tx, removeRoles, tenant, ids)
		if err != nil || len(gone) == 0 {
			return nil, err
		}
		used, err := readTexts(ctx, tx, rolesInUse, tenant, gone)
		if err == nil && len(used) > 0 {
			err = invalid("roles", "%s: still in use; take the role from its accounts and tasks before you remove it", strings.Join(used, ", "))
		}
		return nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("set roles: %w", err)
	}
	return r.Roles(ctx, tenant)
}

func checkRoles(roles []Role) error {
	var seen []string
	for i, role := range roles {
		field := fmt.Sprintf("roles[%d].", i)
		switch n := utf8.RuneCountInString(role.Name); {
		case checkRole(role.Role) != "":
			return invalid(field+"role", "%s", checkRole(role.Role))
		case slices.Contains(seen, role.Role):
			return invalid(field+"role", "is given twice")
		case n < 1 || n > maxName || strings.ContainsRune(role.Name, 0) || !utf8.ValidString(role.Name):
			return invalid(field+"name", "must be 1 to %d characters, none of them NUL", maxName)
		}
		seen = append(seen, role.Role)
	}
	return nil
}
