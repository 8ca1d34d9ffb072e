package postgres

import "syscall"

// processAttributes puts a child into a process group of its own, so that Ctrl-C in the terminal reaches us alone.
func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// stopWithParent has the kernel ask for a fast shutdown when the thread that starts the child ends.
func stopWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGINT }
