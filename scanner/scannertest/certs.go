package scannertest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/md5" // for weaklySigned
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"time"
)

// A Cert names a certificate of a zoo. Unless its comment says otherwise it is
// for Host, valid now, and signed by the zoo's authority.
type Cert string

const (
	CertGood           Cert = "good"            // nothing is wrong with it
	CertExpired        Cert = "expired"         // its validity ended 90 days ago
	CertNotYetValid    Cert = "not-yet-valid"   // its validity begins in 30 days
	CertSelfSigned     Cert = "self-signed"     // signed by its own key
	CertUnknownIssuer  Cert = "unknown-issuer"  // signed by an authority that is not in Roots
	CertWrongName      Cert = "wrong-name"      // for another name than Host, and for no address
	CertNameOnly       Cert = "name-only"       // Host is its common name, and no name else (RFC 9525, 2, does not count it)
	CertManyNames      Cert = "many-names"      // for 10,000 names besides
	CertForClients     Cert = "for-clients"     // its extended key usage is for clients only
	CertNegativeSerial Cert = "negative-serial" // its serial number is below 0 (RFC 5280, 4.1.2.2, forbids it)
	CertUnparsable     Cert = "unparsable"      // X.509 version 8, which does not exist; well-formed and signed
	CertChain100       Cert = "chain-100"       // sent with 99 certificates that have nothing to do with it
	CertHostile        Cert = "hostile"         // control characters, formulas, markup and 10^5 combining marks in subject and names
	CertRSA512         Cert = "rsa-512"         // its RSA key has 512 bits, which anyone can factor
	CertRSA16384       Cert = "rsa-16384"       // its RSA key has 16384 bits, more than crypto/tls takes
	CertMD5            Cert = "md5"             // signed with MD5, by an authority of its own
	CertSHA1           Cert = "sha-1"           // signed with SHA-1, by an authority of its own
	CertWildcards      Cert = "wildcards"       // for *, *.*.org and mail.*.org, which match nothing (RFC 9525, 6.3)
	CertBadString      Cert = "bad-string"      // its subject has an @ in a PrintableString (X.680, 41.4, forbids it)
	CertTwice          Cert = "twice"           // has one extension twice (RFC 5280, 4.2, forbids it)
	CertCurve          Cert = "curve"           // its key is said to be on prime239v2 (X9.62), a curve that crypto/x509 does not know
	CertEmpty          Cert = "empty"           // no bytes
	CertBadIssuer      Cert = "bad-issuer"      // good, and sent with one that is not a certificate
	CertChain300K      Cert = "chain-300k"      // sent with 300 KB of certificates that have nothing to do with it
	CertExtension1M    Cert = "extension-1m"    // has an extension of 1 MB
)

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// certs makes and keeps the certificates of a zoo. One key serves all leaves:
// to make a key costs more than to sign.
type certs struct {
	now   time.Time
	names []string
	ca    authority
	other authority
	key   *ecdsa.PrivateKey

	mu   sync.Mutex
	made map[Cert]tls.Certificate
}

// newCerts makes the two authorities and the key.
func newCerts(names []string, now time.Time) (*certs, error) {
	ca, err := newAuthority("Zoo Test CA", now)
	if err != nil {
		return nil, err
	}
	other, err := newAuthority("Nobody's CA", now)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return &certs{now: now, names: names, ca: ca, other: other, key: key, made: make(map[Cert]tls.Certificate)}, nil
}

// newAuthority makes a self-signed authority.
func newAuthority(name string, now time.Time) (authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return authority{}, err
	}
	t := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name, Organization: []string{"Example"}},
		NotBefore:             now.AddDate(-2, 0, 0),
		NotAfter:              now.AddDate(10, 0, 0),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return authority{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return authority{cert, key}, err
}

// get returns a certificate, made at the first call.
func (c *certs) get(kind Cert) (tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cert, ok := c.made[kind]; ok {
		return cert, nil
	}
	key, err := c.keyOf(kind)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the key of the %s certificate: %w", kind, err)
	}
	chain, err := c.chain(kind, key.Public())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the %s certificate: %w", kind, err)
	}
	cert := tls.Certificate{Certificate: chain, PrivateKey: key}
	c.made[kind] = cert
	return cert, nil
}

// keyOf returns the key of a certificate.
func (c *certs) keyOf(kind Cert) (crypto.Signer, error) {
	switch kind {
	case CertRSA512:
		// Keys under 1024 bits are made only where GODEBUG has rsa1024min=0, as
		// this module's go.mod has.
		return rsa.GenerateKey(rand.Reader, 512)
	case CertRSA16384:
		return noiseKey(16384), nil
	}
	return c.key, nil
}

// chain makes the certificates, leaf first, that a server with this one and this
// key sends.
func (c *certs) chain(kind Cert, key crypto.PublicKey) ([][]byte, error) {
	t := c.template()
	if err := c.shape(t, kind); err != nil {
		return nil, err
	}
	by := c.ca
	switch kind {
	case CertSelfSigned:
		by = authority{t, c.key}
	case CertUnknownIssuer:
		by = c.other
	case CertMD5, CertSHA1:
		leaf, err := c.weaklySigned(t, kind)
		return [][]byte{leaf}, err
	case CertEmpty:
		return [][]byte{{}}, nil
	}
	leaf, err := x509.CreateCertificate(rand.Reader, t, by.cert, key, by.key)
	if err != nil {
		return nil, err
	}
	switch kind {
	case CertChain100:
		return c.fill(leaf, 99, 0)
	case CertChain300K:
		return c.fill(leaf, 15, 1000)
	case CertBadIssuer:
		return [][]byte{leaf, []byte("not a certificate")}, nil
	}
	if swap, ok := forbidden[kind]; ok {
		leaf, err = c.resign(leaf, swap.old, swap.new)
	}
	return [][]byte{leaf}, err
}

// shape makes the template of a good certificate one of a certificate.
func (c *certs) shape(t *x509.Certificate, kind Cert) error {
	switch kind {
	case CertGood, CertSelfSigned, CertUnknownIssuer, CertNegativeSerial, CertUnparsable, CertChain100, CertChain300K,
		CertRSA512, CertRSA16384, CertMD5, CertSHA1, CertCurve, CertEmpty, CertBadIssuer:
	case CertExpired:
		t.NotBefore, t.NotAfter = c.now.AddDate(-1, 0, 0), c.now.AddDate(0, 0, -90)
	case CertNotYetValid:
		t.NotBefore, t.NotAfter = c.now.AddDate(0, 0, 30), c.now.AddDate(1, 0, 0)
	case CertWrongName:
		t.Subject.CommonName = "www.example.net"
		t.DNSNames, t.IPAddresses = []string{"www.example.net", "*.example.net"}, nil
	case CertNameOnly:
		t.DNSNames, t.IPAddresses = nil, nil
	case CertWildcards:
		t.DNSNames, t.IPAddresses = []string{"*", "*.*.org", "mail.*.org", "m*.example.org"}, nil
	case CertManyNames:
		t.DNSNames = append(t.DNSNames, manyNames(10_000)...)
	case CertForClients:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case CertHostile:
		t.Subject = pkix.Name{CommonName: hostileUTF8, Organization: []string{marks(100_000)}}
		t.DNSNames = append([]string{hostileASCII}, t.DNSNames...)
	case CertBadString:
		t.Subject.Organization = []string{"Mail Host"}
	case CertTwice:
		t.ExtraExtensions = []pkix.Extension{{Id: oddOID(1), Value: []byte{5, 0}}, {Id: oddOID(2), Value: []byte{5, 0}}}
	case CertExtension1M:
		t.ExtraExtensions = []pkix.Extension{{Id: oddOID(1), Value: make([]byte, 1<<20)}}
	default:
		return errors.New("no such certificate")
	}
	return nil
}

// forbidden are the certificates that crypto/x509 refuses to make: what is
// replaced in one that it made.
var forbidden = map[Cert]struct{ old, new []byte }{
	CertNegativeSerial: {[]byte{0x02, 0x02, 0x55, 0x66}, []byte{0x02, 0x02, 0xaa, 0x66}},
	CertUnparsable:     {[]byte{0xa0, 0x03, 0x02, 0x01, 0x02}, []byte{0xa0, 0x03, 0x02, 0x01, 0x07}},
	CertBadString:      {[]byte("Mail Host"), []byte("Mail@Host")},
	CertTwice:          {[]byte{0x2b, 6, 1, 4, 1, 0xce, 0x0f, 2}, []byte{0x2b, 6, 1, 4, 1, 0xce, 0x0f, 1}},
	CertCurve:          {[]byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7}, []byte{0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 5}},
}

// oddOID returns one of the object identifiers that are no one's (1.3.6.1.4.1.9999.n).
func oddOID(n int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 9999, n}
}

func manyNames(n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("mail%d.example.net", i))
	}
	return names
}

// template returns a good leaf. Its serial number is such that resign finds it.
func (c *certs) template() *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(0x5566),
		Subject:      pkix.Name{CommonName: Host},
		NotBefore:    c.now.AddDate(0, 0, -30),
		NotAfter:     c.now.AddDate(0, 0, 60),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     []string{Host, "localhost"},
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, name := range c.names {
		if ip := net.ParseIP(name); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, name)
		}
	}
	return t
}

// resign replaces the first occurrence of old in what a certificate says, and
// signs it again: crypto/x509 refuses to make such certificates.
func (c *certs) resign(der, old, new []byte) ([]byte, error) {
	var cert struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		return nil, err
	}
	tbs := bytes.Replace(cert.TBS.FullBytes, old, new, 1)
	if len(old) != len(new) || bytes.Equal(tbs, cert.TBS.FullBytes) {
		return nil, errors.New("nothing to replace")
	}
	digest := sha256.Sum256(tbs)
	sig, err := c.ca.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	cert.TBS = asn1.RawValue{FullBytes: tbs}
	cert.Sig = asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}
	return asn1.Marshal(cert)
}

// weaklySigned makes a certificate that an RSA authority of its own signed with
// MD5 or SHA-1, which crypto/x509 refuses to do.
func (c *certs) weaklySigned(t *x509.Certificate, kind Cert) ([]byte, error) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		return nil, err
	}
	issuer := *c.other.cert
	issuer.PublicKey, issuer.Subject = key.Public(), pkix.Name{CommonName: "Old CA"}
	issuer.RawSubject = nil
	der, err := x509.CreateCertificate(rand.Reader, t, &issuer, c.key.Public(), key)
	if err != nil {
		return nil, err
	}
	var cert struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &cert); err != nil {
		return nil, err
	}
	hash, last := crypto.MD5, byte(4) // RFC 3279, 2.2.1
	if kind == CertSHA1 {
		hash, last = crypto.SHA1, 5
	}
	oid := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11}
	weak := append(oid[:8:8], last)
	cert.TBS = asn1.RawValue{FullBytes: bytes.Replace(cert.TBS.FullBytes, oid, weak, 1)}
	cert.Alg.Algorithm = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, int(last)}
	h := hash.New()
	h.Write(cert.TBS.FullBytes)
	if cert.Sig.Bytes, err = rsa.SignPKCS1v15(rand.Reader, key, hash, h.Sum(nil)); err != nil {
		return nil, err
	}
	cert.Sig.BitLength = 8 * len(cert.Sig.Bytes)
	return asn1.Marshal(cert)
}

// noise is an RSA key that nobody has the private part of. It signs nonsense:
// what its owner signs is looked at by nobody who finds the key too large.
type noise struct{ public *rsa.PublicKey }

// noiseKey returns such a key of so many bits.
func noiseKey(bits int) noise {
	modulus := append([]byte{0x80}, bytes.Repeat([]byte{0x5b}, bits/8-1)...)
	return noise{&rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}}
}

func (k noise) Public() crypto.PublicKey { return k.public }

func (k noise) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, k.public.Size()), nil
}

// fill adds n certificates, of so many names each, that do not belong to the
// chain of leaf.
func (c *certs) fill(leaf []byte, n, names int) ([][]byte, error) {
	chain := [][]byte{leaf}
	for i := range n {
		t := c.template()
		t.SerialNumber = big.NewInt(int64(1000 + i))
		t.Subject.CommonName = fmt.Sprintf("filler %d", i+1)
		t.DNSNames, t.IPAddresses = manyNames(names), nil
		der, err := x509.CreateCertificate(rand.Reader, t, c.other.cert, c.key.Public(), c.other.key)
		if err != nil {
			return nil, err
		}
		chain = append(chain, der)
	}
	return chain, nil
}

// tlsOptions are what the TLS configurations of the servers differ in.
type tlsOptions struct {
	cert       Cert
	min, max   uint16 // as in tls.Config
	clientAuth tls.ClientAuthType
	sni        nameUse
}

// A nameUse says what a server does with the name that a client asks for (SNI).
type nameUse uint8

const (
	ignoresName      nameUse = iota
	needsName                // no TLS without one
	otherWithoutName         // without one, a self-signed certificate
)

// tlsConfig returns the configuration for a server, made at the first call.
func (z *Zoo) tlsConfig(o tlsOptions) (*tls.Config, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if cfg, ok := z.tls[o]; ok {
		return cfg, nil
	}
	kind := o.cert
	if kind == "" {
		kind = CertGood
	}
	cert, err := z.certs.get(kind)
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{
		Certificates: []tls.Certificate{cert},
		MinVersion:   o.min,
		MaxVersion:   o.max,
		ClientAuth:   o.clientAuth,
	}
	switch o.sni {
	case needsName: // without a certificate, crypto/tls sends the alert unrecognized_name
		cfg.Certificates = nil
		cfg.GetCertificate = byName(cert)
	case otherWithoutName:
		other, err := z.certs.get(CertSelfSigned)
		if err != nil {
			return nil, err
		}
		cfg.Certificates = []tls.Certificate{other}
		cfg.GetCertificate = byName(cert)
	}
	z.tls[o] = cfg
	return cfg, nil
}

// byName returns a choice of certificate: this one for clients that ask for a
// name, and for others the first of Config.Certificates.
func byName(cert tls.Certificate) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		if hello.ServerName == "" {
			return nil, nil
		}
		return &cert, nil
	}
}

// What strangers put into greetings, EHLO replies and certificates to harm a
// terminal, a spreadsheet, a browser or an XML parser.
const (
	// hostileASCII fits into an IA5String, the type of a DNS name in a certificate.
	hostileASCII = "=HYPERLINK(\"http://192.0.2.1\",\"x\")\x1b]0;owned\x07\x1b[2J\x00\r\n\t<script>alert(1)</script>]]>&'\"|;"
	// hostileUTF8 adds C1 controls and bidirectional overrides, as valid UTF-8.
	hostileUTF8 = hostileASCII + "\u009b31m\u202eevil\u2066\u200f\u2028\ufeff\U000e0041"
	// hostileLine fits into one line of a reply: no CRLF, and bytes that are not UTF-8.
	hostileLine = "\x1b]0;owned\x07\x1b[2J\x9b31m\x00\r\x08\x7f\xff\xfe\xc0\x80\xed\xa0\x80\u009b\u202eevil\u2066 <script>alert(1)</script> ]]> <!-- &amp; =1+1 @SUM(1) |"
)

// marks returns a letter with n combining marks on it, 2n+1 bytes.
func marks(n int) string { return "a" + strings.Repeat("\u0301", n) }
