package bootstrap

import "syscall"

// childAttributes put the child into a group of its own, else Ctrl-C would reach it twice, and have it end when we are
// killed: an Envoy that nobody supervises any more would keep the ports from the next one.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
