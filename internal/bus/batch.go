package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nuid"
)

const (
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"
)

// batchAck answers the message that commits an atomic batch.
type batchAck struct {
	Error    *jetstream.APIError `json:"error"`
	Sequence uint64              `json:"seq"` // of the last message; the others are right before it
	Batch    string              `json:"batch"`
	Count    int                 `json:"count"`
}

// publishBatch stores all messages or none; after an error that is not ErrFull it is unknown which. A message whose id
// the stream has already fails the batch.
//
// Only the last message asks for an answer: whatever was wrong with an earlier one makes the batch incomplete.
func (b *Bus) publishBatch(ctx context.Context, g group) error {
	ctx, cancel := b.request(ctx)
	defer cancel()
	id, last := nuid.Next(), len(g.messages)-1
	for i, m := range g.messages {
		m = &nats.Msg{Subject: m.Subject, Header: maps.Clone(m.Header), Data: m.Data}
		m.Header[headerBatchID] = []string{id}
		m.Header[headerBatchSequence] = []string{strconv.Itoa(i + 1)}
		if i < last {
			if err := b.nc.PublishMsg(m); err != nil {
				return firstError(nil, err)
			}
			continue
		}
		m.Header[headerBatchCommit] = []string{"1"}
		answer, err := b.nc.RequestMsgWithContext(ctx, m)
		if err != nil {
			return firstError(nil, cause(ctx, err))
		}
		var ack batchAck
		if err := json.Unmarshal(answer.Data, &ack); err != nil {
			return fmt.Errorf("answer to a batch: %w", err)
		}
		if ack.Error != nil {
			return firstError(nil, ack.Error)
		}
		if ack.Batch != id || ack.Count != len(g.messages) || ack.Sequence < uint64(ack.Count) {
			return errors.New("the broker took the messages of a batch one by one")
		}
		for j, s := range g.stored {
			s.Sequence = ack.Sequence - uint64(last-j)
		}
	}
	return nil
}
