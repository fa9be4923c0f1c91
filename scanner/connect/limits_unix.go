//go:build unix

package connect

import "golang.org/x/sys/unix"

// descriptors returns the soft limit of open files. The runtime of Go has raised
// it to the hard one.
func descriptors() int {
	var r unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &r) != nil {
		return 256
	}
	return int(min(uint64(r.Cur), 1<<20))
}
