// Package schemas is the contract as files, for tools and for people: the JSON Schema of each event's data, named by its
// CloudEvents type; asyncapi.yaml, with the subjects, streams, consumers and headers; and openapi.json.
//
// Invariant: they say what pkg/event does, no more and no less; test/contract holds them together. A schema is never
// changed so that it refuses what it accepted: that is a new version, with a new type and a new file.
package schemas

import "embed"

// Files are all of them.
//
//go:embed *.json *.yaml
var Files embed.FS

// FileOf is the name of the file with the JSON Schema of the data of events of this type.
func FileOf(eventType string) string { return eventType + ".schema.json" }
