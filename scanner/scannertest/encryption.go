package scannertest

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// encryption returns the servers whose STARTTLS or TLS is broken, meddled with
// or not what the port promises.
func encryption() []Behaviour {
	return append(starttls(), append(handshakes(), modes()...)...)
}

// starttls returns the servers with something wrong before the handshake.
func starttls() []Behaviour {
	masked, refused, auth, inject, instead, changed, again := postfix(), postfix(), postfix(), postfix(), postfix(), postfix(), postfix()
	masked.ehlo = []string{"PIPELINING", "SIZE 36700160", "XXXXXXXA", "ENHANCEDSTATUSCODES", "8BITMIME"}
	refused.starttls = "454 4.7.0 TLS not available due to local problem"
	auth.ehlo = authKeywords
	inject.inject = "250-" + Host + "\r\n250 AUTH PLAIN\r\n"
	instead.upgrade = answersWith(inject.inject)
	changed.ehloTLS = []string{"PIPELINING", "SIZE 73400320", "AUTH PLAIN LOGIN", "8BITMIME", "DSN"}
	again.ehloTLS = plainKeywords

	plain := Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", Size: size}
	with := func(w Want, s scanner.StartTLS, findings ...string) Want {
		w.StartTLS, w.Findings = s, findings
		return w
	}
	bigger := trusted("Postfix")
	bigger.Size = 73400320
	return []Behaviour{
		{Name: "starttls-masked", Help: "A device on the way overwrote STARTTLS, so that mail stays readable for it.",
			Want: with(plain, scanner.StartTLSMasked, "starttls-masked"), Serve: masked.serve},
		{Name: "starttls-refused", Help: "Offers STARTTLS, and refuses it when asked (454).",
			Want: with(plain, scanner.StartTLSRefused, "starttls-refused"), Serve: refused.serve},
		{Name: "auth-without-tls", Help: "Has no encryption and asks for passwords all the same.",
			Want: with(plain, scanner.StartTLSAbsent, "auth-without-tls"), Serve: auth.serve},
		{Name: "plaintext-after-220", Help: "Somebody adds plain text behind the reply to STARTTLS, for clients that take it as said inside TLS.",
			Want: with(trusted("Postfix"), scanner.StartTLSOffered, "plaintext-after-220"), Serve: inject.serve},
		{Name: "plaintext-for-tls", Help: "Somebody sends plain text in the place of the TLS handshake, for clients that do not look.",
			Want: with(plain, scanner.StartTLSOffered, "plaintext-after-220", "tls-failed"), Serve: instead.serve},
		{Name: "ehlo-changed", Help: "Offers other things inside TLS than before, as it may.",
			Want: bigger, Serve: changed.serve},
		{Name: "starttls-inside-tls", Help: "Offers STARTTLS although TLS is on already.",
			Want: with(trusted("Postfix"), scanner.StartTLSOffered, "starttls-inside-tls"), Serve: again.serve},
	}
}

// handshakes returns the servers whose handshake goes wrong, or is out of date.
func handshakes() []Behaviour {
	stalled, half, failed, flood, ssl, cut, old, mutual := postfix(), postfix(), postfix(), postfix(), postfix(), postfix(), postfix(), postfix()
	stalled.upgrade = func(s *session) bool { s.drain(); return false }
	half.upgrade = func(s *session) bool {
		s.conn = &cutShort{Conn: s.raw, left: 200}
		return s.handshake(tlsOptions{max: tls.VersionTLS12})
	}
	failed.upgrade = answersWith("501 5.5.4 Syntax error: what is \x16\x03\x01?\r\n")
	flood.upgrade = floods
	ssl.upgrade = answersWith(string(ssl3Hello()))
	cut.upgrade = func(s *session) bool {
		s.listen(s.z.cfg.Life)
		resetOnClose(s.raw)
		return false
	}
	old.tls = tlsOptions{min: tls.VersionTLS10, max: tls.VersionTLS10}
	mutual.tls = tlsOptions{clientAuth: tls.RequireAnyClientCert}

	broken := Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSOffered, Size: size}
	with := func(w Want, version uint16, finding string) Want {
		w.Version, w.Findings = version, []string{finding}
		return w
	}
	return []Behaviour{
		{Name: "tls-stalled", Help: "Agrees to STARTTLS, and is silent from then on.",
			Want: with(broken, 0, "tls-stalled"), Serve: stalled.serve},
		{Name: "tls-half", Help: "Begins the TLS handshake, and then nothing comes any more, as behind a firewall that drops large packets.",
			Want: with(broken, 0, "tls-stalled"), Serve: half.serve},
		{Name: "tls-failed", Help: "Agrees to STARTTLS, and answers the handshake in plain text.",
			Want: with(broken, 0, "tls-failed"), Serve: failed.serve},
		{Name: "tls-reset", Help: "Agrees to STARTTLS, and somebody resets the connection when the handshake begins.",
			Want: with(broken, 0, "tls-failed"), Serve: cut.serve},
		{Name: "tls-flood", Help: "Agrees to STARTTLS, and sends warnings without end.",
			Want: with(broken, 0, "tls-failed"), Serve: flood.serve},
		{Name: "ssl-3", Help: "Knows no TLS at all, only SSL 3.0 of 1996.",
			Want: with(broken, 0, "tls-failed"), Serve: ssl.serve},
		{Name: "tls-old", Help: "Knows no TLS newer than 1.0.",
			Want: with(trusted("Postfix"), tls.VersionTLS10, "tls-old"), Serve: old.serve},
		{Name: "client-certificate", Help: "Talks only to clients that show a certificate of their own.",
			Want: with(trusted("Postfix"), 0, "client-cert-required"), Serve: mutual.serve},
	}
}

// modes returns the servers that expect TLS where plain text is usual, or the reverse.
func modes() []Behaviour {
	plain := postfix()
	plain.noQuit = true
	return []Behaviour{
		{Name: "plain-on-smtps", Help: "Speaks plain text on a port where TLS is expected.", Role: targets.SMTPS,
			Want: Want{Service: scanner.KindWrongMode, Code: 220}, Serve: plain.serveEarly},
		{Name: "tls-on-smtp", Help: "Waits for TLS on a port where plain text is expected, and gives up with a TLS alert.",
			Want: Want{Service: scanner.KindWrongMode}, Serve: alert},
	}
}

// serveEarly greets without a look at whether the client waits: there, the
// client speaks first because it expects something else.
func (v *server) serveEarly(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	if s.send(v.greeting...) && s.listen(z.cfg.Life) == talked {
		s.r, s.w = 0, 0
		if s.send("502 5.5.2 Error: command not recognized") {
			s.drain()
		}
	}
}

// alert waits for a ClientHello, then sends the TLS alert internal_error
// (RFC 8446, 6: content type 21, level fatal, description 80) in plain.
func alert(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	if s.pause(z.cfg.Drip) {
		s.write("\x15\x03\x01\x00\x02\x02\x50")
	}
}

// answersWith returns an upgrade that waits for the ClientHello and answers it
// with something else than TLS.
func answersWith(text string) func(*session) bool {
	return func(s *session) bool {
		if s.listen(s.z.cfg.Life) == talked && s.write(text) {
			s.drain()
		}
		return false
	}
}

// ssl3Hello returns a ServerHello of SSL 3.0 (RFC 6101, 5.6.1.3): version,
// random, no session, TLS_RSA_WITH_RC4_128_SHA, no compression.
func ssl3Hello() []byte {
	hello := slices.Concat([]byte{2, 0, 0, 38, 3, 0}, make([]byte, 32), []byte{0, 0, 5, 0})
	return append([]byte{22, 3, 0, 0, byte(len(hello))}, hello...)
}

// floods answers a ClientHello with the TLS alert no_renegotiation, a warning
// (RFC 5246, 7.2: content type 21, level 1, description 100), as long as it is read.
func floods(s *session) bool {
	warnings := strings.Repeat("\x15\x03\x01\x00\x02\x01\x64", 1000)
	if s.listen(s.z.cfg.Life) == talked {
		for s.write(warnings) {
		}
	}
	return false
}

// A cutShort loses what is written to a connection after the first bytes.
type cutShort struct {
	net.Conn
	left int // bytes that still arrive
}

// Write writes what still arrives, and reports success for the rest.
func (c *cutShort) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	if n > 0 {
		if _, err := c.Conn.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
