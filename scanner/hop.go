package scanner

import (
	"net/netip"
	"time"
)

// A Hop is what came of the SYNs to one port that could go so many hops and no farther.
type Hop struct {
	Port    uint16
	TTL     int         // hops that the SYNs could go
	Sent    int         // how many were sent
	Answers []HopAnswer // one for each sender and reason, in the order in which they came; none is silence
}

// A HopAnswer is an answer to a SYN that could go a number of hops.
type HopAnswer struct {
	From   netip.Addr    // who sent it; the target itself if the reason is SynAck or ConnRefused
	Reason Reason        // TimeExceeded: a router on the way; SynAck, ConnRefused: the target, or who answers for it; else an ICMP rejection
	ICMP   ICMP          // valid iff its From is
	RTT    time.Duration // of the first such answer
	Count  int           // how many there were
}

// A Fate is what became of the SYNs to a port, on their way to a host.
// The zero value means that it is not known.
type Fate string

const (
	Reached    Fate = "reached"    // the host answered, open or closed
	Lost       Fate = "lost"       // nothing answers beyond some hop
	Rejected   Fate = "rejected"   // an ICMP message says no
	Cut        Fate = "cut"        // a reset comes from nearer than the host is
	Interposed Fate = "interposed" // a connection is accepted nearer than the host is
	Untraced   Fate = "untraced"   // it could not be looked at: Path.Err
)

// A Path is what a trace says of one port of a host. Hop numbers are TTLs: hop 1
// is the first router.
type Path struct {
	Port    uint16
	Control uint16 // the port of the same host that it was compared with, which the host answered; 0 = none
	Fate    Fate
	State   State  // of the port, by ordinary SYNs
	Reason  Reason // the evidence for it
	// Distance is the number of hops at which the SYNs were answered by the host, or by
	// somebody in its name; 0 = never.
	Distance int
	// LastHop is the last hop that answered "time exceeded" to a SYN to this port; 0 = none did.
	LastHop int
	// After and NoLaterThan say where what happened to the SYNs happens, unless the fate is
	// Reached: behind the place where hop After counts the TTL down, and at hop NoLaterThan at the latest. So it is
	// the rules of hop After for what it forwards, or those of NoLaterThan for what arrives,
	// or something between. NoLaterThan 0 = not known: no other port got farther.
	After, NoLaterThan int
	// By is who said so, if an ICMP message did. ByHop is its hop, 0 if it is none that answered.
	By    ICMP
	ByHop int
	Err   string // why it is Untraced, our words
}
