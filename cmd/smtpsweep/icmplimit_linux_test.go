package main

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// TestICMPLimits sweeps a network whose router rejects three of eight addresses
// and sends as few ICMP messages as Linux does by default: one a second to one peer
// after the first six, of the types in the mask. What is rejected is filtered
// always: with the router's message where it came, as silence where it did not.
func TestICMPLimits(t *testing.T) {
	t.Parallel()
	cfg := lab.Config{Wire: true, Classes: true, Serve: true, Binary: true, RejectAt: lab.Router, ICMPLimits: true}
	lab.Run(t, cfg, func(t *testing.T, l *lab.Lab) {
		l.Sysctl(t, lab.Router, "net/ipv4/icmp_ratelimit", "1000") // ms; a network namespace begins with the defaults
		l.Sysctl(t, lab.Router, "net/ipv4/icmp_ratemask", "6168")
		some6, addrs6 := netip.MustParsePrefix("fd64::/122"), []netip.Addr(nil)
		var specs []string
		if l.IPv6() {
			specs, addrs6 = []string{some6.String()}, addressesOf(some6)
		}
		ws := scanOverWire(t, l, lab.Faults{}, lab.Count(t, 64, 1024, 16384), 4, specs...)
		ws.check(t, l, endpointsOf(append(ws.addrs, addrs6...), mailPorts...), checkRow)
		told, silent := ws.rejected(l)
		t.Logf("the router told of %d of the %d endpoints that it rejects", told, told+silent)
		if told == 0 || silent == 0 {
			t.Error("there was no limit")
		}
		// Of two routers, as IPv4 and IPv6 have, the one that explains more silence is named.
		if says := " rejects there and does not say so each time, so "; !strings.Contains(ws.said, says) {
			t.Errorf("does not say %q", says)
		}
		if lab.Count(t, 0, 0, 1) > 0 { // it takes half a minute
			t.Run("slowly", func(t *testing.T) { checkSlowly(t, l) })
		}
	})
}

// checkSlowly does what smtpsweep explain icmp-limited says: then the router tells of everything.
func checkSlowly(t *testing.T, l *lab.Lab) {
	rows := startScan(t, l, "-p", "25", "--rate", "0.5", "10.64.255.0/28").rows(t)
	if told, silent := (&wireScan{rows: rows}).rejected(l); told != 6 || silent != 0 {
		t.Errorf("the router told of %d endpoints and of %d not, want 6 and none", told, silent)
	}
}

// rejected returns of how many endpoints that the router rejects it told, and of how many not.
func (ws *wireScan) rejected(l *lab.Lab) (told, silent int) {
	for _, r := range ws.rows {
		switch truth := l.Truth(endpointOf(r).Addr(), endpointOf(r).Port()); {
		case !truth.From.IsValid():
		case r["icmp_from"] != "":
			told++
		default:
			silent++
		}
	}
	return told, silent
}
