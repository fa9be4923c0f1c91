// Package reflect is the far end of an egress audit, and the part of the
// auditor that talks to it. The far end runs outside of the network that is
// audited; together they prove what a single end can only guess: whether what
// was sent is what arrived, and who was in between.
//
// [Server] is the far end: a mail server that takes no mail, and says, signed,
// what it saw of a session. [Probe] holds such a session, compares what it sent
// and received with what the far end received and sent, and concludes: blocked
// and at which step, NAT, a proxy, lines rewritten, STARTTLS stripped, TLS
// opened, or intact. It does not speak with mail servers of others: that is
// package smtp.
//
// # The session
//
// It is SMTP (RFC 5321), in the clear with STARTTLS (RFC 3207) or inside TLS
// from the first byte (RFC 8314), and nothing in it is foreign to a filter that
// knows SMTP:
//
//	S: 220 far.example.org ESMTP XREFLECT1 ID NONCE
//	C: EHLO [192.0.2.7]
//	S: 250-far.example.org
//	S: 250-PIPELINING
//	S: 250-8BITMIME
//	S: 250-ENHANCEDSTATUSCODES
//	S: 250-STARTTLS
//	S: 250 XREFLECT1
//	C: NOOP XREFLECT NONCE 1
//	S: 250-BASE64...
//	S: 250-BASE64...
//	S: 250 SIGNATURE
//	C: STARTTLS
//	...
//	C: NOOP XREFLECT NONCE 2
//	...
//	C: QUIT
//
// ID is the beginning of the far end's public key, its NONCE 16 random bytes.
// The auditor's NONCE is the public half of an Ed25519 key that it makes for
// this session. All of them are in base64url without padding (RFC 4648, 5).
//
// The auditor's nonce travels as the argument of NOOP. Every filter knows NOOP,
// so none has a reason to stop it; a filter that only relays the commands it
// knows drops the argument, and one that speaks for the server answers by
// itself: either way there is no summary, and that is seen. If no summary comes,
// the auditor says the same with the verb XREFLECT, which such a filter refuses
// or overwrites.
//
// # The summary
//
// The answer to NOOP XREFLECT is a [Summary] as JSON, in base64 (RFC 4648, 4) of
// at most 400 characters a line; the last line is the signature of the JSON
// (Ed25519, with [summaryContext] before it). It holds both nonces and the number
// that the request asked for, so one of another session, or an earlier one of this
// session, is not taken. What it counts and lists goes up to and includes the
// request; its own reply is not in it, nor are those of earlier summaries.
//
// Further arguments of NOOP:
//
//	NOOP XREFLECT NONCE SEQ EARLIER=NONCE    with what became of an earlier session, which broke off
//	NOOP XREVERSE NONCE SEQ PORTS SIGNATURE  connects to PORTS (some of 25,465,587) of the source address; then a summary
//	NOOP XLINE ....                          a long line; answered 250
//
// The SIGNATURE of XREVERSE is by the key whose public half NONCE is, over both
// nonces and the ports ([reverseContext]): nobody on the way can ask for it.
package reflect

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

const (
	// protocol is the word in greeting and EHLO reply.
	protocol = "XREFLECT1"
	// What is signed begins with what it is, so that no signature serves for
	// anything else.
	summaryContext = "smtpsweep reflect summary 1\n"
	reverseContext = "smtpsweep reflect reverse 1\n"

	nonceSize = 16 // of the far end's
	idLength  = 8  // characters of the key in a greeting
)

// Ports are those that a far end listens on unless told otherwise.
func Ports() []uint16 { return []uint16{25, 465, 587, 2525, 443} }

// ImplicitTLS reports whether a port of a far end begins with TLS unless it was
// told otherwise: there both ends must agree without a word.
func ImplicitTLS(port uint16) bool { return port == 465 || port == 443 }

// A Pin is the public key of a far end: its fingerprint is the key itself.
// The zero Pin is none.
type Pin [ed25519.PublicKeySize]byte

// PinOf returns the pin of a far end's key.
func PinOf(key ed25519.PrivateKey) (p Pin) {
	copy(p[:], key.Public().(ed25519.PublicKey))
	return p
}

// String returns the 43 characters of base64url that ParsePin reads.
func (p Pin) String() string { return base64.RawURLEncoding.EncodeToString(p[:]) }

// id is the part of a pin that stands in a greeting.
func (p Pin) id() string { return p.String()[:idLength] }

// ParsePin reads a fingerprint.
func ParsePin(text string) (p Pin, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != len(p) || p == Pin(raw) {
		return Pin{}, errors.New("not a fingerprint: 43 letters, digits, - and _ are wanted, as the far end printed them")
	}
	return Pin(raw), nil
}

// ParseReflector reads what --reflector takes: HOST#FINGERPRINT, HOST a name or
// an address. It does not look the name up.
func ParseReflector(text string) (host string, pin Pin, err error) {
	host, fingerprint, found := strings.Cut(text, "#")
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if !found || host == "" || strings.ContainsAny(host, " \t\r\n/@#") {
		return "", Pin{}, fmt.Errorf("not a far end: HOST#FINGERPRINT is wanted, as \"smtpsweep reflect\" printed it")
	}
	if _, err := netip.ParseAddr(host); err != nil && strings.Contains(host, ":") {
		return "", Pin{}, fmt.Errorf("not a far end: HOST is a name or an address without a port")
	}
	pin, err = ParsePin(fingerprint)
	return host, pin, err
}

// newNonce returns random bytes in base64url.
func newNonce() string {
	var b [nonceSize]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// parseNonce reads an auditor's nonce: the public half of a key.
func parseNonce(text string) (ed25519.PublicKey, bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return raw, err == nil && len(raw) == ed25519.PublicKeySize
}
