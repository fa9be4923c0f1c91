package scannertest

import (
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// protocol returns the servers that break the protocol of TLS, or stretch it,
// and those that talk only to some clients.
func protocol() []Behaviour { return append(append(flights(), insides()...), particular()...) }

// An upgrading is a server that is good up to its answer to STARTTLS.
type upgrading struct {
	name, help string
	want       Want
	upgrade    func(*session) bool
}

// behaviours makes behaviours of them.
func behaviours(list []upgrading) (all []Behaviour) {
	for _, u := range list {
		v := postfix()
		v.upgrade = u.upgrade
		all = append(all, Behaviour{Name: u.name, Help: u.help, Want: u.want, Serve: v.serve})
	}
	return all
}

// offered returns the truth about a server with whom no TLS comes about.
func offered(says string, findings ...string) Want {
	return Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSOffered, Size: size,
		Findings: findings, Error: says}
}

// broken returns the truth about a server that breaks off a good TLS connection.
func broken(version uint16, says string, findings ...string) Want {
	w := offered(says, findings...)
	w.Version, w.Trust = version, scanner.TrustTrusted
	return w
}

// within returns the truth about a server whose TLS is good, in a version.
func within(version uint16) Want {
	w := trusted("Postfix")
	w.Version = version
	return w
}

// flights returns the servers whose part of the handshake breaks the protocol.
func flights() []Behaviour {
	const faulty = "the peer's part of the TLS handshake is faulty"
	return behaviours([]upgrading{
		{"tls-one-byte-records", "Sends its part of the handshake in records of one byte, as it may.",
			within(tls.VersionTLS12), oneByteRecords},
		{"tls-empty-records", "Answers the handshake with records that have nothing in them.",
			offered(faulty, "tls-failed"), handshakeOf(plainRecord(recordHandshake, nil))},
		{"tls-huge-message", "Announces a handshake message of 16 MB.",
			offered(faulty, "tls-failed"), handshakeOf(plainRecord(recordHandshake, []byte{messageServerHello, 255, 255, 255}))},
		{"tls-compressed-bomb", "Sends a compressed certificate that nobody asked for, and that would be 16 MB when unpacked.",
			offered(faulty, "tls-failed"), swap(message(messageExtensions, []byte{0, 0}), compressedBomb())},
		{"tls-two-retries", "Asks for another ClientHello, and for another, and for another.",
			offered(faulty, "tls-failed"), retryWithoutEnd},
		{"tls-alpn", "Picks an application protocol that nobody offered.",
			offered(faulty, "tls-failed"), unaskedALPN},
		{"tls-no-cipher", "Has no cipher in common with anyone (alert handshake_failure).",
			offered(`the alert "handshake failure"`, "tls-failed"), handshakeOf(plainRecord(recordAlert, []byte{2, 40}))},
		{"tls-close-notify", "Ends TLS before it has begun (alert close_notify).",
			offered("closed the connection during the TLS handshake", "tls-failed"), handshakeOf(plainRecord(recordAlert, []byte{1, 0}))},
		{"tls-then-text", "Begins the handshake, and goes on in plain text.",
			offered("what is not TLS in the middle of the TLS handshake", "tls-failed"), thenText},
		{"tls-then-html", "Agrees to STARTTLS, and answers the handshake with a web page.",
			offered("the peer did not answer in TLS", "tls-failed"), answersWith("<html><body>403 Forbidden</body></html>\r\n")},
	})
}

// insides returns the servers that break the protocol inside TLS.
func insides() []Behaviour {
	const broke = "the peer broke the TLS connection"
	v12, v13 := tlsOptions{max: tls.VersionTLS12}, tlsOptions{min: tls.VersionTLS13}
	return behaviours([]upgrading{
		{"tls-useless-16", "Sends 16 records with nothing in them behind the handshake, as it may.",
			within(tls.VersionTLS13), sealing(v13, uselessRecords(16))},
		{"tls-useless-17", "Sends 17 records with nothing in them behind the handshake, and 17 are too many.",
			broken(tls.VersionTLS13, broke, "tls-failed"), sealing(v13, uselessRecords(17))},
		{"tls-tickets", "Sends session tickets without end.",
			broken(tls.VersionTLS13, broke, "tls-failed"), sealing(v13, ticketFlood)},
		{"tls-key-updates", "Changes its keys without end.",
			broken(tls.VersionTLS13, broke, "tls-failed"), sealing(v13, keyUpdateFlood)},
		{"tls-renegotiation", "Wants to do the handshake again, which most clients refuse.",
			broken(tls.VersionTLS12, "the peer asked for a new TLS handshake, which this program does not do"), sealing(v12, renegotiate)},
		{"tls-early-close", "Does the handshake, and ends TLS right behind it (alert close_notify).",
			broken(tls.VersionTLS13, "the peer closed the connection after EHLO"), sealing(v13, closeNotify)},
		{"tls-garbage", "Does the handshake, and sends a record that nobody can decrypt.",
			broken(tls.VersionTLS13, broke, "tls-failed"), sealing(v13, garbage)},
		{"tls-one-byte-text", "Sends every byte inside TLS in a record of its own.",
			within(tls.VersionTLS13), sealing(v13, func(s *session, _ *sealedConn) bool { s.drip = true; return true })},
	})
}

// particular returns the servers that talk only to some clients.
func particular() []Behaviour {
	only13, mutual12, sni, several, sniTLS := postfix(), postfix(), postfix(), postfix(), postfix()
	only13.tls = tlsOptions{min: tls.VersionTLS13}
	mutual12.tls = tlsOptions{clientAuth: tls.RequireAnyClientCert, max: tls.VersionTLS12}
	sni.tls = tlsOptions{sni: needsName}
	several.tls = tlsOptions{sni: otherWithoutName}
	sniTLS.implicit, sniTLS.ehlo, sniTLS.ehloTLS, sniTLS.tls = true, nil, authKeywords, sni.tls

	good := within(tls.VersionTLS13)
	nameless := offered("by name", "sni-required")
	nameless.AsHost = &good
	other := judged("Postfix", scanner.TrustSelfSigned, "cert-self-signed")
	other.AsHost = &good
	inTLS := good
	inTLS.StartTLS = scanner.StartTLSAbsent
	failed := Want{Service: scanner.KindTLSFailed, Findings: []string{"sni-required"}, Error: "by name", AsHost: &inTLS}
	return []Behaviour{
		{Name: "tls-only-1.3", Help: "Knows no TLS older than 1.3.", Want: good, Serve: only13.serve},
		{Name: "client-certificate-1.2", Help: "Talks only to clients that show a certificate of their own, in TLS 1.2.",
			Want: broken(tls.VersionTLS12, "the peer ended TLS with the alert", "client-cert-required"), Serve: mutual12.serve},
		{Name: "sni-required", Help: "Does TLS only with clients that ask for it by its name.", Want: nameless, Serve: sni.serve},
		{Name: "sni-required-smtps", Help: "Does TLS only with clients that ask for it by its name, where TLS comes first.",
			Role: targets.SMTPS, Want: failed, Serve: sniTLS.serve},
		{Name: "sni-other", Help: "Has a certificate signed by itself for clients that do not ask for it by its name.", Want: other, Serve: several.serve},
	}
}

// handshakeOf returns an upgrade that answers a ClientHello with a record, and
// then waits for the client to leave.
func handshakeOf(record []byte) func(*session) bool { return answersWith(string(record)) }

// oneByteRecords does the handshake of TLS 1.2, where most of it is plain.
func oneByteRecords(s *session) bool {
	s.conn = &reframer{Conn: s.raw}
	return s.handshake(tlsOptions{max: tls.VersionTLS12})
}

// compressedBomb returns a CompressedCertificate (RFC 8879, 4) by zlib that
// says it is 16 MB, and is a few bytes.
func compressedBomb() []byte {
	packed := bytes.Repeat([]byte{0x78, 0x9c, 0xed, 0xc1}, 1000)
	body := []byte{0, 1, 255, 255, 255, byte(len(packed) >> 16), byte(len(packed) >> 8), byte(len(packed))}
	return message(messageCompressedCert, append(body, packed...))
}

// retryRandom is the random that makes a ServerHello a HelloRetryRequest (RFC 8446, 4.1.3).
var retryRandom, _ = hex.DecodeString("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")

// retryWithoutEnd answers every ClientHello with a HelloRetryRequest for a key of P-384.
func retryWithoutEnd(s *session) bool {
	if s.listen(s.z.cfg.Life) != talked {
		return false
	}
	retry := serverHello(retryRandom, sessionID(s.buf[s.r:s.w]), tls.TLS_AES_128_GCM_SHA256,
		extension(extensionSupportedVersions, []byte{3, 4}), extension(extensionKeyShare, []byte{0, 24}))
	for s.write(string(plainRecord(recordHandshake, retry))) {
		s.r, s.w = 0, 0
		if s.listen(s.z.cfg.Life) != talked {
			break
		}
	}
	return false
}

// unaskedALPN answers a ClientHello with a ServerHello of TLS 1.2 that picks h2.
func unaskedALPN(s *session) bool {
	hello := serverHello(bytes.Repeat([]byte{7}, 32), nil, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		extension(0xff01, []byte{0}), extension(extensionALPN, []byte{0, 3, 2, 'h', '2'}))
	return handshakeOf(plainRecord(recordHandshake, hello))(s)
}

// thenText sends half a flight of TLS 1.2, and then a reply in plain text.
func thenText(s *session) bool {
	hello := serverHello(bytes.Repeat([]byte{7}, 32), nil, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, extension(0xff01, []byte{0}))
	return answersWith(string(plainRecord(recordHandshake, hello)) + "250-" + Host + "\r\n250 AUTH PLAIN\r\n")(s)
}

// mostUseless is how many records without any content a client bears in a row.
const mostUseless = 16

// uselessRecords sends n records of application data that have none in them. If
// those are too many, the client may leave as it likes.
func uselessRecords(n int) func(*session, *sealedConn) bool {
	return func(s *session, c *sealedConn) bool {
		for range n {
			if c.send(recordApplication, nil) != nil {
				return false
			}
		}
		if n > mostUseless {
			s.drain()
		}
		return n <= mostUseless
	}
}

// ticketFlood sends session tickets (RFC 8446, 4.6.1) as long as they are read.
func ticketFlood(s *session, c *sealedConn) bool {
	body := []byte{0, 0, 14, 16, 1, 2, 3, 4, 1, 0, 0, 5, 'n', 'o', 'i', 's', 'e', 0, 0} // an hour, age, nonce, ticket, no extensions
	ticket := message(messageNewSessionTicket, body)
	for c.send(recordHandshake, ticket) == nil {
	}
	return false
}

// keyUpdateFlood changes keys (RFC 8446, 4.6.3) as long as that is read, and
// never asks the client for the same.
func keyUpdateFlood(s *session, c *sealedConn) bool {
	for c.send(recordHandshake, message(messageKeyUpdate, []byte{0})) == nil && c.out.update() == nil {
	}
	return false
}

// renegotiate asks for a new handshake (RFC 5246, 7.4.1.1).
func renegotiate(s *session, c *sealedConn) bool {
	if c.send(recordHandshake, message(messageHelloRequest, nil)) == nil {
		s.drain()
	}
	return false
}

// closeNotify ends TLS, and waits for the client to leave.
func closeNotify(s *session, c *sealedConn) bool {
	if c.send(recordAlert, []byte{1, 0}) == nil {
		s.drain()
	}
	return false
}

// garbage sends a record of noise.
func garbage(s *session, c *sealedConn) bool {
	if _, err := c.raw.Write(plainRecord(recordApplication, []byte(strings.Repeat("noise", 20)))); err == nil {
		s.drain()
	}
	return false
}
