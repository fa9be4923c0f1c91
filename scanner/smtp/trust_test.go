package smtp_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
	"github.com/smtpsweep/smtpsweep/targets"
)

var day0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// A party has a certificate and its key.
type party struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func (p party) der() []byte { return p.cert.Raw }

// issue makes a certificate that is valid a year around day0, signed by issuer
// (by itself if that is nil), after change was applied to its template.
func issue(t testing.TB, name string, issuer *party, change func(*x509.Certificate)) *party {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name, Organization: []string{"Example, Inc."}},
		NotBefore:    day0.AddDate(0, -6, 0), NotAfter: day0.AddDate(0, 6, 0),
		BasicConstraintsValid: true,
	}
	if change != nil {
		change(template)
	}
	var public any = key.Public()
	if template.PublicKey != nil {
		public = template.PublicKey
	}
	by := party{template, key}
	if issuer != nil {
		by = *issuer
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.cert, public, by.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &party{cert, key}
}

func authority(c *x509.Certificate) {
	c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
}

func named(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = names }
}

func pool(parties ...*party) *x509.CertPool {
	p := x509.NewCertPool()
	for _, one := range parties {
		p.AddCert(one.cert)
	}
	return p
}

// hugeKey returns a self-signed certificate with an RSA key of so many bits, for
// which there is no private key: its signature is noise.
func hugeKey(t testing.TB, bits int) []byte {
	t.Helper()
	noise := bytes.Repeat([]byte{0x5b}, bits/8)
	modulus := append([]byte{0x80}, noise[1:]...)
	by := issue(t, "huge", nil, authority)
	leaf := issue(t, "huge", by, func(c *x509.Certificate) {
		c.PublicKey = &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}
	})
	var cert struct {
		TBS asn1.RawValue
		Alg pkix.AlgorithmIdentifier
		Sig asn1.BitString
	}
	unmarshal(t, leaf.der(), &cert)
	var tbs asn1.RawValue
	unmarshal(t, cert.TBS.FullBytes, &tbs)
	ecdsaSHA256 := []byte{0x30, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02}
	rsaSHA256 := []byte{0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b, 0x05, 0x00}
	tbs = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: bytes.Replace(tbs.Bytes, ecdsaSHA256, rsaSHA256, 1)}
	unmarshal(t, rsaSHA256, &cert.Alg)
	cert.TBS = asn1.RawValue{FullBytes: marshal(t, tbs)}
	cert.Sig = asn1.BitString{Bytes: noise, BitLength: bits}
	return marshal(t, cert)
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func unmarshal(t testing.TB, der []byte, v any) {
	t.Helper()
	if _, err := asn1.Unmarshal(der, v); err != nil {
		t.Fatal(err)
	}
}

func TestJudge(t *testing.T) {
	root := issue(t, "Root", nil, authority)
	middle := issue(t, "Middle", root, authority)
	staleMiddle := issue(t, "Stale Middle", root, func(c *x509.Certificate) {
		authority(c)
		c.NotAfter = day0.AddDate(0, -1, 0)
	})
	stranger := issue(t, "Strange Root", nil, authority)
	clientsOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	clientCA := issue(t, "For Clients", root, func(c *x509.Certificate) { authority(c); clientsOnly(c) })
	names := named("mail.example.org", "*.mx.example.org")
	good := issue(t, "leaf", middle, names)
	self := issue(t, "self", nil, names)
	old := func(c *x509.Certificate) { names(c); c.NotAfter = day0.AddDate(0, 0, -1) }
	small := new(big.Int).SetBit(big.NewInt(1), 511, 1)
	sha256OID := []byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b}

	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	asRSA := *issue(t, "RSA Root", nil, authority).cert
	asRSA.PublicKey = rsaKey.Public()
	rsaRoot := &party{&asRSA, rsaKey}
	byRSA := issue(t, "leaf", rsaRoot, names).der()
	signedWith := func(last byte) [][]byte { // 1.2.840.113549.1.1.5 is SHA-1, .4 MD5
		oid := slices.Clone(sha256OID)
		oid[len(oid)-1] = last
		return [][]byte{bytes.ReplaceAll(byRSA, sha256OID, oid)}
	}

	tests := []struct {
		name  string
		chain [][]byte
		host  string
		roots *x509.CertPool
		trust scanner.Trust
		match string // "", "true", "false"
		note  string // is in the note
	}{
		{"a whole chain", [][]byte{good.der(), middle.der()}, "mail.example.org", pool(root), scanner.TrustTrusted, "true", ""},
		{"chain in any order, root included", [][]byte{good.der(), root.der(), middle.der()}, "MAIL.example.org.", pool(root), scanner.TrustTrusted, "true", ""},
		{"wildcard in the left-most label", [][]byte{good.der(), middle.der()}, "a.mx.example.org", pool(root), scanner.TrustTrusted, "true", ""},
		{"wildcard is one label", [][]byte{good.der(), middle.der()}, "a.b.mx.example.org", pool(root), scanner.TrustTrusted, "false", ""},
		{"other name", [][]byte{good.der(), middle.der()}, "example.org", pool(root), scanner.TrustTrusted, "false", ""},
		{"no intermediate", [][]byte{good.der()}, "", pool(root), scanner.TrustUnknownIssuer, "", "no intermediate"},
		{"private authority", [][]byte{issue(t, "leaf", stranger, names).der(), stranger.der()}, "", pool(root), scanner.TrustUnknownIssuer, "", "Strange Root"},
		{"self-signed", [][]byte{self.der()}, "", pool(root), scanner.TrustSelfSigned, "", "self-signed"},
		{"self-signed and in the pool", [][]byte{self.der()}, "", pool(self), scanner.TrustTrusted, "", ""},
		{"expired", [][]byte{issue(t, "leaf", middle, old).der(), middle.der()}, "mail.example.org", pool(root), scanner.TrustExpired, "true", "it expired on 2026-02-28"},
		{"expired and self-signed", [][]byte{issue(t, "leaf", nil, old).der()}, "", pool(root), scanner.TrustExpired, "", "it expired on 2026-02-28; it is self-signed"},
		{"not yet valid", [][]byte{issue(t, "leaf", middle, func(c *x509.Certificate) { c.NotBefore = day0.AddDate(0, 0, 1) }).der(), middle.der()},
			"", pool(root), scanner.TrustNotYetValid, "", "valid from 2026-03-02"},
		{"issuer expired", [][]byte{issue(t, "leaf", staleMiddle, names).der(), staleMiddle.der()}, "", pool(root), scanner.TrustExpired, "", "Stale Middle"},
		{"wildcards that are none", [][]byte{issue(t, "leaf", root, named("*", "m*.example.org", "*.*.org", "mail.*.org")).der()},
			"mail.example.org", pool(root), scanner.TrustTrusted, "false", ""},
		{"no root store", [][]byte{good.der(), middle.der()}, "mail.example.org", nil, "", "true", "no root store"},
		{"empty root store", [][]byte{good.der(), middle.der()}, "", x509.NewCertPool(), "", "", "no root store"},
		{"expired, no root store", [][]byte{issue(t, "leaf", middle, old).der()}, "", nil, scanner.TrustExpired, "", "it expired"},
		{"for clients only", [][]byte{issue(t, "leaf", root, clientsOnly).der()},
			"", pool(root), scanner.TrustBad, "", "not meant for servers"},
		{"for clients only, by nobody that we know", [][]byte{issue(t, "leaf", stranger, clientsOnly).der()}, "", pool(root), scanner.TrustBad, "", "not meant for servers"},
		{"for clients only and self-signed", [][]byte{issue(t, "leaf", nil, clientsOnly).der()}, "", pool(root), scanner.TrustBad, "", "not meant for servers"},
		{"for clients only, no root store", [][]byte{issue(t, "leaf", root, clientsOnly).der()}, "", nil, scanner.TrustBad, "", "not meant for servers"},
		{"for clients and servers", [][]byte{issue(t, "leaf", root, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
		}).der()}, "", pool(root), scanner.TrustTrusted, "", ""},
		{"for everything", [][]byte{issue(t, "leaf", root, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageAny} }).der()},
			"", pool(root), scanner.TrustTrusted, "", ""},
		{"by an authority for clients only", [][]byte{issue(t, "leaf", clientCA, names).der(), clientCA.der()}, "", pool(root), scanner.TrustBad, "", "not meant for servers"},
		// Its signature is wrong: to check it would cost whatever its owner likes.
		{"a self-signed RSA key of 16384 bits", [][]byte{hugeKey(t, 16384)}, "", pool(root), scanner.TrustSelfSigned, "", "self-signed"},
		{"RSA of 512 bits", [][]byte{issue(t, "leaf", root, func(c *x509.Certificate) { c.PublicKey = &rsa.PublicKey{N: small, E: 65537} }).der()},
			"", pool(root), scanner.TrustBad, "", "512 bits"},
		{"SHA-1", signedWith(5), "", pool(root), scanner.TrustBad, "", "SHA-1"},
		{"MD5", signedWith(4), "", pool(root), scanner.TrustBad, "", "MD5"},
		{"not a certificate", [][]byte{[]byte("hello")}, "mail.example.org", pool(root), scanner.TrustBad, "", "cannot be parsed"},
		{"garbage behind the leaf", [][]byte{good.der(), []byte("hello"), middle.der()}, "", pool(root), scanner.TrustTrusted, "", ""},
		{"common name only", [][]byte{issue(t, "mail.example.org", root, nil).der()}, "mail.example.org", pool(root), scanner.TrustTrusted, "false", "common name"},
		{"no certificate", nil, "mail.example.org", pool(root), "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, finding := smtp.Judge(tt.chain, tt.host, day0, tt.roots)
			match := ""
			if got.NameOK != nil {
				match = fmt.Sprint(*got.NameOK)
			}
			if got.Trust != tt.trust || match != tt.match || !strings.Contains(got.Note, tt.note) {
				t.Errorf("trust %q, name %q, note %q; want %q, %q, %q", got.Trust, match, got.Note, tt.trust, tt.match, tt.note)
			}
			if want := (got.Trust != "" && got.Trust != scanner.TrustTrusted); (finding == "cert-"+string(got.Trust)) != want {
				t.Errorf("finding %q for trust %q", finding, got.Trust)
			}
		})
	}
}

func TestJudgeKeepsWhatTheCertificateSays(t *testing.T) {
	leaf := issue(t, "mail.example.org", nil, func(c *x509.Certificate) {
		for i := range 1500 {
			c.DNSNames = append(c.DNSNames, fmt.Sprintf("m%d.example.org", i))
		}
		c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)}
		c.Subject.Organization = []string{strings.Repeat("x", 60_000)}
	})
	got, _ := smtp.Judge([][]byte{leaf.der()}, "", day0)
	if len(got.Names) != 1000 || got.Names[999] != "m999.example.org" || !strings.Contains(got.Note, "1501") {
		t.Errorf("%d names, note %q", len(got.Names), got.Note)
	}
	if len(got.Subject) > 1024 || !strings.HasPrefix(got.Subject, "CN=mail.example.org") && !strings.HasPrefix(got.Subject, "O=x") {
		t.Errorf("subject of %d bytes: %.40q", len(got.Subject), got.Subject)
	}
	if !got.NotAfter.Equal(day0.AddDate(0, 6, 0)) {
		t.Errorf("not after %v", got.NotAfter)
	}
}

// A verdict is remembered, but not beyond the moment when it changes.
func TestCertificateThatExpiresDuringARunIsSeenToExpire(t *testing.T) {
	root := issue(t, "Root", nil, authority)
	leaf := issue(t, "leaf", root, func(c *x509.Certificate) { c.NotAfter = day0.Add(time.Minute) })
	now := day0
	p := client()
	p.Roots, p.Now = pool(root), func() time.Time { return now }
	var got []scanner.Trust
	for _, at := range []time.Duration{0, 59 * time.Second, 61 * time.Second, 2 * time.Hour, 0} {
		now = day0.Add(at)
		s := overTLS(t, p, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.der()}, PrivateKey: leaf.key}}})
		got = append(got, s.TLS.Trust)
	}
	want := []scanner.Trust{scanner.TrustTrusted, scanner.TrustTrusted, scanner.TrustExpired, scanner.TrustExpired, scanner.TrustTrusted}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Error(diff)
	}
}

// overTLS has one conversation on a port with implicit TLS.
func overTLS(t testing.TB, p *smtp.Prober, cfg *tls.Config) *scanner.Service {
	t.Helper()
	// Not a pipe: with a HelloRetryRequest both sides write at once.
	ours, theirs := loopback(t)
	served := make(chan struct{})
	go func() {
		defer close(served)
		server := &player{conn: theirs, tls: cfg}
		server.play("TLS\nS: 220 hi\nC: EHLO client.example.org\nS: 250 hi\nC: QUIT\nS: 221 bye")
	}()
	s := p.Probe(t.Context(), ours, &scanner.Observation{Target: port465})
	ours.Close()
	<-served
	return s
}

// loopback returns the two ends of a TCP connection.
func loopback(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if ours, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if theirs, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

func TestCertificateThatCannotBeParsedIsKept(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain := [][]byte{[]byte("no certificate"), bytes.Repeat([]byte("x"), 40_000)}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS12, tls.VersionTLS13} {
		for _, curve := range []tls.CurveID{tls.X25519, tls.CurveP521} { // the second needs a HelloRetryRequest
			t.Run(tls.VersionName(version)+" "+curve.String(), func(t *testing.T) {
				s := overTLS(t, client(), &tls.Config{
					Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}},
					MinVersion:   version, MaxVersion: version, CurvePreferences: []tls.CurveID{curve},
				})
				if diff := cmp.Diff(s.TLS.Chain, chain, cmp.Transformer("text", func(b []byte) string { return string(b) })); diff != "" {
					t.Error(diff)
				}
				if s.Kind != scanner.KindTLSFailed || s.TLS.Trust != scanner.TrustBad || s.TLS.Version != version ||
					!strings.HasPrefix(s.Err, "the certificate cannot be parsed") {
					t.Errorf("kind %q, trust %q, %s, error %q", s.Kind, s.TLS.Trust, tls.VersionName(s.TLS.Version), s.Err)
				}
			})
		}
	}
}

// crypto/tls takes no RSA key above 8192 bits. Others do: it is no fault of the
// server's.
func TestKeyThatIsTooLargeForUsIsNoFault(t *testing.T) {
	chain := [][]byte{hugeKey(t, 16384)}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cfg := &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: key}}, MinVersion: version, MaxVersion: version}
		ours, theirs := loopback(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			server := &player{conn: theirs, tls: cfg}
			server.play("S: 220 hi\nC: EHLO client.example.org\nS: 250-hi\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\nTLS")
		}()
		p := client()
		p.Now = func() time.Time { return day0 }
		s := p.Probe(t.Context(), ours, &scanner.Observation{Target: port25})
		ours.Close()
		<-served
		if diff := cmp.Diff(s.TLS.Chain, chain); diff != "" || s.TLS.Version != version || s.TLS.Trust != scanner.TrustSelfSigned {
			t.Errorf("%s, %q: %s", tls.VersionName(s.TLS.Version), s.TLS.Trust, diff)
		}
		if got, want := s.Err, "STARTTLS: a certificate's RSA key has more than 8192 bits, which this program does not take"; got != want {
			t.Errorf("error %q, want %q", got, want)
		}
		if !slices.Equal(s.Findings, []string{"cert-self-signed"}) {
			t.Errorf("findings %q", s.Findings)
		}
	}
}

// Of a chain that is longer than crypto/tls takes, the certificates that came
// before it gave up are kept.
func TestChainThatIsTooLongKeepsItsLeaf(t *testing.T) {
	zoo, err := scannertest.Start(t.Context(), scannertest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer zoo.Close()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cert, err := zoo.Certificate(scannertest.CertChain300K)
		if err != nil {
			t.Fatal(err)
		}
		p := client()
		p.Roots = zoo.Roots()
		s := overTLS(t, p, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: version, MaxVersion: version})
		if len(s.TLS.Chain) == 0 || !bytes.Equal(s.TLS.Chain[0], cert.Certificate[0]) || s.TLS.Trust != scanner.TrustTrusted ||
			s.TLS.Err != "the server's certificates have more than 256 KiB, which this program does not take" {
			t.Errorf("%s: %d certificates, trust %q, error %q", tls.VersionName(version), len(s.TLS.Chain), s.TLS.Trust, s.TLS.Err)
		}
	}
}

// A certificate that crypto/x509 refuses says whose it is all the same.
func TestCertificateThatIsRefusedKeepsItsFacts(t *testing.T) {
	zoo, err := scannertest.Start(t.Context(), scannertest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer zoo.Close()
	for kind, want := range map[scannertest.Cert]scanner.Trust{
		scannertest.CertBadString: scanner.TrustBad, scannertest.CertTwice: scanner.TrustBad,
		scannertest.CertUnparsable: scanner.TrustBad, scannertest.CertCurve: "",
	} {
		cert, err := zoo.Certificate(kind)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := smtp.Judge(cert.Certificate, scannertest.Host, time.Now(), zoo.Roots())
		if got.Trust != want || got.Note == "" || got.NameOK == nil || !*got.NameOK || got.NotAfter.IsZero() ||
			!slices.Contains(got.Names, scannertest.Host) || !strings.Contains(got.Subject, scannertest.Host) || !strings.Contains(got.Issuer, "Zoo Test CA") {
			t.Errorf("%s: %+v", kind, got)
		}
		if got, _ := smtp.Judge(cert.Certificate, "example.net", time.Now(), zoo.Roots()); got.NameOK == nil || *got.NameOK {
			t.Errorf("%s is taken for example.net", kind)
		}
	}
}

func TestNameIsSentOnlyIfOneWasAskedFor(t *testing.T) {
	for _, host := range []string{"", "mail.example.org"} {
		var got string
		key := serverTLS(t)
		key.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			got = hello.ServerName
			return nil, nil
		}
		ours, theirs := net.Pipe()
		server := &player{conn: theirs, tls: key}
		played := make(chan error, 1)
		go func() { played <- server.play("TLS\nclose") }()
		target := port465
		if host != "" {
			target.From = &targets.Origin{Spec: host, Host: host}
		}
		s := client().Probe(t.Context(), ours, &scanner.Observation{Target: target})
		ours.Close()
		<-played
		if got != host || (s.TLS.NameOK != nil) != (host != "") {
			t.Errorf("server name %q, judged %t; want %q", got, s.TLS.NameOK != nil, host)
		}
	}
}
