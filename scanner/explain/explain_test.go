package explain

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// wordingLines has a line as it is seen in the field for every entry of the
// dictionaries; the entry must be the first explanation of it.
var wordingLines = map[string][]string{
	"gmail-unauthenticated": {"421-4.7.0 This message does not pass authentication checks (SPF and DKIM both do not pass).",
		"550-5.7.26 This mail has been blocked because the sender is unauthenticated.\r\n550-5.7.26 Gmail requires all senders to authenticate with either SPF or DKIM.",
		"550-5.7.26 Unauthenticated email from example.org is not accepted due to domain's\n550 5.7.26 DMARC policy."},
	"gmail-ptr":              {"421-4.7.23 Your email has been rate limited because the sending IP address does not have a PTR record", "550-5.7.25 [192.0.2.25] The IP address sending this message does not have a\n550-5.7.25 PTR record setup, or the corresponding forward DNS entry does not\n550 5.7.25 match the sending IP."},
	"gmail-spf":              {"421-4.7.27 Your email has been rate limited because SPF authentication did not pass for this message.", "550 5.7.27 Your email has been blocked because SPF did not pass"},
	"gmail-dkim":             {"421-4.7.30 Your email has been rate limited because DKIM authentication did not pass for this message.", "550 5.7.30 Your email has been blocked because DKIM did not pass"},
	"gmail-alignment":        {"421-4.7.32 Your email has been rate limited because the From: header (RFC5322) in this message is not aligned with either the authenticated SPF or DKIM organizational domain."},
	"gmail-tls":              {"421-4.7.29 Your email has been rate limited because this email was not sent over a TLS connection."},
	"gmail-rate":             {"421-4.7.28 [192.0.2.25] Our system has detected an unusual rate of unsolicited mail originating from your IP address"},
	"gmail-reputation":       {"550-5.7.1 [192.0.2.25 18] Our system has detected that this message is likely unsolicited mail.", "421 4.7.0 Our system has detected that this message is suspicious due to the very low reputation of the sending domain"},
	"gmail-form":             {"550-5.7.1 This message is not RFC 5322 compliant, the issue is: duplicate From headers"},
	"gmail-apppass":          {"534-5.7.14 Please log in via your web browser and then try again.", "534-5.7.9 Application-specific password required. Learn more at"},
	"gmail-badcred":          {"535-5.7.8 Username and Password not accepted. For more information, go to"},
	"gmail-quota":            {"550 5.4.5 Daily user sending limit exceeded"},
	"gmail-content":          {"552-5.7.0 This message was blocked because its content presents a potential security issue"},
	"ms-banned-ip":           {"550 5.7.511 Access denied, banned sender[192.0.2.25]. To request removal from this list please forward this message to delist@microsoft.com", "550 5.7.606 Access denied, banned sending IP [192.0.2.25]. To request removal from this list please visit https://sender.office.com/"},
	"ms-outlook-block":       {"550 5.7.1 Unfortunately, messages from [192.0.2.25] weren't sent. Please contact your Internet service provider since part of their network is on our block list (S3150)."},
	"ms-rate-ip":             {"451 4.7.650 The mail server [192.0.2.25] has been temporarily rate limited due to IP reputation."},
	"ms-traffic":             {"550 5.7.708 Service unavailable. Access denied, traffic not accepted from this IP."},
	"ms-tenant-limit":        {"550 5.7.705 Service unavailable. Access denied, tenant has exceeded threshold."},
	"ms-access-denied":       {"550 5.4.1 Recipient address rejected: Access denied. AS(201806281)"},
	"ms-recipient-not-found": {"550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup"},
	"ms-57":                  {"530 5.7.57 Client not authenticated to send mail. Error: 535 5.7.3", "550 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM"},
	"ms-139":                 {"535 5.7.139 Authentication unsuccessful, basic authentication is disabled."},
	"ms-73-auth":             {"535 5.7.3 Authentication unsuccessful [AM0PR01CA0001.eurprd01.prod.exchangelabs.com]"},
	"ms-73-tls":              {"451 5.7.3 STARTTLS is required to send mail"},
	"ms-sendas":              {"554 5.2.252 SendAsDenied; user@example.org not allowed to send as shared@example.org", "550 5.7.60 SMTP; Client does not have permissions to send as this sender"},
	"ms-relay":               {"550 5.7.64 TenantAttribution; Relay Access Denied"},
	"ms-dmarc":               {"550 5.7.509 Access denied, sending domain example.org does not pass DMARC verification and has a DMARC policy of reject.", "550 5.7.515 Access denied, sending domain example.org doesn't meet the required authentication level."},
	"ms-forwarding":          {"550 5.7.520 Access denied, Your organization does not allow external forwarding. Please contact your administrator for further assistance. AS(7555)"},
	"ms-bad-sender":          {"550 5.1.8 Access denied, bad outbound sender. AS(42004)"},
	"ms-restricted":          {"550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required; Delivery restriction check failed because the sender was not authenticated when sending to this group"},
	"ms-busy":                {"451 4.7.500 Server busy. Please try again later from [192.0.2.25]. (AS77712345)"},
	"ms-hops":                {"554 5.4.14 Hop count exceeded - possible mail loop ATTR34", "554 5.4.0 Error: too many hops"},
	"ms-backpressure":        {"452 4.3.1 Insufficient system resources"},
	"yahoo-ts":               {"421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or user complaints - 4.16.55.1"},
	"yahoo-ts-perm":          {"553 5.7.1 [TSS09] All messages from 192.0.2.25 will be permanently deferred; Retrying will NOT succeed."},
	"yahoo-bl":               {"553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.25, because the ip is in Spamhaus's list"},
	"yahoo-policy":           {"554 5.7.9 Message not accepted for policy reasons. See https://postmaster.yahooinc.com/error-codes"},
	"yahoo-nouser":           {"554 delivery error: dd This user doesn't have a yahoo.com account (user@yahoo.example)"},
	"proofpoint-blocked":     {"554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.25"},
	"ironport-reputation":    {"554 Your access to this mail system has been rejected due to poor reputation of a domain used in message transfer", "554 Your access to this mail system has been rejected due to the sending MTA's poor reputation."},
	"cloudmark-csi":          {"554 Blocked by Cloudmark Sender Intelligence, see http://csi.cloudmark.com/reset-request/"},
	"barracuda-reputation":   {"554 Service unavailable; Client host [192.0.2.25] blocked using Barracuda Reputation; http://www.barracudanetworks.com/reputation/?ip=192.0.2.25"},
	"mimecast":               {"550 Rejected by header based Anti-Spoofing policy - https://community.mimecast.com/docs/DOC-1369#550"},
	"apple-cs01":             {"554 5.7.1 [CS01] Message rejected due to local policy. Please visit https://support.apple.com/"},
	"gmx-nemesis":            {"554-gmx.net (mxgmx016) Nemesis ESMTP Service not available\n554-No SMTP service\n554-Bad DNS PTR resource record."},
	"tonline":                {"554 IP=192.0.2.25 - A problem occurred. Ask your postmaster for help or to contact tosa@rx.t-online.de to clarify."},
	"messagelabs-policy":     {"501 Connection rejected by policy [7.7] 12345, please visit www.messagelabs.com/support"},

	"spamhaus-resolver":    {"554 5.7.1 Service unavailable; Client host [192.0.2.25] blocked using zen.spamhaus.org; Error: open resolver; https://check.spamhaus.org/returnc/pub/192.0.2.53/"},
	"spamhaus":             {"554 5.7.1 Service unavailable; Client host [192.0.2.25] blocked using zen.spamhaus.org; https://www.spamhaus.org/query/ip/192.0.2.25"},
	"spamcop":              {"554 5.7.1 blocked using bl.spamcop.net; see https://www.spamcop.net/bl.shtml?192.0.2.25"},
	"uceprotect":           {"550 5.7.1 Your ISP is UCEPROTECT-Level3 listed"},
	"rbl":                  {"554 5.7.1 Service unavailable; Client host [192.0.2.25] blocked using rbl.example.net", "550 rejected because 192.0.2.25 is in a blacklist at list.example.net"},
	"greylist":             {"451 Internal resource temporarily unavailable - https://community.mimecast.com/docs/DOC-1369#451", "450 4.2.0 <user@example.net>: Recipient address rejected: Greylisted, see http://postgrey.example.net", "451 4.7.1 Greylisting in action, please come back later"},
	"postscreen-deep":      {"450 4.3.2 Service currently unavailable"},
	"no-ptr":               {"450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.25]", "550 5.7.1 Client host rejected: cannot find your reverse hostname, [192.0.2.25]", "postfix/smtpd[1]: warning: hostname mail.example.org does not resolve to address 192.0.2.25"},
	"dynamic-ip":           {"554 5.7.1 <mail.example.org[192.0.2.25]>: Client host rejected: Your IP is dynamic", "554 5.7.1 We do not accept mail from dynamic IP addresses"},
	"relay-denied":         {"554 5.7.1 <user@example.net>: Relay access denied", "550 5.7.1 <user@example.net>... Relaying denied", "550 relay not permitted", "550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain"},
	"starttls-first":       {"530 5.7.0 Must issue a STARTTLS command first", "530 5.7.0 STARTTLS required"},
	"tls-not-available":    {"454 4.7.0 TLS not available due to local problem", "454 TLS currently unavailable"},
	"tls-offered-not":      {"TLS is required, but was not offered by host mx.example.net[198.51.100.25]"},
	"sync-error":           {"554 5.5.0 Error: SMTP protocol synchronization", "554 SMTP synchronization error", "postfix/postscreen[1]: PREGREET 11 after 0.05 from [192.0.2.25]:4711: EHLO ylmf-pc"},
	"too-many-connections": {"451 4.7.652 The mail server [192.0.2.25] has exceeded the maximum number of connections. (S3115)", "421 4.7.0 mx.example.net Error: too many connections from 192.0.2.25", "421 Too many concurrent SMTP connections; please try again later"},
	"rate-limit":           {"450 4.7.1 Error: too much mail from 192.0.2.25", "421 4.7.0 rate limit exceeded"},
	"mailbox-full":         {"552 5.2.2 <user@example.net>: user is over quota", "452 4.2.2 Mailbox full"},
	"disk-full":            {"452 4.3.1 Insufficient system storage", "postfix/smtpd: write queue file: No space left on device"},
	"no-user":              {"550 5.1.1 <user@example.net>: Recipient address rejected: User unknown in local recipient table", "550 5.1.1 The email account that you tried to reach does not exist", "550 No such user here"},
	"mailbox-disabled":     {"550-5.2.1 The email account that you tried to reach is disabled. Learn more at", "550 5.2.1 <user@example.net>: mailbox disabled", "550 account disabled"},
	"sender-domain":        {"550 5.1.0 <u@example.net>: Sender address rejected: User unknown in virtual mailbox table", "450 4.1.8 <root@web1>: Sender address rejected: Domain not found", "553 5.1.8 Domain of sender address root@web1.example does not exist", "550 Sender verify failed"},
	"sender-not-owned":     {"553 5.7.1 <a@example.org>: Sender address rejected: not owned by user b@example.org"},
	"spf":                  {"550 Rejected by SPF", "550 5.7.23 SPF validation failed", "550 SPF check failed: 192.0.2.25 is not allowed to send mail from example.org"},
	"dmarc":                {"554 5.7.5 Permanent error evaluating DMARC policy", "550 5.7.1 rejected by DMARC policy for example.org"},
	"dkim":                 {"550 5.7.20 No passing DKIM signature found"},
	"helo":                 {"501 HELO requires domain address", "550 R1: HELO should be a FQDN or address literal", "501 5.5.4 Invalid domain name", "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", "501 Syntactically invalid EHLO argument(s)"},
	"size":                 {"552 5.3.4 Message size exceeds fixed limit", "552 5.3.4 Error: message file too big"},
	"auth-required":        {"530 5.7.0 Authentication required", "550 authentication required"},
	"auth-failed":          {"535 5.7.8 Error: authentication failed: UGFzc3dvcmQ6", "535 Incorrect authentication data", "535 5.7.8 Authentication credentials invalid"},
	"no-auth-mech":         {"postfix/smtpd[1]: fatal: no SASL authentication mechanisms", "warning: SASL authentication failure: No worthy mechs found", "SASL authentication failed; cannot authenticate to server smtp.example.net[198.51.100.25]: no mechanism available", "504 5.7.4 Unrecognized authentication type"},
	"null-mx":              {"556 5.1.10 <user@example.net>: Recipient address rejected: Domain example.net does not accept mail (nullMX)"},
	"spam-content":         {"550 5.7.1 Message rejected as spam by Content Filtering.", "554 5.7.1 This message has been identified as spam", "550 High probability of spam"},
	"virus":                {"550 5.7.1 Virus found in message"},
	"access-denied":        {"554 5.7.1 <192.0.2.25>: Client host rejected: Access denied", "550 5.7.1 <a@b.example>: Recipient address rejected: Access denied", "550 Administrative prohibition"},
	"try-later":            {"451 4.3.0 <user@example.net>: Temporary lookup failure", "451 Temporary local problem - please try later"},
	"too-many-recipients":  {"452 4.5.3 Error: too many recipients"},
	"command-unknown":      {"502 5.5.2 Error: command not recognized", "500 5.5.1 Command unrecognized: \"XXXX mail.example.org\"", "503 Bad sequence of commands"},
	"dane":                 {"TLSA lookup error for mx.example.net:25", "Server certificate not trusted", "mta-sts policy validation failed"},
	"smtputf8":             {"550 5.6.7 SMTPUTF8 is required, but was not offered by host mx.example.net"},
	"milter":               {"warning: connect to Milter service inet:localhost:8891: Connection refused", "connect to 127.0.0.1[127.0.0.1]:10024: Connection refused"},

	"tls-expired":       {"remote error: tls: expired certificate", "verify error:num=10:certificate has expired", "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-11-21T09:00:00Z is after 2026-08-15T00:00:00Z"},
	"tls-not-yet-valid": {"x509: certificate has expired or is not yet valid: current time 2026-03-01T00:00:00Z is before 2026-04-01T00:00:00Z", "verify error:num=9:certificate is not yet valid"},
	"tls-name":          {"x509: certificate is valid for *.hosting.example, not mx.example.net", "verify error:num=62:hostname mismatch", "x509: cannot validate certificate for 192.0.2.25 because it doesn't contain any IP SANs"},
	"tls-self-signed":   {"verify error:num=18:self-signed certificate", "certificate verify failed: self signed certificate in certificate chain"},
	"tls-unknown-ca":    {"remote error: tls: unknown certificate authority", "verify error:num=20:unable to get local issuer certificate", "tls: failed to verify certificate: x509: certificate signed by unknown authority", "TLS library problem: error:14094418:SSL routines:ssl3_read_bytes:tlsv1 alert unknown ca:../ssl/record/rec_layer_s3.c:1543:SSL alert number 48:", "The certificate is NOT trusted. The certificate issuer is unknown."},
	"tls-revoked":       {"remote error: tls: revoked certificate", "certificate revoked"},
	"tls-weak-key":      {"remote error: tls: insufficient security level", "error:0A00018A:SSL routines::dh key too small", "error:140AB18F:SSL routines:SSL_CTX_use_certificate:ee key too small"},
	"tls-wrong-mode":    {"error:0A00010B:SSL routines::wrong version number", "tls: first record does not look like a TLS handshake", "GnuTLS: An unexpected TLS packet was received."},
	"tls-version":       {"SSL alert number 70", "remote error: tls: protocol version not supported", "error:0A000102:SSL routines::unsupported protocol", "tls: client offered only unsupported versions: [301]"},
	"tls-no-cipher":     {"error:0A000410:SSL routines::sslv3 alert handshake failure:SSL alert number 40", "error:0A0000C1:SSL routines::no shared cipher", "remote error: tls: handshake failure", "The client and server cannot communicate, because they do not possess a common algorithm"},
	"tls-client-cert":   {"remote error: tls: certificate required", "error:0A0000C7:SSL routines::peer did not return a certificate"},
	"tls-key-mismatch":  {"error:05800074:x509 certificate routines::key values mismatch", "warning: cannot get RSA private key from file /etc/postfix/key.pem"},
	"tls-eof":           {"error:0A000126:SSL routines::unexpected eof while reading", "The TLS connection was non-properly terminated.", "postfix/smtpd[1]: SSL_accept error from unknown[192.0.2.25]: lost connection"},
	"tls-timeout":       {"net/http: TLS handshake timeout"},
	"tls-sni":           {"remote error: tls: unrecognized name"},
	"tls-internal":      {"remote error: tls: internal error", "remote error: tls: internal_error", "SSL alert number 80"},
	"tls-mac":           {"remote error: tls: error decrypting message", "error:1408F119:SSL routines:ssl3_get_record:decryption failed or bad record mac"},
	"tls-renegotiation": {"error:0A000152:SSL routines::unsafe legacy renegotiation disabled"},
	"tls-verify":        {"certificate verify failed", "A TLS fatal alert has been received: certificate_unknown, alert number 46"},
	"tls-established":   {"postfix/smtp[123]: Untrusted TLS connection established to mx.example.net[198.51.100.25]:25: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)", "Anonymous TLS connection established from unknown[192.0.2.25]: TLSv1.2", "Untrusted TLS connection established"},
	"tls-library":       {"remote error: tls: access denied", "javax.mail.MessagingException: Could not convert socket to TLS", "warning: TLS library problem: something", "Cannot start TLS"},

	"lost-greeting":     {"lost connection with mx.example.net[198.51.100.25] while receiving the initial server greeting", "Remote host closed connection in response to initial connection"},
	"timeout-greeting":  {"Error: Greeting never received", "conversation with mx.example.net[198.51.100.25] timed out while receiving the initial server greeting"},
	"lost-data":         {"lost connection with mx.example.net[198.51.100.25] while sending message body", "conversation with mx.example.net[198.51.100.25] timed out while sending end of data -- message may be sent more than once"},
	"lost-conversation": {"lost connection with mx.example.net[198.51.100.25] while sending RCPT TO", "postfix/smtpd[1]: lost connection after EHLO from unknown[192.0.2.25]", "read greeting: EOF"},
	"timed-out":         {"[errno 110]", "connect to mx.example.net[198.51.100.25]:25: Connection timed out", "dial tcp 198.51.100.25:25: i/o timeout", "connect to mx.example.net[198.51.100.25]:25: Operation timed out"},
	"idle":              {"450 4.4.2 Timed out waiting for client input", "421 4.4.2 mx.example.net Error: timeout exceeded", "421 mx.example.net: SMTP command timeout - closing connection"},
	"refused":           {"errno 111", "connect to mx.example.net[198.51.100.25]:25: Connection refused", "No connection could be made because the target machine actively refused it."},
	"no-route":          {"errno=113", "this machine's gateway does not answer, or its firewall rejects the connection", "connect to mx.example.net[198.51.100.25]:25: No route to host"},
	"net-unreachable":   {"errno 101", "this machine has no route to IPv6 addresses like this", "this machine has no way to the address (no route, or its gateway does not answer)", "this machine does not do IPv6", "this machine's network interface is down or gone", "this machine's routing forbids it (a blackhole route, or a link-local address without its interface)", "connect to mx.example.net[2001:db8::25]:25: Network is unreachable"},
	"nothing-left":      {"nothing left this machine for the address: its neighbour table is full, or its firewall drops the connection"},
	"cannot-assign":     {"this machine has no local address or port left for it", "connect: Cannot assign requested address"},
	"reset":             {"errno 104", "read tcp 192.0.2.25:40000->198.51.100.25:25: read: connection reset by peer"},
	"permission":        {"this machine's firewall or policy forbids it", "this machine's firewall or routing rejects the connection (host-prohibited)", "connect to mx.example.net[198.51.100.25]:25: Operation not permitted", "dial tcp 198.51.100.25:25: connect: permission denied"},
	"dns-servfail":      {"Name service error for name=example.net type=MX: Host not found, try again", "Temporary failure in name resolution", "lookup mx.example.net on 192.0.2.53:53: server misbehaving"},
	"dns-nx":            {"Host or domain name not found. Name service error for name=mx.example.net type=A: Host not found", "ping: mx.example.net: Name or service not known", "lookup mx.example.net: no such host"},
	"mx-self":           {"postfix/smtp[2]: warning: host mx.example.net[198.51.100.5]:25 greeted me with my own hostname mail.example.org", "mail for example.org loops back to myself"},
	"too-many-files":    {"this machine is out of file descriptors", "socket: too many open files"},
	"no-buffers":        {"sendto: No buffer space available"},
	"in-use":            {"listen tcp :25: bind: address already in use"},
	"queue-expired":     {"retry timeout exceeded", "delivery temporarily suspended: see above", "R=dnslookup T=remote_smtp: all hosts for 'example.net' have been failing for a long time"},
}

func TestEveryWordingIsRecognisedFirst(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range dictionaries {
		for _, e := range d {
			if seen[e.id] {
				t.Errorf("%s: twice in the dictionaries", e.id)
			}
			seen[e.id] = true
			if len(wordingLines[e.id]) == 0 {
				t.Errorf("%s: has no test line", e.id)
			}
			for _, line := range wordingLines[e.id] {
				got := Explain(line)
				if len(got) == 0 || got[0].Recognised != e.name {
					t.Errorf("%s: %q\n\tgot  %q\n\twant %q", e.id, line, recognised(got), e.name)
				}
			}
			checkTopic(t, e)
		}
	}
	for id := range wordingLines {
		if !seen[id] {
			t.Errorf("%s: has a test line and no entry", id)
		}
	}
}

func recognised(es []Explanation) []string {
	var out []string
	for _, e := range es {
		out = append(out, e.Recognised)
	}
	return out
}

// checkTopic holds an entry to what every one must have.
func checkTopic(t *testing.T, e topic) {
	t.Helper()
	if len(e.means) == 0 || len(e.do) == 0 || e.who == "" || e.name == "" {
		t.Errorf("%s: name, means, do or who is missing", e.id)
	}
	for _, s := range append(append([]string{}, e.all...), e.any...) {
		if s != lowerASCII(s) || s == "" {
			t.Errorf("%s: %q is empty or not in lower case", e.id, s)
		}
	}
	x := e.explanation("text", subjectOf(""))
	for _, s := range append(append(append(x.Means, x.Cause...), x.Do...), x.See...) {
		for _, hole := range []string{"{host}", "{ip}", "{me}", "{rme}", "{domain}"} {
			if strings.Contains(s, hole) {
				t.Errorf("%s: %q was not filled", e.id, s)
			}
		}
		if strings.TrimSpace(s) != s || s == "" {
			t.Errorf("%s: %q has blanks around it", e.id, s)
		}
	}
}

var shapeLines = map[string]string{
	"postfix-sent":      "postfix/smtp[123]: 4ABC: to=<user@example.net>, relay=mx.example.net[198.51.100.25]:25, delay=1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4DEF)",
	"postfix-deferred":  "postfix/smtp[123]: 4ABC: to=<user@example.net>, relay=none, delay=30, dsn=4.4.1, status=deferred (connect to mx.example.net[198.51.100.25]:25: Connection timed out)",
	"postfix-bounced":   "postfix/smtp[123]: 4ABC: to=<user@example.net>, relay=mx.example.net[198.51.100.25]:25, dsn=5.1.1, status=bounced (host mx.example.net[198.51.100.25] said: 550 5.1.1 User unknown (in reply to RCPT TO command))",
	"postfix-expired":   "postfix/qmgr[123]: 4ABC: from=<user@example.org>, status=expired, returned to sender",
	"postfix-reject":    "postfix/smtpd[123]: NOQUEUE: reject: RCPT from unknown[192.0.2.25]: 554 5.7.1 <user@example.net>: Relay access denied",
	"exim-defer":        "2026-11-21 10:00:00 1abcDE-000001-AB == user@example.net R=dnslookup T=remote_smtp defer (110): Connection timed out H=mx.example.net [198.51.100.25]",
	"exim-fail":         "2026-11-21 10:00:00 1abcDE-000001-AB ** user@example.net R=dnslookup T=remote_smtp: SMTP error from remote mail server after RCPT TO:<user@example.net>: host mx.example.net [198.51.100.25]: 550 No such user",
	"sendmail-deferred": "sm-mta[1]: x: to=<user@example.net>, mailer=esmtp, relay=mx.example.net., dsn=4.0.0, stat=Deferred: Connection timed out with mx.example.net.",
	"sendmail-failed":   "sm-mta[1]: x: to=<user@example.net>, dsn=5.1.1, stat=User unknown",
	"bounce":            "Final-Recipient: rfc822; user@example.net\nAction: failed\nStatus: 5.1.1\nDiagnostic-Code: smtp; 550 5.1.1 User unknown",
	"ndr":               "Generating server: AM0PR01MB0001.example\nRemote Server returned '550 5.1.10 RESOLVER.ADR.RecipientNotFound'",
}

func TestLinesOfLogsAndBouncesAreRecognised(t *testing.T) {
	for _, s := range shapes {
		line, ok := shapeLines[s.id]
		if !ok {
			t.Errorf("%s: has no test line", s.id)
			continue
		}
		got := Explain(line)
		if n := len(got); n == 0 || got[n-1].Recognised != s.name {
			t.Errorf("%s: got %q, want last %q", s.id, recognised(got), s.name)
		}
		checkTopic(t, s)
	}
}

func TestDeferredLineOfPostfixIsExplainedFromTheReasonOutward(t *testing.T) {
	got := recognised(Explain(shapeLines["postfix-deferred"]))
	want := []string{"connection timed out", "enhanced status 4.4.1", "a Postfix delivery line: status=deferred"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// What is true of a line stands above; what is said beside it must be true too.
func TestNothingFalseIsSaidBesides(t *testing.T) {
	for text, want := range map[string][]string{
		"552-5.2.2 The email account that you tried to reach is over quota and inactive.": {"mailbox full", "SMTP reply 552, enhanced status 5.2.2"},
		"421-4.7.29 Your email has been rate limited because this email was not sent over a TLS connection.": {
			"Gmail: not sent over TLS", "SMTP reply 421, enhanced status 4.7.29"},
		"421 4.3.2 Service not available":                                     {"SMTP reply 421, enhanced status 4.3.2"},
		"421 mx.example.net Service not available, closing channel":           {"SMTP reply 421"},
		"remote error: tls: internal error":                                   {"internal error of the TLS peer"},
		"553 sorry, that domain isn't in my list (#5.7.1)":                    {"relaying refused", "SMTP reply 553, enhanced status 5.7.1"},
		"451 qq temporary problem (#4.3.0)":                                   {"SMTP reply 451, enhanced status 4.3.0"},
		"Authentication-Results: mx.example.org; spf=pass; dkim=pass":         {},
		"450 4.7.1 <mail.example.org>: Helo command rejected: Host not found": {"the HELO name is refused", "SMTP reply 450, enhanced status 4.7.1"},
		"error:0A000126:SSL routines::unexpected eof while reading":           {"connection ended during TLS"},
		"certificate: its RSA key has only 512 bits":                          {"finding cert-bad"},
		"it is signed with SHA-1, which no client accepts any more":           {"finding cert-bad"},
	} {
		if got := recognised(Explain(text)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestThePortsOfMailAreNoReplies(t *testing.T) {
	for _, port := range []string{"465", "587"} {
		if got := Explain(port); len(got) != 1 || !strings.Contains(got[0].Means[0], "port") || got[0].Who != whoNobody {
			t.Errorf("%s: got %+v", port, got)
		}
	}
}

// bounced is a bounce of Postfix as its reader saves it, with all headers and
// the mail that came back.
const bounced = `Return-Path: <>
DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=s1;
	bh=abc=; b=xyz
Authentication-Results: mx.example.org; spf=pass; dkim=fail; dmarc=fail
Received-SPF: fail
X-Virus-Scanned: Debian amavisd-new at mail.example.org
X-Spam-Status: No, score=-1.0 required=5.0
	tests=RCVD_IN_DNSBL
Received: from mail.example.org (mail.example.org [203.0.113.9])
	by mail.example.org (Postfix) with LMTP id 4ABCD; Tue, 3 Mar 2026 10:00:00 +0100
Subject: Undelivered Mail Returned to Sender
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Description: Notification

This is the mail system at host mail.example.org.

<bob@example.net>: host mx.example.net[198.51.100.25] said: 550 5.7.1
    Message refused (in reply to end of DATA command)

--b
Content-Type: message/delivery-status

X-Postfix-Sender: rfc822; alice@example.org

Final-Recipient: rfc822; bob@example.net
Action: failed
Status: 5.7.1
Remote-MTA: dns; mx.example.net
Diagnostic-Code: smtp; 550 5.7.1 Message refused

--b
Content-Description: Undelivered Message
Content-Type: message/rfc822

`

// returned is what somebody wrote, which is no part of any error.
const returned = "Subject: is your mailbox full?\nX-Mailer: x\n\nHello Bob, the connection timed out: 554 5.7.1 relay access denied, no such user.\n"

func TestTheReturnedMailIsNoPartOfABounce(t *testing.T) {
	want := []string{"SMTP reply 550, enhanced status 5.7.1", "a bounce (delivery status notification)"}
	report := bounced[strings.Index(bounced, "This is the mail"):strings.LastIndex(bounced, "--b")]
	for name, text := range map[string]string{
		"as it lies in a mailbox": bounced + returned,
		"with CRLF":               strings.ReplaceAll(bounced+returned, "\n", "\r\n"),
		"Exim":                    report + "------ This is a copy of your message, including all the headers. ------\n\n" + returned,
		"Exim, headers":           report + "------ This is a copy of the message's headers. ------\n\n" + returned,
		"Sendmail":                report + "   ----- Original message follows -----\n\n" + returned,
		"qmail":                   report + "--- Below this line is a copy of the message.\n\n" + returned,
		"Gmail":                   report + "----- Original message -----\n\n" + returned,
		"Exchange":                report + "Original message headers:\n\n" + returned,
	} {
		if got := recognised(Explain(text)); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
	if got := subjectOf(reportOf(bounced + returned)).Replace("{host} {ip} {me}"); got != "mx.example.net 198.51.100.25 192.0.2.25" {
		t.Errorf("the bounce is about %s", got)
	}
	for _, alone := range []string{"X-Reason: connection timed out", "message/rfc822", "Received-SPF: fail (example.org)", "----- Original message -----\n550 5.1.1 User unknown"} {
		if reportOf(alone) != alone {
			t.Errorf("%q became %q", alone, reportOf(alone))
		}
	}
}

func TestCodesAreReadWhereRepliesStand(t *testing.T) {
	for text, want := range map[string]string{
		"554":                          "SMTP reply 554",
		"554 5.7.1":                    "SMTP reply 554, enhanced status 5.7.1",
		"554-5.7.1 something":          "SMTP reply 554, enhanced status 5.7.1",
		"550 #5.1.0 Address":           "SMTP reply 550, enhanced status 5.1.0",
		"5.7.1":                        "enhanced status 5.7.1",
		"2.1.5":                        "enhanced status 2.1.5",
		"code 451":                     "SMTP reply 451",
		"dsn=4.4.2":                    "enhanced status 4.4.2",
		"Status: 4.2.2":                "enhanced status 4.2.2",
		"(550 5.9.99 odd)":             "SMTP reply 550, enhanced status 5.9.99",
		"599 odd":                      "SMTP reply 599",
		"250 4.7.1 class differs":      "SMTP reply 250",
		"host mx said: 421 4.3.2 busy": "SMTP reply 421, enhanced status 4.3.2",
	} {
		got := recognised(findAsExplanations(text))
		if len(got) != 1 || got[0] != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{
		"port 465", "at 10:45:01 on host 192.0.2.25", "Postfix 2.5.5", "Exim 4.96.2", "192.0.2.25", "sent 250 mails",
		"999", "55", "5500", "5.7", "5.7.1.2", "3.7.1", "1.2.3", "",
	} {
		if got := recognised(findAsExplanations(text)); len(got) != 0 {
			t.Errorf("%q: got %q, want nothing", text, got)
		}
	}
}

func findAsExplanations(text string) []Explanation {
	var out []Explanation
	for _, c := range findCodes(text) {
		out = append(out, c.explanation(text, subjectOf(text)))
	}
	return out
}

func TestEveryCodeSaysWhatItIsAndWhereItStands(t *testing.T) {
	for n := range basicCodes {
		checkCode(t, fmt.Sprint(n))
	}
	for k := range enhancedCodes {
		for class := range classMeans {
			checkCode(t, enhanced{class, k[0], k[1]}.String())
		}
	}
	for _, odd := range []string{"599", "299", "399", "499", "5.9.1", "4.0.99", "2.9.999"} {
		checkCode(t, odd)
	}
	for _, n := range []int{211, 214, 220, 221, 235, 250, 251, 252, 334, 354, 421, 432, 450, 451, 452, 454, 455, 500, 501,
		502, 503, 504, 521, 530, 534, 535, 538, 550, 551, 552, 553, 554, 555, 556} {
		if !known(n) {
			t.Errorf("%d is missing", n)
		}
	}
}

func checkCode(t *testing.T, text string) {
	t.Helper()
	got := Explain(text)
	if len(got) != 1 {
		t.Errorf("%s: got %q, want one explanation", text, recognised(got))
		return
	}
	if e := got[0]; len(e.Means) == 0 || len(e.Do) == 0 || e.Source == "" || e.Who == "" {
		t.Errorf("%s: means, do, source or who is missing: %+v", text, e)
	}
}

func TestOwnWordsAreExplained(t *testing.T) {
	for _, table := range []map[string]topic{ownTopics, findingTopics, reflectTopics} {
		for word, topic := range table {
			got := Explain(word)
			if len(got) != 1 || len(got[0].Means) == 0 || len(got[0].Do) == 0 || got[0].Who == "" {
				t.Errorf("%s: got %+v", word, got)
			}
			topic.id = word
			checkTopic(t, topic)
		}
	}
	for _, c := range []struct {
		text string
		want []string
	}{
		{"no-response", []string{"reason no-response"}},
		{" Filtered  no-response ", []string{"state filtered", "reason no-response"}},
		{"finding=cert-expired;tls-old", []string{"finding cert-expired", "finding tls-old"}},
		{"tls-failed", []string{"service tls-failed"}},
		{"finding=reflect-nat", []string{"finding reflect-nat"}},
		{"finding=tls-failed", []string{"finding tls-failed"}},
		{"starttls=unknown", []string{"starttls unknown"}},
		{"unknown", []string{"state unknown"}},
		{"10.20.30.18 25 filtered admin-prohibited", []string{"reason admin-prohibited"}},
		{"exit 5", []string{"exit code 5 of smtpsweep"}},
		{"exit status 3", []string{"exit code 3 of smtpsweep"}},
		{"open open open", []string{"state open"}},
		{"result=expired", []string{"result expired"}},
		{"fail-open   users  198.51.100.7", []string{"result fail-open"}},
		{"untested", []string{"result untested"}},
	} {
		if got := recognised(Explain(c.text)); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%q: got %q, want %q", c.text, got, c.want)
		}
	}
	for code, topic := range exitTopics {
		topic.id, topic.name = code, code
		checkTopic(t, topic)
	}
}

func TestContractWordsAreAllKnown(t *testing.T) {
	words := strings.Fields(`open closed filtered unknown syn-ack conn-refused reset no-response admin-prohibited
		host-prohibited net-prohibited host-unreach net-unreach port-unreach proto-unreach time-exceeded no-neighbor local-error
		excluded reserved dns-nxdomain dns-no-address dns-error no-mail bad-name interrupted smtp refusing mute closing tls-failed
		wrong-mode tarpit other offered refused absent masked trusted bad expired not-yet-valid self-signed unknown-issuer
		starttls-masked starttls-refused plaintext-after-220 ehlo-refused auth-without-tls cert-expired cert-not-yet-valid
		cert-self-signed cert-unknown-issuer cert-name-mismatch cert-bad tls-old tls-stalled client-cert-required banner-masked
		banner-too-long reply-malformed command-masked greeting-pause starttls-inside-tls egress-25-suspect icmp-limited trace-cut
		fate=reached fate=lost fate=rejected fate=cut fate=interposed fate=untraced
		fail-open fail-blocked untested result=pass result=exception result=expired`)
	for _, w := range words {
		if _, ok := lookupOwn(w); !ok {
			t.Errorf("%s is not explained", w)
		}
	}
}

func TestUnknownTextIsNotExplained(t *testing.T) {
	for _, text := range []string{"", "  \n\t ", "hello world", "the mail is fine", "my server has a marble front", "\x00\xff\xfe", "open the door please"} {
		if got := Explain(text); got != nil {
			t.Errorf("%q: got %q, want nothing", text, recognised(got))
		}
	}
}

func TestCommandsNameTheHostsOfTheText(t *testing.T) {
	got := Explain("to=<a@b.example>, relay=mx1.example.net[198.51.100.7]:25, status=deferred (host mx1.example.net[198.51.100.7] said: 554 5.7.1 Service unavailable; Client host [203.0.113.9] blocked using zen.spamhaus.org)")
	see := strings.Join(got[0].See, "\n")
	if !strings.Contains(see, "dig +short 9.113.0.203.zen.spamhaus.org") {
		t.Errorf("the listed address is not asked for:\n%s", see)
	}
	got = Explain("connect to mx1.example.net[2001:db8::7]:25: Connection timed out")
	see = strings.Join(got[0].See, "\n")
	if !strings.Contains(see, "nc -vz mx1.example.net 25") || !strings.Contains(see, "-p 25 2001:db8::7") {
		t.Errorf("the host is not tested:\n%s", see)
	}
}

func TestEximsHostIsTheOtherSide(t *testing.T) {
	for _, text := range []string{
		"== a@b.example R=dnslookup T=remote_smtp defer (110): Connection timed out H=mx1.example.net [198.51.100.7]",
		"SMTP error from remote mail server: host mx1.example.net [198.51.100.7]: 550 rejected",
	} {
		if got := subjectOf(text).Replace("{host} {ip} {me}"); got != "mx1.example.net 198.51.100.7 192.0.2.25" {
			t.Errorf("%q: got %s", text, got)
		}
	}
}

func TestCommandsNeverCarryWhatAShellWouldRead(t *testing.T) {
	for _, host := range []string{"-oProxyCommand.x", "$(reboot).example", "a;reboot.example", "`id`.example", "a|b.example", "a\x1b[2J.example", "..", "{me}.example", "ü.example"} {
		for _, text := range []string{
			"connect to " + host + "[198.51.100.7]:25: Connection timed out",
			"host " + host + " said: 554 5.7.1 Relay access denied",
			"from=<x@" + host + ">, status=deferred (connection timed out)",
		} {
			for _, e := range Explain(text) {
				for _, s := range append(e.See, e.Do...) {
					if strings.Contains(s, host) {
						t.Errorf("%q: %q has the stranger's text", text, s)
					}
				}
			}
		}
	}
}

func TestReversedAddressIsAskedAsBlocklistsWant(t *testing.T) {
	r := subjectOf("client [2001:db8::1]")
	want := "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2"
	if got := r.Replace("{rme}"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestInputIsBounded(t *testing.T) {
	got := Explain("554 5.7.1 " + strings.Repeat("x", 1<<20))
	if len(got) == 0 || len(got[0].Input) != MaxInput {
		t.Errorf("got %d explanations", len(got))
	}
	if got := Explain(strings.Repeat("550 5.1.1 x\n450 4.1.1 x\n", 5000) + strings.Repeat("551\n552\n553\n554\n555\n", 9)); len(got) > maxWordings*2+maxCodes+1 {
		t.Errorf("got %d explanations", len(got))
	}
}

func FuzzExplain(f *testing.F) {
	for _, lines := range wordingLines {
		for _, l := range lines {
			f.Add(l)
		}
	}
	for _, l := range shapeLines {
		f.Add(l)
	}
	for _, l := range []string{"exit 5", "finding=tls-old;;", "550-", "550", "5.7.1", "[::1]", "a=b=c[1]", "\xff\n550-\n550 5.", "relay=[[]["} {
		f.Add(l)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, e := range Explain(text) {
			if len(e.Input) > MaxInput || len(e.Means) == 0 || len(e.Do) == 0 || e.Recognised == "" {
				t.Fatalf("%q: incomplete: %+v", text, e)
			}
			for _, s := range append(append(append([]string{}, e.See...), e.Do...), e.Means...) {
				if !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x1b\r\n") {
					t.Fatalf("%q: %q is not ours", text, s)
				}
			}
		}
	})
}

func TestEachAnswerSaysWhichLineItIsAbout(t *testing.T) {
	log := `
2026-11-21T10:00:00 mx postfix/smtp[1]: A1: to=<a@example.net>, relay=mx.example.net[198.51.100.25]:25, dsn=2.0.0, status=sent (250 2.0.0 Ok)
2026-11-21T10:00:01 mx postfix/smtp[1]: A2: to=<b@example.com>, relay=none, dsn=4.4.1, status=deferred (connect to mx.example.com[198.51.100.26]:25: Connection refused)

2026-11-21T10:00:02 mx postfix/smtp[1]: A3: to=<c@example.org>, relay=mx.example.org[198.51.100.27]:587, dsn=5.7.8, status=bounced (535 5.7.8 Error: authentication failed)
`
	want := map[string]int{"connection refused": 3, "SMTP reply 535, enhanced status 5.7.8": 5, "enhanced status 4.4.1": 3}
	for _, e := range Explain(log) {
		if line, ok := want[e.Recognised]; ok && line != e.Line {
			t.Errorf("%s: line %d, want %d", e.Recognised, e.Line, line)
		}
		delete(want, e.Recognised)
		if e.Line == 0 {
			t.Errorf("%s: of no line", e.Recognised)
		}
		if see := strings.Join(e.See, "\n"); e.Recognised == "connection refused" && !strings.Contains(see, "nc -vz mx.example.com 25") {
			t.Errorf("of line %d, and the commands are about another host:\n%s", e.Line, see)
		}
	}
	if len(want) > 0 {
		t.Errorf("not recognised: %v, but %q", want, recognised(Explain(log)))
	}
	for _, e := range Explain("\n554 5.7.1 Relay access denied\n\n") {
		if e.Line != 0 {
			t.Errorf("%s of a text of one line: line %d", e.Recognised, e.Line)
		}
	}
	got := map[string]int{}
	for _, e := range Explain("454-4.7.0 Relay access\n454 4.7.0 denied") {
		got[e.Recognised] = e.Line
	}
	if want := map[string]int{"relaying refused": 0, "SMTP reply 454, enhanced status 4.7.0": 1}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("of a reply of two lines: got %v, want %v", got, want)
	}
}

func TestEachSourceIsNamedOnce(t *testing.T) {
	for text, want := range map[string]string{
		"535 5.7.8 authentication failed": "RFC 4954, section 6",
		"550 5.1.1 User unknown":          "RFC 3463, section 3.2; RFC 5321, section 4.2.3",
	} {
		var got string
		for _, e := range Explain(text) {
			if strings.HasPrefix(e.Recognised, "SMTP reply") {
				got = e.Source
			}
		}
		if got != want {
			t.Errorf("%q: source %q, want %q", text, got, want)
		}
	}
}
