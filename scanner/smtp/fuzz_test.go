package smtp

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/smtpsweep/smtpsweep/scanner"
)

// A recording is a connection from which fixed bytes come, chunk by chunk, and
// then EOF; what is written is lost.
type recording struct {
	net.Conn
	rest  []byte
	chunk int
}

func (r *recording) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(1, r.chunk))], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (*recording) Write(p []byte) (int, error)     { return len(p), nil }
func (*recording) SetDeadline(time.Time) error     { return nil }
func (*recording) SetReadDeadline(time.Time) error { return nil }
func (*recording) LocalAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)} }

func FuzzConversation(f *testing.F) {
	for _, s := range []string{
		"220 mail.example.org ESMTP\r\n250-x\r\n250-STARTTLS\r\n250 SIZE 5\r\n220 go\r\n\x16\x03\x03",
		"220-a\n220 b\n502 no\n250 x\n221 bye\n",
		"554 no\r\n", "421", "\r\n220 x", "220 \x00\xff\r\n", "220-x\r\n521 y\r\n",
		"220 ****\r\n250-x\r\n250 XXXXXXXA\r\n", "SSH-2.0-x\r\n", "2", "",
	} {
		f.Add([]byte(s), 3, false)
		f.Add([]byte(s), 4096, true)
	}
	p := &Prober{Helo: "client.example.org"}
	f.Fuzz(func(t *testing.T, data []byte, chunk int, implicit bool) {
		obs := new(scanner.Observation)
		if implicit {
			obs.Target.Role = 2
		}
		s := p.Probe(context.Background(), &recording{rest: data, chunk: chunk}, obs)
		if bytes.HasPrefix([]byte(s.Err), []byte("internal error")) {
			t.Fatal(s.Err)
		}
		if s.Kind == "" || len(s.Banner) > maxBanner || len(s.Transcript) > 2*maxLines {
			t.Errorf("kind %q, banner of %d bytes, %d lines", s.Kind, len(s.Banner), len(s.Transcript))
		}
		if (s.Kind == scanner.KindSMTP || s.Kind == scanner.KindRefusing) && !mayBeReply(s.Banner) {
			t.Errorf("%q was taken for SMTP", s.Banner)
		}
	})
}

func FuzzClassify(f *testing.F) {
	for _, b := range beginnings {
		f.Add([]byte(b.bytes))
	}
	f.Add([]byte("220 (vsFTPd)"))
	f.Add([]byte("J\x00\x00\x00\x0a8"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if name := classify(head); name != "" && name != "FTP" && name != "NNTP" && mayBeReply(firstLine(head)) && len(firstLine(head)) > 3 {
			t.Errorf("%q may be a reply and is called %s", head, name)
		}
	})
}

func FuzzParseEHLO(f *testing.F) {
	f.Add([]byte("250-mail.example.org\n250-AUTH=LOGIN PLAIN\n250-SIZE 99\n250 STARTTLS"))
	f.Add([]byte("250-STARTTLS\n250-XXXXA\n250 auth"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := new(reply)
		for line := range bytes.SplitSeq(data, []byte("\n")) {
			r.add(line)
		}
		c := parseEHLO(r)
		if len(c.keywords) > len(r.lines) || len(c.auth) > maxMechanisms {
			t.Errorf("%d keywords and %d mechanisms of %d lines", len(c.keywords), len(c.auth), len(r.lines))
		}
	})
}

func FuzzDig(f *testing.F) {
	f.Add([]byte("\x16\x03\x03\x00\x0e\x0b\x00\x00\x0a\x00\x00\x07\x00\x00\x04abcd"), []byte(nil))
	f.Add([]byte("\x16\x03\x03\x00\x2c\x02\x00\x00\x28\x03\x03"+string(make([]byte, 33))+"\x13\x01\x00\x00\x00\x17\x03\x03\x00\x12"+string(make([]byte, 18))), make([]byte, 32))
	f.Fuzz(func(t *testing.T, records, secret []byte) {
		total := 0
		for _, der := range dig(records, secret).der {
			total += len(der)
		}
		if total > len(records) {
			t.Errorf("%d bytes of certificates in %d bytes", total, len(records))
		}
		messages(records, true)
	})
}

func FuzzJudge(f *testing.F) {
	f.Add([]byte("hello"), "mail.example.org")
	f.Add([]byte{0x30, 0x03, 0x02, 0x01, 0x00}, "")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mail.example.org", "*.example.org"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der, "a.example.org")
	f.Fuzz(func(t *testing.T, der []byte, host string) {
		got, finding := Judge([][]byte{der, der}, host, time.Unix(1e9, 0))
		if got.Trust == scanner.TrustTrusted || (finding == "") != (got.Trust == "") {
			t.Errorf("trust %q, finding %q", got.Trust, finding)
		}
	})
}

// FuzzReply reads bytes as the first reply, in pieces of two sizes: what it says
// does not depend on how it came.
func FuzzReply(f *testing.F) {
	for _, s := range []string{
		"220 mail.example.org ESMTP\r\n", "220-a\r\n220-b\n220 c\r\n", "220", "421 x", "220\r\n", "220-\n221 y\n", "2\n", "\r\n220 x\n", "220\rx\n",
		"220 " + string(make([]byte, 2000)) + "\n220 x\n", "554-\x00\xff\n554 \x1b[2J\r\n", "22x\n",
	} {
		f.Add([]byte(s), 1, 3)
	}
	f.Fuzz(func(t *testing.T, data []byte, one, other int) {
		a, errA := replyOf(data, one)
		b, errB := replyOf(data, other)
		if a.code != b.code || a.malformed != b.malformed || a.mixed != b.mixed || !slices.EqualFunc(a.lines, b.lines, bytes.Equal) {
			t.Errorf("in pieces of %d: %+v, of %d: %+v", one, a, other, b)
		}
		if (errA == nil) != (errB == nil) {
			t.Errorf("in pieces of %d: %v, of %d: %v", one, errA, other, errB)
		}
		if errA == nil && (a.code < 200 || a.code > 599 || len(a.lines) == 0) {
			t.Errorf("%q is a reply: %+v", data, a)
		}
	})
}

// replyOf reads the first reply of bytes that come in pieces.
func replyOf(data []byte, piece int) (reply, error) {
	conn := &recording{rest: data, chunk: piece}
	w := newWire(context.Background(), conn, nil, time.Now().Add(time.Hour))
	s := newSession(&Prober{}, w, new(scanner.Observation), new(scanner.Service), new(buffers))
	return s.firstReply()
}
