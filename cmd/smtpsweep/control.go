package main

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/smtpsweep/smtpsweep/report"
	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// controlOrigin marks the control probes of a sweep. They are no rows.
var controlOrigin = &targets.Origin{Spec: "control"}

// Documentation addresses (RFC 5737, RFC 3849) belong to nobody. If one answers
// on a mail port, something between us and the world answers for others:
// a local antivirus, a router's proxy.
var (
	controlAddr4 = netip.MustParseAddr("192.0.2.1")
	controlAddr6 = netip.MustParseAddr("2001:db8::1")
)

// controlAddrs returns the addresses that are probed beside a sweep of public
// addresses, one a family.
func (s *sweep) controlAddrs() []netip.Addr {
	if !s.job.public() || s.f.allowReserved {
		return nil // with --allow-reserved a documentation address may well be a host of a lab
	}
	var has4, has6 bool
	family := func(a netip.Addr) {
		has4, has6 = has4 || a.Is4(), has6 || a.Is6()
	}
	if n := s.job.plan.Len(); n > 0 {
		family(s.job.plan.At(0).Addr) // IPv4 comes first in a plan
		family(s.job.plan.At(n - 1).Addr)
	}
	for _, a := range s.job.names.some {
		family(a)
	}
	var out []netip.Addr
	if has4 && !s.excluded(controlAddr4) {
		out = append(out, controlAddr4)
	}
	if has6 && !s.excluded(controlAddr6) {
		out = append(out, controlAddr6)
	}
	return out
}

// excluded reports whether the user excluded an address.
func (s *sweep) excluded(a netip.Addr) bool {
	_, why := s.job.plan.Permit(a, true)
	return why == targets.Excluded
}

// controls returns the control probes, on every port of the run.
func (s *sweep) controls() []targets.Target {
	ports, _ := s.job.plan.Ports()
	if len(ports) > 12 {
		ports = targets.DefaultPorts()
	}
	var out []targets.Target
	for _, addr := range s.controlAddrs() {
		for _, p := range ports {
			out = append(out, targets.Target{Index: targets.NoIndex, Addr: addr, From: controlOrigin, Port: p.Number, Role: p.Role})
		}
	}
	return out
}

// controlText announces them.
func (s *sweep) controlText() string {
	var names []string
	for _, addr := range s.controlAddrs() {
		names = append(names, addr.String())
	}
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf(" Control: %s must stay silent.", strings.Join(names, ", "))
}

// control judges a control probe: a TCP answer of any kind came from somebody
// who answers for others. An ICMP message is a router's honest word.
func (s *sweep) control(r *scanner.Result) {
	if r.State != scanner.Open && r.State != scanner.Closed {
		return
	}
	what := "refused the connection"
	if r.State == scanner.Open {
		what = "accepted a connection"
	}
	if r.Service != nil && len(r.Service.Banner) > 0 {
		what += fmt.Sprintf(" and greeted %q", report.CleanBytes(r.Service.Banner))
	}
	s.note("locally-intercepted", fmt.Sprintf("%s, which nobody has, %s: something on this side (antivirus, router, proxy) answers for others on port %d; do not believe what this run says of it",
		r.Target.Addr, what, r.Target.Port))
}
