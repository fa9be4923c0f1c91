package explain

import (
	"slices"
	"strconv"
	"strings"
)

// A phrase is how the table and the hints of a run say one of our words.
type phrase struct {
	// words in lower case; # stands for a number or a date, * for any one word.
	words string
	is    string // the word of ownTopics, findingTopics or tableTopics
	// alone: other programs say it too, so in a text with other words it counts
	// only if it is in capitals, as the table writes it.
	alone bool
}

// phrases are the words of the table, its notes and the hints below it.
var phrases = []phrase{
	{words: "starttls masked", is: "starttls-masked"}, {words: "a device on the way overwrites starttls", is: "starttls-masked"},
	{words: "starttls refused", is: "starttls-refused"}, {words: "starttls is listed and refused", is: "starttls-refused"},
	{words: "starttls fails", is: "finding=tls-failed"}, {words: "tls fails", is: "tls-failed"},
	{words: "starttls offered", is: "offered"}, {words: "starttls offered inside tls", is: "starttls-inside-tls"},
	{words: "offers starttls inside tls", is: "starttls-inside-tls"},
	{words: "none offered", is: "absent", alone: true},
	{words: "starttls #", is: "STARTTLS version", alone: true}, {words: "tls #", is: "TLS version", alone: true},
	{words: "not judged", is: "not judged", alone: true},

	{words: "expired since #", is: "cert-expired"}, {words: "certificate expired #", is: "cert-expired"},
	{words: "certificate expired", is: "cert-expired", alone: true},
	{words: "not yet valid", is: "cert-not-yet-valid", alone: true}, {words: "certificate is not valid yet", is: "cert-not-yet-valid"},
	{words: "bad certificate", is: "cert-bad", alone: true}, {words: "certificate is unusable", is: "cert-bad"},
	{words: "certificate cannot be parsed", is: "cert-bad"}, {words: "its rsa key has only # bits", is: "cert-bad"},
	{words: "it is signed with sha-1", is: "cert-bad"}, {words: "it is signed with md5 or md2", is: "cert-bad"},
	{words: "it is not meant for servers", is: "cert-bad"},
	{words: "a certificate's rsa key has more than # bits", is: "our key limit"},
	{words: "a certificate's rsa key has more than # bits which this program does not take", is: "our key limit"},
	{words: "the server's certificates have more than # kib which this program does not take", is: "our chain limit"},
	{words: "the certificate's key is on an elliptic curve that this program does not know", is: "our kinds of keys"},
	{words: "the certificate's key is of a kind that this program does not know", is: "our kinds of keys"},
	{words: "the peer asked for a new tls handshake which this program does not do", is: "renegotiation"},
	{words: "a certificate sent with it cannot be parsed", is: "finding=tls-failed"},
	{words: "unknown issuer", is: "unknown-issuer", alone: true},
	{words: "other name", is: "cert-name-mismatch", alone: true}, {words: "certificate is for another name", is: "cert-name-mismatch"},
	{words: "certificate is for *", is: "cert-name-mismatch"}, {words: "certificate is for * and # more", is: "cert-name-mismatch"},
	{words: "certificate has no names only", is: "cert-name-mismatch"},

	{words: "plain text injected before tls", is: "plaintext-after-220"}, {words: "plain text slipped in before tls", is: "plaintext-after-220"},
	{words: "passwords accepted without tls", is: "auth-without-tls"}, {words: "accepts passwords without tls", is: "auth-without-tls"},
	{words: "outdated tls", is: "tls-old"}, {words: "outdated tls version", is: "tls-old"},
	{words: "tls handshake stalled", is: "tls-stalled"}, {words: "the tls handshake stalled", is: "tls-stalled"}, {words: "tls stalls", is: "tls-stalled"},
	{words: "wants a client certificate", is: "client-cert-required"},
	{words: "wants to be asked by name", is: "sni-required"}, {words: "does tls only when asked by name", is: "sni-required"},
	{words: "it does tls with those who ask for it by name", is: "sni-required"},
	{words: "greets after a pause", is: "greeting-pause"},
	{words: "ehlo refused", is: "ehlo-refused"}, {words: "refuses ehlo", is: "ehlo-refused"},
	{words: "greeting masked on the way", is: "banner-masked"}, {words: "a device on the way overwrites the greeting", is: "banner-masked"},
	{words: "commands masked on the way", is: "command-masked"}, {words: "a device on the way overwrites commands", is: "command-masked"},
	{words: "greeting without end", is: "banner-too-long"},
	{words: "malformed reply", is: "reply-malformed"}, {words: "breaks the grammar of smtp", is: "reply-malformed"}, {words: "the answer to * contradicts itself", is: "reply-malformed"},
	{words: "the answer to * is not an smtp reply", is: "reply-malformed"}, {words: "the answer to * is too long", is: "reply-malformed"},

	{words: "* instead of smtp", is: "other"}, {words: "* in plain text instead of tls", is: "other"},
	{words: "does not speak smtp", is: "other"}, {words: "what came is not an smtp greeting", is: "other"}, {words: "greeted with #", is: "other"},
	{words: "tls where plain text was expected", is: "wrong-mode"}, {words: "plain text where tls was expected", is: "wrong-mode"},
	{words: "tls where plain text is expected or the reverse", is: "wrong-mode"},
	{words: "no greeting in # *", is: "mute", alone: true}, {words: "no greeting in # min # s", is: "mute", alone: true},
	{words: "no greeting in # h # min", is: "mute", alone: true}, {words: "accepts connections and says nothing", is: "mute"},
	{words: "refuses this machine", is: "refusing"}, {words: "the peer ended the session after *", is: "ended session"},
	{words: "the peer closed the connection before a greeting", is: "closing"}, {words: "the peer reset the connection before a greeting", is: "closing"},
	{words: "in the middle of its greeting", is: "closing"}, {words: "closes the connection before a greeting", is: "closing"},
	{words: "the peer closed the connection after *", is: "ended session"}, {words: "the peer reset the connection after *", is: "ended session"},
	{words: "the peer lost the connection", is: "ended session"}, {words: "this machine could not connect", is: "local-error"},
	{words: "no answer to * in # s", is: "no answer"},
	{words: "keeps clients waiting without end", is: "tarpit"}, {words: "the greeting never ends", is: "tarpit"}, {words: "the greeting did not end in", is: "tarpit"},
	{words: "the greeting did not end in # s", is: "tarpit"}, {words: "the answer to * drips and never ends", is: "tarpit"},
	{words: "the peer did not answer in tls", is: "finding=tls-failed"}, {words: "the peer ended tls with the alert", is: "finding=tls-failed"},
	{words: "the peer closed the connection during the tls handshake", is: "finding=tls-failed"},
	{words: "the peer reset the connection during the tls handshake", is: "finding=tls-failed"},
	{words: "the peer's part of the tls handshake is faulty", is: "finding=tls-failed"}, {words: "the peer broke the tls connection", is: "finding=tls-failed"},
	{words: "the peer sent what is not tls in the middle of the tls handshake", is: "finding=tls-failed"},

	{words: "# mb = # mb of files", is: "size of files"}, {words: "# mb = # bytes of files", is: "size of files"},
	{words: "# bytes = # bytes of files", is: "size of files"},
	{words: "undecided", is: "undecided", alone: true}, {words: "# undecided", is: "undecided"},
	{words: "not probed", is: "not probed", alone: true},
	{words: "silent on all ports", is: "no-response"}, {words: "that nobody uses now", is: "no-neighbor"},
	{words: "nobody answers arp", is: "no-neighbor"}, {words: "nobody answers nd", is: "no-neighbor"},
	{words: "with --allow-private it is probed", is: "reserved"}, {words: "probed with --allow-private", is: "reserved"},
	{words: "with --allow-reserved it is probed", is: "reserved"}, {words: "probed with --allow-reserved", is: "reserved"},
	{words: "is stopped by", is: "filtered", alone: true},
}

// tableTopics are what only the table says: there is no code for it.
var tableTopics = map[string]topic{
	"TLS version":       {name: "TLS with its version, in the column ENCRYPTION", means: []string{"TLS came first, before SMTP (port 465), in this version; behind the comma is what the certificate is worth."}, do: []string{"Nothing with 1.2 or 1.3. 1.0 and 1.1 are outdated: explain tls-old."}, see: []string{"openssl s_client -connect {host}:465 -servername {host}"}, who: whoNobody, source: "RFC 8314, section 3.3; RFC 8996"},
	"STARTTLS version":  {name: "STARTTLS with a TLS version, in the column ENCRYPTION", means: []string{"The conversation began in plain text and changed to TLS of this version; behind the comma is what the certificate is worth."}, do: []string{"Nothing with 1.2 or 1.3. 1.0 and 1.1 are outdated: explain tls-old."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -servername {host}"}, who: whoNobody, source: "RFC 3207, section 4; RFC 8996"},
	"not judged":        {name: "a certificate that was not judged", means: []string{"There was no certificate, or this machine has no store of root certificates to judge it with."}, do: []string{"Install the root certificates (package ca-certificates), or give some with --ca, and scan again."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -showcerts"}, who: whoYou},
	"our chain limit":   {name: "certificates that are too long for this program", means: []string{"The server sent more than 256 KiB of certificates. The TLS library of this program takes no more, so the handshake ended on this side: of the certificates that came before, the first was judged. Most clients stop earlier still (OpenSSL at 100 KB)."}, do: []string{"If it is your server: send the server's certificate and its intermediate ones, and nothing else.", "Look at the certificates with another TLS library."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -servername {host} -showcerts"}, who: whoReceiver, source: "RFC 8446, section 4.4.2"},
	"our kinds of keys": {name: "a key of a kind that this program does not know", means: []string{"The certificate's key is of a kind, or on an elliptic curve, that the TLS library of this program does not know, so the handshake ended on this side and the certificate was read and not judged. It is not a fault of the server; clients that know such keys get through."}, do: []string{"If it is your server and others shall reach it: use ECDSA P-256 or RSA of 2,048 bits beside it.", "Look at the certificate with another TLS library."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -servername {host} -showcerts </dev/null | openssl x509 -noout -text"}, who: whoNobody, source: "RFC 8422, section 5.1.1"},
	"renegotiation":     {name: "a request for a new TLS handshake", means: []string{"Inside TLS 1.2 the server asked for the handshake to be done again (renegotiation). This program refuses that, as most clients do, and TLS 1.3 has it no more. What was seen before holds."}, cause: []string{"the server asks for a client certificate, or for other keys, at a later point"}, do: []string{"If it is your server: ask in the first handshake, or use TLS 1.3."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -tls1_2 -state"}, who: whoReceiver, source: "RFC 5246, section 7.4.1.1; RFC 9325, section 3.5"},
	"our key limit":     {name: "an RSA key that is too large for this program", means: []string{"A certificate of the server has an RSA key of more than 8,192 bits. The TLS library of this program takes none, so the handshake ended on this side: what the certificate is worth was judged all the same, where it could be seen. It is not a fault of the server; most mail servers and programs get through."}, do: []string{"Nothing must be done. So large a key slows every handshake down; RSA of 2,048 to 4,096 bits or ECDSA P-256 is usual.", "Look at the certificate with another TLS library."}, see: []string{"openssl s_client -starttls smtp -connect {host}:25 -servername {host} </dev/null | openssl x509 -noout -text | grep Public-Key"}, who: whoNobody, source: "Go's crypto/tls, which takes RSA keys of at most 8,192 bits"},
	"size of files":     {name: "the largest mail, and what fits into it", means: []string{"The first number is the largest mail that the server takes (its SIZE). The second is what may be attached: files travel as base64, 57 bytes in a line of 78, so they grow by more than a third."}, do: []string{"To send larger files: raise the limit on the server (Postfix: message_size_limit, Exim: message_size_limit), or send a link."}, see: []string{"swaks --server {host}:587 --quit-after EHLO | grep SIZE", "postconf message_size_limit"}, who: whoReceiver, source: "RFC 1870; RFC 2045, section 6.8"},
	"undecided":         {name: "undecided", means: []string{"Endpoints of state unknown: nothing was observed of them, and nothing is said about the other side. The column reason says why of each."}, do: []string{"Those with local-error, dns-error or interrupted can be had by going on: smtpsweep scan --resume JOURNAL.", "See them: smtpsweep report last --show all."}, who: whoYou},
	"not probed":        {name: "not probed", means: []string{"Nothing was sent to it: it was excluded, reserved, without an address, or the run ended before. An empty cell in a file means the same."}, do: []string{"Look up its reason: smtpsweep explain REASON."}, who: whoYou},
	"ended session":     {name: "the server ended the conversation early", means: []string{"The server closed or reset the connection, or said 421, after the command that is named. The greeting and what came before hold."}, cause: []string{"a limit of connections or of time", "a filter that does not like the client's name or address", "the server process crashed"}, do: []string{"Repeat it by hand and see whether it ends at the same command.", "On the server: look at its log at that moment."}, see: []string{"swaks --server {host} --quit-after EHLO"}, who: whoReceiver, source: "RFC 5321, sections 3.8 and 4.2.3"},
	"no answer":         {name: "no answer to a command", means: []string{"The server greeted and then did not answer a command in time."}, cause: []string{"it looks the client up in DNS or in a blocklist that does not answer", "a tarpit", "a device on the way swallows the command"}, do: []string{"Try it by hand and wait for up to 5 minutes.", "On the server: check that its resolver answers."}, see: []string{"swaks --server {host} --quit-after EHLO --timeout 300"}, who: whoReceiver, source: "RFC 5321, section 4.5.3.2"},
}

// topic returns what the phrase is about.
func (p *phrase) topic() topic {
	if t, ok := tableTopics[p.is]; ok {
		t.id = p.is
		return t
	}
	t, _ := ownWord(p.is)
	return t
}

// phraseAt returns the longest phrase that some tokens begin with, and its
// number of tokens. pure: the text consists of nothing but our words.
func phraseAt(lower, orig []string, pure bool) (*phrase, int) {
	var best *phrase
	longest := 0
	for i := range phrases {
		n := phrases[i].length(lower)
		if n > longest && (pure || !phrases[i].alone || capitals(orig[:n])) {
			best, longest = &phrases[i], n
		}
	}
	return best, longest
}

// length returns how many tokens the phrase takes, 0 if they do not begin with it.
func (p *phrase) length(tokens []string) int {
	n := 0
	for rest := p.words; rest != ""; n++ {
		var w string
		w, rest, _ = strings.Cut(rest, " ")
		if n >= len(tokens) || w != "*" && w != tokens[n] && !(w == "#" && isNumber(tokens[n])) {
			return 0
		}
	}
	return n
}

// isNumber reports whether s is a number or a date: "1.3", "1,024", "2026-08-23".
func isNumber(s string) bool {
	return s != "" && '0' <= s[0] && s[0] <= '9' && strings.Trim(s, "0123456789.,-") == ""
}

// capitals reports whether words are written in capitals.
func capitals(words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return w != strings.ToUpper(w) })
}

// ownTokens splits a text into words, as they are and in lower case; a comma
// inside a number does not split.
func ownTokens(text string) (orig, lower []string) {
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\r\n;|\"{}[]", r) }) {
		parts := []string{field}
		if !isNumber(field) {
			parts = strings.Split(field, ",")
		}
		for _, p := range parts {
			if p = strings.Trim(p, ".:(),'"); p != "" {
				orig, lower = append(orig, p), append(lower, lowerASCII(p))
			}
		}
	}
	return orig, lower
}

// ownAt returns what the words of ours mean that some tokens begin with, and
// how many tokens that took; 0 if none.
func ownAt(lower, orig []string, pure bool) ([]topic, int) {
	if ts, n := icmpAt(lower, pure); n > 0 {
		return ts, n
	}
	if p, n := phraseAt(lower, orig, pure); n > 0 {
		return []topic{p.topic()}, n
	}
	if t, ok := ownWord(lower[0]); ok && (pure || strings.Contains(lower[0], "-")) {
		if pure && t.id == "refusing" && len(lower) > 1 && isCode(lower[1]) {
			basic, _ := strconv.Atoi(lower[1])
			return []topic{t, pair{basic: basic}.topic()}, 2
		}
		return []topic{t}, 1
	}
	name, _, _ := strings.Cut(lower[0], "=")
	if t, ok := lookupColumn(name); ok && strings.Contains(name, "_") {
		return []topic{t}, 1
	}
	return nil, 0
}
