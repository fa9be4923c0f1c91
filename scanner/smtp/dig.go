package smtp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
)

// Where crypto/tls gives a handshake up because of a certificate that it
// cannot parse or whose key it finds too large, it does not show it. Then the
// certificates are dug out of what was received: up to TLS 1.2 they came in the
// clear, in 1.3 under a key that crypto/tls hands out for debugging.

// TLS numbers (RFC 5246, 6.2.1 and 7.4; RFC 8446, 4 and 5.1).
const (
	recordHandshake   = 22
	recordApplication = 23
	typeServerHello   = 2
	typeCertificate   = 11
)

// A keyLog keeps the server's handshake secret of TLS 1.3, from lines as in
// NSS key log files: label, client random, secret.
type keyLog struct{ secret []byte }

// Write implements io.Writer. It is called with one whole line at a time.
func (k *keyLog) Write(line []byte) (int, error) {
	label, rest, _ := bytes.Cut(bytes.TrimSpace(line), []byte(" "))
	if string(label) == "SERVER_HANDSHAKE_TRAFFIC_SECRET" {
		_, text, _ := bytes.Cut(rest, []byte(" "))
		k.secret, _ = hex.AppendDecode(nil, text)
	}
	return len(line), nil
}

// dig returns the certificates in the records of a handshake. secret is the
// server's handshake secret of TLS 1.3, or nil.
func dig(records, secret []byte) sent {
	plain, sealed := split(records)
	chain, suite := messages(plain, false)
	if len(chain) == 0 && secret != nil {
		chain, _ = messages(unseal(sealed, suite, secret), true)
	}
	return sent{der: chain}
}

// split returns the handshake messages sent in the clear, and the records
// sent under a key with their headers.
func split(records []byte) (plain []byte, sealed [][]byte) {
	for len(records) >= 5 {
		n := 5 + int(binary.BigEndian.Uint16(records[3:]))
		if n > len(records) {
			return plain, sealed
		}
		switch records[0] {
		case recordHandshake:
			plain = append(plain, records[5:n]...)
		case recordApplication:
			sealed = append(sealed, records[:n])
		}
		records = records[n:]
	}
	return plain, sealed
}

// messages walks handshake messages and returns the certificates and the
// cipher suite that they name. tls13 says what shape a Certificate has. Of one
// that was cut short, because it is too long, the whole certificates count.
func messages(b []byte, tls13 bool) (chain [][]byte, suite uint16) {
	for len(b) >= 4 {
		n := 4 + uint24(b[1:])
		if n > len(b) {
			if b[0] == typeCertificate {
				chain = certificates(b[4:], tls13)
			}
			return chain, suite
		}
		switch body := b[4:n]; b[0] {
		case typeServerHello:
			suite = helloSuite(body)
		case typeCertificate:
			return certificates(body, tls13), suite
		}
		b = b[n:]
	}
	return chain, suite
}

// helloSuite returns the suite that a ServerHello picks: after version (2),
// random (32) and session id (RFC 5246, 7.4.1.3).
func helloSuite(body []byte) uint16 {
	if len(body) < 35 {
		return 0
	}
	at := 35 + int(body[34])
	if len(body) < at+2 {
		return 0
	}
	return binary.BigEndian.Uint16(body[at:])
}

// certificates reads a Certificate message: entries with three bytes of length
// (RFC 5246, 7.4.2), in TLS 1.3 after a context and with extensions behind each
// (RFC 8446, 4.4.2).
func certificates(body []byte, tls13 bool) (chain [][]byte) {
	if tls13 {
		if len(body) < 1 || len(body) < 1+int(body[0]) {
			return nil
		}
		body = body[1+int(body[0]):]
	}
	if len(body) < 3 {
		return nil
	}
	body = body[3:]
	for len(body) >= 3 {
		n := 3 + uint24(body)
		if n > len(body) {
			return chain
		}
		chain = append(chain, bytes.Clone(body[3:n]))
		body = body[n:]
		if tls13 {
			if len(body) < 2 {
				return chain
			}
			body = body[min(len(body), 2+int(binary.BigEndian.Uint16(body))):]
		}
	}
	return chain
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// recordKey returns the cipher and the start of the nonces that a secret of
// TLS 1.3 gives (RFC 8446, 7.3). It knows the AES suites; ChaCha20 is not in
// the standard library's public part, and rarely chosen.
func recordKey(suite uint16, secret []byte) (cipher.AEAD, []byte, error) {
	newHash, keyLen := sha256.New, 16
	switch suite {
	case tls.TLS_AES_128_GCM_SHA256:
	case tls.TLS_AES_256_GCM_SHA384:
		newHash, keyLen = sha512.New384, 32
	default:
		return nil, nil, errors.New("no AES suite of TLS 1.3")
	}
	block, err := aes.NewCipher(expand(newHash, secret, "key", keyLen))
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, nil, err
	}
	return aead, expand(newHash, secret, "iv", aead.NonceSize()), nil
}

// unseal decrypts records of TLS 1.3 and returns the handshake messages in
// them, as far as they can be decrypted.
func unseal(sealed [][]byte, suite uint16, secret []byte) (plain []byte) {
	aead, iv, err := recordKey(suite, secret)
	if err != nil || iv == nil {
		return nil
	}
	for seq, record := range sealed {
		nonce := bytes.Clone(iv) // RFC 8446, 5.3
		for i := range 8 {
			nonce[4+i] ^= byte(uint64(seq) >> (56 - 8*i))
		}
		inner, err := aead.Open(nil, nonce, record[5:], record[:5])
		if err != nil {
			return plain
		}
		inner = bytes.TrimRight(inner, "\x00") // padding
		if len(inner) > 0 && inner[len(inner)-1] == recordHandshake {
			plain = append(plain, inner[:len(inner)-1]...)
		}
	}
	return plain
}

// expand is HKDF-Expand-Label without a context (RFC 8446, 7.1).
func expand(newHash func() hash.Hash, secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	key, err := hkdf.Expand(newHash, secret, string(append(info, 0)), n)
	if err != nil {
		return nil
	}
	return key
}
