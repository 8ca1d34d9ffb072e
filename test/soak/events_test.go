package soak_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"handover.io/pkg/event"
)

// skewed is when an upstream service says that something occurred: its clock goes wrong, from an hour behind to four
// minutes ahead, and half of what it tells is late anyway.
func skewed(r *rand.Rand) time.Time {
	return event.Micro(time.Now().Add(-time.Hour + time.Duration(r.Int64N(int64(64*time.Minute)))))
}

func (t *tenant) change(r *rand.Rand) event.AccountRoleChanged {
	c := event.AccountRoleChanged{
		ID: fmt.Sprintf("e-%016x", r.Uint64()), Source: "//crm.example/" + t.id, Time: skewed(r), TenantID: t.id, AccountID: anyAccount(r), Role: anyOf(r, roles),
		NewOwnerID: t.anybody(r), Reason: event.ByAPI, InitiatedBy: root,
	}
	if r.IntN(3) == 0 {
		c.Time = event.Micro(time.Now())
	}
	switch r.IntN(8) {
	case 0:
		c.NewOwnerID = ""
	case 1:
		c.Role, c.Reason, c.PreviousOwnerID = "", event.ByUserDisabled, t.anybody(r)
	case 2, 3:
		c.PreviousOwnerID = t.anybody(r)
	}
	return c
}

func (t *tenant) message(c event.AccountRoleChanged, subject string) event.Message {
	m, err := c.Message(subject)
	if err != nil {
		panic(err) // the tests draw only what is valid
	}
	return m
}

func (t *tenant) has(what expected, changes ...event.AccountRoleChanged) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range changes {
		t.published[c.ID] = what
	}
}

// keep is upstream's own outbox: the last few minutes of what it sent.
func (t *tenant) keep(messages ...event.Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	for _, m := range messages {
		t.sent = append(t.sent, sent{now, m})
	}
	old := 0
	for old < len(t.sent) && now.Sub(t.sent[old].at) > 10*time.Minute {
		old++
	}
	t.sent = slices.Delete(t.sent, 0, old)
}

func (t *tenant) overHTTP(r *rand.Rand) {
	c := t.change(r)
	m := t.message(c, event.SubjectRoleChanged(t.id))
	if t.ask(r, request{method: http.MethodPost, path: "/v1/events", media: "application/cloudevents+json", body: m.Body}).taken() {
		t.has(recorded, c)
		t.keep(m)
	}
}

// batch is bulk work when it is large.
func (t *tenant) batch(r *rand.Rand) {
	var changes []event.AccountRoleChanged
	var messages []event.Message
	var all []json.RawMessage
	for range 2 + r.IntN(150) {
		c := t.change(r)
		m := t.message(c, event.SubjectRoleBulk(t.id))
		changes, messages, all = append(changes, c), append(messages, m), append(all, m.Body)
	}
	if t.ask(r, request{method: http.MethodPost, path: "/v1/events", media: "application/cloudevents-batch+json", body: marshal(all)}).taken() {
		t.has(recorded, changes...)
		t.keep(messages...)
	}
}

// overNATS publishes straight to the stream, now and then twice under ids that the broker takes for two.
func (t *tenant) overNATS(r *rand.Rand) {
	subject := event.SubjectRoleChanged(t.id)
	if r.IntN(3) == 0 {
		subject = event.SubjectRoleBulk(t.id)
	}
	c := t.change(r)
	m := t.message(c, subject)
	messages := []event.Message{m}
	if r.IntN(4) == 0 {
		m.ID += "-again"
		messages = append(messages, m)
	}
	if t.publish(messages...) {
		t.has(recorded, c)
		t.keep(messages[0])
	}
}

// publish tries until the stream has them.
func (t *tenant) publish(messages ...event.Message) bool {
	const patience = 3 * time.Minute
	var err error
	stored := poll(patience, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, err = t.w.bus.Publish(ctx, messages)
		return err == nil
	})
	if !stored {
		t.w.wrong("not published within %v: %v", patience, err)
	}
	return stored
}

// tooFarAhead is from a publisher whose clock is wrong by an hour.
func (t *tenant) tooFarAhead(r *rand.Rand) {
	c := t.change(r)
	c.Time = event.Micro(time.Now().Add(time.Hour))
	if t.publish(t.message(c, event.SubjectRoleChanged(t.id))) {
		t.has(tooFarAhead, c)
	}
}

// unknownOwner names somebody of whom nobody has told yet; somebody will, in the end.
func (t *tenant) unknownOwner(r *rand.Rand) {
	c := t.change(r)
	c.NewOwnerID = fmt.Sprintf("late%02d", r.IntN(20))
	if t.publish(t.message(c, event.SubjectRoleChanged(t.id))) {
		t.has(recorded, c)
		t.mu.Lock()
		t.late[c.NewOwnerID] = true
		t.mu.Unlock()
	}
}
