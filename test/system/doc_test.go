// Package system holds the tests of the whole: the model test, which drives random histories over the real database and
// broker with crashes in between and compares the end with the fold; and stories, which use the program as its users do.
//
// Their oracles are what others can see: rows, published events, mails, HTTP answers. Nothing in them looks inside.
package system_test
