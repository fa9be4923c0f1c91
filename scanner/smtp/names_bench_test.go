package smtp_test

import (
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
)

// BenchmarkJudgeHostile judges a certificate whose subject is 200 KB of accents.
func BenchmarkJudgeHostile(b *testing.B) {
	zoo, err := scannertest.Start(b.Context(), scannertest.Config{})
	if err != nil {
		b.Fatal(err)
	}
	defer zoo.Close()
	cert, err := zoo.Certificate(scannertest.CertHostile)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if t, _ := smtp.Judge(cert.Certificate, "", time.Now(), zoo.Roots()); len(t.Subject) == 0 || len(t.Subject) > 1024 {
			b.Fatalf("subject of %d bytes", len(t.Subject))
		}
	}
}
