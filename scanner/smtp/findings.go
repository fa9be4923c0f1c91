package smtp

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
	certBad           = "cert-bad"
	certExpired       = "cert-expired"
	certNotYetValid   = "cert-not-yet-valid"
	certSelfSigned    = "cert-self-signed"
	certUnknownIssuer = "cert-unknown-issuer"
	certNameMismatch  = "cert-name-mismatch"
)

// A FindingHelp says in plain words what a finding code means, and what to do.
type FindingHelp struct {
	Code  string // as in the column "finding"
	Means string // one or two sentences
}

// findingTable is ordered as people should read it: what someone else did to
// the conversation first, then the certificate, then manners.
var findingTable = []FindingHelp{
	{startTLSMasked, "A device on the way overwrites the STARTTLS keyword (XXXXXXXA), so that mail crosses it unencrypted. Turn off its SMTP inspection, or use port 465."},
	{commandMasked, "The server answers to XXXX, a command that was never sent: a device on the way overwrites commands. Turn off its SMTP inspection."},
	{bannerMasked, "The greeting has only 2, 0 and *: a device on the way hides it. Such devices often break ESMTP as well; turn off its SMTP inspection."},
	{plaintextAfter220, "Unencrypted text came after the server agreed to STARTTLS and before TLS began. Someone on the way, or a faulty server, tries to slip commands or answers into the protected session (CVE-2011-0411)."},
	{startTLSRefused, "The server lists STARTTLS and refuses it. Usually its certificate or key cannot be read, or a device on the way answers in its place: see the server's log."},
	{startTLSInsideTLS, "STARTTLS is offered again inside TLS, which RFC 3207 forbids. A sign of a proxy that ends TLS in front of the server."},
	{tlsFailed, "The server agreed to STARTTLS, and the TLS handshake then failed. Senders that insist on TLS cannot deliver, others fall back to plain text: see the error, and the server's log."},
	{tlsStalled, "The TLS handshake began and nothing came any more. Often a firewall that drops large packets or inspects TLS, or an overloaded server."},
	{tlsOld, "TLS 1.0 or 1.1 was negotiated, which RFC 8996 retired. Turn on TLS 1.2 and 1.3."},
	{clientCertNeeded, "The server wants a certificate from its clients. On a public mail port that shuts most senders out."},
	{certBad, "The certificate is one that nobody should accept: it cannot be parsed, is not meant for servers, or has a key or signature that is too weak."},
	{certExpired, "The certificate, or one of its issuers, has expired. Renew it; if it was renewed, make the server load the new one."},
	{certNotYetValid, "The certificate is not valid yet. The clock of the server, of its issuer or of this machine is wrong."},
	{certSelfSigned, "The certificate vouches for itself. Mail between servers usually accepts that, mail programs and senders that check do not."},
	{certUnknownIssuer, "No trusted authority stands behind the certificate. Often the server does not send its intermediate certificate; a private authority can be given with --ca."},
	{certNameMismatch, "The certificate is for other names than the one asked for. Add the name to it, or use a name that it has."},
	{authWithoutTLS, "Passwords (AUTH PLAIN or LOGIN) are accepted before TLS: anyone on the way can read them. Offer AUTH only inside TLS."},
	{ehloRefused, "EHLO is refused, so that nobody can see or use STARTTLS. A very old server, a device on the way that blocks ESMTP, or a server that does not accept the client or the name it gave: see its answer."},
	{replyMalformed, "A reply breaks the grammar of SMTP (RFC 5321, 4.2): a fault of the server, or something else that answers on this port."},
	{bannerTooLong, "The greeting did not end within 64 KiB or 512 lines: a trap for spammers, or not a mail server."},
	{greetingPause, "The greeting came more than 5 seconds after the connection. Usually on purpose, against spammers who cannot wait; impatient scanners miss such servers."},
}

// Findings returns every finding code with what it means.
func Findings() []FindingHelp {
	return append([]FindingHelp(nil), findingTable...)
}
