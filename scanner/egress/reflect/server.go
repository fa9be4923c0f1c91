package reflect

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// defaultSessions bounds the memory: a session of somebody who only keeps it
	// open costs some 15 KB, inside TLS 25.
	defaultSessions  = 1500
	defaultPerMinute = 120

	farewell = time.Second // to tell the open sessions that this is the end
)

// A Server is the far end of audits. Key is required. It may stand open to the
// Internet: it takes no mail, knows no secrets but its key, and all that a client
// can make it hold or do is bounded.
type Server struct {
	Key  ed25519.PrivateKey
	Name string // in greeting, EHLO reply and certificate; default "reflect.invalid"
	// Sessions is how many may be open at a time; default 1,500. When all places
	// are taken, the oldest session makes room that has not shown to be an auditor's.
	Sessions int
	// PerMinute is how many sessions one source (an IPv4 address, the /64 of an
	// IPv6 one) may begin a minute; default 120, the first 60 of them at once.
	PerMinute int
	// NoReverse refuses to connect back to auditors.
	NoReverse bool
	// Log, if not nil, is called at the end of each session, and for each client
	// that is not let in, from several goroutines.
	Log func(Visit)

	config   *tls.Config
	certHash string
	door     *door
	reversed chan struct{} // slots of connections back
	wg       sync.WaitGroup
}

// A Visit is a session that is over, for a log. Its texts are a stranger's:
// they are to be cleaned.
type Visit struct {
	At       time.Time
	Lasted   time.Duration
	From, To netip.AddrPort
	Refused  string // why it was not let in; else there was a session
	Auditor  bool   // it asked for a summary
	Commands int
	TLS      string // the version; empty without
	Hello    []byte // what it said in EHLO or HELO, at most 200 bytes
	End      string // how it ended
}

// A Listener is a port of a far end.
type Listener struct {
	net.Listener
	TLS bool // begins with TLS
}

// Listen opens a port: "192.0.2.7:25", ":0". Where the kernel can, it keeps the
// first packet of each connection.
func Listen(ctx context.Context, address string, implicitTLS bool) (Listener, error) {
	// Keep-alives would keep an idle session alive that a device on the way forgets.
	cfg := net.ListenConfig{Control: listenControl, KeepAlive: -1}
	cfg.SetMultipathTCP(false) // it does not keep the first packet
	ln, err := cfg.Listen(ctx, "tcp", address)
	return Listener{Listener: ln, TLS: implicitTLS}, err
}

// Serve serves until ctx ends: then it tells the open sessions, closes all and
// returns nil. It closes the listeners in any case.
func (s *Server) Serve(ctx context.Context, listeners ...Listener) error {
	if err := s.prepare(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make(chan error, len(listeners))
	for _, ln := range listeners {
		go func() { errs <- s.accept(ctx, ln) }() // ends when the listener is closed
	}
	var err error
	running := len(listeners)
	select {
	case <-ctx.Done():
	case err = <-errs:
		running--
		cancel()
	}
	for _, ln := range listeners {
		ln.Close()
	}
	for range running {
		<-errs
	}
	s.wg.Wait()
	return err
}

// prepare sets what is not configured, and makes the certificate. It is a new one
// each time: what proves it is the summary, which names it and is signed.
func (s *Server) prepare() error {
	if len(s.Key) != ed25519.PrivateKeySize {
		return errors.New("a far end needs a key")
	}
	if s.Name == "" {
		s.Name = "reflect.invalid"
	}
	if s.Sessions <= 0 {
		s.Sessions = defaultSessions
	}
	if s.PerMinute <= 0 {
		s.PerMinute = defaultPerMinute
	}
	s.door = &door{most: s.Sessions, perSource: perSource, perMinute: float64(s.PerMinute),
		sources: map[netip.Addr]*source{}, trails: map[string]*trail{}}
	s.reversed = make(chan struct{}, maxReversing)
	cert, err := newCertificate(s.Name)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	s.config = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
	hash := sha256.Sum256(cert.Certificate[0])
	s.certHash = hex.EncodeToString(hash[:])
	return nil
}

// newCertificate makes a certificate that signs itself. Its key is ECDSA, not the
// far end's own: devices that look into handshakes know it.
func newCertificate(name string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-24 * time.Hour), NotAfter: now.AddDate(10, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// accept lets clients in until the listener is closed.
func (s *Server) accept(ctx context.Context, ln Listener) error {
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return err
		case err != nil:
			// Out of descriptors, or a client that is gone: others may come.
			select {
			case <-time.After(50 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		s.receive(ctx, conn, ln.TLS)
	}
}

// receive gives a client its session, or turns it away.
func (s *Server) receive(ctx context.Context, conn net.Conn, implicit bool) {
	v := newSession(s, conn, implicit)
	why, goes := s.door.enter(v)
	if goes != nil {
		goes.evict()
	}
	if why != "" {
		s.refuse(v, string(why))
		return
	}
	s.wg.Add(1)
	go func() { // ends with the session, whose time is bounded, or with ctx
		defer s.wg.Done()
		stop := context.AfterFunc(ctx, v.shutDown)
		defer stop()
		v.run()
		s.log(v.visit()) // a log that blocks holds the place: what waits is bounded
		s.door.leave(v)
	}()
}

// refuse turns a client away (RFC 5321, 3.1 and 3.8), in words by which an auditor
// knows that it was no impostor.
func (s *Server) refuse(v *session, why string) {
	if !v.implicit {
		v.conn.SetWriteDeadline(time.Now().Add(farewell))
		fmt.Fprintf(v.conn, "421 4.7.0 %s %s too many connections of yours: come again in a minute\r\n", s.Name, protocol)
	}
	v.conn.Close()
	s.log(Visit{At: v.began, From: v.client, To: v.to, Refused: why})
}

func (s *Server) log(v Visit) {
	if s.Log != nil {
		s.Log(v)
	}
}
