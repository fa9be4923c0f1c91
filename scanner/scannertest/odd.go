package scannertest

import (
	"net"
	"strings"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// greetings returns the servers whose greeting is none, or hardly one.
func greetings() []Behaviour {
	closing := Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSUnknown}
	tooLong := Want{Service: scanner.KindTarpit, Code: 220, Error: "the greeting never ends", Findings: []string{"banner-too-long"}}
	noReply := Want{Service: scanner.KindOther, Error: "what came is not an SMTP greeting", Findings: []string{"reply-malformed"}}
	brief := trusted("")
	changes := Want{Service: scanner.KindRefusing, Code: 554}
	bare := postfix()
	bare.greeting = []string{"220"}
	twice := postfix()
	twice.greeting = []string{"220-" + Host + " ESMTP", "554 5.7.1 Not you"}
	hurried := postfix()
	hurried.halfClose = true
	return []Behaviour{
		{Name: "line-by-line", Help: "Greets with one more line every second, without end.",
			Want: Want{Service: scanner.KindTarpit, Code: 220, Error: "the greeting did not end"}, Serve: lineByLine},
		{Name: "endless-line", Help: "Greets with one line that has no end, as fast as it is read.", Want: tooLong, Serve: endlessLine},
		{Name: "bare-cr", Help: "Ends lines with CR alone, which nobody takes for an end.",
			Want: Want{Service: scanner.KindTarpit, Error: "the greeting did not end"}, Serve: bareCR},
		{Name: "no-digits", Help: "Greets with a code that has a space in it.", Want: noReply, Serve: greetOnly(says("22 0 " + Host + " ESMTP"))},
		{Name: "four-digits", Help: "Greets with a code of four digits.", Want: noReply, Serve: greetOnly(says("2200 " + Host + " ESMTP"))},
		{Name: "code-999", Help: "Greets with the code 999.", Want: noReply, Serve: greetOnly(says("999 " + Host + " ESMTP"))},
		{Name: "empty-line", Help: "Greets with an empty line.", Want: noReply, Serve: greetOnly(says(""))},
		{Name: "code-only", Help: "Greets with 220 and nothing else, as it may.", Want: brief, Serve: bare.serve},
		{Name: "changes-its-mind", Help: "Greets with 220 in the first line and 554 in the last, as postscreen may.", Want: changes, Serve: refusing554(twice)},
		{Name: "half-closed", Help: "Greets, and closes its half of the connection.", Want: closing, Serve: hurried.serve},
	}
}

func says(greeting string) func() string { return func() string { return greeting } }

// refusing554 serves a greeting that ends in a refusal.
func refusing554(v server) func(net.Conn, *Zoo) {
	return func(conn net.Conn, z *Zoo) {
		s := newSession(conn, z)
		if v.greet(s) {
			v.refuse(s)
		}
	}
}

// lineByLine sends a whole line per Drip, and never the last.
func lineByLine(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	for s.pause(z.cfg.Drip) && s.write("220-"+Host+" one moment\r\n") {
	}
}

// endlessLine greets, and never ends the line.
func endlessLine(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	if !s.pause(s.beforeGreeting()) || !s.write("220 "+Host+" ") {
		return
	}
	for s.write(strings.Repeat("and on ", 1000)) {
	}
}

// bareCR greets, and waits.
func bareCR(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	if s.pause(s.beforeGreeting()) && s.write("220 "+Host+" ESMTP Postfix\r") {
		s.drain()
	}
}

// replies returns the servers whose answers after a good greeting are odd.
func replies() []Behaviour {
	hidden, auth, twice, param, many, huge, half, html, early := postfix(), postfix(), postfix(), postfix(), postfix(), postfix(), postfix(), postfix(), postfix()
	hidden.ehlo, hidden.unlisted = tlsKeywords, true
	auth.noEHLO = "530 5.7.0 Authentication required"
	twice.ehlo = append([]string{"STARTTLS"}, plainKeywords...)
	param.ehlo = append([]string{"STARTTLS foo"}, tlsKeywords...)
	for range 10_000 {
		many.ehlo = append(many.ehlo, "X-NONSENSE")
	}
	huge.ehlo = append([]string{"SIZE 36700160", "X" + strings.Repeat("Y", 1<<20)}, plainKeywords...)
	half.quit = halfClose
	many.noQuit, huge.noQuit = true, true // a client may have had enough
	html.noEHLO = "<html><body>403 Forbidden</body></html>"
	early.hasty = true

	unknown := Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSUnknown}
	with := func(w Want, says string, findings ...string) Want {
		w.Error, w.Findings = says, findings
		return w
	}
	absent := Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSAbsent, Size: size}
	listed := with(absent, "the answer to EHLO is too long", "reply-malformed")
	listed.StartTLS = scanner.StartTLSOffered // before it was too long
	sized := listed
	sized.StartTLS = scanner.StartTLSUnknown
	return []Behaviour{
		{Name: "starttls-unlisted", Help: "Knows STARTTLS and does not list it, so that no client asks for it.", Want: absent, Serve: hidden.serve},
		{Name: "auth-first", Help: "Wants a login before it says what it can do.", Want: with(unknown, "Authentication required", "ehlo-refused"), Serve: auth.serve},
		{Name: "starttls-twice", Help: "Lists STARTTLS twice.", Want: trusted("Postfix"), Serve: twice.serve},
		{Name: "starttls-parameter", Help: "Lists STARTTLS with a word behind it.", Want: trusted("Postfix"), Serve: param.serve},
		{Name: "ehlo-10000", Help: "Answers EHLO with 10,000 keywords.", Want: listed, Serve: many.serve},
		{Name: "ehlo-huge-line", Help: "Answers EHLO with a line of 1 MB.", Want: sized, Serve: huge.serve},
		{Name: "ehlo-html", Help: "Answers EHLO with a web page.", Want: with(unknown, "the answer to EHLO is not an SMTP reply", "reply-malformed"), Serve: html.serve},
		{Name: "half-closes-at-quit", Help: "Answers QUIT, closes its half of the connection, and keeps the other.", Want: trusted("Postfix"), Serve: half.serve},
		{Name: "sends-and-never-reads", Help: "Greets, and sends without end what nobody asked for, and does not read.",
			Want: with(unknown, "the answer to EHLO is ", "reply-malformed"), Serve: neverReads}, // too long, or none
		{Name: "answers-early", Help: "Sends its answer to EHLO right behind the greeting.", Want: with(trusted("Postfix"), "", "reply-malformed"), Serve: early.serve},
	}
}

// halfClose answers QUIT, and keeps the connection half open.
func halfClose(s *session) {
	s.send("221 2.0.0 Bye")
	closeWrite(s)
	s.drain()
}

// closeWrite closes our half of the connection, if that can be done.
func closeWrite(s *session) {
	if c, ok := s.raw.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
	}
}

// neverReads sends as long as it can.
func neverReads(conn net.Conn, z *Zoo) {
	v := postfix()
	s := newSession(conn, z)
	if !v.greet(s) {
		return
	}
	for s.write(strings.Repeat("250-"+Host+" and another thing\r\n", 200)) {
	}
}
