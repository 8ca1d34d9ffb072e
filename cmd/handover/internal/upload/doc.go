// Package upload sends many rows to the API: in chunks, one while the next is being made, trying again while the service
// is away, and saying of every row that is refused which one it was and why.
//
// Invariant: every row is counted exactly once, as taken, refused or left out. At most two chunks, and the room of a
// third, are in memory, however long the file is. Sending the same rows again changes nothing, so a chunk whose answer got
// lost is simply sent again.
//
// It fails when the service stays away, or refuses the sender rather than a row; what was sent before stays, and the same
// command can be given again.
package upload
