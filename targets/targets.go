// Package targets says what to probe: it reads what a user typed, counts it,
// orders it, cuts it into shards, takes out what must not be contacted, and
// asks the DNS.
//
// Start with [Builder]: Add specs and files to it, then Build gives the [Plan].
// A plan is a pure function of what was typed; order, shards and resume are
// pure functions of the plan. Nothing in this package sends a packet to a
// target; only the resolver talks, and only to DNS servers.
package targets

import "net/netip"

// A Role is the way a mail port is spoken to.
type Role uint8

const (
	SMTP       Role = iota // the server greets in plain text, STARTTLS may follow: 25 and every port not known otherwise (RFC 5321)
	Submission             // like SMTP, for mail programs: 587 (RFC 6409)
	SMTPS                  // TLS first, greeting inside: 465 (RFC 8314, 3.3)
)

// String returns the word that a port list uses for the role: 2525/smtp.
func (r Role) String() string {
	switch r {
	case Submission:
		return "submission"
	case SMTPS:
		return "smtps"
	}
	return "smtp"
}

// ClientFirst reports whether the client speaks first on a port of this role.
func (r Role) ClientFirst() bool { return r == SMTPS }

// RoleOf returns the usual role of a port number.
func RoleOf(port uint16) Role {
	switch port {
	case 465:
		return SMTPS
	case 587:
		return Submission
	}
	return SMTP
}

// A Port is a port number and how to speak there.
type Port struct {
	Number uint16
	Role   Role
}

// NoIndex is the Index of a target that is not part of the plan's addresses
// because it came from a name.
const NoIndex = ^uint64(0)

// An Origin says where an address came from. Targets of one range or name share one.
type Origin struct {
	Spec string // as the user typed it: "10.0.0.0/24", "mail.example.org", "mx:example.org"
	Host string // name the address came from, absolute, lower case, without the last dot; empty if an address was typed
}

// A Target is one endpoint: an address, a port, and where the address came from.
// It is small (48 bytes), because an engine holds many.
type Target struct {
	Index uint64     // index in the plan's addresses, or NoIndex
	Addr  netip.Addr // with its zone if it is link-local
	From  *Origin    // of the first spec that names the address and port; nil if that is the address itself
	Port  uint16
	Role  Role
}

// Spec returns what the user typed to reach this target.
func (t Target) Spec() string {
	if t.From == nil {
		return t.Addr.String()
	}
	return t.From.Spec
}

// Host returns the name that the address came from, or "".
func (t Target) Host() string {
	if t.From == nil {
		return ""
	}
	return t.From.Host
}

// AddrPort returns the address and port.
func (t Target) AddrPort() netip.AddrPort { return netip.AddrPortFrom(t.Addr, t.Port) }
