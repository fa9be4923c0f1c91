package scannertest

import (
	"net"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// malformed returns the servers that speak SMTP in odd ways, some of them allowed.
func malformed() []Behaviour {
	drip, segment, lf, mixed, deaf, chatty, lower := postfix(), postfix(), postfix(), postfix(), postfix(), postfix(), postfix()
	drip.drip = true
	segment.greeting = []string{"220-" + Host + " ESMTP Postfix", "220-No spam here,", "220 please"}
	lf.eol = "\n"
	mixed.noEHLO = "250-" + Host + "\r\n251-PIPELINING\r\n550 HELP"
	deaf.quit = func(s *session) { s.drain() }
	chatty.quit = func(s *session) { chatter(s) }
	lower.ehlo = []string{"pipelining", "size 36700160", "starttls", "8bitmime"}
	lower.ehloTLS = []string{"pipelining", "size 36700160", "8bitmime"}
	return []Behaviour{
		{Name: "byte-by-byte", Help: "Sends every byte of a reply on its own.", Want: trusted("Postfix"), Serve: drip.serve},
		{Name: "one-segment", Help: "Sends a greeting of three lines at once.", Want: trusted("Postfix"), Serve: segment.serve},
		{Name: "bare-lf", Help: "Ends lines with LF alone, which RFC 5321 forbids and clients accept.", Want: trusted("Postfix"), Serve: lf.serve},
		{Name: "lower-case", Help: "Writes its keywords in lower case, as it may.", Want: trusted("Postfix"), Serve: lower.serve},
		{Name: "malformed-reply", Help: "Changes the code from line to line of one reply.",
			Want: Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSUnknown,
				Findings: []string{"reply-malformed"}},
			Serve: mixed.serve},
		{Name: "ignores-quit", Help: "Does not react to QUIT.", Want: trusted("Postfix"), Serve: deaf.serve},
		{Name: "data-after-quit", Help: "Goes on talking after QUIT.", Want: trusted("Postfix"), Serve: chatty.serve},
		{Name: "huge-banner", Help: "Greets with one line of 100,000 bytes.",
			Want:  Want{Service: scanner.KindTarpit, Code: 220, Findings: []string{"banner-too-long"}},
			Serve: greetOnly(func() string { return "220 " + Host + " " + strings.Repeat("A", 100_000) })},
		{Name: "endless-ehlo", Help: "Never comes to the end of its answer to EHLO.",
			Want: Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSUnknown, Size: size,
				Findings: []string{"reply-malformed"}},
			Serve: endlessEHLO},
		pix(),
	}
}

// greetOnly greets, and does not mind how the client leaves.
func greetOnly(greeting func() string) func(net.Conn, *Zoo) {
	return func(conn net.Conn, z *Zoo) {
		v := postfix()
		v.greeting, v.noQuit = []string{greeting()}, true
		v.serve(conn, z)
	}
}

// endlessEHLO lists keywords that do not exist, as long as they are read.
func endlessEHLO(conn net.Conn, z *Zoo) {
	v := postfix()
	s := newSession(conn, z)
	if !v.greet(s) {
		return
	}
	if verb, _, err := s.command(); err != nil || verb != "EHLO" || !s.send("250-"+Host, "250-"+plainKeywords[1]) {
		return
	}
	for s.write(strings.Repeat("250-X-NONSENSE\r\n", 64)) {
	}
}

// pix returns a server behind a firewall that masks the greeting and does not know EHLO.
func pix() Behaviour {
	v := server{
		greeting: []string{"220 " + strings.Repeat("*", 24) + "2" + strings.Repeat("*", 8) + "0" + strings.Repeat("*", 30)},
		noEHLO:   "500 5.5.1 Command unrecognized: \"XXXX client.example.org\"",
	}
	return Behaviour{Name: "pix", Help: "A firewall on the way overwrites the greeting with asterisks, and EHLO too.",
		Want: Want{Service: scanner.KindSMTP, Code: 220, StartTLS: scanner.StartTLSUnknown,
			Findings: []string{"banner-masked", "command-masked", "ehlo-refused"}},
		Serve: v.serve}
}

// chatter answers QUIT, and then sends up to 1 MB more.
func chatter(s *session) {
	s.send("221 2.0.0 Bye")
	more := strings.Repeat("250 one more thing\r\n", 50)
	for range 1000 {
		if !s.write(more) {
			return
		}
	}
}

// hostile returns the servers whose words are weapons.
func hostile() []Behaviour {
	v := postfix()
	v.greeting = []string{"220-=1+1 " + hostileLine, "220 " + Host + " ESMTP " + marks(500)}
	v.hello = Host + " " + hostileLine
	v.ehlo = []string{"SIZE 36700160", "STARTTLS", "=HYPERLINK(\"http://192.0.2.1\")", "@SUM(1)", "+1+1", hostileLine, "X" + marks(1000)}
	v.ehloTLS = []string{"SIZE 36700160", "AUTH =1+1 <script>alert(1)</script> @SUM(1) " + hostileLine, hostileLine}
	v.bye = "221 " + hostileLine

	cert := postfix()
	cert.tls.cert = CertHostile
	return []Behaviour{
		{Name: "hostile", Help: "Puts escape codes, formulas, markup and other weapons into every line.",
			Want: trusted(""), Serve: v.serve},
		{Name: "hostile-certificate", Help: "Puts the same into its certificate, and 100,000 accents besides.",
			Want: trusted("Postfix"), Serve: cert.serve},
		{Name: "hostile-accents", Help: "Greets with one letter that has 100,000 accents.",
			Want:  Want{Service: scanner.KindTarpit, Code: 220, Findings: []string{"banner-too-long"}},
			Serve: greetOnly(func() string { return "220 " + Host + " " + marks(100_000) })},
	}
}

// others returns what is not a mail server at all.
func others() []Behaviour {
	return []Behaviour{
		other("http", "A web server.", "HTTP server", 0, "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<html><h1>400 Bad Request</h1></html>"),
		other("ssh", "A server for remote log-in.", "OpenSSH 9.2p1", 0, "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3"),
		other("imap", "A server for reading mail (IMAP).", "IMAP server", 0, "* OK [CAPABILITY IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ STARTTLS AUTH=PLAIN] Dovecot ready."),
		other("pop3", "A server for fetching mail (POP3).", "POP3 server", 0, "+OK Dovecot ready."),
		other("ftp", "A server for files (FTP), which greets with 220 as a mail server does.", "FTP: vsftpd 3.0.3", 220, "220 (vsFTPd 3.0.3)"),
	}
}

// other returns a server that greets in another protocol and does not
// understand what it is told.
func other(name, help, software string, code int, greeting string) Behaviour {
	v := server{greeting: []string{greeting}}
	reply := "ERR unknown command"
	if code != 0 {
		reply = "530 Please login with USER and PASS."
	}
	return Behaviour{Name: name, Help: help,
		Want: Want{Service: scanner.KindOther, Software: software, Code: code},
		Serve: func(conn net.Conn, z *Zoo) {
			s := newSession(conn, z)
			if !v.greet(s) {
				return
			}
			for {
				verb, _, err := s.command()
				if err != nil || verb == "QUIT" || !s.send(reply) {
					return
				}
			}
		}}
}
