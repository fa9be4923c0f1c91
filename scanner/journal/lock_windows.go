package journal

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/windows"
)

// noFollow does not exist here.
const noFollow = 0

// lockByte is far behind the end of any journal: a lock here is mandatory, and
// readers must be able to read.
const lockByte = 1 << 30 // high word of the offset

// unlock gives up a lock: closing does so too, but in its own time.
func unlock(f *os.File) {
	windows.UnlockFileEx(windows.Handle(f.Fd()), 0, 1, 0, &windows.Overlapped{OffsetHigh: lockByte})
}

// lock locks f against other processes until it is closed. If another has it,
// the error wraps ErrLocked.
func lock(f *os.File) error {
	at := windows.Overlapped{OffsetHigh: lockByte}
	err := windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &at)
	switch {
	case errors.Is(err, windows.ERROR_LOCK_VIOLATION):
		return inUse(0)
	case err != nil:
		return fmt.Errorf("cannot be locked: %w", err)
	}
	return nil
}
