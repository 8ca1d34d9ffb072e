// Package service is what every long-running process needs around its work: the configuration, logs, traces, the data
// directory, and starting and stopping in order.
//
// Invariant: nothing is started on a configuration that has a problem, and all problems are told at once. What was
// started is stopped in reverse order, each thing exactly once, so nothing loses what it stands on while it still works.
// A secret is never printed.
//
// It fails before it starts: a [*ConfigError] names each variable with its remedy, [ErrInUse] says that another process
// has the data directory. Once running, a part that ends early is started again ([Service.Go]): an outage of the database
// or of the broker is waited for, not died of.
package service
