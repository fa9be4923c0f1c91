package scannertest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
	"github.com/smtpsweep/smtpsweep/targets"
)

// quick makes the slow servers fast.
var quick = Config{GreetPause: 150 * time.Millisecond, Drip: 10 * time.Millisecond}

// open starts a zoo for a test.
func open(t *testing.T, cfg Config) *Zoo {
	t.Helper()
	z, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(z.Close)
	return z
}

// A client is a hand-made one: it knows nothing of our prober.
type client struct {
	t    *testing.T
	z    *Zoo
	conn net.Conn
	r    *bufio.Reader

	since time.Time // before it connected: what the server waits, it waits after that
}

// call dials a behaviour of a zoo, in plain.
func call(t *testing.T, z *Zoo, b Behaviour) *client {
	t.Helper()
	addr, err := z.Listen("127.0.0.1:0", b)
	if err != nil {
		t.Fatal(err)
	}
	return dial(t, z, addr)
}

func dial(t *testing.T, z *Zoo, addr netip.AddrPort) *client {
	t.Helper()
	since := time.Now()
	conn, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return &client{t, z, conn, bufio.NewReader(conn), since}
}

// reply reads one reply and returns its lines, LF between them.
func (c *client) reply() string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("read after %q: %v", lines, err)
		}
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

// say sends a line and returns the reply.
func (c *client) say(line string) string {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, line+"\r\n"); err != nil {
		c.t.Fatal(err)
	}
	return c.reply()
}

// want checks that a reply begins with something, and returns it.
func (c *client) want(got, prefix string) string {
	c.t.Helper()
	if !strings.HasPrefix(got, prefix) {
		c.t.Fatalf("got %.300q, want %q...", got, prefix)
	}
	return got
}

// ehlo says EHLO and returns the keywords.
func (c *client) ehlo() []string {
	c.t.Helper()
	var words []string
	for _, line := range strings.Split(c.want(c.say("EHLO client.example.org"), "250-"), "\n")[1:] {
		words = append(words, line[4:])
	}
	return words
}

// secure takes the connection into TLS, trusting the zoo for a name, and
// returns the error of the handshake.
func (c *client) secure(cfg *tls.Config) error {
	conn := tls.Client(c.conn, cfg)
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	return nil
}

// strict is the configuration that a careful client uses.
func (c *client) strict() *tls.Config { return &tls.Config{RootCAs: c.z.Roots(), ServerName: Host} }

// lax accepts every certificate.
func (c *client) lax() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }

// starttls goes from the greeting to the inside of TLS.
func (c *client) starttls(cfg *tls.Config) error {
	c.t.Helper()
	c.want(c.reply(), "220")
	if words := c.ehlo(); !containsFold(words, "STARTTLS") {
		c.t.Fatalf("no STARTTLS in %q", words)
	}
	c.want(c.say("STARTTLS"), "220 ")
	return c.secure(cfg)
}

// upgrade is starttls that must work.
func (c *client) upgrade(cfg *tls.Config) tls.ConnectionState {
	c.t.Helper()
	if err := c.starttls(cfg); err != nil {
		c.t.Fatal(err)
	}
	return c.conn.(*tls.Conn).ConnectionState()
}

// quit says QUIT and sees that the server closes.
func (c *client) quit() {
	c.t.Helper()
	c.want(c.say("QUIT"), "221")
	c.end()
}

// end sees that the server closes the connection now.
func (c *client) end() {
	c.t.Helper()
	if n, err := c.r.ReadByte(); err != io.EOF {
		c.t.Fatalf("read %d, %v, want the end", n, err)
	}
}

// silent sees that nothing comes for a while.
func (c *client) silent(d time.Duration) {
	c.t.Helper()
	c.conn.SetReadDeadline(time.Now().Add(d))
	if b, err := c.r.Peek(1); err == nil || !isTimeout(err) {
		c.t.Fatalf("read %q, %v, want silence", b, err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// isReset reports whether a connection was reset; Windows has words of its own for it.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || err != nil && strings.Contains(err.Error(), "forcibly closed")
}

func containsFold(words []string, w string) bool {
	return slices.ContainsFunc(words, func(s string) bool { return strings.EqualFold(s, w) })
}

// distrusted checks that a careful client refuses a certificate, for the reason given.
func distrusted(reason string) func(*client) {
	return func(c *client) {
		if err := c.starttls(c.strict()); err == nil || !strings.Contains(err.Error(), reason) {
			c.t.Fatalf("handshake: %v, want %q", err, reason)
		}
	}
}

// accepted checks that a careful client and the server get along.
func accepted(c *client) {
	c.upgrade(c.strict())
	c.ehlo()
	c.quit()
}

// weird are the tests of each behaviour, by name: does it do what it is named for?
var weird = map[string]func(c *client){
	"good": func(c *client) {
		state := c.upgrade(c.strict())
		if state.Version != tls.VersionTLS13 {
			c.t.Errorf("version %x", state.Version)
		}
		if words := c.ehlo(); !slices.Equal(words, tlsKeywords) {
			c.t.Errorf("keywords inside TLS: %q", words)
		}
		c.want(c.say("STARTTLS"), "502")
		c.want(c.say("HELP"), "502 5.5.2")
		c.quit()
		if got, want := c.z.Counts(), (Counts{Conns: 1, Quits: 1}); got != want {
			c.t.Errorf("counts %+v, want %+v", got, want)
		}
	},
	"good-submission": func(c *client) {
		c.want(c.reply(), "220 ")
		if words := c.ehlo(); strings.Contains(strings.Join(words, " "), "AUTH") {
			c.t.Errorf("AUTH in plain text: %q", words)
		}
		c.want(c.say("STARTTLS"), "220")
		if err := c.secure(c.strict()); err != nil {
			c.t.Fatal(err)
		}
		if words := c.ehlo(); !slices.Contains(words, "AUTH PLAIN LOGIN") {
			c.t.Errorf("no AUTH inside TLS: %q", words)
		}
		c.quit()
	},
	"good-smtps": func(c *client) {
		if err := c.secure(c.strict()); err != nil {
			c.t.Fatal(err)
		}
		c.want(c.reply(), "220 ")
		if words := c.ehlo(); !slices.Contains(words, "AUTH PLAIN LOGIN") || slices.Contains(words, "STARTTLS") {
			c.t.Errorf("keywords: %q", words)
		}
		c.quit()
	},
	"exchange":  accepted,
	"gmail":     accepted,
	"opensmtpd": accepted,

	"greet-pause": func(c *client) {
		c.want(c.reply(), "220 ")
		if d := time.Since(c.since); d < quick.GreetPause {
			c.t.Errorf("greeted after %v", d)
		}
		c.quit()
	},
	"teaser": func(c *client) {
		line, _ := c.r.ReadString('\n')
		c.want(line, "220-")
		if left := time.Until(c.since.Add(quick.GreetPause / 2)); left > 0 {
			c.silent(left)
		}
		c.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		c.want(c.reply(), "220 ")
		c.quit()
	},
	"too-many-connections": func(c *client) { c.want(c.reply(), "421 4.7.0"); c.end() },
	"client-rejected": func(c *client) {
		if got := c.reply(); !strings.Contains(got, "554 5.7.1 <unknown[127.0.0.1]>: Client host rejected") {
			c.t.Errorf("greeting %q", got)
		}
		c.want(c.say("EHLO client.example.org"), "503")
		c.quit()
	},
	"try-later": func(c *client) {
		c.want(c.reply(), "450 4.7.1")
		c.want(c.say("EHLO client.example.org"), "503")
		c.quit()
	},
	"deaf": func(c *client) {
		c.want(c.reply(), "220 ")
		io.WriteString(c.conn, "EHLO client.example.org\r\n")
		c.silent(100 * time.Millisecond)
	},
	"greets-and-leaves": func(c *client) { c.want(c.reply(), "220 "); c.end() },
	"ehlo-refused": func(c *client) {
		c.want(c.reply(), "220 ")
		c.want(c.say("EHLO client.example.org"), "502")
		c.want(c.say("HELO client.example.org"), "250 ")
		c.quit()
	},

	"client-rejected-smtps": func(c *client) {
		if err := c.secure(c.strict()); err != nil {
			c.t.Fatal(err)
		}
		c.want(c.reply(), "554 ")
		c.quit()
	},
	"closing-at-ehlo": func(c *client) {
		c.want(c.reply(), "220 ")
		c.want(c.say("EHLO client.example.org"), "421 ")
		c.end()
	},
	"closing-late": func(c *client) {
		c.end()
		if d := time.Since(c.since); d < quick.GreetPause {
			c.t.Errorf("closed after %v", d)
		}
	},
	"tls-half": func(c *client) {
		c.want(c.reply(), "220")
		c.ehlo()
		c.want(c.say("STARTTLS"), "220 ")
		tap := &counter{Conn: c.conn, most: 200}
		c.conn = tap
		if err := c.secure(c.lax()); !isTimeout(err) || tap.n != 200 {
			c.t.Errorf("handshake: %v after %d bytes, want a time-out after 200", err, tap.n)
		}
	},

	"mute": func(c *client) { c.silent(100 * time.Millisecond) },
	"mute-smtps": func(c *client) {
		c.conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if err := c.secure(c.lax()); !isTimeout(err) {
			c.t.Errorf("handshake: %v, want a time-out", err)
		}
	},
	"tarpit": func(c *client) {
		got := make([]byte, 10)
		if _, err := io.ReadFull(c.conn, got); err != nil || string(got) != "220-please" {
			c.t.Errorf("read %q, %v", got, err)
		}
		if d := time.Since(c.since); d < 5*quick.Drip {
			c.t.Errorf("10 bytes in %v", d)
		}
	},
	"endless": func(c *client) {
		for i := range 5000 {
			line, err := c.r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, "220-") {
				c.t.Fatalf("line %d: %q, %v", i, line, err)
			}
			if i > 4100 {
				return
			}
		}
	},
	"closing": func(c *client) { c.end() },
	"resetting": func(c *client) {
		if _, err := c.r.ReadByte(); !isReset(err) {
			c.t.Errorf("read: %v, want a reset", err)
		}
	},

	"starttls-masked": func(c *client) {
		c.want(c.reply(), "220 ")
		if words := c.ehlo(); !slices.Contains(words, "XXXXXXXA") || slices.Contains(words, "STARTTLS") {
			c.t.Errorf("keywords: %q", words)
		}
		c.want(c.say("STARTTLS"), "502")
		c.quit()
	},
	"starttls-refused": func(c *client) {
		c.want(c.reply(), "220 ")
		c.ehlo()
		c.want(c.say("STARTTLS"), "454 ")
		c.ehlo()
		c.quit()
	},
	"auth-without-tls": func(c *client) {
		c.want(c.reply(), "220 ")
		if words := c.ehlo(); !slices.Contains(words, "AUTH PLAIN LOGIN") || slices.Contains(words, "STARTTLS") {
			c.t.Errorf("keywords: %q", words)
		}
		c.quit()
	},
	"plaintext-after-220": func(c *client) {
		c.want(c.reply(), "220 ")
		c.ehlo()
		c.want(c.say("STARTTLS"), "220 ")
		extra, _ := c.r.Peek(c.r.Buffered())
		if !bytes.HasPrefix(extra, []byte("250-")) {
			c.t.Errorf("behind 220 in the same segment: %q", extra)
		}
		if err := c.secure(c.strict()); err != nil {
			c.t.Fatal(err)
		}
		c.quit()
	},
	"plaintext-for-tls": func(c *client) {
		var rec tls.RecordHeaderError
		if err := c.starttls(c.lax()); !errors.As(err, &rec) || string(rec.RecordHeader[:4]) != "250-" {
			c.t.Errorf("handshake: %v, want plain text", err)
		}
	},
	"ehlo-changed": func(c *client) {
		c.want(c.reply(), "220 ")
		before := c.ehlo()
		c.want(c.say("STARTTLS"), "220 ")
		if err := c.secure(c.strict()); err != nil {
			c.t.Fatal(err)
		}
		if after := c.ehlo(); slices.Equal(before, after) || !slices.Contains(after, "DSN") {
			c.t.Errorf("before %q, inside %q", before, after)
		}
		c.quit()
	},
	"starttls-inside-tls": func(c *client) {
		c.upgrade(c.strict())
		if words := c.ehlo(); !slices.Contains(words, "STARTTLS") {
			c.t.Errorf("keywords: %q", words)
		}
		c.quit()
	},

	"tls-stalled": func(c *client) {
		c.want(c.reply(), "220")
		c.ehlo()
		c.want(c.say("STARTTLS"), "220 ")
		c.conn.SetDeadline(time.Now().Add(100 * time.Millisecond))
		if err := c.secure(c.lax()); !isTimeout(err) {
			c.t.Errorf("handshake: %v, want a time-out", err)
		}
	},
	"tls-failed": func(c *client) {
		var rec tls.RecordHeaderError
		if err := c.starttls(c.lax()); !errors.As(err, &rec) || string(rec.RecordHeader[:3]) != "501" {
			c.t.Errorf("handshake: %v, want plain text", err)
		}
	},
	"tls-flood": func(c *client) {
		if err := c.starttls(c.lax()); err == nil || !strings.Contains(err.Error(), "too many ignored records") {
			c.t.Errorf("handshake: %v, want a flood of records", err)
		}
	},
	"ssl-3": func(c *client) {
		if err := c.starttls(c.lax()); err == nil || !strings.Contains(err.Error(), "protocol version 300") {
			c.t.Errorf("handshake: %v, want SSL 3.0", err)
		}
	},
	"tls-reset": func(c *client) {
		if err := c.starttls(c.lax()); !isReset(err) {
			c.t.Errorf("handshake: %v, want a reset", err)
		}
	},
	"tls-old": func(c *client) {
		cfg := c.strict()
		cfg.MinVersion = tls.VersionTLS10
		if state := c.upgrade(cfg); state.Version != tls.VersionTLS10 {
			c.t.Errorf("version %x", state.Version)
		}
		c.quit()
		modern := dial(c.t, c.z, addrPort(c.conn.RemoteAddr()))
		if err := modern.starttls(modern.strict()); err == nil || !strings.Contains(err.Error(), "protocol version") {
			c.t.Errorf("a client of today: %v", err)
		}
	},
	"client-certificate": func(c *client) {
		asked := false
		cfg := c.strict()
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return &tls.Certificate{}, nil
		}
		c.upgrade(cfg)
		if _, err := c.r.ReadByte(); !asked || err == nil || !strings.Contains(err.Error(), "certificate required") {
			c.t.Errorf("asked for a certificate: %v; then: %v", asked, err)
		}
	},
	"plain-on-smtps": func(c *client) {
		var rec tls.RecordHeaderError
		if err := c.secure(c.lax()); !errors.As(err, &rec) || string(rec.RecordHeader[:3]) != "220" {
			c.t.Errorf("handshake: %v, want a greeting", err)
		}
	},
	"tls-on-smtp": func(c *client) {
		got, err := io.ReadAll(c.r)
		if err != nil || !bytes.Equal(got, []byte{21, 3, 1, 0, 2, 2, 80}) {
			c.t.Errorf("got % x, %v, want an alert", got, err)
		}
	},

	"expired": func(c *client) {
		if state := c.upgrade(c.lax()); state.Version != tls.VersionTLS12 || state.PeerCertificates[0].NotAfter.After(time.Now()) {
			c.t.Errorf("version %x, certificate until %v", state.Version, state.PeerCertificates[0].NotAfter)
		}
		c.quit()
		other := dial(c.t, c.z, addrPort(c.conn.RemoteAddr()))
		distrusted("expired")(other)
	},
	"expired-smtps": func(c *client) {
		if err := c.secure(c.strict()); err == nil || !strings.Contains(err.Error(), "expired") {
			c.t.Errorf("handshake: %v", err)
		}
	},
	"not-yet-valid": distrusted("not yet valid"),
	"self-signed": func(c *client) {
		leaf := c.upgrade(c.lax()).PeerCertificates[0]
		if err := leaf.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature); err != nil {
			c.t.Errorf("not signed by its own key: %v", err)
		}
		c.quit()
		distrusted("unknown authority")(dial(c.t, c.z, addrPort(c.conn.RemoteAddr())))
	},
	"unknown-issuer": func(c *client) {
		leaf := c.upgrade(c.lax()).PeerCertificates[0]
		if bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
			c.t.Error("self-signed")
		}
		c.quit()
		distrusted("unknown authority")(dial(c.t, c.z, addrPort(c.conn.RemoteAddr())))
	},
	"wrong-name": distrusted("www.example.net"),
	"name-only":  distrusted("legacy Common Name"),
	"many-names": func(c *client) {
		if n := len(c.upgrade(c.strict()).PeerCertificates[0].DNSNames); n < 10_000 {
			c.t.Errorf("%d names", n)
		}
		c.quit()
	},
	"for-clients": distrusted("incompatible key usage"),
	"negative-serial": func(c *client) {
		cert, err := c.z.Certificate(CertNegativeSerial)
		if err != nil {
			c.t.Fatal(err)
		}
		if !bytes.Contains(cert.Certificate[0], []byte{0x02, 0x02, 0xaa, 0x66}) {
			c.t.Error("serial number is not negative")
		}
		accepted(c) // x509negativeserial=1 is set in go.mod
	},
	"unparsable": func(c *client) {
		if err := c.starttls(c.lax()); err == nil || !strings.Contains(err.Error(), "failed to parse certificate") {
			c.t.Errorf("handshake: %v", err)
		}
	},
	"chain-100": func(c *client) {
		if n := len(c.upgrade(c.strict()).PeerCertificates); n != 100 {
			c.t.Errorf("%d certificates", n)
		}
		c.quit()
	},

	"byte-by-byte": accepted,
	"one-segment":  func(c *client) { c.want(c.reply(), "220-mail.example.org ESMTP Postfix\n220-"); c.quit() },
	"lower-case":   accepted,
	"ignores-quit": func(c *client) { c.reply(); io.WriteString(c.conn, "QUIT\r\n"); c.silent(100 * time.Millisecond) },
	"hostile":      hostileWords,
	"bare-lf": func(c *client) {
		line, _ := c.r.ReadString('\n')
		if !strings.HasSuffix(line, "Postfix\n") {
			c.t.Errorf("greeting %q", line)
		}
		accepted(&client{c.t, c.z, c.conn, bufio.NewReader(io.MultiReader(strings.NewReader(line), c.conn)), c.since})
	},
	"malformed-reply": func(c *client) {
		c.reply()
		if got := c.say("EHLO client.example.org"); !strings.HasPrefix(got, "250-mail.example.org\n251-") {
			c.t.Errorf("EHLO: %q", got)
		}
		c.quit()
	},
	"endless-ehlo": func(c *client) {
		c.reply()
		io.WriteString(c.conn, "EHLO client.example.org\r\n")
		for i := range 2000 {
			if line, err := c.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "250-") {
				c.t.Fatalf("line %d: %q, %v", i, line, err)
			}
		}
	},
	"data-after-quit": func(c *client) {
		c.reply()
		io.WriteString(c.conn, "QUIT\r\n")
		if n, err := io.Copy(io.Discard, c.r); n < 900_000 || err != nil {
			c.t.Errorf("%d bytes after QUIT, %v", n, err)
		}
	},
	"huge-banner":     func(c *client) { tooLong(c) },
	"hostile-accents": func(c *client) { tooLong(c) },
	"pix": func(c *client) {
		if got := c.reply(); strings.Trim(got[4:], "*20") != "" {
			c.t.Errorf("greeting %q", got)
		}
		c.want(c.say("EHLO client.example.org"), "500 ")
		c.want(c.say("HELO client.example.org"), "250 ")
		c.quit()
	},
	"hostile-certificate": func(c *client) {
		leaf := c.upgrade(c.strict()).PeerCertificates[0]
		if leaf.Subject.CommonName != hostileUTF8 || !slices.Contains(leaf.DNSNames, hostileASCII) ||
			strings.Count(leaf.Subject.Organization[0], "\u0301") != 100_000 {
			c.t.Errorf("subject %.200q, names %q", leaf.Subject, leaf.DNSNames)
		}
		c.quit()
	},
	"http": speaks("HTTP/1.1 400"),
	"ssh":  speaks("SSH-2.0-"),
	"imap": speaks("* OK ["),
	"pop3": speaks("+OK "),
	"ftp": func(c *client) {
		c.want(c.reply(), "220 (vsFTPd")
		c.want(c.say("EHLO client.example.org"), "530 ")
	},
}

// A counter counts the bytes that were read from a connection, and does not wait
// long for more than there should be.
type counter struct {
	net.Conn
	n, most int
}

func (c *counter) Read(p []byte) (int, error) {
	if c.n >= c.most {
		c.Conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	}
	n, err := c.Conn.Read(p)
	c.n += n
	return n, err
}

// tooLong reads a greeting of more than 64 KiB.
func tooLong(c *client) {
	got := c.reply()
	if c.want(got, "220 "); len(got) < 100_000 {
		c.t.Errorf("greeting of %d bytes", len(got))
	}
}

// hostileWords sees every weapon in the plain part of the conversation and inside TLS.
func hostileWords(c *client) {
	said := c.reply() + strings.Join(c.ehlo(), "\n")
	c.want(c.say("STARTTLS"), "220 ")
	if err := c.secure(c.strict()); err != nil {
		c.t.Fatal(err)
	}
	said += strings.Join(c.ehlo(), "\n")
	for _, weapon := range []string{"\x1b[2J", "\x9b", "\u009b", "\u202e", "\x00", "\xff\xfe", "\n=HYPERLINK", "\n@SUM", "<script>", "]]>", marks(1000)} {
		if !strings.Contains(said, weapon) {
			c.t.Errorf("no %.20q", weapon)
		}
	}
	c.quit()
}

// speaks sees a greeting in another protocol, and no SMTP behind it.
func speaks(greeting string) func(*client) {
	return func(c *client) {
		line, _ := c.r.ReadString('\n')
		c.want(line, greeting)
	}
}

var allWeird = []map[string]func(*client){weird, weirdTLS, weirdCertificates, weirdText}

// shows returns the test of a behaviour, nil if there is none.
func shows(name string) func(*client) {
	for _, tests := range allWeird {
		if test := tests[name]; test != nil {
			return test
		}
	}
	return nil
}

func TestBehaviourMisbehavesAsNamed(t *testing.T) {
	for _, b := range Behaviours() {
		t.Run(b.Name, func(t *testing.T) {
			t.Parallel()
			test := shows(b.Name)
			if test == nil {
				t.Fatal("nothing shows what this behaviour does")
			}
			z := open(t, quick)
			test(call(t, z, b))
			if n := z.Counts(); n.Pregreets+n.Pipelined+n.Mail != 0 {
				t.Errorf("a polite client was counted as rude: %+v", n)
			}
		})
	}
}

func TestEveryBehaviourIsDescribed(t *testing.T) {
	kinds := []scanner.Kind{scanner.KindSMTP, scanner.KindRefusing, scanner.KindMute, scanner.KindClosing,
		scanner.KindTLSFailed, scanner.KindWrongMode, scanner.KindTarpit, scanner.KindOther}
	seen := map[string]bool{}
	shown := map[scanner.Kind]bool{}
	for _, b := range Behaviours() {
		if b.Name == "" || seen[b.Name] {
			t.Errorf("name %q is empty or taken", b.Name)
		}
		seen[b.Name] = true
		shown[b.Want.Service] = true
		if b.Good && len(b.Want.Findings)+len(b.Want.Named) > 0 {
			t.Errorf("%s is good, and has findings", b.Name)
		}
		if !strings.HasSuffix(b.Help, ".") || b.Serve == nil || !slices.Contains(kinds, b.Want.Service) {
			t.Errorf("%s: help %q, service %q", b.Name, b.Help, b.Want.Service)
		}
	}
	for _, tests := range allWeird {
		for name := range tests {
			if !seen[name] {
				t.Errorf("there is a test of %q, which does not exist", name)
			}
		}
	}
	for _, k := range kinds {
		if !shown[k] {
			t.Errorf("nothing shows the service %q", k)
		}
	}
	if _, ok := Find("good"); !ok {
		t.Error("good is not found")
	}
	if b, ok := Find("no such"); ok || b.Serve != nil {
		t.Error("found what does not exist")
	}
}

func TestEarlyTalkersAreCountedAndRefused(t *testing.T) {
	for _, name := range []string{"good", "greet-pause", "teaser", "tarpit", "mute", "endless"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The client's bytes are there long before this is over.
			cfg := Config{Turn: 10 * time.Second, GreetPause: 10 * time.Second, Drip: quick.Drip}
			z := open(t, cfg)
			b, _ := Find(name)
			c := call(t, z, b)
			if _, err := io.WriteString(c.conn, "EHLO client.example.org\r\n"); err != nil {
				t.Fatal(err)
			}
			if name == "mute" {
				eventually(t, func() bool { return z.Counts().Pregreets == 1 })
				c.silent(50 * time.Millisecond)
			} else {
				said, _ := io.ReadAll(c.r)
				if name != "tarpit" && name != "endless" && !bytes.Contains(said, []byte("521 5.5.1")) {
					t.Errorf("the server said %.200q", said)
				}
			}
			z.Close()
			if n := z.Counts().Pregreets; n != 1 {
				t.Errorf("%d pregreets, want 1", n)
			}
		})
	}
}

func TestRudenessIsCounted(t *testing.T) {
	good, _ := Find("good")
	tests := []struct {
		name string
		rude func(c *client)
		want Counts
	}{
		{"leaves without QUIT", func(c *client) { c.conn.Close() }, Counts{Conns: 1, NoQuit: 1}},
		{"two commands in one segment", func(c *client) {
			c.want(c.say("EHLO client.example.org\r\nNOOP"), "250")
			c.want(c.reply(), "250")
			c.quit()
		}, Counts{Conns: 1, Quits: 1, Pipelined: 1}},
		{"hands over mail", func(c *client) {
			c.want(c.say("MAIL FROM:<a@example.org>"), "530")
			c.want(c.say("rcpt to:<a@example.org>"), "530")
			c.want(c.say("VRFY a"), "530")
			c.quit()
		}, Counts{Conns: 1, Quits: 1, Mail: 3}},
		{"a command without end", func(c *client) {
			c.want(c.say(strings.Repeat("x", 511)), "500 5.5.2 Error: line too long")
		}, Counts{Conns: 1}},
		{"EHLO without a name", func(c *client) { c.want(c.say("EHLO"), "501"); c.quit() }, Counts{Conns: 1, Quits: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			z := open(t, Config{})
			c := call(t, z, good)
			c.want(c.reply(), "220 ")
			test.rude(c)
			z.closeWithin(10 * time.Second)
			if got := z.Counts(); got != test.want {
				t.Errorf("counts %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestSecondCommandBeforeAReplyIsCountedWhereTheServerListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, err := Start(t.Context(), Config{Turn: time.Second, Life: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		good, _ := Find("good")
		here, there := net.Pipe()
		go z.ServeConn(there, good)
		r := bufio.NewReader(here)
		r.ReadString('\n')
		io.WriteString(here, "EHLO client.example.org\r\n")
		time.Sleep(time.Second / 2)
		io.WriteString(here, "QUIT\r\n")
		for line := ""; !strings.HasPrefix(line, "221"); line, err = r.ReadString('\n') {
			if err != nil {
				t.Fatal(err)
			}
		}
		z.Close()
		if got, want := z.Counts(), (Counts{Conns: 1, Quits: 1, Pipelined: 1}); got != want {
			t.Errorf("counts %+v, want %+v", got, want)
		}
	})
}

func TestSlowServersKeepTheirTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, err := Start(t.Context(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		firstByte := func(name string) (byte, time.Duration) {
			b, _ := Find(name)
			here, there := net.Pipe()
			go z.ServeConn(there, b)
			start := time.Now()
			one := make([]byte, 1)
			here.Read(one)
			d := time.Since(start)
			here.Close()
			return one[0], d
		}
		if b, d := firstByte("greet-pause"); b != '2' || d != 6*time.Second {
			t.Errorf("greet pause: %q after %v", b, d)
		}
		if b, d := firstByte("tarpit"); b != '2' || d != time.Second {
			t.Errorf("tarpit: %q after %v", b, d)
		}
		if b, d := firstByte("mute"); b != 0 || d != 3*time.Minute {
			t.Errorf("mute: %q after %v", b, d)
		}
	})
}

func TestGreeterWaitsAndCatchesThoseWhoDoNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, err := Start(t.Context(), Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		for _, pause := range []time.Duration{0, 5 * time.Second, 59 * time.Second} {
			here, there := net.Pipe()
			go z.ServeConn(there, Greeter(pause))
			start := time.Now()
			c := &client{t, z, here, bufio.NewReader(here), start}
			c.want(c.reply(), "220 ")
			if d := time.Since(start); d != max(pause, time.Millisecond) {
				t.Errorf("greeted after %v, want %v", d, pause)
			}
			c.ehlo()
			c.quit()
			if got, want := len(Greeter(pause).Want.Findings), pause >= slowGreeting; (got == 1) != want {
				t.Errorf("%v: %d findings", pause, got)
			}
		}
		here, there := net.Pipe()
		go z.ServeConn(there, Greeter(time.Minute))
		io.WriteString(here, "EHLO client.example.org\r\n")
		here.Close()
		synctest.Wait()
		if n := z.Counts().Pregreets; n != 1 {
			t.Errorf("%d pregreets, want 1", n)
		}
	})
}

func TestLoadOfAnAddress(t *testing.T) {
	z := open(t, quick)
	mute, _ := Find("mute")
	good, _ := Find("good")
	addr := netip.MustParseAddr("127.0.0.1")
	first := call(t, z, mute)
	call(t, z, mute)
	eventually(t, func() bool { return z.Load(addr).Accepted == 2 })
	c := call(t, z, good)
	c.reply()
	c.quit()
	first.conn.Close()
	if got, want := z.Load(addr), (Load{Accepted: 3, Most: 3}); got != want {
		t.Errorf("load %+v, want %+v", got, want)
	}
	if got := z.Load(netip.MustParseAddr("192.0.2.1")); got != (Load{}) {
		t.Errorf("an address that nobody called has %+v", got)
	}
}

func TestAClientThatCallsAgainAfterQuitHasOneConnection(t *testing.T) {
	z := open(t, Config{Turn: -1})
	good, _ := Find("good")
	addr, err := z.Listen("127.0.0.1:0", good)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		c := dial(t, z, addr)
		c.reply()
		c.want(c.say("QUIT"), "221")
		c.conn.Close()
	}
	if got, want := z.Load(addr.Addr()), (Load{Accepted: 50, Most: 1}); got != want {
		t.Errorf("load %+v, want %+v", got, want)
	}
}

func TestOneListenerManyServers(t *testing.T) {
	z := open(t, quick)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	good, _ := Find("good")
	err = z.Serve(l, func(local netip.AddrPort) Behaviour {
		if local.Addr().As4()[3] == 1 {
			return good
		}
		return Behaviour{}
	})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, z, addrPort(l.Addr()))
	c.want(c.reply(), "220 ")
	c.quit()
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	z, err := Start(ctx, quick)
	if err != nil {
		t.Fatal(err)
	}
	var open []net.Conn
	for _, b := range Behaviours() {
		addr, err := z.Listen("127.0.0.1:0", b)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			conn, err := net.Dial("tcp", addr.String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			open = append(open, conn)
		}
	}
	for _, conn := range open[:len(open)/2] {
		io.WriteString(conn, "EHLO client.example.org\r\nSTARTTLS\r\n")
	}
	cancel() // as good as Close, but for the waiting
	z.Close()
	z.Close()
	if _, err := z.Listen("127.0.0.1:0", Behaviour{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listen in a closed zoo: %v", err)
	}
	z.ServeConn(open[0], Behaviour{})
	if n := settled(before); n > before {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, %d before:\n%s", n, before, buf[:runtime.Stack(buf, true)])
	}
}

// settled waits until no more than want goroutines are left, or 10 s: one that
// has signalled its end may need a moment to be gone.
func settled(want int) int {
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > want && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return runtime.NumGoroutine()
}

// eventually waits until something that is sure to come has come.
func eventually(t *testing.T, come func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !come(); {
		if time.Now().After(end) {
			t.Fatal("it did not come in 10 s")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestCertificateThatDoesNotExist(t *testing.T) {
	z := open(t, Config{Names: []string{"mx.example.net", "2001:db8::25"}})
	if _, err := z.Certificate("blue"); err == nil || err.Error() != "make the blue certificate: no such certificate" {
		t.Errorf("got %v", err)
	}
	cert, err := z.Certificate(CertGood)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{Host, "mx.example.net", "2001:db8::25", "127.0.0.1", "::1"} {
		if err := leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
}

func TestDiffSaysWhatIsWrong(t *testing.T) {
	z := open(t, quick)
	pause, _ := Find("greet-pause")
	if w := z.Want(pause); len(w.Findings) != 0 {
		t.Errorf("a pause of %v is found to be slow: %q", quick.GreetPause, w.Findings)
	}
	wrong, _ := Find("wrong-name")
	yes := scanner.Result{
		Observation: scanner.Observation{State: scanner.Open},
		Service: &scanner.Service{Kind: scanner.KindSMTP, Code: 220, Software: "Postfix 3.7", StartTLS: scanner.StartTLSOffered,
			Size: size, TLS: &scanner.TLS{Version: tls.VersionTLS13, Trust: scanner.TrustTrusted}},
	}
	if diff := wrong.Want.Diff(yes, false); diff != nil {
		t.Errorf("right result: %q", diff)
	}
	if diff := wrong.Want.Diff(yes, true); !slices.Equal(diff, []string{"findings is , want cert-name-mismatch"}) {
		t.Errorf("by name: %q", diff)
	}
	yes.Service.TLS.Trust = scanner.TrustExpired
	if diff := wrong.Want.Diff(yes, false); !slices.Equal(diff, []string{"certificate is expired, want trusted"}) {
		t.Errorf("expired: %q", diff)
	}
	mute, _ := Find("mute")
	no := scanner.Result{Observation: scanner.Observation{State: scanner.Open, Mute: time.Second}}
	if diff := mute.Want.Diff(no, false); diff != nil {
		t.Errorf("mute: %q", diff)
	}
	no.State = scanner.Closed
	if diff := wrong.Want.Diff(no, false); len(diff) != 2 {
		t.Errorf("closed: %q", diff)
	}
	if b, _ := Find("good-smtps"); b.Role != targets.SMTPS {
		t.Errorf("role %v", b.Role)
	}
}
