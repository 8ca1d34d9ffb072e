// Package bus carries messages: the streams, publishing, consuming, and the embedded broker of those who have none. It
// is the only importer of nats.go (but for pkg/publisher, which upstream services import) and nats-server.
//
// Publishing: what [Bus.Publish] reports as stored is on the stream, once, under its message id; for the rest the caller
// knows that it must send it again, under the same id. Sixteen or more messages to a stream go as atomic batches, for which
// a broker that syncs every write to disk syncs once.
//
// Consuming: [Bus.Consume] delivers every message of a durable consumer at least once, in batches of what has arrived,
// in no order that anybody may rely on. A message is acknowledged after the handler has returned nil for its batch, and
// only then; so after a crash on either side it comes again.
//
// It fails by waiting: a broker that is away is waited for, a consumer or stream that was deleted is made again, a full
// stream is back-pressure ([ErrFull]). Nothing here gives up before its context does.
package bus
