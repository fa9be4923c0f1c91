// Package egress finds out whether mail can leave the network that it runs in
// and, where it cannot, who stops it and at which hop.
//
// Start with [NewPlan], a pure function that says whom to contact: independent
// mail operators on 25, 465, 587 and 2525, a control port of each, and addresses
// that must stay silent. An [Auditor] runs the plan with an engine and a prober.
// [Judge], a pure function again, turns what was seen into one [Verdict] a family
// and port; one slow or broken destination never makes one. The package sends
// nothing itself and prints nothing: package report words the verdicts.
package egress

import (
	"net/netip"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A Family is 4 or 6: each has verdicts of its own.
type Family uint8

// The families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of an address.
func FamilyOf(a netip.Addr) Family {
	if a.Unmap().Is4() {
		return IPv4
	}
	return IPv6
}

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	if f == IPv6 {
		return "IPv6"
	}
	return "IPv4"
}

// A Kind says what a contact is for.
type Kind uint8

const (
	Mail     Kind = iota // a mail port: connect and hold a conversation
	Control              // a port that is no mail port: connect only; shows that the operator is there
	Negative             // an address that nobody has (RFC 5737, RFC 3849): must stay silent
)

// A Contact is one connection that is made: at most one a destination and port.
type Contact struct {
	Operator string // who runs the destination; contacts of different operators are independent
	Listed   bool   // it is of the built-in list, and known to answer there
	Kind     Kind
	Target   targets.Target
}

// Family returns the family of a contact.
func (c *Contact) Family() Family { return FamilyOf(c.Target.Addr) }

// A Seen is a contact and what came of it.
type Seen struct {
	Contact
	Result scanner.Result
}

// A Word is what is concluded of a port out of this network. The zero Word is
// the honest one.
type Word string

const (
	Inconclusive Word = "inconclusive" // what was seen decides nothing, or the cause is on this machine
	Allowed      Word = "allowed"      // several operators answered, and nothing was changed on the way
	Blocked      Word = "blocked"      // none answered, though they answer on other ports
	Intercepted  Word = "intercepted"  // something on the way answers in the operators' place, or changes what they say
	Downgraded   Word = "downgraded"   // something on the way takes encryption away
	NotTested    Word = "not-tested"   // nobody was asked: no IPv6 here, no destination with this port
)

// A Mechanism is how a port is stopped.
type Mechanism string

const (
	Dropped  Mechanism = "dropped"  // silence
	Reset    Mechanism = "reset"    // a TCP reset in the operators' name
	Rejected Mechanism = "rejected" // an ICMP message
	Cut      Mechanism = "cut"      // the connection is made, and ended before a word is said
	Mixed    Mechanism = "mixed"    // one of them here, another there
)

// A Cause says why there is no verdict, or what a verdict is not due to.
type Cause string

const (
	CauseFirewall     Cause = "own-firewall"      // of this machine
	CauseNoRoute      Cause = "no-route"          // this machine has no route, link or gateway
	CauseNoIPv6       Cause = "no-ipv6"           // this machine has no IPv6 to the Internet
	CauseNoIPv4       Cause = "no-ipv4"           // this machine has no IPv4 to the Internet
	CauseLocal        Cause = "local-error"       // another fault of this machine
	CauseDNS          Cause = "dns"               // names do not resolve
	CauseNoAddress    Cause = "no-address"        // no destination has an address of this family and this port
	CauseDestination  Cause = "destination-down"  // the destinations themselves: they answer nowhere, or refuse by themselves
	CauseOne          Cause = "one-destination"   // only one destination tells, and that may be its own doing
	CausePartial      Cause = "partial"           // some destinations answer and others do not
	CauseNothing      Cause = "nothing-gets-out"  // not even the control port answers anywhere
	CauseInterrupted  Cause = "interrupted"       // somebody stopped the run
	CauseMute         Cause = "no-conversation"   // connections are made, and nobody says a word of SMTP on them
	CauseRouting      Cause = "unreachable"       // routers know no way to the destinations: not a filter
	CauseInterceptor  Cause = "local-interceptor" // something near answers for others
	CauseServer       Cause = "your-mail-server"  // it is not involved
	CauseDisagreement Cause = "disagreement"      // of what destinations show, some is odd and some is not
)

// Finding codes of an audit. Those of single conversations (package smtp) may
// stand beside them.
const (
	EgressDropped      = "egress-dropped"
	EgressReset        = "egress-reset"
	EgressRejected     = "egress-rejected"
	EgressCut          = "egress-cut"
	EgressThrottled    = "egress-throttled"
	EgressPartial      = "egress-partial"
	AnswersForAll      = "answers-for-all"
	SameGreeting       = "same-greeting"
	BannerForeign      = "banner-foreign"
	SameEHLO           = "same-ehlo"
	CannedEHLO         = "canned-ehlo"
	AntivirusProxy     = "antivirus-proxy"
	TooNear            = "answers-too-near"
	CertificateForeign = "certificate-foreign"
	StartTLSRemoved    = "starttls-removed"
	StartTLSMasked     = "starttls-masked"
	StartTLSRefused    = "starttls-refused"
	TLSCut             = "tls-cut"
	BannerMasked       = "banner-masked"
	CommandMasked      = "command-masked"
	PlaintextAfter220  = "plaintext-after-220"
	GreetingRefused    = "greeting-refused"
)

// Findings returns every finding code of this package, for whoever must know them all.
func Findings() []string {
	return []string{
		EgressDropped, EgressReset, EgressRejected, EgressCut, EgressThrottled, EgressPartial, AnswersForAll, SameGreeting, BannerForeign, SameEHLO,
		CannedEHLO, AntivirusProxy, TooNear, CertificateForeign, StartTLSRemoved, StartTLSMasked, StartTLSRefused, TLSCut, BannerMasked,
		CommandMasked, PlaintextAfter220, GreetingRefused,
	}
}

// Causes returns every cause, for whoever must know them all.
func Causes() []Cause {
	return []Cause{
		CauseFirewall, CauseNoRoute, CauseNoIPv6, CauseNoIPv4, CauseLocal, CauseDNS, CauseNoAddress, CauseDestination, CauseOne, CausePartial,
		CauseNothing, CauseInterrupted, CauseMute, CauseRouting, CauseInterceptor, CauseServer, CauseDisagreement,
	}
}

// A Finding is something that was done to the conversations on a port, with what
// shows it.
type Finding struct {
	Code     string   `json:"code"`
	Evidence []string `json:"evidence"` // sentences
}

// A RuledOut is a cause that the verdict is not due to, and how that is known.
type RuledOut struct {
	Cause    Cause  `json:"cause"`
	Evidence string `json:"evidence"`
}

// A Verdict is what is concluded of one port in one family, of one vantage: the
// journal's "verdict" record.
type Verdict struct {
	Time    time.Time `json:"time"`
	Round   int       `json:"round,omitempty"` // of --watch, from 1
	Vantage string    `json:"vantage,omitempty"`
	Source  string    `json:"source,omitempty"` // our address
	Family  Family    `json:"family"`
	Port    uint16    `json:"port"`
	Control bool      `json:"control,omitempty"` // it is the control port

	Word     Word      `json:"verdict"`
	Cause    Cause     `json:"cause,omitempty"` // why it is inconclusive or not tested
	How      Mechanism `json:"how,omitempty"`   // iff blocked
	Findings []Finding `json:"findings,omitempty"`

	Reflected bool   `json:"reflected,omitempty"` // the reflector was reached, and signed what arrived
	Public    string `json:"public,omitempty"`    // our address as the reflector sees it

	Asked    int `json:"asked"`    // destinations, each of another operator
	Answered int `json:"answered"` // of these
	Stopped  int `json:"stopped"`  // of these: no answer, though they are there
	// Same are those of the stopped whose very address answered on another port, SamePort.
	Same     int      `json:"same,omitempty"`
	SamePort uint16   `json:"same_port,omitempty"`
	Verified int      `json:"verified,omitempty"` // whose certificate is trusted and the operator's own
	TLS      string   `json:"tls,omitempty"`      // the lowest version that was negotiated
	Evidence []string `json:"evidence,omitempty"` // sentences about single destinations
	ICMPFrom string   `json:"icmp_from,omitempty"`
	ICMP     string   `json:"icmp,omitempty"` // type/code

	Where    *Where     `json:"where,omitempty"` // the hops, of what is stopped
	RuledOut []RuledOut `json:"ruled_out,omitempty"`
}

// Bad reports whether the verdict is one that the user has to do something about.
func (v *Verdict) Bad() bool {
	return v.Word == Blocked || v.Word == Intercepted || v.Word == Downgraded
}

// Has reports whether a verdict has a finding.
func (v *Verdict) Has(code string) bool {
	for _, f := range v.Findings {
		if f.Code == code {
			return true
		}
	}
	return false
}

// A Where is where on the path something is stopped: after the hop After, and at
// the hop By at the latest. Hop 0 is this machine.
type Where struct {
	Destination string `json:"destination"`
	After       int    `json:"after"`
	AfterAddr   string `json:"after_address,omitempty"`
	AfterName   string `json:"after_name,omitempty"`
	By          int    `json:"by,omitempty"` // 0 if the path does not show it
	ByAddr      string `json:"by_address,omitempty"`
	ByName      string `json:"by_name,omitempty"`
	Distance    int    `json:"distance,omitempty"` // hop of the destination by the control port; 0 if not known
	Owner       Owner  `json:"owner"`              // of the place
	Probes      string `json:"probes,omitempty"`   // what was sent: "3 flows, 3 SYNs each"
}
