//go:build !windows

package connect

import "syscall"

// portableErrno returns the errno that the rest of the package knows.
func portableErrno(errno syscall.Errno) syscall.Errno { return errno }
