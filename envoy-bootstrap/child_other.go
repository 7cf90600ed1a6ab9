//go:build unix && !linux

package bootstrap

import "syscall"

// childAttributes put the child into a group of its own, else Ctrl-C would reach it twice.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
