package scannertest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
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
	chain, err := c.chain(kind)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make the %s certificate: %w", kind, err)
	}
	cert := tls.Certificate{Certificate: chain, PrivateKey: c.key}
	c.made[kind] = cert
	return cert, nil
}

// chain makes the certificates, leaf first, that a server with this one sends.
func (c *certs) chain(kind Cert) ([][]byte, error) {
	t := c.template()
	by := c.ca
	switch kind {
	case CertGood, CertNegativeSerial, CertUnparsable, CertChain100:
	case CertExpired:
		t.NotBefore, t.NotAfter = c.now.AddDate(-1, 0, 0), c.now.AddDate(0, 0, -90)
	case CertNotYetValid:
		t.NotBefore, t.NotAfter = c.now.AddDate(0, 0, 30), c.now.AddDate(1, 0, 0)
	case CertSelfSigned:
		by = authority{t, c.key}
	case CertUnknownIssuer:
		by = c.other
	case CertWrongName:
		t.Subject.CommonName = "www.example.net"
		t.DNSNames, t.IPAddresses = []string{"www.example.net", "*.example.net"}, nil
	case CertNameOnly:
		t.DNSNames, t.IPAddresses = nil, nil
	case CertManyNames:
		for i := range 10_000 {
			t.DNSNames = append(t.DNSNames, fmt.Sprintf("mail%d.example.net", i))
		}
	case CertForClients:
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	case CertHostile:
		t.Subject = pkix.Name{CommonName: hostileUTF8, Organization: []string{marks(100_000)}}
		t.DNSNames = append([]string{hostileASCII}, t.DNSNames...)
	default:
		return nil, errors.New("no such certificate")
	}
	leaf, err := x509.CreateCertificate(rand.Reader, t, by.cert, c.key.Public(), by.key)
	if err != nil {
		return nil, err
	}
	switch kind {
	case CertNegativeSerial:
		leaf, err = c.resign(leaf, []byte{0x02, 0x02, 0x55, 0x66}, []byte{0x02, 0x02, 0xaa, 0x66})
	case CertUnparsable:
		leaf, err = c.resign(leaf, []byte{0xa0, 0x03, 0x02, 0x01, 0x02}, []byte{0xa0, 0x03, 0x02, 0x01, 0x07})
	case CertChain100:
		return c.fill(leaf, 99)
	}
	return [][]byte{leaf}, err
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

// fill adds n certificates that do not belong to the chain of leaf.
func (c *certs) fill(leaf []byte, n int) ([][]byte, error) {
	chain := [][]byte{leaf}
	for i := range n {
		t := c.template()
		t.SerialNumber = big.NewInt(int64(1000 + i))
		t.Subject.CommonName = fmt.Sprintf("filler %d", i+1)
		t.DNSNames, t.IPAddresses = nil, nil
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
}

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
	z.tls[o] = cfg
	return cfg, nil
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
