package main

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner/scannertest/lab"
)

// A serverRow is the truth about one port of a real server: what its
// configuration in testdata/servers says, and what its makers document. The
// rest of a row follows from how the port was reached.
type serverRow struct {
	state    string // "" is open
	service  string // "" is smtp
	banner   string // regular expression for all of it
	software string // the same
	starttls string
	tls      bool // 1.3, by a certificate that is trusted and for this name
	auth     string
	authTLS  string
	size     string
	ehlo     string
	ehloTLS  string
	finding  string
	err      string
	said     string // commands that the scanner sent, without arguments
}

// closedPort is a port where nobody listens.
var closedPort = serverRow{state: "closed"}

const (
	startTLSDialogue = "EHLO STARTTLS EHLO QUIT"
	plainDialogue    = "EHLO QUIT"

	postfixEHLO    = "PIPELINING;SIZE %s;VRFY;ETRN;STARTTLS;ENHANCEDSTATUSCODES;8BITMIME;DSN;SMTPUTF8;CHUNKING"
	postfixEHLOTLS = "PIPELINING;SIZE %s;VRFY;ETRN;%sENHANCEDSTATUSCODES;8BITMIME;DSN;SMTPUTF8;CHUNKING"

	sendmailSoftware = `Sendmail 8\.\d+(\.\d+)*`
	sendmailBanner   = `220 sendmail\.example\.org ESMTP Sendmail 8\..*`

	eximEHLO    = "SIZE 20971520;8BITMIME;PIPELINING;PIPECONNECT;CHUNKING;STARTTLS;SMTPUTF8;HELP"
	eximEHLOTLS = "SIZE 20971520;8BITMIME;PIPELINING;PIPECONNECT;AUTH PLAIN LOGIN;CHUNKING;SMTPUTF8;HELP"
	eximBanner  = `220 exim\.example\.org ESMTP Exim 4\.\d+ .*`

	smtpdBanner = `220 opensmtpd\.example\.org ESMTP OpenSMTPD`
	smtpdEHLO   = "8BITMIME;ENHANCEDSTATUSCODES;SIZE 31457280;DSN;%sHELP"
	// Debian 12's OpenSMTPD does not come to terms with its OpenSSL: it shows
	// its certificate, cannot sign with the key, and ends TLS.
	smtpdError = `the peer ended TLS with the alert "internal error"`
)

// serverRows are the rows to be found, by server and port. The EHLO replies are
// those of Debian 12's versions.
var serverRows = map[string]map[int]serverRow{
	"postfix": {
		25: {banner: `220 postfix\.example\.org ESMTP Postfix`, software: "Postfix", starttls: "offered", tls: true,
			size: "36700160", ehlo: fmt.Sprintf(postfixEHLO, "36700160"), ehloTLS: fmt.Sprintf(postfixEHLOTLS, "36700160", ""), said: startTLSDialogue},
		465: {banner: `220 postfix\.example\.org ESMTP Postfix`, software: "Postfix", starttls: "absent", tls: true, authTLS: "PLAIN;LOGIN",
			size: "36700160", ehlo: fmt.Sprintf(postfixEHLOTLS, "36700160", "AUTH PLAIN LOGIN;"), said: plainDialogue},
		587: {banner: `220 postfix\.example\.org ESMTP`, software: `Postfix \(by its EHLO\)`, starttls: "offered", tls: true, authTLS: "PLAIN;LOGIN",
			size: "36700160", ehlo: fmt.Sprintf(postfixEHLO, "36700160"), ehloTLS: fmt.Sprintf(postfixEHLOTLS, "36700160", "AUTH PLAIN LOGIN;"), said: startTLSDialogue},
	},
	"postscreen": {
		25: {banner: `220-postscreen\.example\.org ESMTP Postfix \| 220 postscreen\.example\.org ESMTP Postfix`,
			software: `Postfix \(postscreen\)`, starttls: "offered", tls: true, size: "10240000", ehlo: fmt.Sprintf(postfixEHLO, "10240000"),
			ehloTLS: fmt.Sprintf(postfixEHLOTLS, "10240000", ""), finding: "greeting-pause", said: startTLSDialogue},
		465: closedPort,
		587: closedPort,
	},
	"deepscreen": {
		25: {banner: `220 deepscreen\.example\.org ESMTP Postfix`, software: `Postfix \(postscreen\)`, starttls: "offered", tls: true,
			size: "10240000", ehlo: "SIZE 10240000;VRFY;ETRN;STARTTLS;ENHANCEDSTATUSCODES;8BITMIME;DSN;SMTPUTF8;CHUNKING",
			ehloTLS: "SIZE 10240000;VRFY;ETRN;ENHANCEDSTATUSCODES;8BITMIME;DSN;SMTPUTF8;CHUNKING", said: startTLSDialogue},
		465: closedPort,
		587: closedPort,
	},
	"exim": {
		25: {banner: eximBanner, software: `Exim 4\.\d+`, starttls: "offered", tls: true, authTLS: "PLAIN;LOGIN", size: "20971520",
			ehlo: eximEHLO, ehloTLS: eximEHLOTLS, said: startTLSDialogue},
		465: {banner: eximBanner, software: `Exim 4\.\d+`, starttls: "absent", tls: true, authTLS: "PLAIN;LOGIN", size: "20971520",
			ehlo: eximEHLOTLS, said: plainDialogue},
		587: {banner: `220 exim\.example\.org ESMTP`, software: `Exim \(by its EHLO\)`, starttls: "offered", tls: true, authTLS: "PLAIN;LOGIN", size: "20971520",
			ehlo: eximEHLO, ehloTLS: eximEHLOTLS, said: startTLSDialogue},
	},
	"sendmail": {
		25: {banner: sendmailBanner, software: sendmailSoftware, starttls: "offered", tls: true, authTLS: "PLAIN;LOGIN", size: "26214400",
			ehlo:    "ENHANCEDSTATUSCODES;PIPELINING;EXPN;VERB;8BITMIME;SIZE 26214400;DSN;ETRN;STARTTLS;DELIVERBY;HELP",
			ehloTLS: "ENHANCEDSTATUSCODES;PIPELINING;EXPN;VERB;8BITMIME;SIZE 26214400;DSN;ETRN;AUTH PLAIN LOGIN;DELIVERBY;HELP", said: startTLSDialogue},
		465: {banner: sendmailBanner, software: sendmailSoftware, starttls: "absent", tls: true, authTLS: "PLAIN;LOGIN", size: "26214400",
			ehlo: "ENHANCEDSTATUSCODES;PIPELINING;EXPN;VERB;8BITMIME;SIZE 26214400;DSN;AUTH PLAIN LOGIN;DELIVERBY;HELP", said: plainDialogue},
		587: {banner: sendmailBanner, software: sendmailSoftware, starttls: "offered", tls: true, authTLS: "PLAIN;LOGIN", size: "26214400",
			ehlo:    "ENHANCEDSTATUSCODES;PIPELINING;EXPN;VERB;8BITMIME;SIZE 26214400;DSN;STARTTLS;DELIVERBY;HELP",
			ehloTLS: "ENHANCEDSTATUSCODES;PIPELINING;EXPN;VERB;8BITMIME;SIZE 26214400;DSN;AUTH PLAIN LOGIN;DELIVERBY;HELP", said: startTLSDialogue},
	},
	"opensmtpd": {
		25:  {banner: smtpdBanner, software: "OpenSMTPD", starttls: "absent", size: "31457280", ehlo: fmt.Sprintf(smtpdEHLO, ""), said: plainDialogue},
		465: {service: "tls-failed", tls: true, err: smtpdError},
		587: {banner: smtpdBanner, software: "OpenSMTPD", starttls: "offered", tls: true, size: "31457280", ehlo: fmt.Sprintf(smtpdEHLO, "STARTTLS;"),
			finding: "tls-failed", err: "STARTTLS: " + smtpdError, said: "EHLO STARTTLS"},
	},
}

// check compares a row with the truth about its port.
func (r *foundRow) check(t *testing.T, server string, ca *testCA) {
	port, _ := strconv.Atoi(r.cell["port"])
	truth, ok := serverRows[server][port]
	if !ok {
		t.Fatalf("nothing was to be scanned there: %v", r.cell)
	}
	want := truth.cells(server, ca)
	want["host"], want["source"] = "", lab.ScannerAddr4.String()
	if strings.Contains(r.cell["address"], ":") {
		want["source"] = lab.ScannerAddr6.String()
	}
	if host, _, _ := strings.Cut(r.cell["target"], ":"); strings.HasSuffix(host, ".example.org") {
		want["host"] = host
		if truth.tls {
			want["cert_name_ok"] = strconv.FormatBool(host != otherName)
		}
		if host == otherName {
			want["finding"] = "cert-name-mismatch"
		}
	}
	for column, value := range want {
		if got := r.cell[column]; got != value {
			t.Errorf("%s: got %q, want %q", column, got, value)
		}
	}
	patterns := map[string]string{"banner": truth.banner, "software": truth.software, "tls_cipher": ""}
	if truth.tls {
		patterns["tls_cipher"] = `TLS_(AES|CHACHA20)_\w+` // those of TLS 1.3
	}
	for column, pattern := range patterns {
		if got := r.cell[column]; !regexp.MustCompile("^(" + pattern + ")$").MatchString(got) {
			t.Errorf("%s: got %q, want a match of %s", column, got, pattern)
		}
	}
	r.checkTimes(t, truth, server)
	r.checkDialogue(t, truth)
}

// cells returns the truth as cells of the CSV file.
func (w serverRow) cells(server string, ca *testCA) map[string]string {
	m := map[string]string{
		"state": "open", "reason": "syn-ack", "service": "smtp", "code": "220", "attempts": "1", "icmp": "", "icmp_from": "",
		"starttls": w.starttls, "tls_version": "", "cert_names": "", "cert_subject": "", "cert_issuer": "", "cert_trust": "", "cert_name_ok": "",
		"cert_sha256": "", "cert_not_after": "",
		"auth": w.auth, "auth_tls": w.authTLS, "size": w.size, "ehlo": w.ehlo, "finding": w.finding, "error": w.err,
	}
	if w.tls {
		host := server + ".example.org"
		m["tls_version"], m["cert_trust"], m["cert_names"], m["cert_subject"] = "1.3", "trusted", host, "CN="+host
		m["cert_issuer"] = "CN=" + testCAName
		leaf := ca.issued[host]
		m["cert_sha256"] = fmt.Sprintf("%x", sha256.Sum256(leaf.Raw))
		m["cert_not_after"] = leaf.NotAfter.UTC().Format(time.RFC3339)
	}
	if w.service != "" {
		m["service"] = w.service
	}
	if w.banner == "" {
		m["code"] = ""
	}
	if w.state == "closed" {
		m["state"], m["reason"], m["service"] = "closed", "conn-refused", ""
	}
	return m
}

// checkTimes: a greeting has a time. postscreen's is 6 s by its configuration,
// a second less where its clock, which knows whole seconds only, begins one.
func (r *foundRow) checkTimes(t *testing.T, truth serverRow, server string) {
	ms, err := strconv.ParseFloat(r.cell["greeting_ms"], 64)
	switch {
	case truth.banner == "" && r.cell["greeting_ms"] != "":
		t.Errorf("greeting_ms: got %q without a greeting", r.cell["greeting_ms"])
	case truth.banner != "" && (err != nil || ms <= 0):
		t.Errorf("greeting_ms: got %q", r.cell["greeting_ms"])
	case truth.finding == "greeting-pause" && ms < 5000:
		t.Errorf("greeting_ms: got %v, want the 6 s that postscreen waits", ms)
	}
}

// checkDialogue compares what was said, and that the greeting was waited for.
func (r *foundRow) checkDialogue(t *testing.T, truth serverRow) {
	name := new(commonFlags).heloName()
	if source, _ := netip.ParseAddr(r.cell["source"]); name == "" && source.Is4() {
		name = "[" + source.String() + "]"
	} else if name == "" {
		name = "[IPv6:" + source.String() + "]"
	}
	var said []string
	heard := 0
	for _, line := range r.journal.Transcript {
		if line.From == "S" {
			heard++
		}
		if line.From != "C" {
			continue
		}
		verb, arg, _ := strings.Cut(line.Text, " ")
		if verb == "EHLO" && arg != name {
			t.Errorf("EHLO %s, want %s", arg, name)
		}
		if said = append(said, verb); len(said) == 1 && heard != strings.Count(r.cell["banner"], " | ")+1 {
			t.Errorf("spoke after %d lines of the greeting %q", heard, r.cell["banner"])
		}
	}
	if got := strings.Join(said, " "); got != truth.said {
		t.Errorf("said %q, want %q", got, truth.said)
	}
	if last := len(r.journal.Transcript) - 1; strings.HasSuffix(truth.said, "QUIT") && !strings.HasPrefix(r.journal.Transcript[last].Text, "221 ") {
		t.Errorf("the conversation ends with %q, want the answer to QUIT", r.journal.Transcript[last].Text)
	}
	if got := strings.Join(r.journal.EHLOTLS, ";"); got != truth.ehloTLS {
		t.Errorf("EHLO inside TLS: got %q, want %q", got, truth.ehloTLS)
	}
}
