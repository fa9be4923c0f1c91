//go:build !windows && (!unix || solaris || aix)

package journal

import (
	"errors"
	"os"
)

// noFollow does not exist here.
const noFollow = 0

func unlock(*os.File) {}

// lock is not possible here, and a journal without a lock is not written.
func lock(*os.File) error {
	return errors.New("cannot be locked: not supported on this system")
}
