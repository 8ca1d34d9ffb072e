package main

import (
	"context"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"handover.io/pkg/event"
)

// riverWorkers is enough that fetching jobs is not what it waits for.
const riverWorkers = 50

// riverJobs is River: every change is a job, inserted before the clock starts. A job applies its change and announces it;
// River marks jobs as completed in batches of its own, which is faster than completing each in its transaction.
func riverJobs() contender {
	return contender{name: "river", load: insertJobs, run: func(ctx context.Context, a *arena) error {
		workers := river.NewWorkers()
		river.AddWorker(workers, &reassignWorker{arena: a})
		client, err := river.NewClient(riverpgxv5.New(a.pool), &river.Config{
			Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: riverWorkers}},
			// The default of 100 ms would be its limit.
			FetchCooldown: time.Millisecond, FetchPollInterval: 10 * time.Millisecond,
			Workers: workers, Logger: errorsOnly,
		})
		if err != nil {
			return err
		}
		completed, cancel := client.SubscribeConfig(&river.SubscribeConfig{
			Kinds: []river.EventKind{river.EventKindJobCompleted}, ChanSize: 2 * a.deliveries,
		})
		defer cancel()
		if err := client.Start(ctx); err != nil {
			return err
		}
		for range a.deliveries {
			select {
			case <-completed:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		a.stopClock()
		return client.StopAndCancel(ctx)
	}}
}

type reassignArgs struct{ event.AccountRoleChanged }

func (reassignArgs) Kind() string { return "reassign" }

type reassignWorker struct {
	river.WorkerDefaults[reassignArgs]
	*arena
}

func (w *reassignWorker) Work(ctx context.Context, job *river.Job[reassignArgs]) error {
	moved, err := applyAtOnce(ctx, w.pool, job.Args.AccountRoleChanged)
	if err != nil {
		return err
	}
	for _, o := range messages(moved) {
		if _, err := w.js.PublishMsg(ctx, wire(o), jetstream.WithMsgID(o.ID)); err != nil {
			return err
		}
	}
	return nil
}

func insertJobs(ctx context.Context, a *arena, changes []event.AccountRoleChanged) error {
	client, err := river.NewClient(riverpgxv5.New(a.pool), &river.Config{Logger: errorsOnly})
	if err != nil {
		return err
	}
	jobs := make([]river.InsertManyParams, len(changes))
	for i, c := range changes {
		jobs[i] = river.InsertManyParams{Args: reassignArgs{c}}
	}
	_, err = client.InsertManyFast(ctx, jobs)
	return err
}
