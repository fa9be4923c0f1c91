package scannertest

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// failing sees a client of today fail in the handshake behind STARTTLS.
func failing(words string) func(*client) {
	return func(c *client) {
		if err := c.starttls(c.lax()); err == nil || !strings.Contains(err.Error(), words) {
			c.t.Errorf("handshake: %v, want %q", err, words)
		}
	}
}

// breaking sees the handshake succeed, and what comes in TLS after it fail.
func breaking(words string) func(*client) {
	return func(c *client) {
		c.upgrade(c.strict())
		io.WriteString(c.conn, "EHLO client.example.org\r\n")
		if _, err := io.ReadAll(c.r); err == nil || !strings.Contains(err.Error(), words) {
			c.t.Errorf("inside TLS: %v, want %q", err, words)
		}
	}
}

// weirdTLS are the tests of behaviours that break the protocol of TLS, or stretch it.
var weirdTLS = map[string]func(c *client){
	"tls-one-byte-records": func(c *client) {
		tap := new(recordCounter)
		cfg := c.strict()
		c.want(c.reply(), "220")
		c.ehlo()
		c.want(c.say("STARTTLS"), "220 ")
		tap.Conn = c.conn
		c.conn = tap
		if err := c.secure(cfg); err != nil || tap.ones < 500 {
			c.t.Errorf("handshake: %v, %d records of one byte", err, tap.ones)
		}
		c.quit()
	},
	"tls-empty-records":   failing("unexpected message"),
	"tls-huge-message":    failing("16777215 bytes exceeds"),
	"tls-compressed-bomb": failing("unexpected message"),
	"tls-two-retries":     failing("two HelloRetryRequest"),
	"tls-alpn":            failing("unrequested ALPN"),
	"tls-no-cipher":       failing("handshake failure"),
	"tls-close-notify":    failing("EOF"),
	"tls-then-text":       failing("received record with version 3530"),
	"tls-then-html":       failing("does not look like a TLS handshake"),

	"tls-useless-16":    accepted,
	"tls-useless-17":    breaking("too many ignored records"),
	"tls-tickets":       breaking("too many non-advancing records"),
	"tls-key-updates":   breaking("too many non-advancing records"),
	"tls-renegotiation": breaking("no renegotiation"),
	"tls-early-close": func(c *client) {
		c.upgrade(c.strict())
		c.end()
	},
	"tls-garbage":       breaking("bad record MAC"),
	"tls-one-byte-text": accepted,

	"tls-only-1.3": func(c *client) {
		cfg := c.strict()
		cfg.MaxVersion = tls.VersionTLS12
		if err := c.starttls(cfg); err == nil || !strings.Contains(err.Error(), "protocol version") {
			c.t.Errorf("TLS 1.2: %v", err)
		}
		accepted(dial(c.t, c.z, addrPort(c.conn.RemoteAddr())))
	},
	"client-certificate-1.2": failing("remote error: tls: "),
	"sni-required": func(c *client) {
		failing("unrecognized name")(c)
		accepted(dial(c.t, c.z, addrPort(c.conn.RemoteAddr())))
	},
	"sni-required-smtps": func(c *client) {
		if err := c.secure(c.lax()); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
			c.t.Errorf("without a name: %v", err)
		}
		other := dial(c.t, c.z, addrPort(c.conn.RemoteAddr()))
		if err := other.secure(other.strict()); err != nil {
			c.t.Fatal(err)
		}
		other.want(other.reply(), "220 ")
		other.quit()
	},
	"sni-other": func(c *client) {
		leaf := c.upgrade(c.lax()).PeerCertificates[0]
		if !bytes.Equal(leaf.RawIssuer, leaf.RawSubject) {
			c.t.Errorf("without a name: %v", leaf.Issuer)
		}
		c.quit()
		accepted(dial(c.t, c.z, addrPort(c.conn.RemoteAddr())))
	},
}

// weirdCertificates are the tests of behaviours with a certificate that most
// libraries do not like.
var weirdCertificates = map[string]func(c *client){
	"rsa-512": func(c *client) {
		key, ok := c.upgrade(c.lax()).PeerCertificates[0].PublicKey.(*rsa.PublicKey)
		if !ok || key.N.BitLen() != 512 {
			c.t.Errorf("key %v", key)
		}
		c.quit()
	},
	"md5":       signedBy(x509.MD5WithRSA),
	"sha-1":     signedBy(x509.SHA1WithRSA),
	"wildcards": distrusted("not " + Host),

	"rsa-16384":    failing("RSA key larger than 8192 bits"),
	"bad-string":   failing("invalid PrintableString"),
	"twice":        failing("duplicate extension"),
	"curve":        failing("unsupported elliptic curve"),
	"empty":        failing("failed to parse certificate"),
	"bad-issuer":   failing("failed to parse certificate"),
	"chain-300k":   failing("exceeds maximum of 262144 bytes"),
	"extension-1m": failing("exceeds maximum of 262144 bytes"),
}

// signedBy sees a certificate with a signature of that kind.
func signedBy(algorithm x509.SignatureAlgorithm) func(*client) {
	return func(c *client) {
		if leaf := c.upgrade(c.lax()).PeerCertificates[0]; leaf.SignatureAlgorithm != algorithm {
			c.t.Errorf("signed with %v", leaf.SignatureAlgorithm)
		}
		c.quit()
	}
}

// weirdText are the tests of behaviours with odd greetings and replies.
var weirdText = map[string]func(c *client){
	"line-by-line": func(c *client) {
		for range 3 {
			line, _ := c.r.ReadString('\n')
			c.want(line, "220-")
		}
	},
	"endless-line": func(c *client) {
		got := make([]byte, 1<<17)
		if _, err := io.ReadFull(c.r, got); err != nil || bytes.IndexByte(got, '\n') >= 0 {
			c.t.Errorf("%v, or a line ends", err)
		}
	},
	"bare-cr": func(c *client) {
		line, _ := c.r.ReadString('\r')
		c.want(line, "220 ")
		c.silent(5 * quick.Drip)
	},
	"no-digits":   speaks("22 0 "),
	"four-digits": speaks("2200 "),
	"code-999":    speaks("999 "),
	"empty-line":  speaks("\r\n"),
	"code-only": func(c *client) {
		line, _ := c.r.ReadString('\n')
		if line != "220\r\n" {
			c.t.Errorf("greeting %q", line)
		}
		c.ehlo()
		c.quit()
	},
	"changes-its-mind": func(c *client) {
		if got := c.reply(); !strings.HasPrefix(got, "220-") || !strings.Contains(got, "\n554 ") {
			c.t.Errorf("greeting %q", got)
		}
		c.quit()
	},
	"half-closed": func(c *client) {
		c.want(c.reply(), "220 ")
		c.end()
		if _, err := io.WriteString(c.conn, "EHLO client.example.org\r\n"); err != nil {
			c.t.Errorf("the other half is closed too: %v", err)
		}
	},

	"starttls-unlisted": func(c *client) {
		c.want(c.reply(), "220 ")
		if words := c.ehlo(); containsFold(words, "STARTTLS") {
			c.t.Errorf("keywords: %q", words)
		}
		c.want(c.say("STARTTLS"), "220 ")
		if err := c.secure(c.strict()); err != nil {
			c.t.Fatal(err)
		}
		c.quit()
	},
	"auth-first": func(c *client) {
		c.reply()
		c.want(c.say("EHLO client.example.org"), "530 ")
		c.quit()
	},
	"starttls-twice":     accepted,
	"starttls-parameter": func(c *client) { listsAnd(c, "STARTTLS foo") },
	"ehlo-10000": func(c *client) {
		c.reply()
		if n := len(c.ehlo()); n < 10_000 {
			c.t.Errorf("%d keywords", n)
		}
		c.quit()
	},
	"ehlo-huge-line": func(c *client) {
		c.reply()
		if words := c.ehlo(); len(words[1]) < 1<<20 {
			c.t.Errorf("keyword of %d bytes", len(words[1]))
		}
		c.quit()
	},
	"ehlo-html": func(c *client) {
		c.reply()
		io.WriteString(c.conn, "EHLO client.example.org\r\n")
		line, _ := c.r.ReadString('\n')
		if !strings.HasPrefix(http.DetectContentType([]byte(line)), "text/html") {
			c.t.Errorf("answer %q", line)
		}
		c.quit()
	},
	"half-closes-at-quit": func(c *client) { c.reply(); c.quit() },
	"sends-and-never-reads": func(c *client) {
		c.reply()
		io.WriteString(c.conn, "QUIT\r\n")
		if n, err := io.CopyN(io.Discard, c.r, 1<<20); err != nil {
			c.t.Errorf("%d bytes, %v", n, err)
		}
	},
	"answers-early": func(c *client) {
		c.want(c.reply(), "220 ")
		c.want(c.reply(), "250-")
		c.ehlo()
		c.quit()
	},
}

// listsAnd sees a keyword line, and that STARTTLS works.
func listsAnd(c *client, keyword string) {
	c.want(c.reply(), "220 ")
	if words := c.ehlo(); words[0] != keyword {
		c.t.Errorf("keywords: %q", words)
	}
	c.want(c.say("STARTTLS"), "220 ")
	if err := c.secure(c.strict()); err != nil {
		c.t.Fatal(err)
	}
	c.quit()
}

// A recordCounter counts the handshake records of one byte in what is read.
type recordCounter struct {
	net.Conn
	last []byte
	ones int
}

// Read reads, and counts.
func (r *recordCounter) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.last = append(r.last, p[:n]...)
	r.ones = bytes.Count(r.last, []byte{recordHandshake, 3, 3, 0, 1})
	return n, err
}

func TestSealerKeepsItsNumbers(t *testing.T) {
	s, err := newSealer13(tls.TLS_AES_256_GCM_SHA384, bytes.Repeat([]byte{1}, 48))
	if err != nil {
		t.Fatal(err)
	}
	first, second := s.record(recordApplication, []byte("x")), s.record(recordApplication, []byte("x"))
	if bytes.Equal(first, second) || s.seq != 2 {
		t.Errorf("two records are the same, or %d were counted", s.seq)
	}
	if err := s.update(); err != nil || s.seq != 0 {
		t.Errorf("after an update: record %d, %v", s.seq, err)
	}
	if _, err := newSealer13(tls.TLS_CHACHA20_POLY1305_SHA256, []byte{1}); err == nil {
		t.Error("ChaCha20 is taken for AES")
	}
}
