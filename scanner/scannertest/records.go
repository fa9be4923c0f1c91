package scannertest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net"
	"sync"
)

// crypto/tls follows the protocol. A server that does not lets it do the
// handshake, takes its keys, and writes records of its own ([sealer]).

// TLS numbers (RFC 5246, 6.2.1 and 7.4; RFC 8446, 4 and 5.1).
const (
	recordCCS         = 20
	recordAlert       = 21
	recordHandshake   = 22
	recordApplication = 23

	messageHelloRequest     = 0
	messageServerHello      = 2
	messageNewSessionTicket = 4
	messageExtensions       = 8
	messageKeyUpdate        = 24
	messageCompressedCert   = 25 // RFC 8879, 4

	extensionALPN              = 16
	extensionSupportedVersions = 43
	extensionKeyShare          = 51

	maxPlaintext = 1 << 14 // of a record
)

// plainRecord returns a record that is not encrypted.
func plainRecord(kind byte, body []byte) []byte {
	return append([]byte{kind, 3, 3, byte(len(body) >> 8), byte(len(body))}, body...)
}

// message returns a handshake message.
func message(kind byte, body []byte) []byte {
	return append([]byte{kind, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
}

// extension returns an extension of a hello.
func extension(number uint16, body []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(body)))
	return append(b, body...)
}

// serverHello returns a ServerHello (RFC 8446, 4.1.3) that answers a session id.
func serverHello(random, session []byte, suite uint16, extensions ...[]byte) []byte {
	b := append([]byte{3, 3}, random...)
	b = append(append(b, byte(len(session))), session...)
	b = binary.BigEndian.AppendUint16(b, suite)
	b = append(b, 0) // no compression
	all := bytes.Join(extensions, nil)
	b = binary.BigEndian.AppendUint16(b, uint16(len(all)))
	return message(messageServerHello, append(b, all...))
}

// sessionID returns the session id of a ClientHello in a record, nil if there is
// none: it stands behind record header (5), message header (4), version (2) and
// random (32).
func sessionID(record []byte) []byte {
	const at = 43
	if len(record) <= at || len(record) < at+1+int(record[at]) {
		return nil
	}
	return record[at+1 : at+1+int(record[at])]
}

// A keyLog keeps the secrets of one connection, by their labels in NSS key log
// files, and the client's random.
type keyLog struct {
	mu      sync.Mutex
	secrets map[string][]byte
	client  []byte
}

// Write implements io.Writer. It is called with one whole line at a time.
func (k *keyLog) Write(line []byte) (int, error) {
	fields := bytes.Fields(line)
	if len(fields) != 3 {
		return len(line), nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.secrets == nil {
		k.secrets = map[string][]byte{}
	}
	k.client, _ = hex.AppendDecode(nil, fields[1])
	k.secrets[string(fields[0])], _ = hex.AppendDecode(nil, fields[2])
	return len(line), nil
}

// secret returns the secret with a label, nil if there is none.
func (k *keyLog) secret(label string) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.secrets[label]
}

// A sealer makes the encrypted records that a server sends.
type sealer struct {
	tls13   bool
	secret  []byte // of TLS 1.3, the present one
	newHash func() hash.Hash
	keyLen  int
	aead    cipher.AEAD
	iv      []byte
	seq     uint64 // of the next record
}

// newSealer13 makes the records of TLS 1.3 under a secret, from the first on.
func newSealer13(suite uint16, secret []byte) (*sealer, error) {
	s := &sealer{tls13: true, newHash: sha256.New, keyLen: 16}
	switch {
	case len(secret) == 0:
		return nil, errors.New("no secret of TLS 1.3")
	case suite == tls.TLS_AES_128_GCM_SHA256:
	case suite == tls.TLS_AES_256_GCM_SHA384:
		s.newHash, s.keyLen = sha512.New384, 32
	default:
		return nil, errors.New("no AES suite of TLS 1.3")
	}
	return s, s.use(secret)
}

// use makes the keys that a secret gives (RFC 8446, 7.3).
func (s *sealer) use(secret []byte) error {
	key, err := expandLabel(s.newHash, secret, "key", s.keyLen)
	if err != nil {
		return err
	}
	s.secret, s.seq = secret, 0
	if s.iv, err = expandLabel(s.newHash, secret, "iv", 12); err != nil {
		return err
	}
	return s.gcm(key)
}

func (s *sealer) gcm(key []byte) error {
	block, err := aes.NewCipher(key)
	if err == nil {
		s.aead, err = cipher.NewGCM(block)
	}
	return err
}

// update makes the next keys, as after a KeyUpdate (RFC 8446, 7.2).
func (s *sealer) update() error {
	next, err := expandLabel(s.newHash, s.secret, "traffic upd", s.newHash().Size())
	if err != nil {
		return err
	}
	return s.use(next)
}

// newSealer12 makes the records of TLS 1.2 with AES-128-GCM and SHA-256 behind
// the server's Finished, which was the first (RFC 5246, 6.3; RFC 5288, 3).
func newSealer12(master, client, server []byte) (*sealer, error) {
	if len(master) == 0 || len(server) == 0 {
		return nil, errors.New("no secret of TLS 1.2")
	}
	block := prf(master, "key expansion", append(bytes.Clone(server), client...), 16+16+4+4)
	s := &sealer{iv: block[36:40], seq: 1}
	return s, s.gcm(block[16:32])
}

// record returns the next record.
func (s *sealer) record(kind byte, body []byte) []byte {
	defer func() { s.seq++ }()
	number := binary.BigEndian.AppendUint64(nil, s.seq)
	if !s.tls13 {
		aad := append(bytes.Clone(number), kind, 3, 3, byte(len(body)>>8), byte(len(body)))
		sealed := s.aead.Seal(number, append(bytes.Clone(s.iv), number...), body, aad)
		return plainRecord(kind, sealed)
	}
	nonce := bytes.Clone(s.iv) // RFC 8446, 5.3
	for i, b := range number {
		nonce[4+i] ^= b
	}
	n := len(body) + 1 + s.aead.Overhead()
	header := []byte{recordApplication, 3, 3, byte(n >> 8), byte(n)}
	inner := append(bytes.Clone(body), kind)
	return append(header, s.aead.Seal(nil, nonce, inner, header)...)
}

// expandLabel is HKDF-Expand-Label without a context (RFC 8446, 7.1).
func expandLabel(newHash func() hash.Hash, secret []byte, label string, n int) ([]byte, error) {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	return hkdf.Expand(newHash, secret, string(append(info, 0)), n)
}

// prf is the pseudorandom function of TLS 1.2 with SHA-256 (RFC 5246, 5).
func prf(secret []byte, label string, seed []byte, n int) (out []byte) {
	seed = append([]byte(label), seed...)
	sum := func(parts ...[]byte) []byte {
		h := hmac.New(sha256.New, secret)
		for _, p := range parts {
			h.Write(p)
		}
		return h.Sum(nil)
	}
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

// A sealedConn is a TLS connection whose records we write ourselves.
type sealedConn struct {
	*tls.Conn          // reads
	raw       net.Conn // is written to
	out       *sealer
}

// Write sends application data.
func (c *sealedConn) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), maxPlaintext)
		if err := c.send(recordApplication, rest[:n]); err != nil {
			return len(p) - len(rest), err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// send sends one record of any kind.
func (c *sealedConn) send(kind byte, body []byte) error {
	_, err := c.raw.Write(c.out.record(kind, body))
	return err
}

// A headTap keeps the beginning of what is written to a connection.
type headTap struct {
	net.Conn
	head []byte
}

// Write writes, and keeps.
func (c *headTap) Write(p []byte) (int, error) {
	if room := 64 - len(c.head); room > 0 {
		c.head = append(c.head, p[:min(len(p), room)]...)
	}
	return c.Conn.Write(p)
}

// seal is handshake for a server that will write records of its own.
func (s *session) seal(o tlsOptions) (*sealedConn, error) {
	cfg, err := s.z.tlsConfig(o)
	if err != nil {
		return nil, err
	}
	keys := new(keyLog)
	cfg = cfg.Clone()
	cfg.KeyLogWriter, cfg.SessionTicketsDisabled = keys, true
	cfg.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	tap := &headTap{Conn: s.raw}
	conn := tls.Server(tap, cfg)
	s.r, s.w = 0, 0
	if err := conn.Handshake(); err != nil {
		return nil, err
	}
	sealed := &sealedConn{Conn: conn, raw: s.raw}
	state := conn.ConnectionState()
	if state.Version == tls.VersionTLS13 {
		sealed.out, err = newSealer13(state.CipherSuite, keys.secret("SERVER_TRAFFIC_SECRET_0"))
	} else {
		sealed.out, err = newSealer12(keys.secret("CLIENT_RANDOM"), keys.client, tap.head[11:43])
	}
	s.conn = sealed
	return sealed, err
}

// sealing returns an upgrade that sends odd records behind a good handshake. odd
// reports whether the conversation goes on.
func sealing(o tlsOptions, odd func(s *session, c *sealedConn) bool) func(*session) bool {
	return func(s *session) bool {
		c, err := s.seal(o)
		return err == nil && odd(s, c)
	}
}

// A reframer splits the plain handshake records that are written to a connection
// into records of one byte each.
type reframer struct {
	net.Conn
	over bool // the plain part
}

// Write writes whole records, which is how crypto/tls calls it.
func (c *reframer) Write(p []byte) (int, error) {
	var out bytes.Buffer
	for rest := p; len(rest) > 0; {
		if len(rest) < 5 || c.over || rest[0] != recordHandshake {
			c.over = true
			out.Write(rest)
			break
		}
		n := min(len(rest), 5+int(binary.BigEndian.Uint16(rest[3:])))
		for _, b := range rest[5:n] {
			out.Write(plainRecord(recordHandshake, []byte{b}))
		}
		rest = rest[n:]
	}
	_, err := c.Conn.Write(out.Bytes())
	return len(p), err
}

// A swapper replaces the encrypted part of the first flight of a TLS 1.3 server.
type swapper struct {
	net.Conn
	keys    *keyLog
	flight  [][]byte // handshake messages instead
	swapped bool
}

// Write lets plain records through.
func (c *swapper) Write(p []byte) (int, error) {
	plain, sealed := 0, false
	for plain+5 <= len(p) && !sealed {
		if sealed = p[plain] == recordApplication; !sealed {
			plain = min(len(p), plain+5+int(binary.BigEndian.Uint16(p[plain+3:])))
		}
	}
	if _, err := c.Conn.Write(p[:plain]); err != nil || !sealed || c.swapped {
		return len(p), err
	}
	c.swapped = true
	out, err := newSealer13(c.suite(p), c.keys.secret("SERVER_HANDSHAKE_TRAFFIC_SECRET"))
	if err != nil {
		return 0, err
	}
	for _, m := range c.flight {
		for len(m) > 0 {
			n := min(len(m), maxPlaintext)
			if _, err := c.Conn.Write(out.record(recordHandshake, m[:n])); err != nil {
				return 0, err
			}
			m = m[n:]
		}
	}
	return len(p), nil
}

// suite returns the suite of the ServerHello at the beginning of a flight.
func (c *swapper) suite(flight []byte) uint16 {
	const session = 5 + 4 + 2 + 32
	if len(flight) <= session || len(flight) < session+1+int(flight[session])+2 {
		return 0
	}
	return binary.BigEndian.Uint16(flight[session+1+int(flight[session]):])
}

// swap returns an upgrade that sends other messages instead of EncryptedExtensions
// and what follows.
func swap(flight ...[]byte) func(*session) bool {
	return func(s *session) bool {
		cfg, err := s.z.tlsConfig(tlsOptions{min: tls.VersionTLS13})
		if err != nil {
			return false
		}
		cfg = cfg.Clone()
		keys := new(keyLog)
		cfg.KeyLogWriter = keys
		conn := tls.Server(&swapper{Conn: s.raw, keys: keys, flight: flight}, cfg)
		conn.Handshake() // the client gives up
		io.Copy(io.Discard, s.raw)
		return false
	}
}
