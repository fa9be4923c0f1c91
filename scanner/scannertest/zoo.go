// Package scannertest provides mail servers to test a scanner with, good ones
// and every kind of bad one, inside the process: what net/http/httptest is for
// HTTP.
//
// Start with [Start], which gives a [Zoo], and [Behaviours], which lists what
// can live in it; [Zoo.Listen] puts one of them on an address. Every
// [Behaviour] carries its [Want], the truth about it, so that a test or a demo
// can check what a scanner said. The good servers are strict: they count a
// client that talks before the greeting, sends a second command before the
// reply to the first, tries to hand over mail, or leaves without QUIT ([Counts]).
//
// [MailServer] plays one written dialogue, and [DNS] serves a zone.
// The package listens where it is told to and never connects anywhere.
package scannertest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Host is the name that the servers of a zoo call themselves, and that their
// good certificates are for.
const Host = "mail.example.org"

// A Config says how the servers of a zoo behave where there is a choice.
// The zero Config is useful.
type Config struct {
	Names      []string      // more DNS names and IP addresses for every certificate that is for Host
	GreetPause time.Duration // how long a server with a greet pause waits; 0 means 6 s, postscreen's default
	Drip       time.Duration // between two bytes of a tarpit; 0 means 1 s
	// Turn is how long a server listens for a client that talks out of turn
	// before it greets and before it replies. Zero means 1 ms before it greets
	// and not at all before it replies, where only a command that came together
	// with the one before it is seen; negative means never.
	Turn time.Duration
	Life time.Duration // the longest a connection is kept; 0 means 3 minutes
}

// withDefaults returns the configuration with its zero values replaced.
func (c Config) withDefaults() Config {
	if c.GreetPause == 0 {
		c.GreetPause = 6 * time.Second
	}
	if c.Drip == 0 {
		c.Drip = time.Second
	}
	if c.Life == 0 {
		c.Life = 3 * time.Minute
	}
	return c
}

// Counts says what the clients of a zoo did, over all its servers.
type Counts struct {
	Conns     int // connections accepted
	Quits     int // QUIT commands
	Pregreets int // clients that sent something before the greeting was complete (RFC 5321, 4.3.1)
	Pipelined int // commands sent before the reply to the one before (RFC 2920 allows it only where offered, and never around EHLO or STARTTLS)
	NoQuit    int // clients that left a complete greeting without QUIT (RFC 5321, 4.1.1.10)
	Mail      int // MAIL, RCPT, DATA, BDAT, AUTH, VRFY and EXPN commands
}

// Rude returns how many breaches of etiquette were counted; a good client keeps it at 0.
func (c Counts) Rude() int { return c.Pregreets + c.Pipelined + c.NoQuit + c.Mail }

// A Load says how much one address of a zoo, with all its ports, had to bear.
type Load struct {
	Accepted int // connections accepted
	// Most is how many of them were open at the same time, at the most. One
	// that the client closed without QUIT counts until the server notices.
	Most int
}

// A Zoo is any number of mail servers in one process. Its methods may be
// called from several goroutines.
type Zoo struct {
	cfg   Config
	certs *certs

	mu        sync.Mutex
	closed    bool
	counts    Counts
	listeners map[net.Listener]struct{}
	conns     map[net.Conn]bool // true until it is no longer counted as open
	hosts     map[netip.Addr]*host
	tls       map[tlsOptions]*tls.Config

	wg      sync.WaitGroup // accept loops, connections, and the watch on ctx
	unwatch func()
}

// A host is the load of one address, and what of it is open now.
type host struct {
	Load
	open int
}

// Start opens a zoo without servers. It closes when ctx ends or Close is called.
func Start(ctx context.Context, cfg Config) (*Zoo, error) {
	cfg = cfg.withDefaults()
	certs, err := newCerts(cfg.Names, time.Now())
	if err != nil {
		return nil, fmt.Errorf("make the certificates of the zoo: %w", err)
	}
	z := &Zoo{
		cfg:       cfg,
		certs:     certs,
		listeners: make(map[net.Listener]struct{}),
		conns:     make(map[net.Conn]bool),
		hosts:     make(map[netip.Addr]*host),
		tls:       make(map[tlsOptions]*tls.Config),
	}
	z.wg.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer z.wg.Done()
		z.shut()
	})
	z.unwatch = sync.OnceFunc(func() {
		if stop() {
			z.wg.Done()
		}
	})
	return z, nil
}

// Listen starts a server on a TCP address, "127.0.0.1:0" for any free port,
// and returns where it listens.
func (z *Zoo) Listen(addr string, b Behaviour) (netip.AddrPort, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("listen for %s: %w", b.Name, err)
	}
	if err := z.Serve(l, func(netip.AddrPort) Behaviour { return b }); err != nil {
		return netip.AddrPort{}, err
	}
	return addrPort(l.Addr()), nil
}

// Serve starts a server on a listener, which the zoo owns from now on. choose
// picks the behaviour by the address that the client called, so that one
// listener on a wildcard address can be thousands of different servers; the
// zero Behaviour closes the connection. Serve returns at once.
func (z *Zoo) Serve(l net.Listener, choose func(local netip.AddrPort) Behaviour) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed {
		return errors.Join(net.ErrClosed, l.Close())
	}
	z.listeners[l] = struct{}{}
	z.wg.Go(func() { z.accept(l, choose) })
	return nil
}

// ServeConn serves one connection, for instance an end of a net.Pipe, and
// closes it. It returns when the conversation is over.
func (z *Zoo) ServeConn(conn net.Conn, b Behaviour) {
	if z.enter(conn) {
		defer z.wg.Done()
		z.converse(conn, b)
	}
}

// accept accepts connections until the listener is closed.
func (z *Zoo) accept(l net.Listener, choose func(netip.AddrPort) Behaviour) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// No descriptor left, or a client that gave up in the backlog:
			// neither ends a server.
			time.Sleep(5 * time.Millisecond)
			continue
		}
		if !z.enter(conn) {
			return
		}
		go func() {
			defer z.wg.Done()
			z.converse(conn, choose(addrPort(conn.LocalAddr())))
		}()
	}
}

// enter counts a connection in, or closes it if the zoo is closed.
// If it returns true, the caller calls z.wg.Done when the connection is over.
func (z *Zoo) enter(conn net.Conn) bool {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.closed {
		conn.Close()
		return false
	}
	z.wg.Add(1)
	z.conns[conn] = true
	z.counts.Conns++
	h := z.host(conn)
	h.Accepted++
	h.open++
	h.Most = max(h.Most, h.open)
	return true
}

// host returns the load of the address that conn came in by. z.mu is held.
func (z *Zoo) host(conn net.Conn) *host {
	addr := addrPort(conn.LocalAddr()).Addr()
	h := z.hosts[addr]
	if h == nil {
		h = new(host)
		z.hosts[addr] = h
	}
	return h
}

// converse talks to one client and closes the connection.
func (z *Zoo) converse(conn net.Conn, b Behaviour) {
	conn.SetDeadline(time.Now().Add(z.cfg.Life))
	if b.Serve != nil {
		b.Serve(conn, z)
	}
	z.release(conn)
	z.mu.Lock()
	delete(z.conns, conn)
	z.mu.Unlock()
	conn.Close()
}

// release counts an open connection out. It is called before the client learns
// that the conversation is over, so that one that dials again at that moment
// never has two open.
func (z *Zoo) release(conn net.Conn) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.conns[conn] {
		z.conns[conn] = false
		z.host(conn).open--
	}
}

// Close closes every listener and connection, and waits for every goroutine.
func (z *Zoo) Close() {
	z.unwatch()
	z.shut()
	z.wg.Wait()
}

// closeWithin stops accepting, and closes the zoo when the last client has
// left or d is over.
func (z *Zoo) closeWithin(d time.Duration) {
	z.unwatch()
	z.mu.Lock()
	for l := range z.listeners {
		l.Close()
	}
	z.mu.Unlock()
	late := time.AfterFunc(d, z.shut)
	z.wg.Wait()
	late.Stop()
	z.shut()
}

// shut closes what is open, so that every goroutine comes to its end.
func (z *Zoo) shut() {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.closed = true
	for l := range z.listeners {
		l.Close()
	}
	for c := range z.conns {
		c.Close()
	}
	clear(z.listeners)
}

// Roots returns a pool with the one authority that signed the good
// certificates of this zoo.
func (z *Zoo) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(z.certs.ca.cert)
	return pool
}

// CA returns the certificate of that authority as PEM, for a program that reads
// what it trusts from a file.
func (z *Zoo) CA() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: z.certs.ca.cert.Raw})
}

// Certificate returns a certificate of the zoo with its key and chain. All
// are made of ECDSA P-256 keys that live as long as the zoo.
func (z *Zoo) Certificate(c Cert) (tls.Certificate, error) { return z.certs.get(c) }

// Counts returns what the clients did so far.
func (z *Zoo) Counts() Counts {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.counts
}

// Load returns what an address had to bear so far.
func (z *Zoo) Load(addr netip.Addr) Load {
	z.mu.Lock()
	defer z.mu.Unlock()
	if h := z.hosts[addr]; h != nil {
		return h.Load
	}
	return Load{}
}

// count changes the counts, unless the zoo is closing: what its own end makes
// clients do is not their fault.
func (z *Zoo) count(change func(*Counts)) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if !z.closed {
		change(&z.counts)
	}
}

// addrPort returns the address and port of a TCP address, and the zero
// AddrPort of any other.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
