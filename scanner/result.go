package scanner

import (
	"net"
	"net/netip"
	"time"

	"github.com/smtpsweep/smtpsweep/targets"
)

// A State is what was observed of a port. The zero State is Unknown.
type State uint8

const (
	Unknown  State = iota // not decided: the reason says why
	Open                  // a TCP connection was established
	Closed                // the port answered with a TCP reset
	Filtered              // silence, or an ICMP message instead of an answer
)

var stateNames = [...]string{"unknown", "open", "closed", "filtered"}

// String returns the word for the state in reports.
func (s State) String() string { return stateNames[s] }

// A Reason is the evidence for a state, in nmap's words where it has one.
type Reason string

const (
	SynAck          Reason = "syn-ack"
	ConnRefused     Reason = "conn-refused"
	Reset           Reason = "reset"
	NoResponse      Reason = "no-response"
	AdminProhibited Reason = "admin-prohibited"
	HostProhibited  Reason = "host-prohibited"
	NetProhibited   Reason = "net-prohibited"
	HostUnreach     Reason = "host-unreach"
	NetUnreach      Reason = "net-unreach"
	PortUnreach     Reason = "port-unreach"
	ProtoUnreach    Reason = "proto-unreach"
	TimeExceeded    Reason = "time-exceeded"

	// NoNeighbor (Filtered): an on-link address for which ARP (or ND) failed;
	// nobody uses it now.
	NoNeighbor Reason = "no-neighbor"

	// Reasons of Unknown: why there is no observation.
	LocalError   Reason = "local-error"
	Excluded     Reason = Reason(targets.Excluded)
	Reserved     Reason = Reason(targets.Reserved)
	DNSNXDomain  Reason = Reason(targets.DNSNXDomain)
	DNSNoAddress Reason = Reason(targets.DNSNoAddress)
	DNSError     Reason = Reason(targets.DNSError)
	NoMail       Reason = Reason(targets.NoMail)
	BadName      Reason = Reason(targets.BadName)
	Interrupted  Reason = "interrupted"
)

// Curable reports whether another run may decide what this reason left
// undecided. Such rows make the exit code 5, and --resume asks again.
func (r Reason) Curable() bool {
	return r == LocalError || r == DNSError || r == Interrupted
}

// An ICMP is an ICMP or ICMPv6 message that answered a probe.
// The zero value means that there was none.
type ICMP struct {
	From       netip.Addr // who sent it
	Type, Code uint8
}

// An Observation is what an Engine saw of one port.
type Observation struct {
	Target   targets.Target
	State    State
	Reason   Reason
	ICMP     ICMP          // valid iff From is
	Source   netip.Addr    // our address on this path; not valid if never bound
	RTT      time.Duration // from (the last) connect to its answer; zero if none came
	Attempts int           // SYNs sent, over all dials
	At       time.Time     // when it was decided; with a Conn, when the peer's last data arrived
	Err      string        // our words for what went wrong on our side, if anything

	// Conn is the established connection, to be talked to and closed by whoever
	// receives the observation. It is nil unless the state is Open. Unless the
	// target's role is ClientFirst, the peer has sent something (or closed)
	// when an observation with a Conn is emitted.
	Conn net.Conn
	// Connected is when the connection was established; valid iff the state is Open.
	Connected time.Time
	// Mute is how long an open connection was kept without a byte from the peer
	// before the engine gave it up and closed it (Conn is nil then).
	Mute time.Duration
}

// A Kind says what answered on an open port: the column "service".
type Kind string

const (
	KindSMTP      Kind = "smtp"       // it greeted 2xx
	KindRefusing  Kind = "refusing"   // it greeted 4xx or 5xx: SMTP all the same
	KindMute      Kind = "mute"       // accepted, no greeting in time
	KindClosing   Kind = "closing"    // accepted, and closed or reset before a greeting
	KindTLSFailed Kind = "tls-failed" // implicit TLS failed
	KindWrongMode Kind = "wrong-mode" // TLS where plain text was expected, or the reverse
	KindTarpit    Kind = "tarpit"     // it drips, or never ends its greeting
	KindOther     Kind = "other"      // another protocol; Software names it
)

// A Service is what a Prober learned by talking to an open port. What a peer
// sent is kept as it came, bounded but not cleaned: report cleans.
type Service struct {
	Kind        Kind
	Banner      []byte        // the first reply, lines joined by LF, at most 4 KiB
	Code        int           // code of the first reply; 0 if it was not one
	GreetingIn  time.Duration // from connect to the last greeting line; 0 if none came
	Software    string        // MTA or product, with its version if it says so
	StartTLS    StartTLS
	TLS         *TLS     // nil if no handshake was tried
	EHLO        []string // keyword lines of the first EHLO reply (465: inside TLS), in order, without the domain line
	EHLOTLS     []string // the same after STARTTLS; nil if there was none
	Auth        []string // mechanisms offered before TLS, upper case
	AuthTLS     []string // mechanisms offered inside TLS
	Size        uint64   // SIZE limit in bytes (RFC 1870); 0 if none or unlimited
	Findings    []string // codes of what is wrong: "starttls-masked"
	Err         string   // our words for what went wrong
	Transcript  []Line
	ConversedIn time.Duration // how long the conversation took
	Queued      time.Duration // how much of that the peer waited for a CPU of ours: its deadline moved by it
}

// A StartTLS says how STARTTLS went: the column "starttls".
// The zero value means that it was not looked at.
type StartTLS string

const (
	StartTLSOffered StartTLS = "offered" // listed in the EHLO reply, and not refused
	StartTLSRefused StartTLS = "refused" // listed, and answered 4xx or 5xx
	StartTLSAbsent  StartTLS = "absent"  // EHLO was answered and did not list it
	StartTLSMasked  StartTLS = "masked"  // overwritten by a device on the way (XXXXXXXA)
	StartTLSUnknown StartTLS = "unknown" // EHLO failed, so it cannot be known
)

// A Line is one line of a conversation.
type Line struct {
	At   time.Duration // since the connection was established
	From byte          // 'C' us, 'S' the peer, '*' a remark of ours ("TLS 1.3 handshake")
	Text []byte        // without CRLF, at most 2,048 bytes
}

// A Trust is what we conclude about a certificate chain: the column cert_trust.
// Worst first: bad, expired, not-yet-valid, self-signed, unknown-issuer, trusted.
type Trust string

const (
	TrustBad           Trust = "bad"
	TrustExpired       Trust = "expired"
	TrustNotYetValid   Trust = "not-yet-valid"
	TrustSelfSigned    Trust = "self-signed"
	TrustUnknownIssuer Trust = "unknown-issuer"
	TrustTrusted       Trust = "trusted"
)

// A TLS is what a handshake showed. A handshake that failed keeps what it had.
type TLS struct {
	Version  uint16   // crypto/tls's number; 0 if none was negotiated
	Cipher   uint16   // crypto/tls's number
	Chain    [][]byte // DER as sent, leaf first
	Subject  string   // of the leaf
	Names    []string // SAN DNS names and addresses of the leaf, at most 1,000
	Issuer   string
	NotAfter time.Time // zero if there is no leaf or it cannot be parsed
	SHA256   [32]byte  // of the leaf's DER; valid iff len(Chain) > 0
	Trust    Trust     // "" if there is no certificate, or no root store to judge with
	NameOK   *bool     // does the leaf match the name asked for; nil if no name was asked for
	Note     string    // why Trust is what it is, our words
	Err      string    // why the handshake failed; empty if it did not
}

// A Result is one finished endpoint, and one row of a report.
type Result struct {
	Observation
	Service *Service // nil unless the port was open and was talked to
}
