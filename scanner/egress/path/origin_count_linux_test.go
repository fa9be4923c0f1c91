package path

import (
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/outgoing"
)

func TestCountTellsWhoseResetItIs(t *testing.T) {
	before := outgoing.Count{Loopback: 10, All: 100}
	for _, c := range []struct {
		name  string
		after outgoing.Count
		want  Fact
	}{
		{"only the SYN", outgoing.Count{Loopback: 10, All: 101}, No},
		{"only the reset, to ourselves", outgoing.Count{Loopback: 11, All: 101}, Yes},
		{"both, or somebody else too", outgoing.Count{Loopback: 11, All: 102}, Unseen},
		{"somebody else by the loopback interface", outgoing.Count{Loopback: 15, All: 105}, Yes},
		{"before Linux 6.7", outgoing.Count{Loopback: 11, All: -1}, Unseen},
		{"before Linux 6.7, and nothing by the loopback interface", outgoing.Count{Loopback: 10, All: -1}, No},
		{"nothing is known", outgoing.Count{Loopback: -1, All: -1}, Unseen},
	} {
		if got := own(before, c.after); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}
