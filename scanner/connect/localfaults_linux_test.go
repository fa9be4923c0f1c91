package connect

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
	"github.com/smtpsweep/smtpsweep/targets"
)

// bothFamilies returns an address of the lab's targets, and one of IPv6 if there is.
func bothFamilies(l *lab.Lab, a4, a6 string) []netip.Addr {
	as := []netip.Addr{netip.MustParseAddr(a4)}
	if l.IPv6() {
		as = append(as, netip.MustParseAddr(a6))
	}
	return as
}

// rejectOwn has this machine's own firewall stop what goes to a port of the lab's targets.
func rejectOwn(t *testing.T, l *lab.Lab, port uint16, how lab.Class) {
	t.Helper()
	l.RejectOut(t, lab.Scanner, lab.Targets4, port, how)
	if l.IPv6() {
		l.RejectOut(t, lab.Scanner, lab.Targets6, port, how)
	}
}

// checkOwn checks that the rows of one port blame this machine's firewall, and those of the
// other ports what the lab knows.
func checkOwn(t *testing.T, l *lab.Lab, port uint16, all []scanner.Observation) {
	t.Helper()
	for _, o := range all {
		if o.Target.Port != port {
			checkTruth(t, l, []scanner.Observation{o})
			continue
		}
		check(t, o, scanner.Unknown, scanner.LocalError)
		if !strings.Contains(o.Err, "this machine's firewall") && !strings.Contains(o.Err, "its firewall") || o.Attempts != 0 {
			t.Errorf("%v: %d attempts, Err %q: want none, and the firewall named", o.Target.AddrPort(), o.Attempts, o.Err)
		}
	}
}

// TestOwnFirewallThatDropsIsALocalError compares it with targets that are silent: what
// never left this machine is no silence of theirs.
func TestOwnFirewallThatDropsIsALocalError(t *testing.T) {
	t.Parallel()
	lab.Run(t, lab.Config{Serve: true, Classes: true}, func(t *testing.T, l *lab.Lab) {
		rejectOwn(t, l, 25, lab.Drop)
		var ts []targets.Target
		for _, a := range bothFamilies(l, "10.64.0.0", "fd64::8") {
			ts = append(ts, endpoints([]uint16{25, 587}, addrsFrom(a.String(), 8)...)...)
		}
		checkOwn(t, l, 25, scan(t, &Engine{}, ts...).all)
	})
}
