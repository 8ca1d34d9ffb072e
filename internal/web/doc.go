// Package web is the HTTP API: it turns requests into calls of roster, operation and notify, and what they answer into
// JSON, problems (RFC 9457) and streams.
//
// A request goes through one chain, the same for every route:
//
//	observe    request id, trace, one log line, one metric, panics
//	authorize  the token says tenant, user and rights; nothing else in a request may
//	address    path and query: ids that can be ids, parameters given once, with a value
//	body       read whole up to the route's limit (imports and server-sent events are streams and pass by)
//	once       Idempotency-Key: the answer of the first request is the answer of every repeat
//	huma       decodes and validates by the same types that the OpenAPI document is made of
//
// Invariant: nothing of another tenant can be read, changed or told apart from what doesn't exist; and a request that is
// refused has changed nothing. The only exception says so: an import takes what it can, row by row.
//
// It fails with a problem that names the field and the remedy. What the caller can't mend is a 500 or 503 with the
// request id, under which the log has the cause, once.
package web

//go:generate go test . -run TestOpenAPI -update
