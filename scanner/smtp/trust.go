package smtp

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

const (
	maxNames = 1000 // names kept of a certificate
	maxText  = 1024 // bytes kept of a subject or issuer
	// maxValues is how many values of one kind are written of either.
	maxValues = 100
	// minRSA is the smallest RSA key that is not called bad: 1024 bits are weak,
	// yet no one is known to have broken one.
	minRSA = 1024
	// maxRSA and maxIntermediates bound the arithmetic a stranger can cause.
	// No authority has larger keys; real chains have at most five certificates.
	maxRSA           = 8192
	maxIntermediates = 16
)

// sent is the chain that a server sent, leaf first: parsed, or else as DER.
type sent struct {
	certs []*x509.Certificate
	der   [][]byte
}

// raw returns the chain as DER.
func (c sent) raw() [][]byte {
	if c.certs == nil {
		return c.der
	}
	chain := make([][]byte, len(c.certs))
	for i, cert := range c.certs {
		chain[i] = cert.Raw
	}
	return chain
}

// parsed returns the leaf, nil if it cannot be parsed, and those of the other
// certificates that can. err says what is wrong with the leaf.
func (c sent) parsed() (leaf *x509.Certificate, others []*x509.Certificate, err error) {
	if c.certs != nil {
		return c.certs[0], c.certs[1:], nil
	}
	for i, der := range c.der {
		cert, parseErr := x509.ParseCertificate(der)
		switch {
		case i == 0:
			leaf, err = cert, parseErr
		case parseErr == nil:
			others = append(others, cert)
		}
	}
	return leaf, others, err
}

// Judge says what a certificate chain, as DER and leaf first, is worth at a
// time, and whether the leaf matches host (not asked if that is empty). The
// chain is trusted if one of the pools leads to it; pools that are nil or empty
// are left out, and if none is left, Trust is empty unless something is wrong
// whoever issued it. It fills the fields of a [scanner.TLS] that come from the
// certificate, and returns the code of the finding that Trust means, or "".
func Judge(chain [][]byte, host string, now time.Time, roots ...*x509.CertPool) (scanner.TLS, string) {
	return new(verdicts).judge(sent{der: chain}, host, now, roots)
}

// A verdict is what a chain is worth, whatever name was asked for.
type verdict struct {
	trust scanner.Trust
	note  string
	until time.Time // it may be another from then on
}

// verdicts remembers verdicts: many servers of one operator have the same
// certificate, and checking its signatures is the dearest part of judging it.
type verdicts struct {
	mu sync.Mutex
	of map[[32]byte]verdict // by SHA-256 of the chain; cleared when full
}

const (
	maxVerdicts = 4096
	// verdictLife bounds a verdict's use; certificates of roots expire too.
	verdictLife = time.Hour
)

// judge is Judge with a memory.
func (v *verdicts) judge(c sent, host string, now time.Time, roots []*x509.CertPool) (t scanner.TLS, finding string) {
	t.Chain = c.raw()
	if len(t.Chain) == 0 {
		return t, ""
	}
	t.SHA256 = sha256.Sum256(t.Chain[0])
	leaf, others, err := c.parsed()
	worth := verdict{trust: scanner.TrustBad}
	switch {
	case leaf != nil:
		worth = v.worth(t.Chain, leaf, others, now, roots)
	case isUnknownCurve(err):
		leaf, worth = facts(t.Chain[0]), verdict{note: unknownCurve}
	default:
		leaf, worth.note = facts(t.Chain[0]), "the certificate cannot be parsed: "+trimPackage(err)
	}
	t.Trust, t.Note = worth.trust, worth.note
	if leaf != nil {
		t.Note = joinNotes(worth.note, describe(&t, leaf))
		matchName(&t, leaf, host)
	}
	return t, trustFinding[t.Trust]
}

// matchName says whether a leaf is for the name that was asked for, if one was
// (RFC 9525, 6: SAN only).
func matchName(t *scanner.TLS, leaf *x509.Certificate, host string) {
	if host == "" {
		return
	}
	ok := leaf.VerifyHostname(host) == nil
	t.NameOK = &ok
	if !ok && len(t.Names) == 0 && leaf.Subject.CommonName != "" {
		t.Note = joinNotes(t.Note, "it has a common name only, which no client reads any more")
	}
}

// unknownCurve is the note on a leaf that others may read.
const unknownCurve = "the certificate's key is on an elliptic curve that this program does not know"

// isUnknownCurve reports whether crypto/x509, or crypto/tls by it, refused a
// certificate for that.
func isUnknownCurve(err error) bool {
	return strings.HasSuffix(err.Error(), "x509: unsupported elliptic curve")
}

var trustFinding = map[scanner.Trust]string{
	scanner.TrustBad:           certBad,
	scanner.TrustExpired:       certExpired,
	scanner.TrustNotYetValid:   certNotYetValid,
	scanner.TrustSelfSigned:    certSelfSigned,
	scanner.TrustUnknownIssuer: certUnknownIssuer,
}

// describe fills in what the leaf says of itself, and returns what is odd about that.
func describe(t *scanner.TLS, leaf *x509.Certificate) (note string) {
	t.Subject, t.Issuer = nameText(leaf.Subject), nameText(leaf.Issuer)
	t.NotAfter = leaf.NotAfter
	all := len(leaf.DNSNames) + len(leaf.IPAddresses)
	t.Names = make([]string, 0, min(all, maxNames))
	t.Names = append(t.Names, leaf.DNSNames[:min(len(leaf.DNSNames), maxNames)]...)
	for _, ip := range leaf.IPAddresses[:min(len(leaf.IPAddresses), maxNames-len(t.Names))] {
		t.Names = append(t.Names, ip.String())
	}
	if all > maxNames {
		note = fmt.Sprintf("the first %d of %d names are kept", maxNames, all)
	}
	if leaf.SerialNumber != nil && leaf.SerialNumber.Sign() < 0 {
		note = joinNotes("its serial number is negative", note) // RFC 5280, 4.1.2.2
	}
	return note
}

// nameText writes a distinguished name as RFC 2253 does, bounded.
func nameText(name pkix.Name) string {
	text := short(name).String()
	if len(text) > maxText {
		text = strings.Clone(text[:maxText])
	}
	return text
}

// short cuts what a name has too much of before it is written, character by
// character: a subject may have 200 KB.
func short(name pkix.Name) pkix.Name {
	cut := func(s string) string { return s[:min(len(s), maxText)] }
	for _, values := range []*[]string{
		&name.Country, &name.Organization, &name.OrganizationalUnit, &name.Locality,
		&name.Province, &name.StreetAddress, &name.PostalCode,
	} {
		if len(*values) == 0 || len(*values) == 1 && len((*values)[0]) <= maxText {
			continue
		}
		few := slices.Clone((*values)[:min(len(*values), maxValues)]) // the certificate's own stay as they are
		for i := range few {
			few[i] = cut(few[i])
		}
		*values = few
	}
	name.CommonName, name.SerialNumber = cut(name.CommonName), cut(name.SerialNumber)
	name.Names = name.Names[:min(len(name.Names), maxValues)]
	return name
}

// worth returns the verdict on a chain, from memory if it was met before.
func (v *verdicts) worth(chain [][]byte, leaf *x509.Certificate, others []*x509.Certificate, now time.Time, roots []*x509.CertPool) verdict {
	key := chainKey(chain)
	v.mu.Lock()
	known, ok := v.of[key]
	v.mu.Unlock()
	if ok && now.Before(known.until) && !now.Before(known.until.Add(-verdictLife)) {
		return known
	}
	fresh := worth(leaf, others, now, roots)
	fresh.until = now.Add(verdictLife)
	for _, cert := range append(others, leaf) {
		for _, edge := range [...]time.Time{cert.NotBefore, cert.NotAfter} {
			if !edge.Before(now) && edge.Before(fresh.until) {
				fresh.until = edge
			}
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.of == nil || len(v.of) >= maxVerdicts {
		v.of = make(map[[32]byte]verdict)
	}
	v.of[key] = fresh
	return fresh
}

func chainKey(chain [][]byte) (key [32]byte) {
	h := sha256.New()
	for _, der := range chain {
		n := len(der)
		h.Write([]byte{byte(n >> 16), byte(n >> 8), byte(n)})
		h.Write(der)
	}
	h.Sum(key[:0])
	return key
}

// worth judges a chain: the worst that is true of it, and in the note why, and
// what else is wrong.
func worth(leaf *x509.Certificate, others []*x509.Certificate, now time.Time, roots []*x509.CertPool) verdict {
	if why := unusable(leaf); why != "" {
		return verdict{trust: scanner.TrustBad, note: why}
	}
	at, own := now, verdict{}
	switch {
	case now.After(leaf.NotAfter):
		at = leaf.NotAfter
		own = verdict{trust: scanner.TrustExpired, note: "it expired on " + day(leaf.NotAfter)}
	case now.Before(leaf.NotBefore):
		at = leaf.NotBefore
		own = verdict{trust: scanner.TrustNotYetValid, note: "it is valid from " + day(leaf.NotBefore)}
	}
	// A leaf out of its time is judged as of its last good day, to say what
	// remains when it is renewed.
	by := issued(leaf, others, at, roots)
	if own.trust == "" || by.trust == scanner.TrustBad {
		return by
	}
	if by.trust == scanner.TrustSelfSigned || by.trust == scanner.TrustUnknownIssuer {
		own.note = joinNotes(own.note, by.note)
	}
	return own
}

// unusable says why no client can use a leaf, or returns "".
func unusable(leaf *x509.Certificate) string {
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < minRSA {
		return fmt.Sprintf("its RSA key has only %d bits", key.N.BitLen())
	}
	if !forServers(leaf) {
		return notForServers
	}
	// The signature on a self-signed certificate proves nothing, and so cannot
	// be too weak. One by an authority is what trust rests on (RFC 9155).
	if selfIssued(leaf) {
		return ""
	}
	switch leaf.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA:
		return "it is signed with MD5 or MD2, which can be forged"
	case x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return "it is signed with SHA-1, which no client accepts any more"
	}
	return ""
}

// notForServers is the note on a leaf, or a chain, of another purpose.
const notForServers = "it is not meant for servers (extended key usage)"

// forServers reports whether a leaf may be a TLS server's (RFC 5280, 4.2.1.12).
func forServers(leaf *x509.Certificate) bool {
	return len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) == 0 ||
		slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) || slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// issued judges who stands behind a leaf.
func issued(leaf *x509.Certificate, others []*x509.Certificate, at time.Time, roots []*x509.CertPool) verdict {
	opts := x509.VerifyOptions{Intermediates: x509.NewCertPool(), CurrentTime: at}
	for _, cert := range others[:min(len(others), maxIntermediates)] {
		if !hugeRSA(cert) {
			opts.Intermediates.AddCert(cert)
		}
	}
	var failure error
	asked := false
	for _, pool := range roots {
		if pool == nil || pool.Equal(x509.NewCertPool()) {
			continue
		}
		asked = true
		opts.Roots = pool
		_, err := leaf.Verify(opts)
		if err == nil {
			return verdict{trust: scanner.TrustTrusted}
		}
		failure = worse(failure, err)
	}
	switch {
	case isUsage(failure):
		return verdict{trust: scanner.TrustBad, note: notForServers}
	case selfSigned(leaf):
		return verdict{trust: scanner.TrustSelfSigned, note: "it is self-signed"}
	case !asked:
		return verdict{note: "this machine has no root store to judge it with"}
	}
	return unknownIssuer(leaf, others, at, failure)
}

// worse returns the more telling of two failures: with two pools, one of them
// always just does not know the authority.
func worse(a, b error) error {
	var unknown x509.UnknownAuthorityError
	if a == nil || errors.As(a, &unknown) {
		return b
	}
	return a
}

func isUsage(err error) bool {
	var invalid x509.CertificateInvalidError
	return errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage
}

// unknownIssuer says why no trusted authority stands behind a leaf.
func unknownIssuer(leaf *x509.Certificate, others []*x509.Certificate, at time.Time, failure error) verdict {
	var invalid x509.CertificateInvalidError
	if errors.As(failure, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil {
		name := nameText(invalid.Cert.Subject)
		if at.After(invalid.Cert.NotAfter) {
			return verdict{trust: scanner.TrustExpired, note: "its issuer " + name + " expired on " + day(invalid.Cert.NotAfter)}
		}
		return verdict{trust: scanner.TrustNotYetValid, note: "its issuer " + name + " is valid from " + day(invalid.Cert.NotBefore)}
	}
	v := verdict{trust: scanner.TrustUnknownIssuer}
	var unknown x509.UnknownAuthorityError
	switch {
	case !errors.As(failure, &unknown):
		v.note = trimPackage(failure)
	case len(others) == 0:
		v.note = "its issuer is not trusted here, and the server sent no intermediate certificate"
	case selfIssued(others[len(others)-1]):
		v.note = "its chain ends in a root that is not trusted here: " + nameText(others[len(others)-1].Subject)
	default:
		v.note = "its chain leads to no root that is trusted here: " + nameText(others[len(others)-1].Issuer)
	}
	return v
}

func selfIssued(cert *x509.Certificate) bool { return bytes.Equal(cert.RawSubject, cert.RawIssuer) }

// hugeRSA reports whether a certificate's key is too large to be calculated with.
func hugeRSA(cert *x509.Certificate) bool {
	key, ok := cert.PublicKey.(*rsa.PublicKey)
	return ok && key.N.BitLen() > maxRSA
}

// selfSigned reports whether a certificate is signed by its own key. A
// signature too weak, or too costly, to be checked is believed: it matters to
// nobody.
func selfSigned(cert *x509.Certificate) bool {
	switch {
	case !selfIssued(cert):
		return false
	case hugeRSA(cert):
		return true
	}
	err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
	var insecure x509.InsecureAlgorithmError
	return err == nil || errors.As(err, &insecure) || errors.Is(err, x509.ErrUnsupportedAlgorithm)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

func joinNotes(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

// trimPackage returns an error's text without the names of Go packages.
func trimPackage(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), "x509: ")
}
