// Package smtp talks to mail servers: one conversation, politely, that learns
// everything an open mail port shows before anyone logs in or sends mail.
//
// Start with [Prober]; its Probe holds the conversation (greeting, EHLO,
// STARTTLS, certificate, EHLO again, QUIT) and fills a [scanner.Service].
// [Judge] says what a certificate chain is worth, [Findings] lists the finding
// codes. The package never dials, never sends MAIL, RCPT, AUTH or VRFY,
// and never cleans what a stranger sent: it only bounds it.
package smtp

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A Mode says how much of the conversation is held.
type Mode uint8

const (
	Full       Mode = iota // greeting, EHLO, STARTTLS, certificate, EHLO again, QUIT
	BannerOnly             // greeting, QUIT (on 465 inside TLS)
)

// DefaultDeadline bounds a whole conversation. It is longer than every greet
// pause seen in the field (20 s), and shorter than the 5 minutes that a mail
// client grants (RFC 5321, 4.5.3.2): what it ends is "no answer in 30 s", not
// "no server".
const DefaultDeadline = 30 * time.Second

// A Prober holds SMTP conversations. The zero Prober is ready for use. Its
// fields must not be changed once Probe was called, which may be done from
// many goroutines; it must not be copied.
type Prober struct {
	// Helo is the name given in EHLO; if it is empty, the address literal of
	// the connection's own end (RFC 5321, 4.1.3).
	Helo string
	// Mode says how much is asked.
	Mode Mode
	// Deadline bounds a conversation; DefaultDeadline if zero.
	Deadline time.Duration
	// Roots are certificate authorities that are trusted beside the system's.
	Roots *x509.CertPool
	// Now is the time that certificates are judged by; time.Now if nil.
	Now func() time.Time

	once    sync.Once
	gate    *gate     // slots for TLS arithmetic
	buffers sync.Pool // of *buffers
	records sync.Pool // of *[]byte: what a handshake records

	rootsOnce sync.Once
	pools     []*x509.CertPool
	verdicts  verdicts
}

var _ scanner.Prober = (*Prober)(nil)

// gateFactor is the number of handshakes that may compute at the same time per
// CPU. With more of them, each takes so long that peers seem slow who are not.
const gateFactor = 4

// setUp makes what all conversations of a prober share.
func (p *Prober) setUp() {
	p.gate = newGate(gateFactor * runtime.GOMAXPROCS(0))
	p.buffers.New = func() any { return new(buffers) }
	p.records.New = func() any { return new([]byte) }
}

// roots returns the pools of trusted authorities. They are loaded when the
// first certificate is judged, so that a start is quick.
func (p *Prober) roots() []*x509.CertPool {
	p.rootsOnce.Do(func() {
		if pool, err := x509.SystemCertPool(); err == nil {
			p.pools = append(p.pools, pool)
		}
		if p.Roots != nil {
			p.pools = append(p.pools, p.Roots)
		}
	})
	return p.pools
}

func (p *Prober) now() time.Time {
	if p.Now != nil {
		return p.Now()
	}
	return time.Now()
}

// Probe holds one conversation on conn and returns what it showed; it never
// returns nil. It ends at the deadline at the latest, and at once when ctx is
// cancelled: the service then holds what was learned until then, which may be
// nothing (no Kind), and its Err is "interrupted". It does not close conn, and
// leaves a deadline set on it.
func (p *Prober) Probe(ctx context.Context, conn net.Conn, obs *scanner.Observation) (svc *scanner.Service) {
	p.once.Do(p.setUp)
	start := time.Now()
	svc = new(scanner.Service)
	// Nothing that a stranger sends may end a run.
	defer func() {
		if r := recover(); r != nil {
			svc.Err = fmt.Sprintf("internal error: %v (please report it)", r)
		}
		svc.ConversedIn = time.Since(start)
	}()

	buf := p.buffers.Get().(*buffers)
	defer p.buffers.Put(buf)
	limit := p.Deadline
	if limit <= 0 {
		limit = DefaultDeadline
	}
	w := newWire(ctx, conn, p.gate, start.Add(limit))
	stop := context.AfterFunc(ctx, w.interrupt)
	defer stop()
	s := newSession(p, w, obs, svc, buf)
	before := w.queued
	s.run()
	svc.Queued = w.queued - before
	return svc
}

// heloName returns the argument of EHLO.
func (p *Prober) heloName(conn net.Conn, obs *scanner.Observation) string {
	if heloOK(p.Helo) {
		return p.Helo
	}
	if tcp, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		if addr := tcp.AddrPort().Addr(); addr.IsValid() {
			return AddressLiteral(addr)
		}
	}
	if obs.Source.IsValid() {
		return AddressLiteral(obs.Source)
	}
	return AddressLiteral(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
}

// heloOK reports whether a name can be sent in a command: printable ASCII
// without spaces. Anything else could smuggle a second command.
func heloOK(name string) bool {
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return name != "" && len(name) <= 255 // RFC 5321, 4.5.3.1.2
}

// AddressLiteral writes an address as a mail client without a name does:
// [192.0.2.1], [IPv6:2001:db8::1] (RFC 5321, 4.1.3).
func AddressLiteral(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return "[" + addr.String() + "]"
	}
	return "[IPv6:" + addr.String() + "]"
}
