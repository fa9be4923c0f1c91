package journal

import (
	"os"

	"golang.org/x/sys/unix"
)

// dataSync is fdatasync(2): it spares the write of the inode's times.
func dataSync(f *os.File) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var errno error
	err = conn.Control(func(fd uintptr) {
		for errno = unix.EINTR; errno == unix.EINTR; {
			errno = unix.Fdatasync(int(fd))
		}
	})
	if err != nil {
		return err
	}
	return errno
}
