package report

import (
	"net/netip"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// began is when the fixture's run began.
var began = time.Date(2026, 9, 14, 7, 30, 0, 0, time.UTC)

// hostile is what a malicious server might send in any field.
const hostile = "=cmd|' /C calc'!A0 \x1b]0;owned\x07\x1b[2J\u009b31m \u202egnp.exe\u2066 <script>alert(1)</script> ]]> <!-- &#0; \x00\xff\xed\xa0\x80" +
	" \u200b\ufeff\u2028 \"quoted\", `code` [x](javascript:y) @everyone {{.}} \uFFFE \t ; 日本語 e\u0301"

// fixture is the run that the golden files show, in plan order.
func fixture() []scanner.Result {
	typed := &targets.Origin{Spec: "192.0.2.16/28"}
	mx := &targets.Origin{Spec: "mx:example.org", Host: "mx2.example.org"}
	gone := &targets.Origin{Spec: "gone.example.org", Host: "gone.example.org"}
	n := 0
	at := func(addr string, port uint16, from *targets.Origin, state scanner.State, reason scanner.Reason) scanner.Result {
		n++
		r := scanner.Result{Observation: scanner.Observation{
			Target: targets.Target{Port: port, From: from, Role: targets.RoleOf(port)}, State: state, Reason: reason,
			Source: netip.MustParseAddr("192.0.2.1"), At: began.Add(time.Duration(n) * 137 * time.Millisecond), Attempts: 1,
		}}
		if addr != "" {
			r.Target.Addr = netip.MustParseAddr(addr)
		} else {
			r.Attempts, r.Source = 0, netip.Addr{}
		}
		switch reason {
		case scanner.SynAck, scanner.ConnRefused:
			r.RTT = time.Duration(200+13*n) * time.Microsecond
		case scanner.NoResponse:
			r.Attempts = 3
		}
		return r
	}
	open := func(addr string, port uint16, from *targets.Origin, s *scanner.Service) scanner.Result {
		r := at(addr, port, from, scanner.Open, scanner.SynAck)
		r.Service = s
		return r
	}
	prohibited := at("192.0.2.19", 587, typed, scanner.Filtered, scanner.AdminProhibited)
	prohibited.ICMP = scanner.ICMP{From: netip.MustParseAddr("192.0.2.30"), Type: 3, Code: 13}
	mute := at("192.0.2.22", 25, typed, scanner.Open, scanner.SynAck)
	mute.Mute = 65 * time.Second
	local := at("2001:db8::7", 25, mx, scanner.Unknown, scanner.LocalError)
	local.Err = "no route to this network"
	return []scanner.Result{
		at("192.0.2.16", 25, typed, scanner.Filtered, scanner.NoResponse),
		at("192.0.2.16", 587, typed, scanner.Filtered, scanner.NoResponse),
		at("192.0.2.17", 25, typed, scanner.Filtered, scanner.NoResponse),
		at("192.0.2.17", 587, typed, scanner.Filtered, scanner.NoResponse),
		open("192.0.2.18", 25, typed, postfix(25)),
		open("192.0.2.18", 465, typed, postfix(465)),
		open("192.0.2.18", 587, typed, postfix(587)),
		open("192.0.2.19", 25, typed, expired()),
		at("192.0.2.19", 465, typed, scanner.Closed, scanner.ConnRefused),
		prohibited,
		open("192.0.2.20", 25, typed, hostileService()),
		open("192.0.2.21", 25, typed, &scanner.Service{Kind: scanner.KindRefusing, Code: 554, GreetingIn: 90 * time.Millisecond,
			Banner: []byte("554 5.7.1 Client host rejected: Access denied")}),
		mute,
		open("192.0.2.23", 25, typed, &scanner.Service{Kind: scanner.KindSMTP, Code: 220, GreetingIn: 12 * time.Millisecond,
			Banner: []byte("220 ****************"), EHLO: []string{"PIPELINING", "XXXXXXXA"}, StartTLS: scanner.StartTLSMasked,
			Findings: []string{"starttls-masked", "banner-masked"}}),
		at("192.0.2.24", 25, typed, scanner.Filtered, scanner.NoNeighbor),
		at("192.0.2.24", 587, typed, scanner.Filtered, scanner.NoNeighbor),
		open("2001:db8::7", 465, mx, &scanner.Service{Kind: scanner.KindOther, Software: "OpenSSH 9.2", Banner: []byte("SSH-2.0-OpenSSH_9.2")}),
		local,
		at("", 25, gone, scanner.Unknown, scanner.DNSNXDomain),
	}
}

// lets is a certificate of a good server.
func lets(name string) *scanner.TLS {
	ok := true
	return &scanner.TLS{Version: 0x0304, Cipher: 0x1301, Chain: [][]byte{[]byte("not really DER")}, Subject: "CN=" + name,
		Names: []string{name, "mail.example.org"}, Issuer: "CN=R11,O=Example CA,C=US", NotAfter: began.AddDate(0, 2, 0),
		SHA256: [32]byte{0xde, 0xad, 31: 0xbe}, Trust: scanner.TrustTrusted, NameOK: &ok}
}

// postfix is a good server.
func postfix(port uint16) *scanner.Service {
	s := &scanner.Service{Kind: scanner.KindSMTP, Banner: []byte("220 mx1.example.org ESMTP Postfix"), Code: 220,
		GreetingIn: 4321 * time.Microsecond, Software: "Postfix", StartTLS: scanner.StartTLSOffered, TLS: lets("mx1.example.org"),
		EHLO: []string{"PIPELINING", "SIZE 36700160", "STARTTLS", "8BITMIME"}, EHLOTLS: []string{"PIPELINING", "SIZE 36700160", "8BITMIME"},
		Size: 36700160, ConversedIn: 31 * time.Millisecond,
		Transcript: []scanner.Line{
			{At: 4321 * time.Microsecond, From: 'S', Text: []byte("220 mx1.example.org ESMTP Postfix")},
			{At: 4400 * time.Microsecond, From: 'C', Text: []byte("EHLO probe.example.net")},
		}}
	if port != 25 {
		s.AuthTLS = []string{"PLAIN", "LOGIN"}
	}
	if port == 465 {
		s.StartTLS, s.EHLOTLS = scanner.StartTLSAbsent, nil // its one EHLO is inside TLS
	}
	return s
}

// expired is a server whose certificate has expired, with a greeting of several lines.
func expired() *scanner.Service {
	t := lets("old.example.org")
	no := false
	t.Version, t.Cipher, t.Trust, t.NotAfter, t.NameOK = 0x0303, 0xc02f, scanner.TrustExpired, began.AddDate(0, -1, 0), &no
	return &scanner.Service{Kind: scanner.KindSMTP, Banner: []byte("220-old.example.org ESMTP Exim 4.96\n220-We do not authorize\n220 spam"),
		Code: 220, GreetingIn: 6100 * time.Millisecond, Software: "Exim 4.96", StartTLS: scanner.StartTLSOffered, TLS: t,
		EHLO: []string{"SIZE 52428800", "AUTH PLAIN LOGIN", "STARTTLS"}, Auth: []string{"PLAIN", "LOGIN"},
		Findings: []string{"cert-expired", "cert-name-mismatch", "auth-without-tls", "greeting-pause"}, Size: 52428800}
}

// hostileService is a server that attacks whoever reads the report.
func hostileService() *scanner.Service {
	t := lets("x")
	t.Subject, t.Issuer, t.Names, t.Trust, t.NameOK = "CN="+hostile, hostile, []string{"a;b", hostile, "-1+2"}, scanner.TrustSelfSigned, nil
	return &scanner.Service{Kind: scanner.KindSMTP, Banner: []byte(hostile + "\r\n2026-01-01 INFO fake\n\u0301" + strings.Repeat("\u0301", 100_000)),
		Code: 220, GreetingIn: 3 * time.Millisecond, Software: "＝evil", StartTLS: scanner.StartTLSOffered, TLS: t,
		EHLO: []string{hostile, "@SUM(1)", `back\slash`, ";;"}, EHLOTLS: []string{hostile}, Auth: []string{"=LOGIN"},
		Findings: []string{"cert-self-signed"}, Err: hostile,
		Transcript: []scanner.Line{{At: time.Millisecond, From: 'S', Text: []byte(hostile)}, {From: '\x1b', Text: nil}}}
}

// fixtureRows are the rows of the fixture, and their totals.
func fixtureRows() ([]Row, Totals) {
	var rows []Row
	totals := Totals{Elapsed: 49 * time.Second, Ended: began.Add(49 * time.Second), Complete: true, Planned: 19,
		Notes: []string{"resolver 192.0.2.53 was slow \x1b[31m"}}
	for _, r := range fixture() {
		row := RowOf(&r, "lab")
		totals.Count(&row)
		rows = append(rows, row)
	}
	return rows, totals
}

// fixtureHeader is the header of the fixture.
func fixtureHeader() Header {
	return Header{Args: "smtpsweep scan 192.0.2.16/28 mx:example.org", Version: "1.2.3", Engine: "connect", Started: began, Vantage: "lab",
		Source: "192.0.2.1", Endpoints: 19, Ports: []targets.Port{{Number: 25}, {Number: 465, Role: targets.SMTPS}, {Number: 587, Role: targets.Submission}}}
}
