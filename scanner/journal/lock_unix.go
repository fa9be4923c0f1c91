//go:build unix && !solaris && !aix

package journal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// noFollow makes opening a symbolic link an error.
const noFollow = unix.O_NOFOLLOW

// unlock gives up a lock, whoever else has the file open by inheritance.
func unlock(f *os.File) {
	if conn, err := f.SyscallConn(); err == nil {
		conn.Control(func(fd uintptr) { unix.Flock(int(fd), unix.LOCK_UN) })
	}
}

// lock locks f against other processes until it is closed. The lock dies with
// the process. If another has it, the error wraps ErrLocked.
func lock(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = conn.Control(func(fd uintptr) {
		for errno = unix.EINTR; errno == unix.EINTR; {
			errno = unix.Flock(int(fd), unix.LOCK_EX|unix.LOCK_NB)
		}
	})
	switch {
	case err != nil:
		return err
	case errors.Is(errno, unix.EWOULDBLOCK):
		return inUse(holder(f))
	case errno != nil:
		return fmt.Errorf("cannot be locked: %w", errno)
	}
	return nil
}
