package scannertest

import (
	"crypto/tls"
	"slices"

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

	return slices.Concat([]Behaviour{
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
	}, rare(weak()), rare(unreadable()), rare(large()))
}

// weak returns the servers whose certificate is well-formed and worth nothing.
func weak() []Behaviour {
	small := postfix()
	small.tls = tlsOptions{cert: CertRSA512, max: tls.VersionTLS12} // TLS 1.3 cannot sign with it
	bad := judged("Postfix", scanner.TrustBad, "cert-bad")
	bad12 := bad
	bad12.Version = tls.VersionTLS12
	wild := trusted("Postfix")
	wild.Named = []string{"cert-name-mismatch"}
	return []Behaviour{
		{Name: string(CertRSA512), Help: "Its key is so short that anyone can compute its private part.", Want: bad12, Serve: small.serve},
		presents(CertMD5, "Its certificate is signed in a way that can be forged (MD5).", bad),
		presents(CertSHA1, "Its certificate is signed in a way that no client accepts any more (SHA-1).", bad),
		presents(CertWildcards, "Its certificate has wildcards where they count for nothing.", wild),
	}
}

// unreadable returns the servers whose certificate crypto/x509 does not read.
func unreadable() []Behaviour {
	bad := offered("the certificate cannot be parsed", "cert-bad")
	bad.Trust = scanner.TrustBad
	issuer := offered("a certificate sent with it cannot be parsed", "tls-failed")
	issuer.Trust = scanner.TrustTrusted
	return []Behaviour{
		presents(CertBadString, "Its certificate has a letter where that letter may not be, which some software refuses.", bad),
		presents(CertTwice, "Its certificate says one thing twice, which some software refuses.", bad),
		presents(CertEmpty, "Its certificate is empty.", bad),
		presents(CertBadIssuer, "It sends something with its certificate that is none.", issuer),
		presents(CertCurve, "Its key is of a kind that this program does not know, and others may.",
			offered("the certificate's key is on an elliptic curve that this program does not know")),
	}
}

// large returns the servers that send more than crypto/tls takes.
func large() []Behaviour {
	huge := offered("RSA key has more than 8192 bits, which this program does not take")
	huge.Trust = scanner.TrustTrusted
	chain := offered("certificates have more than 256 KiB, which this program does not take")
	extension := chain
	chain.Trust = scanner.TrustTrusted // the leaf came first
	return []Behaviour{
		presents(CertRSA16384, "Its key is so long that nobody likes to compute with it.", huge),
		presents(CertChain300K, "It sends 300 KB of certificates.", chain),
		presents(CertExtension1M, "Its certificate is larger than 1 MB.", extension),
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
