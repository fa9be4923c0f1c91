package path

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// A Refusal is a port that answers with a TCP reset, of which [Origin] is to find
// out who sends it.
type Refusal struct {
	Port netip.AddrPort // that refuses
	// Control is a port of the same host that accepts connections; 0 if none is known. Without
	// it there is nothing to compare a reset with, and hardly anything can be decided.
	Control uint16
	// Closed is a port of the same host where nobody listens and that no filter singles
	// out; 0 is 61,453. Its own resets tell the host's way of making one. It is asked only
	// if everything else says that the host itself refuses.
	Closed uint16
	// Source is the address to dial from, and Interface the interface; zero: as routes say.
	Source    netip.Addr
	Interface string
	// Begin and Distance are what a trace has found already: the smallest TTL of a SYN at
	// which Port refuses, and at which Control accepts. Zero: not known, Origin looks for them.
	Begin, Distance int
	// Interval is the time between two connects, after the first six: hosts and routers limit
	// what they say to one peer. Zero is a second for a public address and nothing
	// for others; negative is nothing.
	Interval time.Duration
	// Patience is how long a connect waits for an answer, in which the kernel sends a
	// second SYN after one second. Zero is 2.5 s.
	Patience time.Duration
	// Unprivileged leaves raw sockets alone even where they are allowed.
	Unprivileged bool
}

// MostConnects is the most connections that [Origin] begins, to all ports of a refusal
// together; ordinarily it is 6 with raw sockets, and 10 to 25 without. Some of those to Control may
// be established, and are closed at once. With raw sockets none is.
const MostConnects = 48

// A Party is who sends the resets of a port: the zero Party is Undecidable.
type Party uint8

// The parties, as likely as the figures make them.
const (
	Undecidable Party = iota // the figures do not tell, or contradict each other
	Self                     // this machine's own firewall
	Hop                      // a filter on the way, at a hop of the interval
	Host                     // the host that was dialled
)

var partyNames = [...]string{"undecidable", "this-machine", "hop", "host"}

// String returns the word for the party in journals.
func (p Party) String() string { return partyNames[p] }

// MarshalText returns the word.
func (p Party) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the word.
func (p *Party) UnmarshalText(text []byte) error {
	for i, name := range partyNames {
		if string(text) == name {
			*p = Party(i)
			return nil
		}
	}
	return fmt.Errorf("party %q: want one of %v", text, partyNames)
}

// A Fact is something that was looked at and is so, or not: the zero Fact was not seen.
type Fact string

// The values of a Fact.
const (
	Unseen Fact = ""
	No     Fact = "no"
	Yes    Fact = "yes"
)

func factOf(yes bool) Fact {
	if yes {
		return Yes
	}
	return No
}

// An Attribution says who is likely to send the resets of a port, and why.
type Attribution struct {
	By Party `json:"by"`
	// Lean is whom the figures speak for if they do not decide; Undecidable if for nobody.
	Lean Party `json:"lean,omitzero"`
	// From and To are the hops between which the sender is, both included: a filter that
	// forwards answers what would reach the next hop, one in prerouting what would expire at
	// its own, and a TTL does not say which. Zero unless By is Hop, or Undecidable and that
	// much is known.
	From int `json:"hop_from,omitempty"`
	To   int `json:"hop_to,omitempty"`
	// Hop is the hop of these that the TTL of the reset speaks for; 0 if for none.
	Hop int `json:"hop,omitempty"`
	// Addresses are those of the routers From to To, as far as they said that a TTL was over.
	Addresses []netip.Addr `json:"hop_addresses,omitempty"`
	Why       string       `json:"why"` // one sentence, with the figures that decided
	Figures   Figures      `json:"figures"`
}

// Figures are what was measured.
type Figures struct {
	Control uint16 `json:"control_port,omitempty"`
	Method  Method `json:"method,omitempty"` // how the TTLs of answers were learned
	// Refused says that the port answers with a reset; if not, Instead is what it does.
	Refused bool   `json:"refused"`
	Instead string `json:"instead,omitempty"`
	Own     Fact   `json:"own_firewall,omitempty"`  // the reset came by the loopback interface: it is our own
	IsHere  bool   `json:"own_address,omitempty"`   // the port is one of this machine
	Begin   Span   `json:"refuses_at_ttl,omitzero"` // smallest TTL of a SYN at which the port refuses
	// Distance is the smallest TTL of a SYN at which the control port accepts: the host's distance.
	Distance Span `json:"accepts_at_ttl,omitzero"`
	// Beyond is the largest TTL at which a router said of a SYN to the control port that its
	// TTL was over: the host is behind that hop.
	Beyond int  `json:"control_beyond_hop,omitempty"`
	Reset  Span `json:"reset_ttl,omitzero"`   // TTL with which the reset came
	SYNACK Span `json:"syn_ack_ttl,omitzero"` // TTL with which the control port's SYN-ACK came
	// Marked says that a reset carried the DSCP of its SYN: the stacks of hosts copy it, packet
	// filters write a packet of their own. Host is the same of Closed.
	Marked     Fact `json:"reset_copies_dscp,omitempty"`
	HostMarked Fact `json:"host_copies_dscp,omitempty"`
	// Raw has the headers of the last reset and SYN-ACK, if the method is raw.
	Raw      *Headers `json:"raw,omitempty"`
	ResetRTT Millis   `json:"reset_rtt_ms,omitempty"` // the shortest from SYN to reset
	AckRTT   Millis   `json:"syn_ack_rtt_ms,omitempty"`
	Connects int      `json:"connects"`
	// Interrupted says that there was no time for all of it.
	Interrupted bool     `json:"interrupted,omitempty"`
	Notes       []string `json:"notes,omitempty"` // what may have biased it

	routers map[int]netip.Addr // who said that a TTL was over, by TTL
}

// A Method is how the TTLs of answers were learned.
type Method string

// The methods. The unprivileged one lets the kernel drop what comes with less than a
// certain TTL (IP_MINTTL, IPV6_MINHOPCOUNT), and halves with each connect what it can be.
const (
	MethodMinTTL Method = "min-ttl"
	MethodRaw    Method = "raw" // read from the packets; needs CAP_NET_RAW
)

// A Span is what a TTL was found to be: from Min to Max, both included; the zero Span is not known.
type Span struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

func (s Span) known() bool { return s.Max > 0 }
func (s Span) exact() bool { return s.known() && s.Min == s.Max }

// String returns "61", or "60 to 63".
func (s Span) String() string {
	switch {
	case !s.known():
		return "unknown"
	case s.exact():
		return fmt.Sprint(s.Min)
	}
	return fmt.Sprintf("%d to %d", s.Min, s.Max)
}

// Millis is a time in milliseconds.
type Millis float64

func millis(d time.Duration) Millis {
	return Millis(d.Round(time.Microsecond)) / Millis(time.Millisecond)
}

// Headers are those of two answers, as they came.
type Headers struct {
	Reset  *Header `json:"reset,omitempty"`
	SYNACK *Header `json:"syn_ack,omitempty"`
}

// A Header is what the headers of a TCP segment say of its sender.
type Header struct {
	TTL    int    `json:"ttl"`    // IPv6: hop limit
	ID     uint16 `json:"ip_id"`  // IPv4 only
	DF     bool   `json:"df"`     // IPv4 only: do not fragment
	DSCP   uint8  `json:"dscp"`   // RFC 2474, without the bits of ECN
	Window uint16 `json:"window"` // RFC 9293, 3.1
	Flags  uint8  `json:"-"`      // of the TCP header
}

// Origin finds out who is likely to refuse connections to a port: the host, a hop on
// the way, or this machine. It begins at most [MostConnects] connections, one after
// the other, and sends nothing over them. An error is a fault of this machine, or the cause of
// ctx's end, with which comes what is known by then; that it cannot be decided is an answer.
func Origin(ctx context.Context, r Refusal) (Attribution, error) {
	r.Port = netip.AddrPortFrom(r.Port.Addr().Unmap(), r.Port.Port())
	switch {
	case !r.Port.IsValid() || r.Port.Port() == 0:
		return Attribution{}, fmt.Errorf("who sent a reset: %s is no port of an address", r.Port)
	case r.Control == r.Port.Port():
		return Attribution{}, fmt.Errorf("who sent a reset: port %d cannot be its own control port", r.Control)
	}
	d, err := newDialler(r)
	if err != nil {
		return Attribution{}, err
	}
	defer d.close()
	f, err := measure(ctx, r, d)
	if err != nil && !f.Interrupted {
		return Attribution{}, err
	}
	return Judge(f), err
}
