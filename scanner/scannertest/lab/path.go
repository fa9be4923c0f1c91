package lab

import (
	"fmt"
	"net/netip"
	"time"
)

// Names of the routers of a path; its other namespaces are Scanner and Target.
const (
	R1 = "r1" // next to the scanner: a router at home, a firewall of one's own
	R2 = "r2"
	R3 = "r3" // next to the servers
)

// Addresses of a path. PathHops4[0] is R1 as the scanner sees it: time exceeded and every
// reject of its filters come from there.
var (
	PathClient4 = netip.MustParseAddr("192.168.1.7")
	PathClient6 = netip.MustParseAddr("2a10:1::7")
	PathHops4   = [3]netip.Addr{netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("62.20.3.1")}
	PathHops6   = [3]netip.Addr{netip.MustParseAddr("2a10:1::1"), netip.MustParseAddr("2a10:2::1"), netip.MustParseAddr("2a10:3::1")}
	PathServer4 = netip.MustParseAddr("62.20.4.2") // an interface of tg has it
	PathServer6 = netip.MustParseAddr("2a10:4::2")

	// Every address of these is tg, as of PathConfig.AnyIP.
	PathServers4 = netip.MustParsePrefix("62.30.0.0/16")
	PathServers6 = netip.MustParsePrefix("2a10:30::/32")

	pathOuter4 = [3]netip.Addr{netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("62.20.3.2"), netip.MustParseAddr("62.20.4.1")}
	pathOuter6 = [3]netip.Addr{netip.MustParseAddr("2a10:2::2"), netip.MustParseAddr("2a10:3::2"), netip.MustParseAddr("2a10:4::1")}
)

// A PathConfig says what path a test wants. The zero PathConfig is the bare
// path: three routers without filters, nobody listening, ICMP limits off.
type PathConfig struct {
	// AnyIP are further prefixes of which tg is every address.
	AnyIP []netip.Prefix
	// Clients are further addresses of the scanner, for --source.
	Clients []netip.Addr
	// Ports are the ports of the built-in server. Default 25, 465, 587.
	Ports []uint16
	// Serve starts the built-in server in tg on Ports: see Config.Serve.
	Serve bool
	// ICMPLimits leaves the kernels' limits on ICMP errors as they are: see Config.ICMPLimits.
	ICMPLimits bool
	// Binary builds ./cmd/smtpsweep before the network is entered: see Binary.
	Binary bool
}

// A Filter is what a namespace of a path does to the TCP segments that go towards
// the servers.
type Filter struct {
	// At is where: R1, R2 or R3, for what they forward; Scanner, for what it
	// sends; Target, for what arrives.
	At string
	// Early is a filter in prerouting, before a router looks at the TTL: a segment that
	// would have expired there is filtered too. Of R1, R2, R3 and Target.
	Early bool
	// Family is 4 or 6; 0 is both.
	Family int
	// From and To are the addresses; the zero prefix is every address.
	From, To netip.Prefix
	// Ports are ports of the destination; none is every port.
	Ports []uint16
	// Do is what is done. The zero Action drops.
	Do Action
}

// An Action is what a Filter does to a segment.
type Action struct {
	kind  actionKind
	icmp  uint8
	port  uint16
	rate  uint64
	burst uint32
	unit  time.Duration
}

type actionKind byte

const (
	actionDrop actionKind = iota
	actionReset
	actionReject
	actionLimit
	actionRedirect
	actionMasquerade
)

// DoDrop drops without a word.
func DoDrop() Action { return Action{} }

// DoReset answers with a TCP reset, as if it came from the destination.
func DoReset() Action { return Action{kind: actionReset} }

// DoReject answers with destination unreachable and a code: ICMP type 3 (RFC 792, RFC 1812,
// 5.2.7.1) or ICMPv6 type 1 (RFC 4443, 3.1). The filter must have a Family.
func DoReject(code uint8) Action { return Action{kind: actionReject, icmp: code} }

// DoLimit lets a burst pass and then so many in each unit of time, and drops the rest.
// The unit is a second, a minute or an hour.
func DoLimit(burst uint32, n uint64, per time.Duration) Action {
	return Action{kind: actionLimit, rate: n, burst: burst, unit: per}
}

// DoRedirect leads connections to a port of the router, as to a transparent proxy, which
// finds out by OriginalDst where they were to go. It is always Early.
func DoRedirect(port uint16) Action { return Action{kind: actionRedirect, port: port} }

// DoMasquerade gives connections the router's own outer address as source. From, To and
// Ports are honoured; what passes is changed as it leaves, so Early has no meaning.
func DoMasquerade() Action { return Action{kind: actionMasquerade} }

// valid says what is wrong with a filter.
func (f Filter) valid() error {
	router := f.At == R1 || f.At == R2 || f.At == R3
	switch {
	case !router && f.At != Scanner && f.At != Target:
		return fmt.Errorf("a filter at %q: want %s, %s, %s, %s or %s", f.At, R1, R2, R3, Scanner, Target)
	case f.Early && f.At == Scanner:
		return fmt.Errorf("a filter at %s cannot be Early: its segments arrive from nowhere", f.At)
	case f.Family != 0 && f.Family != 4 && f.Family != 6:
		return fmt.Errorf("a filter of family %d: want 4, 6 or 0", f.Family)
	case f.Do.kind == actionReject && f.Family == 0:
		return fmt.Errorf("a filter that rejects with code %d needs a Family: the codes differ", f.Do.icmp)
	case f.Do.kind >= actionRedirect && f.At == Scanner:
		return fmt.Errorf("a filter at %s cannot change addresses: use %s", f.At, R1)
	}
	return nil
}
