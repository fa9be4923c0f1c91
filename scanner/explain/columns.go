package explain

import "strings"

// A column is a column of a scan: the words of files, and what they mean.
type column struct {
	name, means string
	more        string // what else a reader should know; may be empty
}

// scanColumns are the columns of a scan, in the order of files.
var scanColumns = []column{
	{"time", "when the endpoint was decided, RFC 3339 in UTC.", ""},
	{"vantage", "a label of where the scan looked from (--vantage).", "The same target may look different from another place."},
	{"source", "this machine's address on the path to the target.", "It is the address that the other side saw and judged."},
	{"target", "the target as it was typed or stood in a list.", ""},
	{"host", "the name that the address came from; empty if an address was given.", "Certificates are compared with it."},
	{"address", "the address that was probed.", ""},
	{"port", "the TCP port: 25 between servers, 587 and 465 for mail programs.", ""},
	{"state", "what was observed of the port: open, closed, filtered or unknown.", "The column reason is the evidence for it."},
	{"reason", "the evidence for the state: syn-ack, conn-refused, no-response, admin-prohibited and others.", "Each of them can be explained by itself."},
	{"icmp_from", "the address of the router, firewall or host that sent the ICMP answer; empty if none came.", "That device refused, so whoever runs it is who to ask. It is often not the target."},
	{"icmp", "type and code of the ICMP answer, such as 3/13; empty if none came.", "Explain it: smtpsweep explain \"ICMP 3/13\"."},
	{"rtt_ms", "milliseconds from SYN to answer.", ""},
	{"attempts", "how many SYNs were sent.", "More than one means that the first had no answer."},
	{"service", "what answered on an open port: smtp, refusing, mute, closing, tls-failed, wrong-mode, tarpit or other.", ""},
	{"banner", "the first reply of the server; its lines are joined with \" | \".", "It can be explained: put it in quotes."},
	{"code", "the code of the first reply: 220 welcomes, 421 and 554 refuse.", ""},
	{"greeting_ms", "milliseconds from the connection to the last line of the greeting.", "More than 5,000 is mostly a deliberate pause against spammers."},
	{"software", "the mail server or product, with its version if it says so.", "It is what the server shows, which can be disguised."},
	{"starttls", "what became of STARTTLS: offered, refused, absent, masked or unknown.", ""},
	{"tls_version", "the TLS version that was negotiated.", "1.0 and 1.1 are outdated (RFC 8996)."},
	{"tls_cipher", "the cipher suite that was negotiated.", ""},
	{"cert_subject", "the subject of the server's certificate.", "It is not what names are compared with: that is cert_names."},
	{"cert_names", "the names and addresses that the certificate is for, separated by semicolons.", ""},
	{"cert_issuer", "who issued the certificate.", "A firewall's or antivirus's name here means that TLS is inspected."},
	{"cert_not_after", "when the certificate expires, RFC 3339 in UTC.", ""},
	{"cert_sha256", "the SHA-256 fingerprint of the certificate.", "Equal ones are the same certificate."},
	{"cert_trust", "what the certificate's chain is worth: bad, expired, not-yet-valid, self-signed, unknown-issuer or trusted.", "Whether the name fits is in cert_name_ok."},
	{"cert_name_ok", "true if the certificate is for the name that was asked for; empty if no name was.", ""},
	{"auth", "the login mechanisms that are offered before TLS.", "PLAIN or LOGIN here means that passwords can be read on the way."},
	{"auth_tls", "the login mechanisms that are offered inside TLS.", ""},
	{"size", "the largest mail in bytes that the server takes; empty if it does not say.", "An attachment grows by more than a third on the way (base64)."},
	{"ehlo", "the keywords of the first EHLO reply, in order.", ""},
	{"finding", "codes of what is wrong, separated by semicolons: cert-expired, starttls-masked and others.", "Each of them can be explained by itself."},
	{"error", "what went wrong, in smtpsweep's words.", "It can be explained: put it in quotes."},
}

// topic returns what the column is.
func (c column) topic() topic {
	t := topic{
		id: "column " + c.name, name: "column " + c.name,
		means: []string{"In CSV, JSON and XML: " + c.means},
		do:    []string{"Nothing. All columns: smtpsweep explain columns."}, who: whoNobody,
	}
	if c.more != "" {
		t.means = append(t.means, c.more)
	}
	return t
}

// allColumns returns the list of columns, a line each.
func allColumns() topic {
	t := topic{id: "columns", name: "the columns of a scan", do: []string{"Explain one of them, or a value in it: smtpsweep explain icmp_from."}, who: whoNobody}
	for _, c := range scanColumns {
		t.means = append(t.means, c.name+": "+c.means)
	}
	return t
}

// lookupColumn finds a column by its name.
func lookupColumn(name string) (topic, bool) {
	for _, c := range scanColumns {
		if c.name == name {
			return c.topic(), true
		}
	}
	return topic{}, false
}

// columnWord takes a text that asks for columns: "columns", "icmp_from",
// "column port". Many names are plain English, so they count alone only; those
// with an underscore are found among other words too (see ownAt).
func columnWord(tokens []string) (topic, bool) {
	if len(tokens) == 1 && tokens[0] == "columns" {
		return allColumns(), true
	}
	if len(tokens) == 2 && tokens[0] == "column" {
		tokens = tokens[1:]
	}
	if len(tokens) != 1 {
		return topic{}, false
	}
	name, _, _ := strings.Cut(tokens[0], "=")
	return lookupColumn(name)
}
