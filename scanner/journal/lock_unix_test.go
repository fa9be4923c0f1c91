//go:build unix && !solaris && !aix

package journal

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/smtpsweep/smtpsweep/targets"
)

// A process that is just being started has our descriptors until it becomes
// another program. A journal that we have closed is not locked by it.
func TestAClosedJournalIsNotLockedByADescriptorThatWasInherited(t *testing.T) {
	w := begun(t, planOf(t, "192.0.2.1"), Run{})
	inherited, err := unix.Dup(int(w.f.(diskFile).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	path := w.path
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	again, _, err := Resume(path, targets.Config{AllowReserved: true})
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
