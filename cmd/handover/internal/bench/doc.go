// Package bench measures the product: it makes a data set, runs the real reassigner over real changes against a private
// PostgreSQL and an embedded broker, and holds everything that came out against the fold of internal/handover. Beside
// each run of ours it runs what bounds it: the bare UPDATE without any of our book-keeping, and the broker alone.
//
// Invariant: no result counts whose answer is wrong. Each run, the limits' too, is checked: the assignee of every task,
// the owners of roles, and each announcement; what is expected follows from the numbers that the data and the changes
// were made of, not from what the database says.
//
// It fails by returning an error, with everything stopped and removed that it started; a wrong answer is no error but a
// result that says so.
package bench
