package smtp

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
)

func FuzzFacts(f *testing.F) {
	f.Add([]byte{0x30, 0x03, 0x30, 0x01, 0x05})
	for _, der := range oddCertificates(f) {
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		loose := facts(der)
		strict, err := x509.ParseCertificate(der)
		if err != nil {
			return
		}
		// What crypto/x509 reads, we read as well, and the same; of names it leaves
		// some out, such as those that are not ASCII.
		switch {
		case loose == nil:
			t.Fatal("nothing was read of a good certificate")
		case !loose.NotAfter.Equal(strict.NotAfter) || string(loose.RawSubject) != string(strict.RawSubject):
			t.Errorf("until %v, want %v", loose.NotAfter, strict.NotAfter)
		case !within(strict.DNSNames, loose.DNSNames) || len(loose.IPAddresses) < len(strict.IPAddresses):
			t.Errorf("names %q, want %q", loose.DNSNames, strict.DNSNames)
		}
	})
}

// within reports whether all of some names are among others, in that order.
func within(some, others []string) bool {
	for _, name := range others {
		if len(some) > 0 && some[0] == name {
			some = some[1:]
		}
	}
	return len(some) == 0
}

func TestFactsOfACertificateThatIsRefused(t *testing.T) {
	for name, der := range oddCertificates(t) {
		if _, err := x509.ParseCertificate(der); err == nil && name != "good" {
			t.Errorf("%s: crypto/x509 reads it by now", name)
		}
		got := facts(der)
		if got == nil || !slices.Contains(got.DNSNames, "mail.example.org") || len(got.IPAddresses) != 2 || got.Issuer.CommonName != "Zoo Test CA" {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		if left := time.Until(got.NotAfter); left < 24*time.Hour || got.Subject.CommonName != "mail.example.org" {
			t.Errorf("%s: subject %v, %v left", name, got.Subject, left)
		}
		if got := got.Subject.Organization; name == "bad-string" && !slices.Equal(got, []string{"Mail@Host"}) {
			t.Errorf("organization %q", got)
		}
	}
	if got := facts([]byte("not a certificate")); got != nil {
		t.Errorf("facts of nothing: %+v", got)
	}
}

// oddCertificates returns certificates that crypto/x509 refuses, and a good one.
func oddCertificates(t testing.TB) map[string][]byte {
	t.Helper()
	zoo, err := scannertest.Start(t.Context(), scannertest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(zoo.Close)
	odd := map[string][]byte{}
	for _, kind := range []scannertest.Cert{scannertest.CertGood, scannertest.CertUnparsable, scannertest.CertBadString, scannertest.CertTwice, scannertest.CertCurve} {
		cert, err := zoo.Certificate(kind)
		if err != nil {
			t.Fatal(err)
		}
		odd[string(kind)] = cert.Certificate[0]
	}
	return odd
}
