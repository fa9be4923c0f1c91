package smtp_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/scanner/smtp"
	"github.com/smtpsweep/smtpsweep/targets"
)

// A dialogue is played by a server on the far end of a pipe, line by line:
//
//	S: text      the server says it, with CRLF; lines in a row are one write
//	W: "text"    the server writes these bytes (a Go string without its quotes)
//	C: text      the client must say exactly this
//	wait 6s      the server pauses; the client must be silent
//	TLS          both sides do a handshake
//	read 5       the client sends at least so many bytes, whatever they are
//	silent       the server says nothing more, and keeps the connection
//	deaf         the same, whatever the client says
//	close        the server closes the connection
//
// At its end the server closes the connection.
type player struct {
	conn net.Conn // plain, or TLS over it
	r    *bufio.Reader
	tls  *tls.Config
}

// play plays a dialogue and returns the first thing that was not as written.
func (p *player) play(script string) error {
	defer p.conn.Close()
	p.r = bufio.NewReader(p.conn)
	say := ""
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if text, ok := strings.CutPrefix(line, "S: "); ok {
			say += text + "\r\n"
			continue
		}
		if say != "" { // an empty write to a pipe waits for a reader
			if _, err := io.WriteString(p.conn, say); err != nil {
				return fmt.Errorf("cannot say %q: %w", say, err)
			}
			say = ""
		}
		if done, err := p.step(line); done || err != nil {
			return err
		}
	}
	if say != "" {
		io.WriteString(p.conn, say)
	}
	return nil
}

func (p *player) step(line string) (done bool, err error) {
	verb, arg, _ := strings.Cut(line, " ")
	switch verb {
	case "":
	case "W:":
		text, err := strconv.Unquote(arg)
		if err == nil {
			_, err = io.WriteString(p.conn, text)
		}
		return false, err
	case "C:":
		got, err := p.r.ReadString('\n')
		if got != arg+"\r\n" {
			return true, fmt.Errorf("client said %q (%v), want %q", got, err, arg)
		}
	case "wait":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return true, err
		}
		p.conn.SetReadDeadline(time.Now().Add(d))
		if b, err := p.r.ReadByte(); err == nil {
			return true, fmt.Errorf("client talked out of turn: %q", b)
		} else if !isTimeout(err) {
			return true, nil
		}
		p.conn.SetReadDeadline(time.Time{})
	case "TLS":
		c := tls.Server(p.conn, p.tls)
		if err := c.Handshake(); err != nil {
			return true, fmt.Errorf("server's handshake: %w", err)
		}
		p.conn, p.r = c, bufio.NewReader(c)
	case "read":
		n, err := strconv.Atoi(arg)
		if err == nil {
			_, err = io.ReadFull(p.r, make([]byte, n))
		}
		return false, err
	case "silent":
		if got, _ := io.ReadAll(p.r); len(got) > 0 {
			return true, fmt.Errorf("client talked out of turn: %q", got)
		}
		return true, nil
	case "deaf":
		io.Copy(io.Discard, p.r)
		return true, nil
	case "close":
		return true, nil
	default:
		return true, fmt.Errorf("bad line in the dialogue: %q", line)
	}
	return false, nil
}

func isTimeout(err error) bool {
	n, ok := err.(net.Error)
	return ok && n.Timeout()
}

// meet lets a prober talk to a dialogue, in fake time, and returns what it
// learned and how long that took.
func meet(t *testing.T, p *smtp.Prober, target targets.Target, script string) (svc *scanner.Service) {
	t.Helper()
	ours, theirs := net.Pipe()
	defer ours.Close()
	server := &player{conn: theirs, tls: serverTLS(t)}
	played := make(chan error, 1)
	go func() { played <- server.play(script) }()
	obs := &scanner.Observation{Target: target, State: scanner.Open, Connected: time.Now()}
	svc = p.Probe(t.Context(), ours, obs)
	ours.Close()
	if err := <-played; err != nil {
		t.Errorf("%v\n%s", err, transcript(svc))
	}
	return svc
}

var (
	port25  = targets.Target{Addr: netip.MustParseAddr("192.0.2.25"), Port: 25}
	port465 = targets.Target{Addr: netip.MustParseAddr("192.0.2.25"), Port: 465, Role: targets.SMTPS}
)

func client() *smtp.Prober { return &smtp.Prober{Helo: "client.example.org"} }

// serverTLS returns a server's configuration with a fresh self-signed certificate.
func serverTLS(t testing.TB) *tls.Config {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "mail.example.org"}, DNSNames: []string{"mail.example.org"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

func TestDialogues(t *testing.T) {
	type want struct {
		kind     scanner.Kind
		code     int
		startTLS scanner.StartTLS
		findings string
		err      string
	}
	tests := []struct {
		name   string
		target targets.Target
		script string
		want   want
	}{
		{"a server without extensions", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250 mail.example.org
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSAbsent}},
		{"a bare last line", port25, `
			W: "220-mail.example.org\n220\r\n"
			C: EHLO client.example.org
			W: "250-mail.example.org\r\n250"
			W: "\r\n"
			C: QUIT
			S: 221`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSAbsent}},
		{"a teaser is waited out", port25, `
			S: 220-mail.example.org ESMTP
			wait 15s
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250 mail.example.org
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSAbsent, findings: "greeting-pause"}},
		{"a teaser, and then a refusal", port25, `
			S: 220-mail.example.org ESMTP
			wait 6s
			S: 521 5.7.1 Blocked by DNSBL
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindRefusing, code: 521, findings: "greeting-pause"}},
		{"a teaser that never ends", port25, `
			S: 220-mail.example.org ESMTP
			silent`,
			want{kind: scanner.KindTarpit, code: 220, err: "the greeting did not end in 30 s"}},
		{"silence", port25, `silent`, want{kind: scanner.KindMute, err: "no greeting in 30 s"}},
		{"half a line, then silence", port25, `
			W: "220 mail.exa"
			silent`,
			want{kind: scanner.KindTarpit, err: "the greeting did not end in 12 s"}},
		{"closed at once", port25, `close`, want{kind: scanner.KindClosing, err: "the peer closed the connection before a greeting"}},
		{"closed in the middle", port25, `
			W: "220-mail.example.org\r\n220-wai"
			close`,
			want{kind: scanner.KindClosing, code: 220, err: "the peer closed the connection in the middle of its greeting"}},
		{"a refusal without a line end", port25, `
			W: "421 Too many connections"
			close`,
			want{kind: scanner.KindRefusing, code: 421, findings: "reply-malformed"}},
		{"EHLO refused, HELO understood", port25, `
			S: 220 mail.example.org
			C: EHLO client.example.org
			S: 502 unknown command
			C: HELO client.example.org
			S: 250 mail.example.org
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSUnknown, findings: "ehlo-refused",
				err: `the server said "502 unknown command"`}},
		{"421 to EHLO is no reason for HELO", port25, `
			S: 220 mail.example.org
			C: EHLO client.example.org
			S: 421 going down
			close`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSUnknown, err: "the peer ended the session after EHLO (421)"}},
		{"a second greeting is not the answer to EHLO", port25, `
			S: 220 mail.example.org
			C: EHLO client.example.org
			S: 220 mail.example.org again
			S: 250-mail.example.org
			S: 250 SIZE 1000
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSAbsent, findings: "reply-malformed"}},
		{"STARTTLS", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250-mail.example.org
			S: 250-AUTH=LOGIN
			S: 250-STARTTLS
			S: 250 SIZE 1000
			C: STARTTLS
			S: 220 go ahead
			TLS
			C: EHLO client.example.org
			S: 250-mail.example.org
			S: 250 SIZE
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSOffered, findings: "auth-without-tls;cert-self-signed"}},
		{"STARTTLS on the line of the name", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250-STARTTLS
			S: 250 mail.example.org
			C: STARTTLS
			S: 502 command not implemented: "XXXXXXXX"
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSRefused, findings: "starttls-refused;command-masked",
				err: `the server said "502 command not implemented: \"XXXXXXXX\""`}},
		{"a refusal that happens to have XXXX in it", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 554 5.7.1 You are not welcome: see https://example.org/XXXX
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSUnknown, findings: "ehlo-refused",
				err: `the server said "554 5.7.1 You are not welcome: see https://example.org/XXXX"`}},
		{"capabilities that break off before STARTTLS may come", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250-mail.example.org
			S: 250-SIZE 1000
			close`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSUnknown, err: "the peer closed the connection after EHLO"}},
		{"capabilities that break off after STARTTLS", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250-mail.example.org
			S: 250-STARTTLS
			close`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSOffered, err: "the peer closed the connection after EHLO"}},
		{"an answer inside TLS that contradicts itself", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250-mail.example.org
			S: 250 STARTTLS
			C: STARTTLS
			S: 220 go ahead
			TLS
			C: EHLO client.example.org
			S: 550-no
			S: 250 mail.example.org
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSOffered, findings: "cert-self-signed;reply-malformed",
				err: "the answer to EHLO contradicts itself"}},
		{"two answers to one command", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250 mail.example.org
			S: 250 and once more
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSAbsent, findings: "reply-malformed"}},
		{"nothing comes after the 220", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250-mail.example.org
			S: 250 starttls
			C: STARTTLS
			S: 220 go ahead
			close`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSOffered, findings: "tls-failed",
				err: "STARTTLS: the peer closed the connection during the TLS handshake"}},
		{"no answer to EHLO", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			silent`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSUnknown, err: "no answer to EHLO in 30 s"}},
		{"an answer that is none", port25, `
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: what?
			wait 1s
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSUnknown, findings: "reply-malformed",
				err: "the answer to EHLO is not an SMTP reply"}},
		{"a code that is none", port25, `
			S: 2200 mail.example.org ESMTP
			silent`,
			want{kind: scanner.KindOther, findings: "reply-malformed", err: "what came is not an SMTP greeting"}},
		{"MySQL", port25, `
			W: "\x4a\x00\x00\x00\x0a8.0.36\x00"
			silent`,
			want{kind: scanner.KindOther, err: "MySQL instead of SMTP"}},
		{"implicit TLS", port465, `
			TLS
			S: 220 mail.example.org ESMTP
			C: EHLO client.example.org
			S: 250-mail.example.org
			S: 250 AUTH PLAIN
			C: QUIT
			S: 221 bye`,
			want{kind: scanner.KindSMTP, code: 220, startTLS: scanner.StartTLSAbsent, findings: "cert-self-signed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := meet(t, client(), tt.target, tt.script)
				got := want{s.Kind, s.Code, s.StartTLS, strings.Join(s.Findings, ";"), s.Err}
				if got != tt.want {
					t.Errorf("got  %+v\nwant %+v\n%s", got, tt.want, transcript(s))
				}
			})
		})
	}
}

func TestWhatWasLearnedBeforeTLSIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := meet(t, client(), port25, `
			S: 220 mail.example.org ESMTP Postfix
			C: EHLO client.example.org
			S: 250-mail.example.org
			S: 250-SIZE 1000
			S: 250-AUTH LOGIN
			S: 250 STARTTLS
			C: STARTTLS
			S: 220 go ahead
			TLS
			C: EHLO client.example.org
			S: 250-mail.example.org
			S: 250-auth plain
			S: 250-AUTH=PLAIN XOAUTH2
			S: 250 SIZE 2000
			C: QUIT
			S: 221 bye`)
		if s.Size != 2000 || !slices.Equal(s.Auth, []string{"LOGIN"}) || !slices.Equal(s.AuthTLS, []string{"PLAIN", "XOAUTH2"}) {
			t.Errorf("size %d, auth %q, inside TLS %q", s.Size, s.Auth, s.AuthTLS)
		}
		if !slices.Equal(s.EHLO, []string{"SIZE 1000", "AUTH LOGIN", "STARTTLS"}) || len(s.EHLOTLS) != 3 {
			t.Errorf("EHLO %q, inside TLS %q", s.EHLO, s.EHLOTLS)
		}
		if s.TLS.Version != tls.VersionTLS13 || len(s.TLS.Chain) != 1 || s.TLS.NameOK != nil {
			t.Errorf("TLS %+v", s.TLS)
		}
	})
}

func TestBannerOnlyStopsAfterTheGreeting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := client()
		p.Mode = smtp.BannerOnly
		s := meet(t, p, port25, `
			S: 220-mail.example.org
			S: 220 ready
			C: QUIT
			S: 221 bye`)
		if got, want := string(s.Banner), "220-mail.example.org\n220 ready"; got != want {
			t.Errorf("banner %q, want %q", got, want)
		}
	})
}

func TestClientWithoutANameGivesItsAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		server := &player{conn: theirs}
		played := make(chan error, 1)
		go func() {
			played <- server.play("S: 220 hi\nC: EHLO [IPv6:2001:db8::9]\nS: 250 hi\nC: QUIT\nS: 221 bye")
		}()
		p := &smtp.Prober{Helo: "evil\r\nMAIL FROM:<>"} // not a name: the address is better
		p.Probe(t.Context(), ours, &scanner.Observation{Source: netip.MustParseAddr("2001:db8::9%eth0")})
		if err := <-played; err != nil {
			t.Error(err)
		}
	})
}

func TestDripEndsBeforeTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := meet(t, client(), port25, "S: 220 hi\nC: EHLO client.example.org\n"+"W: \"250-\"\n"+strings.Repeat("wait 1s\nW: \"x\"\n", 10)+"silent")
		if s.Kind != scanner.KindTarpit || s.ConversedIn > 13*time.Second {
			t.Errorf("kind %q after %v, want a tarpit after 10 s", s.Kind, s.ConversedIn)
		}
	})
}

func TestNoPeerCanStretchTheDeadline(t *testing.T) {
	scripts := map[string]string{
		"a line a second":       strings.Repeat("S: 220-wait\nwait 1s\n", 100),
		"EHLO, a line a second": "S: 220 hi\nC: EHLO client.example.org\n" + strings.Repeat("S: 250-X\nwait 1s\n", 100),
		"stalled TLS":           "S: 220 hi\nC: EHLO client.example.org\nS: 250-hi\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\ndeaf",
		"deaf to QUIT":          "S: 220 hi\nC: EHLO client.example.org\nS: 250 hi\nC: QUIT\nsilent",
	}
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				server := &player{conn: theirs}
				played := make(chan struct{})
				go func() { server.play(script); close(played) }()
				s := client().Probe(t.Context(), ours, &scanner.Observation{Target: port25, Connected: time.Now()})
				if s.ConversedIn > 30*time.Second {
					t.Errorf("took %v", s.ConversedIn)
				}
				ours.Close()
				<-played
			})
		})
	}
}

func TestCancellingEndsAConversationAtOnceAndKeepsWhatWasLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ours, theirs := net.Pipe()
		server := &player{conn: theirs}
		played := make(chan struct{})
		go func() { server.play("S: 220 mail.example.org\nC: EHLO client.example.org\nsilent"); close(played) }()
		time.AfterFunc(3*time.Second, cancel)
		s := client().Probe(ctx, ours, &scanner.Observation{Target: port25, Connected: time.Now()})
		if s.Err != "interrupted" || s.Kind != scanner.KindSMTP || s.ConversedIn != 3*time.Second {
			t.Errorf("error %q, kind %q, after %v", s.Err, s.Kind, s.ConversedIn)
		}
		ours.Close()
		<-played
	})
}

func TestInterruptedConversationAccusesNobody(t *testing.T) {
	tests := []struct {
		name, script string
		target       targets.Target
		kind         scanner.Kind
		startTLS     scanner.StartTLS
	}{
		{"before the greeting", "silent", port25, "", ""},
		{"in the greeting", "S: 220-mail.example.org\nsilent", port25, "", ""},
		{"in the answer to EHLO", "S: 220 hi\nC: EHLO client.example.org\nS: 250-hi\nsilent", port25, scanner.KindSMTP, scanner.StartTLSUnknown},
		{"in STARTTLS", "S: 220 hi\nC: EHLO client.example.org\nS: 250-hi\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\ndeaf", port25,
			scanner.KindSMTP, scanner.StartTLSOffered},
		{"in TLS that comes first", "deaf", port465, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(3*time.Second, cancel)
				ours, theirs := net.Pipe()
				server := &player{conn: theirs}
				played := make(chan struct{})
				go func() { server.play(tt.script); close(played) }()
				s := client().Probe(ctx, ours, &scanner.Observation{Target: tt.target, Connected: time.Now()})
				if s.Kind != tt.kind || s.StartTLS != tt.startTLS || len(s.Findings) > 0 || s.Err != "interrupted" {
					t.Errorf("kind %q, STARTTLS %q, findings %q, error %q", s.Kind, s.StartTLS, s.Findings, s.Err)
				}
				if s.TLS != nil && s.TLS.Err != "interrupted" {
					t.Errorf("TLS: %q", s.TLS.Err)
				}
				ours.Close()
				<-played
			})
		})
	}
}

// What waited for us and not for the peer is not the peer's pause.
func TestTimeBeforeTheConversationBeganIsNotThePeers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		server := &player{conn: theirs}
		played := make(chan error, 1)
		go func() { played <- server.play("S: 220 hi\nC: EHLO client.example.org\nS: 250 hi\nC: QUIT\nS: 221 bye") }()
		obs := &scanner.Observation{Target: port25, Connected: time.Now()}
		time.Sleep(2 * time.Second)
		obs.At = time.Now() // the peer spoke, and the engine saw it
		time.Sleep(20 * time.Second)
		s := client().Probe(t.Context(), ours, obs)
		if s.GreetingIn != 2*time.Second || len(s.Findings) > 0 {
			t.Errorf("greeted after %v, findings %q", s.GreetingIn, s.Findings)
		}
		ours.Close()
		if err := <-played; err != nil {
			t.Error(err)
		}
	})
}

// Plain text in the place of the handshake, in a segment of its own: whether it
// was sent before our ClientHello or after, nobody can tell.
func TestPlainTextInThePlaceOfTLSIsKept(t *testing.T) {
	for text, findings := range map[string]string{
		"250-mail.example.org\r\n250 AUTH PLAIN\r\n":    "tls-failed;plaintext-after-220",
		"501 5.5.4 Syntax error: what is \x16\x03?\r\n": "tls-failed",
		"<html><h1>400 Bad Request</h1></html>":         "tls-failed",
	} {
		ours, theirs := loopback(t)
		served := make(chan struct{})
		go func() {
			defer close(served)
			server := &player{conn: theirs}
			server.play("S: 220 hi\nC: EHLO client.example.org\nS: 250-hi\nS: 250 STARTTLS\nC: STARTTLS\nS: 220 go\n" +
				"read 5\nW: " + strconv.Quote(text) + "\nread 1000")
		}()
		s := client().Probe(t.Context(), ours, &scanner.Observation{Target: port25})
		ours.Close()
		<-served
		if got := strings.Join(s.Findings, ";"); got != findings || s.Err != "STARTTLS: the peer did not answer in TLS" {
			t.Errorf("%q: findings %q, error %q", text, got, s.Err)
		}
		if said := transcript(s); !strings.Contains(said, "S: "+text[:12]) {
			t.Errorf("%q is not in the transcript:\n%s", text, said)
		}
	}
}

// A panicking connection stands for any fault of ours in a conversation.
type panicking struct{ net.Conn }

func (panicking) Read([]byte) (int, error) { panic("index out of range") }

func TestPanicEndsOneConversationOnly(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	p := client()
	for range 200 { // more often than there are slots for handshakes
		s := p.Probe(t.Context(), panicking{ours}, &scanner.Observation{Target: port25})
		if !strings.HasPrefix(s.Err, "internal error") {
			t.Fatalf("error %q", s.Err)
		}
	}
}

func TestEndlessReplyIsBounded(t *testing.T) {
	for name, flood := range map[string][]string{
		"lines":                    {strings.Repeat("250-X-KEYWORD\r\n", 10_000)},
		"line":                     {"250-" + strings.Repeat("A", 200_000) + "\r\n"},
		"a long line in a segment": slices.Repeat([]string{"250-" + strings.Repeat("A", 1000) + "\r\n"}, 400),
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				io.WriteString(theirs, "220 hi\r\n")
				bufio.NewReader(theirs).ReadString('\n')
				io.WriteString(theirs, "250-hi\r\n250-SIZE 77\r\n")
				for _, segment := range flood {
					io.WriteString(theirs, segment)
				}
			}()
			s := client().Probe(t.Context(), ours, &scanner.Observation{Target: port25})
			ours.Close()
			if s.Size != 77 || !slices.Contains(s.Findings, "reply-malformed") || len(s.EHLO) > 512 {
				t.Errorf("size %d, findings %q, %d keywords", s.Size, s.Findings, len(s.EHLO))
			}
			kept := 0
			for _, line := range s.Transcript {
				kept += len(line.Text)
			}
			if kept > 70_000 {
				t.Errorf("transcript of %d bytes", kept)
			}
		})
	}
}
