package main

import (
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/tabular"
	"handover.io/cmd/handover/internal/target"
	"handover.io/cmd/handover/internal/upload"
)

// A chunk is small enough to be sent again when its answer is lost, and large enough that the pause between two of them
// doesn't matter.
var importChunk = upload.Options{Rows: 20_000, Bytes: 8 << 20, Patience: 2 * time.Minute}

func (a *app) importCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "import",
		Short: "Load users, accounts and tasks from CSV or NDJSON",
		Long: `Loads what another system knows, in the order users, accounts, tasks: each needs the ones before.
Loading a file again changes nothing, as long as no id is in it twice: only what differs from what was
told last is news.
Rows that can't be taken are told one by one, with line, field and remedy, and the others are taken.
` + mappingHelp,
		Example: `  handover import users users.csv
  handover import tasks tasks.ndjson --errors refused.ndjson

  # The agents of a CRM, their managers, its accounts with their owners, its deals as tasks:
  handover import users teams.csv --map id=agent --map name=agent --derive email='{{slug .agent}}@example.com'
  handover import users teams.csv --unique --map id=manager --map name=manager
  handover import accounts accounts.csv --map id=account --map name=account --attributes-rest --numbers revenue \
      --most owner=deals.csv:account:agent:stage=Engaging,Prospecting --lookup lead=teams.csv:owner=agent:manager \
      --map roles.sales_manager=owner --map roles.success_manager=lead
  handover import tasks deals.csv --map id=deal --map account_id=account --map assignee_id=agent --map status=stage \
      --values status:Won=completed,Lost=cancelled,Engaging=open,Prospecting=open \
      --derive title='{{.product}} for {{.account}}' --derive due_at='{{addDays 90 .engaged}}'`,
	}
	c.AddCommand(
		a.importOne("users", tabular.Users, "Load users: people who own accounts and have tasks"),
		a.importOne("accounts", tabular.Accounts, "Load accounts: customers, with attributes and the owners of their roles"),
		a.importOne("tasks", tabular.Tasks, "Load tasks: work to do on accounts"),
	)
	return c
}

func (a *app) importOne(what string, fields tabular.Fields, short string) *cobra.Command {
	m := &mapped{spec: tabular.Spec{Fields: fields}}
	dryRun := false
	c := &cobra.Command{
		Use:   what + " FILE|-",
		Short: short,
		Long:  short + ".\n\nFields: " + fields.String() + "\n" + mappingHelp,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := a.find(target.Target.NeedAPI)
			if err != nil {
				return err
			}
			objects, progress, err := m.rows(a, args[0], what)
			if err != nil {
				return err
			}
			api := upload.API{URL: t.URL, Token: t.Token, Client: http.DefaultClient, DryRun: dryRun}
			key := ""
			if what == "tasks" {
				key = "account_id" // whose row is locked and counted up once for all of them
			}
			sum, err := upload.Run(cmd.Context(), lines(objects, key), api.Import(what), progress, importChunk)
			sum.DryRun = dryRun
			return m.finish(a, what, [4]string{"created", "updated", "unchanged", "failed"}, sum, progress, err)
		},
	}
	a.apiFlags(c)
	m.flags(c)
	c.Flags().BoolVar(&dryRun, "dry-run", false, "load nothing; tell what would become of the rows, and how many tasks would move, by what is known now")
	c.Flags().BoolVar(&m.spec.EmptyIsNull, "empty-is-null", false, "an empty cell empties the field, instead of leaving it as it is")
	if what == "accounts" {
		c.Flags().StringSliceVar(&m.spec.Attributes, "attributes", nil, "columns that become attributes")
		c.Flags().BoolVar(&m.spec.AttributesRest, "attributes-rest", false, "every column that nothing else uses becomes an attribute")
		c.Flags().StringSliceVar(&m.spec.Numbers, "numbers", nil, "attributes that are numbers")
	}
	return c
}
