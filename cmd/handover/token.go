package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/target"
	"handover.io/internal/postgres"
	"handover.io/internal/roster"
)

func (a *app) tokenCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "token",
		Short: "Give out and revoke tokens of the API",
		Long: `A token says which tenant and which user a request comes from, and what it may do:

  read     look at everything of the tenant; every token may
  sync     tell what an upstream system knows: users, accounts, tasks
  assign   change roles, reassign tasks, disable users, publish role changes
  policy   set the policy and the settings
  admin    all of these

Its text is shown once, when it is made; Handover keeps only a digest.`,
	}
	a.tenantFlag(c)
	c.AddCommand(a.tokenCreate(), a.tokenList(), a.tokenRevoke())
	return c
}

// withRoster runs do on the roster of the target's database.
func (a *app) withRoster(ctx context.Context, do func(t target.Target, r *roster.Roster) error) error {
	t, err := a.find(target.Target.NeedDatabase, target.Target.NeedTenant)
	if err != nil {
		return err
	}
	pool, err := postgres.Open(ctx, t.DatabaseURL, postgres.Options{MaxConns: 2})
	if err != nil {
		return err
	}
	defer pool.Close()
	err = do(t, roster.New(pool, nil))
	if errors.Is(err, roster.ErrNotFound) {
		err = fmt.Errorf("the tenant %q has no such thing, or doesn't exist: %w", t.Tenant, err)
	}
	return failed(err)
}

func (a *app) tokenCreate() *cobra.Command {
	var user, name string
	var rights []string
	newTenant := false
	c := &cobra.Command{
		Use:   "create --user USER --right RIGHT …",
		Short: "Make a token and show it, this once",
		Example: `  handover token create --user olivia.marsh --right admin
  handover token create --user crm --name "nightly sync" --right sync
  handover token create --tenant acme --new-tenant --user root --right admin   # the first one of a new tenant`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRoster(cmd.Context(), func(t target.Target, r *roster.Roster) error {
				if newTenant {
					if err := r.EnsureTenant(cmd.Context(), t.Tenant); err != nil {
						return err
					}
				}
				who, err := r.User(cmd.Context(), t.Tenant, user)
				unknown := errors.Is(err, roster.ErrNotFound)
				switch {
				case err != nil && !unknown:
					return err
				case who.LeftAt != nil:
					return fmt.Errorf("user %q left on %s, so the token would not work; name somebody who is here", user, who.LeftAt.UTC().Format(time.DateOnly))
				}
				token, plaintext, err := r.CreateToken(cmd.Context(), t.Tenant, user, name, rights)
				if errors.Is(err, roster.ErrNotFound) {
					return fmt.Errorf("there is no tenant %q; make it with --new-tenant", t.Tenant)
				}
				if err != nil {
					return err
				}
				if unknown {
					fmt.Fprintf(a.stderr, "Warning: tenant %q knows no user %q yet; a misspelling, or somebody to be synced?\n", t.Tenant, user)
				}
				return a.print(struct {
					roster.Token
					Tenant string `json:"tenant"`
					Text   string `json:"token"`
				}{token, t.Tenant, plaintext}, func(w io.Writer) { fmt.Fprintln(w, plaintext) })
			})
		},
	}
	c.Flags().StringVar(&user, "user", "", "user in whose name the token acts")
	c.Flags().StringVar(&name, "name", "", "what it is for, for those who read the list")
	c.Flags().StringSliceVar(&rights, "right", nil, "read, sync, assign, policy or admin; several with commas, or the flag several times")
	c.Flags().BoolVar(&newTenant, "new-tenant", false, "make the tenant if there is none")
	_ = c.MarkFlagRequired("user")
	_ = c.MarkFlagRequired("right")
	return c
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the tenant's tokens",
		Example: "  handover token list --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withRoster(cmd.Context(), func(t target.Target, r *roster.Roster) error {
				tokens := []roster.Token{}
				for page := (roster.PageQuery{Limit: 1000}); ; {
					p, err := r.ListTokens(cmd.Context(), t.Tenant, page)
					if err != nil {
						return err
					}
					tokens = append(tokens, p.Items...)
					if p.NextCursor == nil {
						break
					}
					page.Cursor = *p.NextCursor
				}
				return a.print(map[string]any{"items": tokens}, func(w io.Writer) {
					table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
					fmt.Fprintln(table, "ID\tUSER\tRIGHTS\tNAME\tCREATED\tLAST USED\tREVOKED")
					for _, t := range tokens {
						fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", t.ID, t.UserID, strings.Join(t.Rights, ","), t.Name,
							minute(&t.CreatedAt), minute(t.LastUsedAt), minute(t.RevokedAt))
					}
					_ = table.Flush()
				})
			})
		},
	}
}

func (a *app) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use:     "revoke ID …",
		Short:   "Make tokens worthless, at once and for good",
		Example: "  handover token list          # shows the ids\n  handover token revoke 0198f0c2",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error {
			return a.withRoster(cmd.Context(), func(t target.Target, r *roster.Roster) error {
				for _, id := range ids {
					if err := r.RevokeToken(cmd.Context(), t.Tenant, id); err != nil {
						return fmt.Errorf("token %s: %w", id, err)
					}
				}
				return a.print(map[string]any{"revoked": ids}, func(w io.Writer) { fmt.Fprintln(w, "Revoked.") })
			})
		},
	}
}

func minute(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}
