// Package event is Handover's public contract: the two events, their subjects, and how they are written and read. It
// imports nothing but the standard library and internal/rawjson, which does the same.
//
// Events are CloudEvents 1.0. They are read in structured mode (Content-Type application/cloudevents+json, or no
// Content-Type at all) and in binary mode (headers ce-*); they are written in structured mode.
//
// Invariant: what Decode accepts satisfies the JSON Schema in schemas/, and what is written can be decoded to an equal
// value. Two events are the same event when tenant, source and id are equal (see [AccountRoleChanged.Digest]); the same
// event with another content (see [AccountRoleChanged.Content]) is a mistake of its publisher. So reading must never change
// a text, and two readers must never read two things: names are exact, nothing that we ask for may be there twice, and a
// source is kept as it was written. That, and that no message may crash a reader, is why the envelope is read here and not
// by the CloudEvents SDK; the contract tests hold the two together.
//
// It fails with an [*Invalid], which carries one of the Reason constants, the field and the remedy. It does no I/O and
// reads no clock.
package event
