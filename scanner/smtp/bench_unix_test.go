//go:build unix

package smtp_test

import (
	"crypto/tls"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// BenchmarkConversation holds full conversations with STARTTLS over loopback.
// The CPU is of both sides; "bare-us" is what the same two crypto/tls ends need
// for their handshake alone, so that the difference is ours.
func BenchmarkConversation(b *testing.B) {
	const script = `
		S: 220 mail.example.org ESMTP Postfix
		C: EHLO client.example.org
		S: 250-mail.example.org
		S: 250-PIPELINING
		S: 250-SIZE 36700160
		S: 250-STARTTLS
		S: 250 8BITMIME
		C: STARTTLS
		S: 220 go ahead
		TLS
		C: EHLO client.example.org
		S: 250-mail.example.org
		S: 250-AUTH PLAIN LOGIN
		S: 250 SIZE 36700160
		C: QUIT
		S: 221 bye`
	root := issue(b, "Root", nil, authority)
	leaf := issue(b, "mail.example.org", root, named("mail.example.org"))
	cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.der()}, PrivateKey: leaf.key}}}
	p := client()
	p.Roots, p.Now = pool(root), func() time.Time { return day0 }

	// each lets n pairs of ends do something and returns the CPU time of one.
	each := func(do func(ours net.Conn), serve func(theirs net.Conn)) float64 {
		before := cpu()
		for range b.N {
			ours, theirs := loopback(b)
			done := make(chan struct{})
			go func() { serve(theirs); theirs.Close(); close(done) }()
			do(ours)
			ours.Close()
			<-done
		}
		return float64((cpu() - before).Microseconds()) / float64(b.N)
	}
	bare := each(
		func(ours net.Conn) {
			tls.Client(ours, &tls.Config{InsecureSkipVerify: true, CurvePreferences: []tls.CurveID{tls.X25519}}).Handshake()
		},
		func(theirs net.Conn) { tls.Server(theirs, cfg).Handshake() })
	b.ReportAllocs()
	b.ResetTimer()
	whole := each(
		func(ours net.Conn) {
			s := p.Probe(b.Context(), ours, &scanner.Observation{Target: port25, Connected: time.Now()})
			if s.TLS == nil || s.TLS.Trust != scanner.TrustTrusted || s.Err != "" {
				b.Fatalf("%+v", s)
			}
		},
		func(theirs net.Conn) { (&player{conn: theirs, tls: cfg}).play(script) })
	b.ReportMetric(whole, "cpu-us/op")
	b.ReportMetric(bare, "bare-us/op")
}

// cpu returns the CPU time that this process has used.
func cpu() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
