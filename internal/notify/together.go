package notify

import (
	"context"
	"sync"
)

// together lets calls that come at the same time share a transaction, and so the sync that a commit costs: while one runs,
// who comes next waits, and all who wait go together.
type together[Q, A any] struct {
	// run answers each question, or fails for all of them.
	run func(context.Context, []Q) ([]A, error)
	// atOnce is how many runs are under way together: with more of them fewer calls share one.
	atOnce int

	mu      sync.Mutex
	waiting []*question[Q, A]
	running int
}

type question[Q, A any] struct {
	ctx    context.Context // its asker's, who waits
	asked  Q
	answer A
	err    error
	alone  bool
	done   chan struct{}
}

// ask blocks until q is answered. When a run with others fails, q is run once more by itself, so that a question which
// can't be answered spoils none of the others.
func (t *together[Q, A]) ask(ctx context.Context, q Q) (A, error) {
	mine := &question[Q, A]{ctx: ctx, asked: q, done: make(chan struct{})}
	t.mu.Lock()
	t.waiting = append(t.waiting, mine)
	if t.running < t.atOnce {
		t.running++
		go t.work()
	}
	t.mu.Unlock()
	<-mine.done
	if mine.err != nil && !mine.alone {
		t.answer([]*question[Q, A]{mine})
	}
	return mine.answer, mine.err
}

// work runs until nobody waits.
func (t *together[Q, A]) work() {
	for {
		t.mu.Lock()
		questions := t.waiting
		t.waiting = nil
		if len(questions) == 0 {
			t.running--
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		t.answer(questions)
		for _, q := range questions {
			close(q.done)
		}
	}
}

// answer runs with the context of the first: should that end, the others are asked alone.
func (t *together[Q, A]) answer(questions []*question[Q, A]) {
	asked := make([]Q, len(questions))
	for i, q := range questions {
		asked[i] = q.asked
	}
	answers, err := t.run(questions[0].ctx, asked)
	for i, q := range questions {
		if q.err, q.alone = err, len(questions) == 1; err == nil {
			q.answer = answers[i]
		}
	}
}
