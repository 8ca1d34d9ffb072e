package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"handover.io/cmd/handover/internal/tabular"
	"handover.io/cmd/handover/internal/target"
	"handover.io/cmd/handover/internal/upload"
	"handover.io/internal/bus"
	"handover.io/pkg/event"
)

// publishChunk is the most that the API takes as one batch.
var publishChunk = upload.Options{Rows: 1000, Bytes: 512 << 10, Patience: 2 * time.Minute}

func (a *app) publishCommand() *cobra.Command {
	m := &mapped{spec: tabular.Spec{Fields: tabular.RoleChanges, EmptyIsNull: true}}
	var p upload.Publisher
	straight := false
	c := &cobra.Command{
		Use:   "publish FILE|-",
		Short: "Publish role changes from CSV or NDJSON",
		Long: `Publishes an AccountRoleChanged event for every row, as an upstream service would.
A row without an id gets one made of what it says, so publishing the same file again changes nothing.
NDJSON rows that are CloudEvents already are taken as they are.

Fields: ` + tabular.RoleChanges.String() + `
Required are time, account_id, role and new_owner_id, where empty means nobody.
` + mappingHelp,
		Example: `  handover publish changes.csv
  handover publish changes.csv --map account_id=account --map new_owner_id=to --set role=success_manager --map time=changed_on
  printf 'time,account_id,role,new_owner_id\n2026-01-31T09:00:00Z,acc-001,success_manager,grace.kim\n' | handover publish - --format csv
  handover publish history.ndjson --nats      # straight to the stream, past the API`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			need := target.Target.NeedAPI
			if straight {
				need = target.Target.NeedBroker
			}
			t, err := a.find(need, target.Target.NeedTenant)
			if err != nil {
				return err
			}
			p.Tenant = t.Tenant
			objects, progress, err := m.rows(a, args[0], "role changes")
			if err != nil {
				return err
			}
			words := [4]string{"published", "", "", "failed"}
			send := upload.API{URL: t.URL, Token: t.Token, Client: http.DefaultClient}.Events
			if straight {
				b, err := bus.Connect(cmd.Context(), bus.Options{URL: t.NATSURL, Name: "handover publish"})
				if err != nil {
					return err
				}
				defer b.Close()
				words[2] = "known already"
				send = toStream(p, b.Publish)
			}
			sum, err := upload.Run(cmd.Context(), p.Next(objects), send, progress, publishChunk)
			return m.finish(a, "role changes", words, sum, progress, err)
		},
	}
	a.apiFlags(c)
	a.tenantFlag(c)
	m.flags(c)
	c.Flags().BoolVar(&straight, "nats", false, "publish straight to the stream (HANDOVER_NATS_URL, or the local run's)")
	c.Flags().StringVar(&p.Source, "source", "urn:handover:publish", "CloudEvents source of rows that name none")
	c.Flags().StringVar(&p.Reason, "reason", event.ByAPI, "reason of rows that name none")
	c.Flags().StringVar(&p.InitiatedBy, "initiated-by", "publish", "user who made the changes of rows that name none")
	return c
}

// toStream publishes past the API. What the broker has known for less than two minutes it says so.
func toStream(p upload.Publisher, publish func(context.Context, []event.Message) ([]event.Stored, error)) upload.Send {
	return func(ctx context.Context, chunk upload.Chunk) (upload.Answer, error) {
		messages := make([]event.Message, len(chunk.Rows))
		for i, line := range chunk.Lines() {
			m, err := p.Message(line)
			if err != nil {
				return upload.Answer{}, &upload.Fatal{Err: fmt.Errorf("line %d: %w", chunk.Rows[i].Line, err)}
			}
			messages[i] = m
		}
		stored, err := publish(ctx, messages)
		if err != nil {
			return upload.Answer{}, err
		}
		var answer upload.Answer
		for _, s := range stored {
			if s.Duplicate {
				answer.Unchanged++
			} else {
				answer.Created++
			}
		}
		return answer, nil
	}
}
