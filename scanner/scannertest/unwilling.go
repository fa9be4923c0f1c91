package scannertest

import (
	"crypto/tls"
	"net"
	"strings"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// unwilling returns the servers that are slow, or refuse, or say nothing.
func unwilling() []Behaviour {
	return append(refusing(), silent()...)
}

// refusing returns the servers that make a client wait, or refuse it.
func refusing() []Behaviour {
	pause, teaser, busy, later, rejecting, noEHLO := postfix(), postfix(), postfix(), postfix(), postfix(), postfix()
	pause.pause = true
	teaser.pause, teaser.teaser = true, "220-"+Host+" ESMTP Postfix"
	teaser.ehlo, teaser.ehloTLS = without(plainKeywords, "PIPELINING"), without(tlsKeywords, "PIPELINING")
	busy.greeting, busy.leave = []string{"421 4.7.0 " + Host + " Error: too many connections from {client}"}, true
	later.greeting = []string{"450 4.7.1 <unknown[{client}]>: Client host rejected: Greylisted, try again later"}
	rejecting.greeting = []string{"554 5.7.1 <unknown[{client}]>: Client host rejected: Access denied"}
	goneAtEHLO := postfix()
	goneAtEHLO.leave = true
	full, inTLS := postfix(), postfix()
	full.noEHLO, full.leaveAtEHLO = "421 4.3.2 "+Host+" Service shutting down, closing channel", true
	inTLS.implicit, inTLS.greeting = true, rejecting.greeting
	noEHLO.greeting, noEHLO.noEHLO = []string{"220 " + Host + " SMTP ready"}, "502 5.5.1 Command not implemented"

	slow := trusted("Postfix")
	slow.Findings = []string{"greeting-pause"}
	return []Behaviour{
		{Name: "greet-pause", Help: "Lets a client wait before it greets, to catch senders of spam, who do not wait.",
			Want: slow, Serve: pause.serve},
		{Name: "teaser", Help: "Greets with half a greeting, as postscreen does, to catch those who do not read to its end.",
			Want: slow, Serve: teaser.serve},
		{Name: "too-many-connections", Help: "Is too busy for one more connection (421), and closes it.",
			Want: Want{Service: scanner.KindRefusing, Code: 421}, Serve: busy.serve},
		{Name: "try-later", Help: "Refuses this client for now (450), as greylisting does.",
			Want: Want{Service: scanner.KindRefusing, Code: 450}, Serve: later.serve},
		{Name: "client-rejected", Help: "Refuses this client (554), whoever it claims to be.",
			Want: Want{Service: scanner.KindRefusing, Code: 554}, Serve: rejecting.serve},
		{Name: "client-rejected-smtps", Help: "Refuses this client (554), inside TLS.", Role: targets.SMTPS,
			Want: Want{Service: scanner.KindRefusing, Code: 554, Version: tls.VersionTLS13, Trust: scanner.TrustTrusted}, Serve: inTLS.serve},
		{Name: "closing-at-ehlo", Help: "Greets, and shuts down at the first command (421).",
			Want: Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSUnknown}, Serve: full.serve},
		{Name: "greets-and-leaves", Help: "Greets, and closes the connection.",
			Want: Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSUnknown}, Serve: goneAtEHLO.serve},
		{Name: "deaf", Help: "Greets, and does not answer the first command.",
			Want: Want{Service: scanner.KindSMTP, Code: 220, Software: "Postfix", StartTLS: scanner.StartTLSUnknown}, Serve: deaf},
		{Name: "ehlo-refused", Help: "Knows only HELO, so it has no extensions and no encryption.",
			Want:  Want{Service: scanner.KindSMTP, Code: 220, StartTLS: scanner.StartTLSUnknown, Findings: []string{"ehlo-refused"}},
			Serve: noEHLO.serve},
	}
}

// Greeter returns a good server that waits so long before it greets, and catches
// those who do not wait. It is none of [Behaviours], where Config.GreetPause says
// how long a server waits.
func Greeter(pause time.Duration) Behaviour {
	want := trusted("Postfix")
	if pause >= slowGreeting {
		want.Findings = []string{"greeting-pause"}
	}
	v := postfix()
	return Behaviour{Name: "greets-after-" + pause.String(), Help: "Greets after " + pause.String() + ".", Want: want,
		Serve: func(conn net.Conn, z *Zoo) {
			s := newSession(conn, z)
			if s.pause(max(pause, s.beforeGreeting())) && s.send(v.greeting...) {
				v.commands(s, false)
			}
		}}
}

// silent returns the servers from which no greeting comes.
func silent() []Behaviour {
	return []Behaviour{
		{Name: "mute", Help: "Accepts connections and never says anything.",
			Want: Want{Service: scanner.KindMute}, Serve: mute},
		{Name: "mute-smtps", Help: "Accepts connections and never answers the TLS handshake.", Role: targets.SMTPS,
			Want: Want{Service: scanner.KindTLSFailed, Findings: []string{"tls-stalled"}}, Serve: stall},
		{Name: "tarpit", Help: "Sends one byte per second, without end.",
			Want: Want{Service: scanner.KindTarpit}, Serve: tarpit},
		{Name: "endless", Help: "Never comes to the end of its greeting.",
			Want: Want{Service: scanner.KindTarpit, Code: 220, Findings: []string{"banner-too-long"}}, Serve: endless},
		{Name: "closing", Help: "Accepts connections and closes them at once.",
			Want: Want{Service: scanner.KindClosing}, Serve: func(net.Conn, *Zoo) {}},
		{Name: "closing-late", Help: "Accepts connections, thinks for a while, and closes them without a word.",
			Want: Want{Service: scanner.KindClosing}, Serve: closeLate},
		{Name: "resetting", Help: "Accepts connections and resets them soon.",
			Want: Want{Service: scanner.KindClosing}, Serve: resetting},
	}
}

// without returns the keywords but one.
func without(keywords []string, word string) []string {
	var rest []string
	for _, k := range keywords {
		if k != word {
			rest = append(rest, k)
		}
	}
	return rest
}

// mute says nothing, ever.
func mute(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	if s.pause(z.cfg.Life) {
		return
	}
	s.drain()
}

// closeLate closes the connection when others would greet.
func closeLate(conn net.Conn, z *Zoo) { newSession(conn, z).pause(z.cfg.GreetPause) }

// resetting resets the connection after a moment: at once, the reset can
// overtake the client's own news that it is connected.
func resetting(conn net.Conn, z *Zoo) {
	newSession(conn, z).listen(20 * time.Millisecond)
	resetOnClose(conn)
}

// stall is mute where the client speaks first.
func stall(conn net.Conn, z *Zoo) { newSession(conn, z).drain() }

// deaf greets, and hears nothing any more.
func deaf(conn net.Conn, z *Zoo) {
	v := postfix()
	s := newSession(conn, z)
	if v.greet(s) {
		s.drain()
	}
}

// tarpit drips a greeting that has no end.
func tarpit(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	for i := 0; ; i++ {
		if !s.pause(z.cfg.Drip) || !s.write(tarpitText(i)) {
			return
		}
	}
}

// tarpitText returns byte i of the tarpit's greeting: "220-" and then words forever.
func tarpitText(i int) string {
	const start, more = "220-", "please wait "
	if i < len(start) {
		return start[i : i+1]
	}
	i = (i - len(start)) % len(more)
	return more[i : i+1]
}

// endless sends greeting lines as fast as they are read at first, and one per
// Drip later: by then every client should have had enough.
func endless(conn net.Conn, z *Zoo) {
	s := newSession(conn, z)
	batch := strings.Repeat("220-"+Host+" one moment, please\r\n", 64)
	for range 64 {
		if !s.write(batch) {
			return
		}
	}
	for s.pause(z.cfg.Drip) && s.write("220-"+Host+" still here\r\n") {
	}
}
