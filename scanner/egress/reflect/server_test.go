package reflect

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A dialogue is a client's side of a session, line by line.
type dialogue struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

// talkTo connects and reads the greeting.
func talkTo(t testing.TB, addr netip.AddrPort) *dialogue {
	t.Helper()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &dialogue{t: t, conn: conn, in: bufio.NewReader(conn)}
}

// expect reads a reply, which must begin so, and returns it.
func (d *dialogue) expect(begin string) string {
	d.t.Helper()
	reply, err := readReply(d.in)
	if err != nil || !strings.HasPrefix(reply, begin) {
		d.t.Errorf("got %q, %v, want %q", reply, err, begin)
	}
	return reply
}

// say sends a line, and expects a reply that begins so.
func (d *dialogue) say(line, begin string) string {
	d.t.Helper()
	io.WriteString(d.conn, line+"\r\n")
	return d.expect(begin)
}

// closed reads to the end of the connection.
func (d *dialogue) closed() {
	d.t.Helper()
	if rest, err := io.ReadAll(d.in); os.IsTimeout(err) {
		d.t.Errorf("the connection is still open after %q", rest)
	}
}

// startTLS goes on inside TLS.
func (d *dialogue) startTLS() {
	d.t.Helper()
	d.say("STARTTLS", "220 ")
	conn := tls.Client(d.conn, &tls.Config{InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		d.t.Fatal(err)
	}
	d.conn, d.in = conn, bufio.NewReader(conn)
}

// mailCommands are those by which mail, or what leads to it, could come in.
var mailCommands = []string{
	"MAIL FROM:<a@example.org>", "mail from:<>", "MAIL FROM:<a@example.org> SIZE=1", "RCPT TO:<b@example.org>", "RCPT TO:<postmaster>",
	"DATA", "BDAT 10 LAST", "AUTH PLAIN AGEAYg==", "AUTH LOGIN", "VRFY postmaster", "EXPN staff", "ETRN example.org", "TURN", "ATRN",
	"SEND FROM:<a@example.org>", "SOML FROM:<a@example.org>", "SAML FROM:<a@example.org>", "BURL imap://example.org", "XCLIENT ADDR=192.0.2.1", "XFORWARD NAME=x", "X-EXPS LOGIN",
}

func TestNoMailIsEverTaken(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	for _, inTLS := range []bool{false, true} {
		for _, hello := range []string{"", "HELO client.example.org", "EHLO client.example.org"} {
			for part := range slices.Chunk(mailCommands, maxErrors) {
				d := talkTo(t, f.plain)
				d.expect("220 far.example.org ESMTP XREFLECT1 ")
				if hello != "" {
					d.say(hello, "250")
				}
				if inTLS {
					d.startTLS()
				}
				for _, command := range part {
					if reply := d.say(command, "5"); !strings.HasPrefix(reply, "550 5.7.1 no mail") && !strings.HasPrefix(reply, "500 5.5.1") {
						t.Errorf("%s: %q", command, reply)
					}
				}
				d.say("QUIT", "221 ")
				d.closed()
			}
		}
	}
}

// What a mail program sends without waiting is refused line by line: the text of a
// message too is only commands that are not known.
func TestAMessageThatIsPushedIsRefused(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	d := talkTo(t, f.plain)
	d.expect("220 ")
	io.WriteString(d.conn, "EHLO x\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nSubject: x\r\n\r\nhello\r\n.\r\nQUIT\r\n")
	all, _ := io.ReadAll(d.in)
	for i, line := range strings.Split(strings.TrimSpace(string(all)), "\r\n") {
		if i < 6 && !strings.HasPrefix(line, "250") || i >= 6 && line[0] != '5' && !strings.HasPrefix(line, "221") {
			t.Errorf("line %d: %q", i+1, line)
		}
	}
}

func TestWhatAFarEndAnswers(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	d := talkTo(t, f.plain)
	d.expect("220 far.example.org ESMTP XREFLECT1 " + f.pin.id() + " ")
	d.say("HELO x", "250 far.example.org\r\n")
	d.say("ehlo x", "250-far.example.org\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250-STARTTLS\r\n250 XREFLECT1\r\n")
	d.say("NOOP", "250 ")
	d.say("NOOP XREFLECT", "250 2.0.0 OK")
	d.say("NOOP XREFLECT short 1", "250 2.0.0 OK")
	d.say("NOOP XREFLECT "+strings.Repeat("A", 43)+" 0", "250 2.0.0 OK")
	d.say("NOOP XREFLECT "+strings.Repeat("A", 43)+" 17", "250 2.0.0 OK")
	d.say("XREFLECT "+strings.Repeat("A", 43)+" 1", "250-")
	d.say("NOOP XREFLECT "+strings.Repeat("B", 42)+"A 2", "250 2.0.0 OK") // another auditor in the same session
	d.say("RSET", "250 ")
	d.say("HELP", "214 ")
	d.say("STARTTLS now", "501 ")
	d.startTLS()
	d.say("EHLO x", "250-far.example.org\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 XREFLECT1\r\n")
	d.say("STARTTLS", "503 ")
	d.say("QUIT", "221 ")
	d.closed()
}

func TestASessionIsBounded(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	t.Run("a line without an end", func(t *testing.T) {
		d := talkTo(t, f.plain)
		d.expect("220 ")
		io.WriteString(d.conn, strings.Repeat("x", maxLineBytes))
		d.expect("500 5.5.6 ")
		d.closed()
	})
	t.Run("a line that is as long as may be", func(t *testing.T) {
		d := talkTo(t, f.plain)
		d.expect("220 ")
		d.say("NOOP "+strings.Repeat("x", maxLineBytes-7), "250 ")
	})
	t.Run("a long TLS record", func(t *testing.T) {
		for _, inTLS := range []bool{false, true} {
			d := talkTo(t, f.plain)
			d.expect("220 ")
			raw := d.conn
			if inTLS {
				d.startTLS()
			} else {
				d.say("STARTTLS", "220 ")
			}
			raw.Write([]byte{22, 3, 1, 0x10, 1})
			d.closed()
		}
	})
	t.Run("errors", func(t *testing.T) {
		d := talkTo(t, f.plain)
		d.expect("220 ")
		for range maxErrors {
			d.say("GET / HTTP/1.1", "500 ")
		}
		d.say("GET / HTTP/1.1", "421 ")
		d.closed()
	})
	t.Run("commands", func(t *testing.T) {
		d := talkTo(t, f.plain)
		d.expect("220 ")
		for range maxCommands {
			d.say("NOOP", "250 ")
		}
		d.say("NOOP", "500 ")
		d.closed()
	})
	t.Run("what is remembered", func(t *testing.T) {
		d := talkTo(t, f.plain)
		d.expect("220 ")
		for i := range 40 {
			d.say(fmt.Sprintf("NOOP %d %s", i, strings.Repeat("x", 180)), "250 ")
		}
		reply := d.say("NOOP XREFLECT "+strings.Repeat("A", 43)+" 1", "250-")
		if len(reply) > 16<<10 {
			t.Errorf("a summary of %d bytes", len(reply))
		}
	})
	t.Run("summaries", func(t *testing.T) {
		d := talkTo(t, f.plain)
		d.expect("220 ")
		for seq := range maxSeq {
			d.say(fmt.Sprintf("NOOP XREFLECT %s %d", strings.Repeat("A", 43), seq+1), "250-")
		}
		d.say("NOOP XREFLECT "+strings.Repeat("A", 43)+" 1", "250 2.0.0 OK")
	})
}

func TestASourceHasSoManySessions(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	for range perSource {
		talkTo(t, f.plain).expect("220 ")
	}
	d := talkTo(t, f.plain)
	d.expect("421 4.7.0 ")
	d.closed()
	r := probe(t, f.plain, f.pin, Options{})
	wantCodes(t, r, Blocked)
	if r.Step != StepGreeting || r.End != EndReply || !strings.Contains(r.Error, "come again in a minute") {
		t.Errorf("an auditor that is not let in: ended at %s by %s: %s", r.Step, r.End, r.Error)
	}
}

func TestASourceMayNotComeTooOften(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", func(s *Server) { s.PerMinute = 1 })
	let, refused := 0, 0
	for range burst + 5 {
		d := talkTo(t, f.plain)
		if reply, _ := readReply(d.in); strings.HasPrefix(reply, "220 ") {
			let++
			d.say("QUIT", "221 ")
			d.closed()
			d.conn.Close()
		} else if strings.HasPrefix(reply, "421 ") {
			refused++
		}
	}
	// One a minute comes on top of the burst, and a slow machine may count it.
	if let < burst || refused == 0 {
		t.Errorf("%d sessions, %d refused, want %d and the rest", let, refused, burst)
	}
}

func TestAFullFarEndAnswersAuditors(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", func(s *Server) { s.Sessions = 3 })
	var idle []*dialogue
	for range 3 {
		d := talkTo(t, f.plain)
		d.expect("220 ")
		idle = append(idle, d)
	}
	wantCodes(t, probe(t, f.plain, f.pin, Options{}), Intact)
	idle[0].expect("421 4.3.2 ")
	idle[0].closed()
	idle[2].say("NOOP", "250 ")
	// An auditor's session stays, and those go that came after it.
	auditor := talkTo(t, f.plain)
	auditor.expect("220 ")
	auditor.say("NOOP XREFLECT "+strings.Repeat("A", 43)+" 1", "250-")
	for range 5 {
		talkTo(t, f.plain).expect("220 ")
	}
	auditor.say("NOOP", "250 ")
}

func TestAFarEndEndsInOrder(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var visits []Visit
	srv := &Server{Key: newKey(t), Log: func(v Visit) {
		mu.Lock()
		defer mu.Unlock()
		visits = append(visits, v)
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ln, err := Listen(ctx, "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx, ln) }() // ends with ctx
	at := addrPort(ln.Addr())
	d := talkTo(t, at)
	d.expect("220 reflect.invalid ")
	inside := talkTo(t, at)
	inside.expect("220 ")
	inside.startTLS()
	inside.say("NOOP", "250 ")
	cancel()
	d.expect("421 4.3.2 reflect.invalid closes the connection: the far end was stopped")
	inside.expect("421 ")
	d.closed()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", at.String()); err == nil {
		t.Error("it still listens")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(visits) != 2 || visits[0].End != "the far end was stopped" {
		t.Errorf("visits %+v", visits)
	}
}

func TestAQuietSessionIsKeptAndOneThatIsCutIsSeen(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	r := probe(t, f.plain, f.pin, Options{Idle: []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}})
	wantCodes(t, r, Intact)
	if len(r.Idle) != 2 || !r.Idle[0].Outlived || !r.Idle[1].Outlived {
		t.Errorf("idle %+v, want two that were outlived", r.Idle)
	}
	// A device that ends a session as soon as nothing is said: after the second summary.
	forgets := &proxy{
		up:    instead(map[string]string{"STARTTLS": "454 4.7.0 TLS not available\r\n"}),
		leave: func(command string) bool { return strings.HasSuffix(command, " 2\r\n") },
	}
	r = probe(t, startProxy(t, f.plain, forgets), f.pin, Options{Idle: []time.Duration{time.Minute, time.Hour}})
	want := []string{StartTLSRefused, IdleCut}
	if r.TTL != 0 {
		want = append(want, Proxied)
	}
	wantCodes(t, r, want...)
	if len(r.Idle) != 1 || r.Idle[0].Outlived || r.Idle[0].After >= 60 || r.Idle[0].How == "" || r.End != EndClosed || r.After == nil || !r.After.Earlier.Found {
		t.Errorf("idle %+v, end %s, after %+v", r.Idle, r.End, r.After)
	}
}

func TestOurOwnPortsAreLookedAtOnRequest(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	r := probe(t, f.plain, f.pin, Options{Reverse: []uint16{25, 587}})
	if len(r.Reverse) != 2 || r.Reverse[0].Port != 25 || r.Reverse[1].Port != 587 || r.ReverseError != "" {
		t.Fatalf("reverse %+v, %q", r.Reverse, r.ReverseError)
	}
	for _, v := range r.Reverse {
		if v.State != "open" && v.State != "closed" { // a mail server may run here
			t.Errorf("port %d is %s (%s)", v.Port, v.State, v.Err)
		}
	}
	wantCodes(t, r, Intact)
}

func TestOnlyTheAuditorCanHaveItsPortsLookedAt(t *testing.T) {
	t.Parallel()
	f := startFarEnd(t, "127.0.0.1", nil)
	none := startFarEnd(t, "127.0.0.1", func(s *Server) { s.NoReverse = true })
	public, key, _ := ed25519.GenerateKey(rand.Reader)
	nonce := base64.RawURLEncoding.EncodeToString(public)
	// ask asks in a session of its own, signed by a key over the ports that are said.
	ask := func(f *farEnd, by ed25519.PrivateKey, ports, signed string) *Summary {
		d := talkTo(t, f.plain)
		defer d.conn.Close()
		greeting := strings.Fields(d.expect("220 "))
		signature := ed25519.Sign(by, reverseText(nonce, greeting[len(greeting)-1], signed))
		reply := d.say("NOOP XREVERSE "+nonce+" 1 "+ports+" "+base64.RawURLEncoding.EncodeToString(signature), "250-")
		var lines [][]byte
		for line := range strings.Lines(reply) {
			lines = append(lines, []byte(strings.TrimRight(line[4:], "\r\n")))
		}
		s, err := decodeSummary(lines, f.pin, nonce, 1)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	for _, c := range []struct {
		name, ports, signed, why string
		f                        *farEnd
		key                      ed25519.PrivateKey
	}{
		{"signed by another", "25", "25", "not signed", f, newKey(t)},
		{"signed for other ports", "25,465", "25", "not signed", f, key},
		{"another port", "22", "22", "only ports", f, key},
		{"a port twice", "25,25", "25,25", "only ports", f, key},
		{"no port", ",", ",", "only ports", f, key},
		{"switched off", "25", "25", "--no-reverse", none, key},
	} {
		if s := ask(c.f, c.key, c.ports, c.signed); len(s.Reverse) > 0 || !strings.Contains(s.ReverseError, c.why) {
			t.Errorf("%s: %+v, %q, want %q", c.name, s.Reverse, s.ReverseError, c.why)
		}
	}
	let := 0
	for range reverseMost + 3 {
		if s := ask(f, key, "587", "587"); s.ReverseError == "" {
			let++
		}
	}
	if let < reverseMost || let == reverseMost+3 {
		t.Errorf("%d requests of one source were carried out, want %d", let, reverseMost)
	}
}

func TestAKeyIsMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "far.key")
	key, made, err := LoadKey(path)
	if err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	again, made, err := LoadKey(path)
	if err != nil || made || !again.Equal(key) {
		t.Errorf("the second time: made %v, the same %v, %v", made, again.Equal(key), err)
	}
	info, err := os.Stat(path)
	if err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are left, want the key alone", len(left))
	}
	for name, text := range map[string]string{"empty": "", "text": "hello", "large": strings.Repeat("x", maxKeyFile+1),
		"damaged": "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"} {
		bad := filepath.Join(dir, name)
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if key, _, err := LoadKey(bad); err == nil || key != nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
	}
	if runtime.GOOS != "windows" {
		if err := os.Chmod(path, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, _, err := LoadKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a key that the group may read: %v", err)
		}
	}
}

func TestFarEndsThatStartTogetherAgreeOnAKey(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "far.key")
	var wg sync.WaitGroup
	keys := make([]ed25519.PrivateKey, 8)
	for i := range keys {
		wg.Go(func() { keys[i], _, _ = LoadKey(path) })
	}
	wg.Wait()
	kept, _, err := LoadKey(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		if key != nil && !key.Equal(kept) {
			t.Errorf("number %d has another key than the file", i)
		}
	}
}

func TestFingerprintsAreRead(t *testing.T) {
	t.Parallel()
	pin := PinOf(newKey(t))
	for _, c := range []struct{ text, host string }{
		{"far.example.org#" + pin.String(), "far.example.org"}, {"192.0.2.7#" + pin.String(), "192.0.2.7"},
		{"2001:db8::7#" + pin.String(), "2001:db8::7"}, {"[2001:db8::7]#" + pin.String(), "2001:db8::7"},
	} {
		if host, got, err := ParseReflector(c.text); err != nil || host != c.host || got != pin {
			t.Errorf("%s: %s, %s, %v", c.text, host, got, err)
		}
	}
	for _, text := range []string{"", "far.example.org", "#" + pin.String(), "far.example.org#", "far.example.org#x", "far.example.org:25#" + pin.String(),
		"a b#" + pin.String(), "far.example.org#" + pin.String() + "A", "far.example.org#" + strings.Repeat("A", 43)} {
		if host, got, err := ParseReflector(text); err == nil {
			t.Errorf("%q is read as %s, %s", text, host, got)
		}
	}
}

func TestSourcesAreForgotten(t *testing.T) {
	t.Parallel()
	srv := &Server{Key: newKey(t)}
	if err := srv.prepare(); err != nil {
		t.Fatal(err)
	}
	d := srv.door
	for i := range 3 * maxSources {
		from := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		s := &session{srv: srv, client: netip.AddrPortFrom(from, 1), trail: new(trail)}
		if why, _ := d.enter(s); why != "" {
			t.Fatalf("source %d: %s", i, why)
		}
		d.leave(s)
	}
	if len(d.sources) > maxSources || d.unknown.Len() != 0 {
		t.Errorf("%d sources are remembered, %d sessions; want at most %d and none", len(d.sources), d.unknown.Len(), maxSources)
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::ffff:2")
	if sourceOf(a) != sourceOf(b) || sourceOf(a) == sourceOf(netip.MustParseAddr("2001:db8:0:1::1")) {
		t.Error("an IPv6 source is not its /64")
	}
}
