package smtp

import "slices"

// The finding codes of a conversation.
const (
	startTLSMasked    = "starttls-masked"
	startTLSRefused   = "starttls-refused"
	startTLSInsideTLS = "starttls-inside-tls"
	plaintextAfter220 = "plaintext-after-220"
	ehloRefused       = "ehlo-refused"
	authWithoutTLS    = "auth-without-tls"
	bannerMasked      = "banner-masked"
	bannerTooLong     = "banner-too-long"
	commandMasked     = "command-masked"
	replyMalformed    = "reply-malformed"
	greetingPause     = "greeting-pause"
	tlsOld            = "tls-old"
	tlsStalled        = "tls-stalled"
	tlsFailed         = "tls-failed"
	clientCertNeeded  = "client-cert-required"
	sniRequired       = "sni-required"
	certBad           = "cert-bad"
	certExpired       = "cert-expired"
	certNotYetValid   = "cert-not-yet-valid"
	certSelfSigned    = "cert-self-signed"
	certUnknownIssuer = "cert-unknown-issuer"
	certNameMismatch  = "cert-name-mismatch"
)

// findings lists them as people should read them: what someone else did to the
// conversation first, then TLS and the certificate, then manners.
var findings = []string{
	startTLSMasked, commandMasked, bannerMasked, plaintextAfter220, startTLSRefused, startTLSInsideTLS,
	tlsFailed, tlsStalled, tlsOld, clientCertNeeded, sniRequired,
	certBad, certExpired, certNotYetValid, certSelfSigned, certUnknownIssuer, certNameMismatch,
	authWithoutTLS, ehloRefused, replyMalformed, bannerTooLong, greetingPause,
}

// Findings returns every finding code, as it stands in the column "finding".
func Findings() []string { return slices.Clone(findings) }
