// Package letters shows dead letters to people and hands out their originals. A dead letter holds what a stranger sent, or
// somebody who made a mistake.
//
// Invariant: whatever a message holds, what is shown of it is text that no terminal obeys (package safe). What is exported
// is valid JSON that says the same as the original, and publishes again what it was when it was an event.
//
// It doesn't fail: what can't be read is shown as the bytes that it is.
package letters
