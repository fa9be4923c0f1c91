package scannertest

import (
	"crypto/tls"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// certificates returns the servers with an odd certificate.
func certificates() []Behaviour {
	expired := exim()
	expired.tls = tlsOptions{cert: CertExpired, max: tls.VersionTLS12}
	old := judged("Exim 4.96", scanner.TrustExpired, "cert-expired")
	old.Version = tls.VersionTLS12

	named := trusted("Postfix")
	named.Named = []string{"cert-name-mismatch"}

	smtps := postfix()
	smtps.implicit, smtps.ehlo, smtps.ehloTLS = true, nil, authKeywords
	smtps.tls.cert = CertExpired
	inTLS := judged("Postfix", scanner.TrustExpired, "cert-expired")
	inTLS.StartTLS = scanner.StartTLSAbsent

	bad := judged("Postfix", scanner.TrustBad, "cert-bad")
	bad.Version = 0 // crypto/tls fails the handshake; a client that does not is right too

	forClients := judged("Postfix", scanner.TrustBad, "cert-bad")

	return []Behaviour{
		{Name: "expired", Help: "Its certificate has expired.", Want: old, Serve: expired.serve},
		{Name: "expired-smtps", Help: "Its certificate has expired, on a port where TLS comes first.",
			Role: targets.SMTPS, Want: inTLS, Serve: smtps.serve},
		presents(CertNotYetValid, "Its certificate is not valid yet: a wrong clock, here or there.",
			judged("Postfix", scanner.TrustNotYetValid, "cert-not-yet-valid")),
		presents(CertSelfSigned, "Its certificate is signed by nobody but itself.",
			judged("Postfix", scanner.TrustSelfSigned, "cert-self-signed")),
		presents(CertUnknownIssuer, "Its certificate is signed by an authority that nobody here knows.",
			judged("Postfix", scanner.TrustUnknownIssuer, "cert-unknown-issuer")),
		presents(CertWrongName, "Its certificate is for another name.", named),
		presents(CertNameOnly, "Its certificate has the name only where no program looks for it any more.", named),
		presents(CertManyNames, "Its certificate is for 10,000 names.", trusted("Postfix")),
		presents(CertForClients, "Its certificate is one for clients.", forClients),
		presents(CertNegativeSerial, "Its certificate has a number below zero, which some software refuses.", trusted("Postfix")),
		presents(CertUnparsable, "Its certificate is not one that software can read.", bad),
		presents(CertChain100, "It sends 99 certificates too many.", trusted("Postfix")),
	}
}

// presents returns a server that is good but for its certificate.
func presents(c Cert, help string, want Want) Behaviour {
	v := postfix()
	v.tls.cert = c
	return Behaviour{Name: string(c), Help: help, Want: want, Serve: v.serve}
}

// judged returns the truth about such a server.
func judged(software string, trust scanner.Trust, finding string) Want {
	w := trusted(software)
	w.Trust, w.Findings = trust, []string{finding}
	return w
}
