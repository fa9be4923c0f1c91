package report

import "testing"

func TestEncryptionSaysHowTLSBeganAndWhetherItHolds(t *testing.T) {
	for _, tt := range []struct {
		name                                string
		service, starttls, version, finding string
		want                                string
	}{
		{"STARTTLS", "smtp", "offered", "1.3", "", "STARTTLS 1.3, trusted"},
		{"TLS first, where EHLO lists no STARTTLS", "smtp", "absent", "1.3", "", "TLS 1.3, trusted"},
		{"TLS first, EHLO failed", "smtp", "unknown", "1.2", "", "TLS 1.2, trusted"},
		{"no TLS", "smtp", "absent", "", "", "none offered"},
		{"STARTTLS failed before anything was negotiated", "smtp", "offered", "", "tls-failed", "STARTTLS fails"},
		{"STARTTLS failed after the certificate", "smtp", "offered", "1.3", "tls-failed", "STARTTLS fails"},
		{"STARTTLS stalled after the certificate", "smtp", "offered", "1.3", "tls-stalled", "STARTTLS fails"},
		{"STARTTLS with a certificate of ours wanted", "smtp", "offered", "1.3", "client-cert-required", "STARTTLS fails"},
		{"TLS first, failed after the certificate", "tls-failed", "", "1.3", "", "TLS fails"},
		{"TLS first, failed at once", "tls-failed", "", "", "", "TLS fails"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r Row
			r.Cells[ColService], r.Cells[ColStartTLS] = tt.service, tt.starttls
			r.Cells[ColTLSVersion], r.Cells[ColFinding] = tt.version, tt.finding
			if tt.version != "" {
				r.Cells[ColCertTrust] = "trusted"
			}
			if got := encryption(&r); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
