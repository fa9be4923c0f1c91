package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// diskFile is a file on a disk.
type diskFile struct{ *os.File }

// Close gives up the lock and closes the file. A process that another part of
// the program starts at this moment has the file for an instant, and with it the
// lock, if it is not given up first.
func (d diskFile) Close() error {
	unlock(d.File) // what cannot be unlocked is unlocked by closing
	return d.File.Close()
}

// Sync brings the data of the file to the disk.
func (d diskFile) Sync() error { return dataSync(d.File) }

// dirSync returns a function that brings the name of a new file to the disk.
func dirSync(path string) func() error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be synced there, names are logged
	}
	return func() error {
		dir, err := os.Open(filepath.Dir(path))
		if errors.Is(err, os.ErrPermission) {
			return nil // may be written and not read: the name cannot be synced
		}
		if err != nil {
			return err
		}
		defer dir.Close()
		err = dir.Sync()
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
			return nil // a file system that does not know it
		}
		return err
	}
}

// inUse says that process pid (0 if not known) has locked a journal.
func inUse(pid int) error {
	if pid == 0 {
		return fmt.Errorf("%w: wait until it has finished", ErrLocked)
	}
	return fmt.Errorf("%w (pid %d): wait until it has finished", ErrLocked, pid)
}
