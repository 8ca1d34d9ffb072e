//go:build !linux

package postgres

import "syscall"

// processAttributes puts a child into a process group of its own, so that Ctrl-C in the terminal reaches us alone.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// stopWithParent can't be had here: the next start stops what was left running.
func stopWithParent(*syscall.SysProcAttr) {}
