package soak_test

import "syscall"

// dieWithUs has the kernel kill a child when we are gone, however that came about.
func dieWithUs() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
