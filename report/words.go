package report

import (
	"net/netip"
	"strconv"
	"strings"
)

// What strangers said is cut to these widths, in columns of a terminal. What we
// say is not cut.
const (
	maxProduct = 32  // a product
	maxName    = 253 // a name in a certificate; those of DNS are not longer
	maxSaid    = 160 // a reply
	maxError   = 500 // an error, which may quote them; without that ours are far shorter
)

// lineOf says a row in the words of the table.
func lineOf(r *Row, key hostKey) line {
	c := &r.Cells
	return line{
		hostKey: key, port: c[ColPort], state: c[ColState], reason: c[ColReason],
		icmpFrom: c[ColICMPFrom], icmp: c[ColICMP],
		answers: answers(r), encryption: encryption(r), note: note(r), name: greetingName(r), cure: cure(r),
	}
}

// cure returns the flag that has an address behind a name probed, if one does.
func cure(r *Row) string {
	for _, flag := range []string{"--allow-private", "--allow-reserved"} {
		if r.Cells[ColReason] == "reserved" && strings.Contains(r.Cells[ColError], flag) {
			return flag
		}
	}
	return ""
}

// answers says who answers: a product, or what kind of service.
func answers(r *Row) string {
	c := &r.Cells
	service, software := c[ColService], cut(c[ColSoftware], maxProduct)
	if service == "refusing" && c[ColCode] != "" {
		service += " (" + c[ColCode] + ")"
	}
	switch {
	case service == "smtp" || service == "other":
		return firstOf(software, service)
	case software != "":
		return software + ", " + service
	}
	return service
}

// encryption says what an eavesdropper and an impostor would have to beat.
func encryption(r *Row) string {
	c := &r.Cells
	switch {
	case c[ColService] == "tls-failed":
		return "TLS fails"
	case c[ColStartTLS] == "offered" && hasFinding(r, "tls-failed", "tls-stalled", "client-cert-required"):
		return "STARTTLS fails" // also if version and certificate were seen before it did
	case tlsFirst(r):
		return "TLS " + c[ColTLSVersion] + ", " + trust(r)
	case c[ColTLSVersion] != "":
		return "STARTTLS " + c[ColTLSVersion] + ", " + trust(r)
	case c[ColStartTLS] == "absent":
		return "none offered"
	case c[ColStartTLS] == "masked", c[ColStartTLS] == "refused":
		return "STARTTLS " + c[ColStartTLS]
	case c[ColStartTLS] == "offered":
		return "STARTTLS offered"
	}
	return ""
}

// tlsFirst reports whether TLS came before SMTP, as on 465: it was negotiated,
// and not because EHLO offered it.
func tlsFirst(r *Row) bool {
	return r.Cells[ColTLSVersion] != "" && r.Cells[ColStartTLS] != "offered"
}

// trust says what the certificate is worth.
func trust(r *Row) string {
	c := &r.Cells
	day, _, _ := strings.Cut(c[ColCertNotAfter], "T")
	var s string
	switch c[ColCertTrust] {
	case "expired":
		s = "EXPIRED"
		if day != "" {
			s += " since " + day
		}
	case "not-yet-valid":
		s = "NOT YET VALID"
	case "bad":
		s = "BAD CERTIFICATE"
	case "self-signed":
		s = "self-signed"
	case "unknown-issuer":
		s = "unknown issuer"
	case "":
		s = "not judged"
	default:
		s = c[ColCertTrust]
	}
	if c[ColCertTrust] == "trusted" && c[ColCertNameOK] == "false" {
		s += ", other name" // of others the note says it: they are no worse for it
	}
	return s
}

// hasFinding reports whether a row has one of some findings.
func hasFinding(r *Row, codes ...string) bool {
	for f := range strings.SplitSeq(r.Cells[ColFinding], ";") {
		for _, c := range codes {
			if f == c {
				return true
			}
		}
	}
	return false
}

// note says what else a person has to know, the most important first.
func note(r *Row) string {
	c := &r.Cells
	var notes []string
	add := func(s string) {
		if s != "" {
			notes = append(notes, s)
		}
	}
	add(icmpWords(r))
	switch c[ColService] {
	case "smtp", "":
	case "refusing":
		add(quote(replyText(c[ColBanner])))
	case "other":
		if c[ColSoftware] == "" && c[ColBanner] != "" {
			add(quote(c[ColBanner]))
		}
	}
	if c[ColCertNameOK] == "false" {
		add(certFor(c[ColCertNames], c[ColCertSubject]))
	}
	failure := errorWords(r)
	for code := range strings.SplitSeq(c[ColFinding], ";") {
		if inError[code] && failure != "" {
			continue
		}
		words := findingWords(code)
		if code == "tls-old" && c[ColTLSVersion] != "" {
			words = "outdated TLS " + c[ColTLSVersion]
		}
		add(words)
		if saysAgain(failure, code, words) {
			failure = ""
		}
	}
	add(failure)
	if c[ColPort] == "587" {
		add(sizeWords(c[ColSize]))
	}
	return strings.Join(notes, "; ")
}

// saysAgain reports whether an error says no more than a finding does.
func saysAgain(failure, code, words string) bool {
	if code == "client-cert-required" {
		return strings.HasSuffix(failure, "the alert \"certificate required\"")
	}
	return words != "" && strings.TrimPrefix(failure, "STARTTLS: ") == "the "+words
}

// icmpWords says who sent which ICMP message. That there is no neighbour is what
// our own kernel says: its address would accuse the wrong one.
func icmpWords(r *Row) string {
	c := &r.Cells
	switch {
	case c[ColReason] == "no-neighbor" && strings.Contains(c[ColAddress], ":"):
		return "nobody answers ND"
	case c[ColReason] == "no-neighbor":
		return "nobody answers ARP"
	case c[ColICMPFrom] == "":
		return ""
	}
	return "ICMP " + c[ColICMP] + " from " + c[ColICMPFrom]
}

// errorWords returns what the column error says and no other one does.
func errorWords(r *Row) string {
	c := &r.Cells
	s := c[ColError]
	if s == "" {
		return ""
	}
	if rest, ok := strings.CutPrefix(s, c[ColHost]+" leads to "+c[ColAddress]); ok {
		if c[ColReason] == "excluded" {
			return ""
		}
		s = strings.TrimPrefix(rest, ": ")
	}
	if strings.HasPrefix(encryption(r), "STARTTLS") {
		s = strings.TrimPrefix(s, "STARTTLS: ")
	}
	if said, ok := strings.CutPrefix(s, "the server said "); ok {
		return "the server said " + cut(said, maxSaid)
	}
	return cut(s, maxError)
}

// quote quotes what a stranger said.
func quote(s string) string { return strconv.Quote(cut(s, maxSaid)) }

// inEncryption lists the findings that the column ENCRYPTION or another note shows already.
var inEncryption = map[string]bool{
	"starttls-masked": true, "starttls-refused": true, "tls-failed": true, "cert-bad": true, "cert-expired": true,
	"cert-not-yet-valid": true, "cert-self-signed": true, "cert-unknown-issuer": true, "cert-name-mismatch": true,
}

// inError lists the findings that the column error says more exactly.
var inError = map[string]bool{"banner-too-long": true, "reply-malformed": true}

// shortWords says findings in fewer words than explain does.
var shortWords = map[string]string{
	"plaintext-after-220":  "PLAIN TEXT INJECTED before TLS",
	"auth-without-tls":     "passwords accepted without TLS",
	"tls-old":              "outdated TLS version",
	"tls-stalled":          "TLS handshake stalled",
	"client-cert-required": "wants a client certificate",
	"sni-required":         "wants to be asked by name",
	"greeting-pause":       "greets after a pause",
	"ehlo-refused":         "EHLO refused",
	"banner-masked":        "greeting masked on the way",
	"command-masked":       "commands masked on the way",
	"banner-too-long":      "greeting without end",
	"reply-malformed":      "malformed reply",
	"starttls-inside-tls":  "STARTTLS offered inside TLS",
}

// findingWords says a finding in a note, and nothing if another column does.
func findingWords(code string) string {
	if inEncryption[code] {
		return ""
	}
	return firstOf(shortWords[code], code)
}

// certFor says which names a certificate is for.
func certFor(names, subject string) string {
	elems := splitList(names)
	switch {
	case len(elems) == 0:
		return "certificate has no names, only " + cut(subject, maxSaid)
	case len(elems) > 2:
		return "certificate is for " + cut(elems[0], maxName) + " and " + strconv.Itoa(len(elems)-1) + " more"
	}
	for i := range elems {
		elems[i] = cut(elems[i], maxName)
	}
	return "certificate is for " + strings.Join(elems, ", ")
}

// replyText takes code and enhanced code from the first line of a reply:
// "554 5.7.1 Client host rejected" becomes "Client host rejected".
func replyText(banner string) string {
	first, _, _ := strings.Cut(banner, bannerLine)
	text := first
	if len(text) > 3 && digits(text, 0) == 3 {
		text = strings.TrimLeft(text[3:], " -")
	}
	if word, rest, ok := strings.Cut(text, " "); ok && isEnhanced(word) {
		text = rest
	}
	return firstOf(strings.TrimSpace(text), first)
}

// isEnhanced reports whether a word is an enhanced status code (RFC 3463, 2).
func isEnhanced(s string) bool {
	class := digits(s, 0)
	if class != 1 || len(s) < 5 || s[1] != '.' {
		return false
	}
	subject := digits(s, 2)
	if subject == 0 || 2+subject >= len(s) || s[2+subject] != '.' {
		return false
	}
	detail := digits(s, 3+subject)
	return detail > 0 && 3+subject+detail == len(s)
}

// greetingName returns the domain of a greeting, its first word (RFC 5321,
// 4.2), if it looks like a name.
func greetingName(r *Row) string {
	banner := r.Cells[ColBanner]
	if r.Cells[ColService] != "smtp" || len(banner) < 5 || digits(banner, 0) != 3 {
		return ""
	}
	name, _, _ := strings.Cut(banner[4:], " ")
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if len(name) > 253 || !strings.Contains(name, ".") {
		return ""
	}
	for _, b := range []byte(name) {
		if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '.' && b != '-' {
			return ""
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return ""
	}
	return name
}

// sizeWords says what a SIZE limit means for someone who attaches a file:
// base64 makes 57 bytes to a line of 78 (RFC 2045, 6.8).
func sizeWords(size string) string {
	n, err := strconv.ParseUint(size, 10, 64)
	if err != nil || n == 0 {
		return ""
	}
	return megabytes(n) + " = " + megabytes(uint64(float64(n)*57/78)) + " of files"
}

// megabytes writes bytes in MB of 1,048,576, rounded down: nothing is promised
// that does not fit.
func megabytes(n uint64) string {
	const mb = 1 << 20
	switch {
	case n >= 10*mb:
		return thousands(n/mb) + " MB"
	case n >= mb/10:
		tenths := n * 10 / mb
		return strconv.FormatUint(tenths/10, 10) + "." + strconv.FormatUint(tenths%10, 10) + " MB"
	}
	return thousands(n) + " bytes"
}
