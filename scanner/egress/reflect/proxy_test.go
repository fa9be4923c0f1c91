package reflect

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// A proxy stands between an auditor and a far end, as devices do that know SMTP,
// and alters what its functions say. The zero proxy alters nothing.
type proxy struct {
	// up returns what a command becomes, with its end; a non-empty answer is
	// given instead, and nothing goes to the far end.
	up func(line string) (forward, answer string)
	// down returns what the reply to a command becomes, lines with their ends.
	down func(command, reply string) string
	// leave, if not nil, says whether to end both connections after the reply to a command.
	leave func(command string) bool
	// hello, if not nil, gets the connections after the 220 to STARTTLS, or at the
	// begin of a port with TLS. Without it bytes are passed on.
	hello func(client, server net.Conn)
	// implicit says that TLS comes first.
	implicit bool
}

// serve passes a session on, until either side ends.
func (p *proxy) serve(client, server net.Conn) {
	defer client.Close()
	defer server.Close()
	if p.implicit {
		p.pass(client, server, bufio.NewReader(client), bufio.NewReader(server))
		return
	}
	p.lines(client, server)
}

// lines passes on commands and replies, in turn.
func (p *proxy) lines(client, server net.Conn) {
	fromClient, fromServer := bufio.NewReader(client), bufio.NewReader(server)
	command := ""
	for {
		reply, err := readReply(fromServer)
		if p.down != nil {
			reply = p.down(command, reply)
		}
		io.WriteString(client, reply)
		if err != nil || p.leave != nil && p.leave(command) {
			return
		}
		if strings.HasPrefix(strings.ToUpper(command), "STARTTLS") && strings.HasPrefix(reply, "220") {
			p.pass(client, server, fromClient, fromServer)
			return
		}
		for {
			line, err := fromClient.ReadString('\n')
			if err != nil {
				return
			}
			command = line
			forward, answer := line, ""
			if p.up != nil {
				forward, answer = p.up(line)
			}
			if answer == "" {
				io.WriteString(server, forward)
				break
			}
			io.WriteString(client, answer)
			if p.hello != nil && strings.HasPrefix(answer, "220") {
				p.hello(client, server)
				return
			}
		}
	}
}

// readReply reads the lines of a reply.
func readReply(r *bufio.Reader) (string, error) {
	var all strings.Builder
	for {
		line, err := r.ReadString('\n')
		all.WriteString(line)
		if err != nil || len(line) > 3 && line[3] != '-' {
			return all.String(), err
		}
	}
}

// pass passes bytes on both ways.
func (p *proxy) pass(client, server net.Conn, fromClient, fromServer io.Reader) {
	if p.hello != nil {
		p.hello(client, server)
		return
	}
	var wg sync.WaitGroup
	for _, way := range []struct {
		to   net.Conn
		from io.Reader
	}{{server, fromClient}, {client, fromServer}} {
		wg.Go(func() {
			io.Copy(way.to, way.from)
			way.to.(*net.TCPConn).CloseWrite()
		})
	}
	wg.Wait()
}

// openTLS ends TLS of both sides, and shows the client another certificate.
func openTLS(client, server net.Conn) {
	cert, err := newCertificate("inspector.example.net")
	if err != nil {
		return
	}
	inner := tls.Client(server, &tls.Config{InsecureSkipVerify: true})
	outer := tls.Server(client, &tls.Config{Certificates: []tls.Certificate{cert}})
	if inner.Handshake() != nil || outer.Handshake() != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(inner, outer); inner.CloseWrite() })
	wg.Go(func() { io.Copy(outer, inner); outer.CloseWrite() })
	wg.Wait()
}

// endTLS ends the client's TLS, and speaks in the clear to the far end.
func endTLS(client, server net.Conn) {
	cert, err := newCertificate("offload.example.net")
	if err != nil {
		return
	}
	outer := tls.Server(client, &tls.Config{Certificates: []tls.Certificate{cert}})
	if outer.Handshake() != nil {
		return
	}
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(server, outer); server.(*net.TCPConn).CloseWrite() })
	wg.Go(func() { io.Copy(outer, server); outer.CloseWrite() })
	wg.Wait()
}

// resetHello resets both connections when the client begins TLS.
func resetHello(client, server net.Conn) {
	io.ReadFull(client, make([]byte, 5))
	reset(client)
	reset(server)
}

func reset(conn net.Conn) {
	conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

// startProxy starts a proxy on another loopback address, in front of a far end.
func startProxy(t testing.TB, to netip.AddrPort, p *proxy) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.2:0")
	if err != nil {
		t.Skipf("this machine has no 127.0.0.2: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		ln.Close()
		wg.Wait()
	})
	wg.Go(func() { p.listen(ctx, ln, func(net.Conn) (string, error) { return to.String(), nil }, &wg) })
	return addrPort(ln.Addr())
}

// listen serves what comes, each client towards the destination that is said.
func (p *proxy) listen(ctx context.Context, ln net.Listener, destination func(net.Conn) (string, error), wg *sync.WaitGroup) {
	for {
		client, err := ln.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			to, err := destination(client)
			if err != nil {
				client.Close()
				return
			}
			d := net.Dialer{Timeout: 10 * time.Second}
			server, err := d.DialContext(ctx, "tcp", to)
			if err != nil {
				reset(client)
				return
			}
			stop := context.AfterFunc(ctx, func() { client.Close(); server.Close() })
			defer stop()
			p.serve(client, server)
		})
	}
}

// instead returns an up function that answers commands that begin so by itself.
func instead(answers map[string]string) func(string) (string, string) {
	return func(line string) (string, string) {
		for begin, answer := range answers {
			if strings.HasPrefix(line, begin) {
				return "", answer
			}
		}
		return line, ""
	}
}

// replaced returns a down function that replaces words in replies to commands that begin so.
func replaced(begin, old, new string) func(string, string) string {
	return func(command, reply string) string {
		if command == "" != (begin == "") || !strings.HasPrefix(command, begin) {
			return reply
		}
		return strings.ReplaceAll(reply, old, new)
	}
}

// meddlers are what devices do, and what is to be concluded of it (besides that
// there is a proxy, and nothing else).
var meddlers = []struct {
	name     string
	implicit bool
	proxy    proxy
	want     []string
	evidence string // is in the evidence of the first of want
}{
	{name: "a splice", want: []string{Intact}},
	{name: "a splice of TLS", implicit: true, proxy: proxy{implicit: true}, want: []string{Intact}},
	{name: "masks STARTTLS in its place", proxy: proxy{down: replaced("EHLO", "STARTTLS", "XXXXXXXA")},
		want: []string{StartTLSMasked}, evidence: `arrived: "250-XXXXXXXA"`},
	{name: "takes STARTTLS out", proxy: proxy{down: replaced("EHLO", "250-STARTTLS\r\n", "")},
		want: []string{StartTLSRemoved}, evidence: `sent, and never arrived: "250-STARTTLS"`},
	{name: "answers STARTTLS with 454", proxy: proxy{up: instead(map[string]string{"STARTTLS": "454 4.7.0 TLS not available\r\n"})},
		want: []string{StartTLSRefused}, evidence: `answered: "454 4.7.0 TLS not available"`},
	{name: "answers STARTTLS with 502", proxy: proxy{up: instead(map[string]string{"STARTTLS": "502 5.5.1 no\r\n"})},
		want: []string{StartTLSRefused}, evidence: "this is not among them"},
	{name: "turns the 220 into a 454", proxy: proxy{down: replaced("STARTTLS", "220 2.0.0 ready for TLS", "454 4.7.0 no")},
		want: []string{StartTLSRefused, Blocked}},
	{name: "overwrites STARTTLS on its way up", proxy: proxy{up: func(line string) (string, string) {
		return strings.Replace(line, "STARTTLS", "XXXXXXXX", 1), ""
	}}, want: []string{StartTLSRefused}, evidence: `arrived: "XXXXXXXX"`},
	{name: "resets at the ClientHello", proxy: proxy{hello: resetHello},
		want: []string{TLSCut}, evidence: "the far end got STARTTLS and no ClientHello"},
	{name: "says 220 by itself and resets", proxy: proxy{up: instead(map[string]string{"STARTTLS": "220 go\r\n"}), hello: resetHello},
		want: []string{TLSCut}, evidence: "the far end never got STARTTLS"},
	{name: "opens TLS", proxy: proxy{hello: openTLS}, want: []string{TLSOpened}, evidence: "inspector.example.net"},
	{name: "opens TLS of a port that begins with it", implicit: true, proxy: proxy{implicit: true, hello: openTLS}, want: []string{TLSOpened}},
	{name: "ends TLS and goes on in the clear", proxy: proxy{up: instead(map[string]string{"STARTTLS": "220 go\r\n"}), hello: endTLS},
		want: []string{TLSOpened, Rewritten}, evidence: "in the clear there"},
	{name: "changes the greeting", proxy: proxy{down: func(command, reply string) string {
		if command == "" {
			return "220 ********************\r\n"
		}
		return reply
	}}, want: []string{Rewritten}, evidence: `arrived: "220 ********************"`},
	{name: "says EHLO in its own name", proxy: proxy{up: func(line string) (string, string) {
		if strings.HasPrefix(line, "EHLO") {
			return "EHLO gateway.example.net\r\n", ""
		}
		return line, ""
	}}, want: []string{Rewritten}, evidence: `arrived: "EHLO gateway.example.net"`},
	{name: "takes PIPELINING out", proxy: proxy{down: replaced("EHLO", "250-PIPELINING\r\n", "")}, want: []string{Rewritten}, evidence: "PIPELINING"},
	{name: "adds a line", proxy: proxy{down: replaced("EHLO", "250-8BITMIME\r\n", "250-8BITMIME\r\n250-XCLIENT NAME\r\n")}, want: []string{Rewritten}, evidence: "never sent"},
	{name: "answers NOOP by itself", proxy: proxy{up: instead(map[string]string{"NOOP": "250 Requested mail action okay, completed\r\n"})},
		want: []string{Rewritten}, evidence: "Requested mail action okay"},
	{name: "drops the argument of NOOP", proxy: proxy{up: func(line string) (string, string) {
		if strings.HasPrefix(line, "NOOP") {
			return "NOOP\r\n", ""
		}
		return line, ""
	}}, want: []string{Rewritten}, evidence: `arrived: "NOOP"`},
	{name: "injects after STARTTLS", proxy: proxy{up: func(line string) (string, string) {
		if strings.HasPrefix(line, "STARTTLS") {
			return line + "NOOP injected\r\n", ""
		}
		return line, ""
	}}, want: []string{Rewritten}, evidence: "15 bytes in the clear after the command"},
	{name: "injects with the 220", proxy: proxy{down: replaced("STARTTLS", "220 2.0.0 ready for TLS\r\n", "220 2.0.0 ready for TLS\r\n250 OK\r\n")},
		want: []string{Rewritten}, evidence: "8 bytes in the clear after the answer"},
}

func TestWhatAProxyDoesIsProven(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	for _, m := range meddlers {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			to := f.plain
			if m.implicit {
				to = f.tls
			}
			r := probe(t, startProxy(t, to, &m.proxy), f.pin, Options{ImplicitTLS: m.implicit})
			want := append([]string(nil), m.want...)
			if r.TTL != 0 { // SYNs are marked
				want = append(want, Proxied)
			}
			wantCodes(t, r, want...)
			for _, c := range r.Conclusions {
				if !c.Proven {
					t.Errorf("not proven: %+v", c)
				}
				if c.Code == m.want[0] && !strings.Contains(strings.Join(c.Evidence, "\n"), m.evidence) {
					t.Errorf("the evidence of %s is %q, want %q in it", c.Code, c.Evidence, m.evidence)
				}
			}
			if len(r.Notes) != 1 || !strings.Contains(r.Notes[0], "arrived at "+to.String()) {
				t.Errorf("notes are %q, want one of the other address", r.Notes)
			}
		})
	}
}

// A liar returns summaries that are not what the far end said.
func liar(change func(reply string) string) *proxy {
	return &proxy{down: func(command, reply string) string {
		if strings.Contains(command, "XREFLECT") && strings.Count(reply, "\n") > 1 {
			return change(reply)
		}
		return reply
	}, up: instead(map[string]string{"STARTTLS": "454 no\r\n"})}
}

func TestSummariesThatAreNotTheFarEndsAreNotTaken(t *testing.T) {
	t.Parallel()
	f, other := startFarEnd(t, "127.0.0.1", nil), startFarEnd(t, "127.0.0.1", nil)
	var kept string
	var once sync.Once
	probe(t, startProxy(t, f.plain, liar(func(reply string) string {
		once.Do(func() { kept = reply })
		return reply
	})), f.pin, Options{})
	for _, c := range []struct {
		name, why string
		change    func(string) string
	}{
		{"altered", ErrForged.Error(), func(s string) string { return strings.Replace(s, s[10:12], flip(s[10:12]), 1) }},
		{"of another session", ErrReplayed.Error(), func(string) string { return kept }},
		{"without its first line", "", func(s string) string { return s[strings.Index(s, "\n")+1:] }},
		{"without its signature", ErrTruncated.Error(), func(s string) string {
			cut := strings.LastIndex(s, "250 ")
			last := strings.LastIndex(s[:cut], "250-")
			return s[:last] + "250 " + s[last+4:cut]
		}},
		{"cut in the middle", "", func(s string) string { return s[:402] + "\r\n250 x\r\n" }},
		{"of another far end", ErrForged.Error(), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			to, change := f.plain, c.change
			if change == nil {
				to, change = other.plain, func(s string) string { return s }
			}
			r := probe(t, startProxy(t, to, liar(change)), f.pin, Options{})
			wantCodes(t, r, Impostor)
			if r.Proven || r.Summary != nil || !strings.Contains(r.Refused, c.why) {
				t.Errorf("proven %v, refused %q, want %q", r.Proven, r.Refused, c.why)
			}
		})
	}
}

// flip changes a character of base64 into another.
func flip(s string) string {
	if s[0] == 'A' {
		return "B" + s[1:]
	}
	return "A" + s[1:]
}

// A second summary of the same session is no answer to a later request.
func TestAnEarlierSummaryOfTheSameSessionIsNotTaken(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	var first string
	p := liar(func(reply string) string {
		if first == "" {
			first = reply
		}
		return first
	})
	r := probe(t, startProxy(t, f.plain, p), f.pin, Options{LongLine: true})
	if r.Summary == nil || r.Summary.Seq != 1 || !strings.HasPrefix(r.Refused, ErrReplayed.Error()) {
		t.Errorf("summary %+v, refused %q, want the first and %q", r.Summary, r.Refused, ErrReplayed)
	}
	if r.Has(Intact) || !r.Has(Rewritten) {
		t.Errorf("concluded %v", r.codes())
	}
}

func TestWhoeverAnswersForAllIsAnImpostor(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() { // ends with the listener
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the client
				defer conn.Close()
				io.WriteString(conn, "220 mail.example.net ESMTP\r\n")
				for in := bufio.NewReader(conn); ; {
					if _, err := in.ReadString('\n'); err != nil {
						return
					}
					io.WriteString(conn, "250 Requested mail action okay, completed\r\n")
				}
			}()
		}
	}()
	r := probe(t, addrPort(ln.Addr()), PinOf(newKey(t)), Options{})
	wantCodes(t, r, Impostor)
}

func TestAWrongFingerprintIsSaid(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	r := probe(t, f.plain, PinOf(newKey(t)), Options{})
	wantCodes(t, r, Impostor)
	if !strings.Contains(r.Conclusions[0].Text, "its key is not the fingerprint's") {
		t.Errorf("concluded %q", r.Conclusions[0].Text)
	}
}

// Where a session breaks off, the step is said, and nothing is concluded of who.
func TestAConnectionThatBreaksOffIsBlockedAtItsStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		step, end string
		serve     func(net.Conn)
	}{
		{StepGreeting, EndClosed, func(c net.Conn) { c.(*net.TCPConn).CloseWrite(); io.Copy(io.Discard, c) }},
		{StepEHLO, EndReset, func(c net.Conn) {
			io.WriteString(c, "220 far.example.org ESMTP "+protocol+" x y\r\n")
			c.Read(make([]byte, 1))
			reset(c)
		}},
		{StepEHLO, EndSilence, func(c net.Conn) {
			io.WriteString(c, "220 far.example.org ESMTP "+protocol+" x y\r\n")
			io.Copy(io.Discard, c)
		}},
	} {
		t.Run(c.step+" "+c.end, func(t *testing.T) {
			t.Parallel()
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			go func() { // ends with the client
				if conn, err := ln.Accept(); err == nil {
					defer conn.Close()
					c.serve(conn)
				}
			}()
			o := Options{}
			if c.end == EndSilence {
				o.Timeout = 2 * time.Second
			}
			r := probe(t, addrPort(ln.Addr()), PinOf(newKey(t)), o)
			wantCodes(t, r, Blocked)
			if r.Step != c.step || r.End != c.end {
				t.Errorf("ended at %s by %s (%s), want %s by %s", r.Step, r.End, r.Error, c.step, c.end)
			}
		})
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	r := probe(t, addrPort(ln.Addr()), PinOf(newKey(t)), Options{})
	if r.Step != StepConnect || r.End != EndRefused || !r.Has(Blocked) {
		t.Errorf("a closed port: step %s, end %s, %v", r.Step, r.End, r.codes())
	}
}

func TestACancelledProbeIsAnError(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { // ends with the connection
		if conn, err := ln.Accept(); err == nil {
			cancel() // it waits for the greeting by now, or will
			io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	if r, err := Probe(ctx, addrPort(ln.Addr()), PinOf(newKey(t)), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v, %v, want the context's error", r, err)
	}
}
