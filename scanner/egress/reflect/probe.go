package reflect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"time"
)

const (
	defaultTimeout = 10 * time.Second
	reverseWait    = 3 * reverseTime // for the answer to XREVERSE
	smallSegment   = 536             // RFC 9293, 3.7.1: what every IPv4 path carries; over IPv6 it is only small
	longLine       = 1400            // bytes, the end included
)

// Options say how an auditor's session is held. The zero value is a good one.
type Options struct {
	// Source is the address to connect from; not valid means any.
	Source netip.Addr
	// ImplicitTLS begins with TLS, as the far end's port must (see [ImplicitTLS]).
	ImplicitTLS bool
	// Helo is the name in EHLO; default the address literal (RFC 5321, 4.1.3).
	Helo string
	// Timeout bounds each step; default 10 s.
	Timeout time.Duration
	// Idle are times of silence that the session must outlive, one after the other,
	// each of an hour at most.
	Idle []time.Duration
	// LongLine sends a line of 1,400 bytes: does a full packet pass?
	LongLine bool
	// Reverse are our own ports, of 25, 465 and 587, that the far end is asked to connect to.
	Reverse []uint16
	// NoFollowUp makes no second connection after a session that broke off, to
	// ask the far end what became of it.
	NoFollowUp bool
}

// Steps of a session: where it ended.
const (
	StepConnect  = "connect"
	StepTLS      = "tls" // the handshake
	StepGreeting = "greeting"
	StepEHLO     = "ehlo"
	StepSummary  = "summary"
	StepSTARTTLS = "starttls"
	StepLine     = "long-line"
	StepIdle     = "idle"
	StepReverse  = "reverse"
	StepDone     = "done" // the session was whole
)

// How a session ended that is not whole.
const (
	EndSilence     = "silence"
	EndRefused     = "refused" // connection refused
	EndReset       = "reset"
	EndClosed      = "closed"
	EndUnreachable = "unreachable"
	EndReply       = "reply" // a reply that ends it: 4xx or 5xx, or none of SMTP
	EndTLS         = "tls"   // an alert, or what is not TLS
)

// A Report is what a session with a far end showed. What comes from strangers in
// it is bounded, and is to be cleaned before it is shown.
type Report struct {
	Addr        netip.AddrPort `json:"addr"`
	Local       netip.AddrPort `json:"local,omitzero"` // our end; not valid without a connection
	At          time.Time      `json:"at"`
	ImplicitTLS bool           `json:"implicit_tls,omitempty"`

	Step      string     `json:"step"`             // where it ended: StepDone if it was whole
	End       string     `json:"end,omitempty"`    // how, if it is not whole: one of the End constants
	Error     string     `json:"error,omitempty"`  // the same in words
	ConnectMS float64    `json:"connect_ms"`       // how long the connection took, or its failure
	RTTus     int64      `json:"rtt_us,omitempty"` // least round trip, in µs; 0 if not known
	TTL       int        `json:"ttl,omitempty"`    // of our SYN, chosen to be recognised; 0 if not chosen
	Scale     int        `json:"scale,omitempty"`  // window scale of our SYN; valid iff TTL is
	Bytes     Tallies    `json:"bytes"`            // when the summary was asked for
	Known     int        `json:"known"`            // exchanges of Talk that the summary covers
	Asked     int        `json:"asked"`            // requests for a summary
	Talk      []Exchange `json:"talk,omitempty"`   // all that was said
	TLS       TLSHere    `json:"tls"`

	// Proven says that the far end itself was reached: its key signed a summary.
	Proven  bool     `json:"proven"`
	Summary *Summary `json:"summary,omitempty"` // the last of the session, nil if there was none
	Refused string   `json:"refused,omitempty"` // why a summary was not taken, the last time

	// After is the summary of a second session, in segments of 536 bytes, which
	// asked what became of the first; nil if there was none. AfterTLS says that its
	// handshake passed, where that of the first did not.
	After      *Summary `json:"after,omitempty"`
	AfterTLS   bool     `json:"after_tls,omitempty"`
	AfterError string   `json:"after_error,omitempty"`

	Idle    []Quiet    `json:"idle,omitempty"`
	Reverse []Reversed `json:"reverse,omitempty"` // our own ports, as the far end found them
	// ReverseError is why it did not look.
	ReverseError string `json:"reverse_error,omitempty"`

	Conclusions []Conclusion `json:"conclusions"`
	Notes       []string     `json:"notes,omitempty"` // facts that conclude nothing by themselves
}

// TLSHere is what we saw of TLS.
type TLSHere struct {
	Listed  bool   `json:"listed,omitempty"` // STARTTLS was in the EHLO reply in the clear
	Asked   bool   `json:"asked,omitempty"`  // we said STARTTLS
	Code    int    `json:"code,omitempty"`   // of its reply
	Stray   int    `json:"stray,omitempty"`  // bytes that came with that reply, in the clear; discarded
	Hello   string `json:"hello,omitempty"`  // SHA-256 of our ClientHello
	Done    bool   `json:"done,omitempty"`
	Version uint16 `json:"version,omitempty"` // crypto/tls's number
	Cipher  uint16 `json:"cipher,omitempty"`  // crypto/tls's number
	Cert    string `json:"cert,omitempty"`    // SHA-256 of the certificate that came
	Subject string `json:"subject,omitempty"` // of that certificate
	Issuer  string `json:"issuer,omitempty"`
	Error   string `json:"error,omitempty"`
}

// A Quiet is a time of silence in a session.
type Quiet struct {
	Asked    float64 `json:"asked_s"` // seconds that it was to last
	Outlived bool    `json:"outlived"`
	After    float64 `json:"after_s,omitempty"` // seconds after which it was seen to be cut
	How      string  `json:"how,omitempty"`     // how it was cut
}

// Has reports whether a conclusion was drawn.
func (r *Report) Has(code string) bool {
	for _, c := range r.Conclusions {
		if c.Code == code {
			return true
		}
	}
	return false
}

// Probe holds a session with a far end and says what it proves. If the session
// breaks off, a second one asks the far end what became of it. What the network
// or a stranger does is in the report; an error is a fault of this machine, or
// ctx's end.
func Probe(ctx context.Context, addr netip.AddrPort, pin Pin, o Options) (*Report, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	r := &Report{Addr: addr, At: time.Now(), ImplicitTLS: o.ImplicitTLS}
	a, err := dial(ctx, addr, pin, o, 0, r)
	if err != nil {
		return nil, err
	}
	if a != nil {
		a.hold(o)
		a.close()
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if a.mayAskLater() && !o.NoFollowUp {
			if err := a.askLater(ctx, o); err != nil {
				return nil, err
			}
		}
	}
	r.Proven = r.Summary != nil || r.After != nil
	r.conclude(pin)
	return r, nil
}

// dial connects. A connection that fails is in the report, and a is nil then.
func dial(ctx context.Context, addr netip.AddrPort, pin Pin, o Options, segment int, r *Report) (a *auditor, err error) {
	m := newMark()
	d := net.Dialer{Timeout: o.Timeout, KeepAlive: -1, // a keep-alive would keep an idle session alive
		Control: func(network, _ string, raw syscall.RawConn) error {
			if m.set(network, raw, segment) != nil {
				m = mark{} // less is known then, and nothing else is wrong
			}
			return nil
		}}
	if o.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(o.Source, 0))
	}
	began := time.Now()
	conn, err := d.DialContext(ctx, "tcp", addr.String())
	r.Step, r.ConnectMS = StepConnect, float64(time.Since(began).Microseconds())/1000
	switch {
	case ctx.Err() != nil:
		if conn != nil {
			conn.Close()
		}
		return nil, context.Cause(ctx)
	case err != nil && isOurs(err):
		return nil, err
	case err != nil:
		r.End, r.Error = endOf(err)
		return nil, nil
	}
	r.Local, r.TTL, r.Scale = addrPort(conn.LocalAddr()), m.ttl, m.scale
	return newAuditor(ctx, conn, pin, o, r), nil
}

// isOurs reports whether a connection failed at this machine: no address, no
// descriptor, no route, own firewall.
func isOurs(err error) bool {
	for _, no := range []syscall.Errno{syscall.EADDRNOTAVAIL, syscall.EADDRINUSE, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS,
		syscall.ENOMEM, syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.EAFNOSUPPORT, syscall.ENETUNREACH, syscall.ENETDOWN} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// mayAskLater reports whether another session may show more of this one: it
// broke off after we had said who we are, or in a handshake that is longer than a
// packet.
func (a *auditor) mayAskLater() bool {
	return a.r.Step != StepDone && (a.seq > 0 && a.r.End != "" || a.lostHello())
}

// lostHello reports whether nothing came in answer to a ClientHello.
func (a *auditor) lostHello() bool { return a.r.Step == StepTLS && a.r.End == EndSilence }

// askLater asks in another session, with small segments, what became of this one.
func (a *auditor) askLater(ctx context.Context, o Options) error {
	later := &Report{}
	b, err := dial(ctx, a.r.Addr, a.pin, o, smallSegment, later)
	if err != nil {
		return err
	}
	if b != nil {
		if a.seq > 0 {
			b.earlier = a.nonce
		}
		if b.begin(o) && a.lostHello() {
			b.encrypt(o)
		}
		a.r.AfterTLS = a.lostHello() && later.TLS.Done
		b.close()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	a.r.After, a.r.AfterError = later.Summary, later.Error
	if later.Summary == nil && later.Error == "" {
		a.r.AfterError = later.Refused
	}
	return nil
}
