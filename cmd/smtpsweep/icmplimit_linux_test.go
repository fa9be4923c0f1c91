package main

import (
	"fmt"
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
		ws := scanOverWire(t, l, lab.Faults{}, lab.Count(t, 64, 1024, 16384), specs...)
		checkEach(t, ws.rows, endpointsOf(append(ws.addrs, addrs6...), mailPorts...))
		checkICMPLimited(t, l, ws)
		if says := fmt.Sprintf(": %v rejects there and does not say so each time", lab.RouterAddr4); !strings.Contains(ws.said, says) {
			t.Errorf("does not say %q", says)
		}
	})
}

// checkICMPLimited compares rows with the truth and with the messages that came: a
// router that may not tell is silent.
func checkICMPLimited(t *testing.T, l *lab.Lab, ws wireScan) {
	t.Helper()
	told, silent := 0, 0
	for _, r := range ws.rows {
		endpoint := endpointOf(r)
		truth, passed := l.Truth(endpoint.Addr(), endpoint.Port()), ws.traffic.Endpoints[endpoint]
		if truth.From.IsValid() {
			late := passed.SYN > 4 && r["reason"] == "no-response" // the answer to its last SYN, as the time was over
			if passed.ICMP == 0 || late {
				truth.Reason, truth.From = "no-response", netip.Addr{}
				silent++
			} else {
				told++
			}
		}
		checkRow(t, r, truth)
	}
	checkAttemptsOfEach(t, ws.rows, ws.traffic)
	if told == 0 || silent == 0 {
		t.Errorf("the router told of %d endpoints and of %d not: there was no limit", told, silent)
	}
	t.Logf("the router told of %d of the %d endpoints that it rejects", told, told+silent)
}
