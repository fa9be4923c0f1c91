package scannertest

import (
	"net"
	"slices"
	"strings"
	"time"
)

// A server is a mail server that follows the protocol except where its fields
// say otherwise. Lines are given with their code and without their ending;
// {date} and {client} are replaced.
type server struct {
	implicit bool     // TLS before the greeting
	teaser   string   // sent before the pause
	pause    bool     // waits Config.GreetPause before the greeting
	greeting []string // complete lines, code included
	leave    bool     // closes after the greeting
	hasty    bool     // sends an answer to EHLO together with the greeting
	// halfClose closes our half of the connection after the greeting, and waits
	// for the client's.
	halfClose bool
	noQuit    bool // a client may leave without QUIT, and is not counted

	hello   string   // first line of the EHLO reply, without a code
	ehlo    []string // its keywords before TLS
	ehloTLS []string // its keywords inside TLS
	noEHLO  string   // reply to EHLO instead, code included

	leaveAtEHLO bool // closes after that reply
	unlisted    bool // does STARTTLS without listing it

	starttls string                // reply to STARTTLS; empty means 220
	inject   string                // bytes sent in the same segment as that reply
	upgrade  func(s *session) bool // instead of the handshake; false ends the connection
	tls      tlsOptions

	unknown string           // reply to a command it does not know; empty means Postfix's words
	bye     string           // reply to QUIT; empty means Postfix's words
	quit    func(s *session) // instead of that reply
	eol     string           // empty means CRLF
	drip    bool             // sends each byte on its own
}

// serve holds the conversation.
func (v *server) serve(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	if v.eol != "" {
		s.eol = v.eol
	}
	s.drip = v.drip
	if v.implicit && !s.handshake(v.tls) {
		return
	}
	if !v.greet(s) || v.leave {
		return
	}
	if v.halfClose {
		closeWrite(s)
		s.drain()
		return
	}
	if !strings.HasPrefix(v.greeting[0], "2") {
		v.refuse(s)
		return
	}
	v.commands(s, v.implicit)
}

// greet waits as long as the server waits, then greets. A client that talks
// earlier is told off and loses the connection.
func (v *server) greet(s *session) bool {
	if v.teaser != "" && !s.send(v.teaser) {
		return false
	}
	wait := s.beforeGreeting()
	if v.pause {
		wait = s.z.cfg.GreetPause
	}
	if !s.pause(wait) {
		if s.r < s.w {
			s.send("521 5.5.1 Protocol error")
		}
		return false
	}
	if v.hasty {
		return s.send(append(slices.Clone(v.greeting), v.hellos(false)...)...)
	}
	return s.send(v.greeting...)
}

// refuse waits for QUIT after a greeting that refused the client, and accepts
// nothing else (RFC 5321, 3.1).
func (v *server) refuse(s *session) {
	for {
		verb, _, err := s.command()
		if err != nil {
			v.left(s)
			return
		}
		if verb == "QUIT" {
			v.goodbye(s)
			return
		}
		if !s.send("503 5.5.1 Error: bad sequence of commands") {
			return
		}
	}
}

// commands answers commands until the client leaves.
func (v *server) commands(s *session, inTLS bool) {
	for {
		verb, arg, err := s.command()
		if err == errLongCommand {
			s.send("500 5.5.2 Error: line too long")
			return
		}
		if err != nil {
			v.left(s)
			return
		}
		switch {
		case verb == "QUIT":
			v.goodbye(s)
			return
		case verb == "STARTTLS" && v.offersTLS(inTLS):
			if !v.startTLS(s) {
				return
			}
			inTLS = inTLS || v.starttls == ""
		case !v.answer(s, verb, arg, inTLS):
			return
		}
	}
}

// offersTLS reports whether STARTTLS may be asked for now.
func (v *server) offersTLS(inTLS bool) bool {
	for _, k := range v.ehlo {
		if word, _, _ := strings.Cut(k, " "); strings.EqualFold(word, "STARTTLS") {
			return !inTLS
		}
	}
	return v.unlisted && !inTLS
}

// startTLS answers STARTTLS. It returns false if the connection is over.
func (v *server) startTLS(s *session) bool {
	if v.starttls != "" {
		return s.send(v.starttls)
	}
	if !s.write("220 2.0.0 Ready to start TLS" + s.eol + v.inject) {
		return false
	}
	if v.upgrade != nil {
		return v.upgrade(s)
	}
	return s.handshake(v.tls)
}

// answer answers any command but QUIT and STARTTLS.
func (v *server) answer(s *session, verb, arg string, inTLS bool) bool {
	switch verb {
	case "EHLO":
		switch {
		case v.noEHLO != "":
			return s.send(v.noEHLO) && !v.leaveAtEHLO
		case arg == "":
			return s.send("501 Syntax: EHLO hostname")
		}
		return s.send(v.hellos(inTLS)...)
	case "HELO":
		return s.send("250 " + Host)
	case "NOOP", "RSET":
		return s.send("250 2.0.0 Ok")
	case "MAIL", "RCPT", "DATA", "BDAT", "AUTH", "VRFY", "EXPN":
		return s.send("530 5.7.0 Not here: this server counts who tries")
	}
	if v.unknown != "" {
		return s.send(v.unknown)
	}
	return s.send("502 5.5.2 Error: command not recognized")
}

// hellos returns the lines of the EHLO reply.
func (v *server) hellos(inTLS bool) []string {
	keywords := v.ehlo
	if inTLS {
		keywords = v.ehloTLS
	}
	hello := v.hello
	if hello == "" {
		hello = Host
	}
	lines := make([]string, 0, 1+len(keywords))
	lines = append(lines, "250-"+hello)
	for _, k := range keywords {
		lines = append(lines, "250-"+k)
	}
	last := len(lines) - 1
	lines[last] = "250 " + lines[last][4:]
	return lines
}

// goodbye answers QUIT.
func (v *server) goodbye(s *session) {
	s.z.count(func(c *Counts) { c.Quits++ })
	s.z.release(s.raw)
	switch {
	case v.quit != nil:
		v.quit(s)
	case v.bye != "":
		s.send(v.bye)
	default:
		s.send("221 2.0.0 Bye")
	}
}

// left counts a client that closed the connection without QUIT. One that was
// still there when the connection's time was up is not counted.
func (v *server) left(s *session) {
	if !v.noQuit && time.Now().Before(s.end) {
		s.z.count(func(c *Counts) { c.NoQuit++ })
	}
}
