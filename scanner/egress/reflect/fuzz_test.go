package reflect

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// A recording is a connection from which fixed bytes come, chunk by chunk, and
// then EOF; what is written is kept.
type recording struct {
	net.Conn
	rest    []byte
	chunk   int
	written bytes.Buffer
}

func (r *recording) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(1, r.chunk))], r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *recording) Write(p []byte) (int, error)    { return r.written.Write(p) }
func (*recording) Close() error                     { return nil }
func (*recording) SetDeadline(time.Time) error      { return nil }
func (*recording) SetReadDeadline(time.Time) error  { return nil }
func (*recording) SetWriteDeadline(time.Time) error { return nil }
func (*recording) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25} }
func (*recording) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 50000} }

// fuzzKey is the same in every process: the corpus has its signatures.
var fuzzKey = ed25519.NewKeyFromSeed([]byte("a key that only the fuzzers have"))

// signed returns the lines of a summary whose JSON is text.
func signed(text []byte) [][]byte {
	signature := ed25519.Sign(fuzzKey, append([]byte(summaryContext), text...))
	return [][]byte{[]byte(base64.StdEncoding.EncodeToString(text)), []byte(base64.StdEncoding.EncodeToString(signature))}
}

// Whatever comes in the place of a summary, only what the key signed is taken.
func FuzzSummary(f *testing.F) {
	nonce := strings.Repeat("A", 43)
	good := &Summary{Version: 1, Auditor: nonce, FarEnd: "far", Seq: 1, Source: netip.MustParseAddrPort("192.0.2.7:50000"), Local: netip.MustParseAddrPort("192.0.2.1:25")}
	lines, err := encodeSummary(good, fuzzKey)
	if err != nil {
		f.Fatal(err)
	}
	whole := strings.Join(lines, "\n")
	f.Add([]byte(whole))
	f.Add([]byte(whole[:len(whole)/2]))
	f.Add([]byte(strings.Replace(whole, "A", "B", 1)))
	f.Add([]byte("250 OK"))
	f.Add([]byte("\n"))
	f.Add([]byte("=\n=\n="))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := decodeSummary(bytes.Split(data, []byte("\n")), PinOf(fuzzKey), nonce, 1)
		if (s == nil) != (err != nil) {
			t.Fatalf("%+v, %v", s, err)
		}
		if s != nil && (s.FarEnd != "far" || s.Source != good.Source) {
			t.Errorf("a summary that nobody signed: %+v", s)
		}
	})
}

// A far end that is hostile, and signs anything, breaks nothing.
func FuzzHostileFarEnd(f *testing.F) {
	nonce := strings.Repeat("A", 43)
	for _, talk := range [][]Exchange{nil, {{Reply: []byte("220 x")}, {Command: []byte("EHLO x"), Length: 8, Reply: []byte("250-x\n250 STARTTLS")}}} {
		text, _ := json.Marshal(&Summary{Version: 1, Auditor: nonce, Seq: 1, SYN: &SYN{TTL: 60}, Talk: talk, Earlier: &Earlier{Found: true}})
		f.Add(text, "EHLO x", "250-x\n250 XXXXXXXA", StepDone)
		f.Add(text, "STARTTLS", "454 no", StepSTARTTLS)
	}
	f.Add([]byte(`{"v":1}`), "", "", StepIdle)
	f.Fuzz(func(t *testing.T, text []byte, command, answer, step string) {
		s, err := decodeSummary(signed(text), PinOf(fuzzKey), nonce, 1)
		if err != nil {
			return
		}
		r := &Report{Summary: s, After: s, Proven: true, Step: step, End: EndSilence, TTL: 200, Scale: 3, Known: 2, Asked: 1, Idle: []Quiet{{Asked: 60}},
			Talk: []Exchange{{Reply: []byte("220 x")}, newExchange([]byte(command), len(command)+2, false)}}
		r.Talk[1].answer([]byte(answer))
		r.conclude(PinOf(fuzzKey))
		for _, c := range r.Conclusions {
			if c.Text == "" || c.Code == "" || len(c.Evidence) > 400 {
				t.Errorf("a conclusion without words, or too many of them: %+v", c)
			}
		}
		if _, err := json.Marshal(r); err != nil {
			t.Error(err)
		}
	})
}

// Whatever a client says, it is answered by lines of SMTP, no mail is taken, and
// what is kept stays bounded.
func FuzzCommands(f *testing.F) {
	for _, s := range []string{
		"EHLO x\r\nNOOP XREFLECT " + strings.Repeat("A", 43) + " 1\r\nQUIT\r\n", "EHLO x\r\nMAIL FROM:<a@b>\r\nDATA\r\n.\r\n",
		"STARTTLS\r\n\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "NOOP XREVERSE " + strings.Repeat("A", 43) + " 1 25 x\r\n",
		"XREFLECT " + strings.Repeat("A", 43) + " 2 EARLIER=" + strings.Repeat("A", 43) + "\n", strings.Repeat("x", 3000), "\n\n\n\r\r\n", "NOOP\xff\x00\r\n",
	} {
		f.Add([]byte(s), 3, false)
		f.Add([]byte(s), 4096, true)
	}
	srv := &Server{Key: fuzzKey, Name: "far.example.org", NoReverse: true}
	if err := srv.prepare(); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, chunk int, implicit bool) {
		conn := &recording{rest: data, chunk: chunk}
		s := newSession(srv, conn, implicit)
		s.run()
		if len(s.talk) > maxExchanges || cap(s.in.buf) > 2*maxLineBytes || s.count > maxCommands+1 || s.end == "" {
			t.Errorf("%d exchanges, %d bytes of buffer, %d commands, end %q", len(s.talk), cap(s.in.buf), s.count, s.end)
		}
		if implicit || s.seen.Asked {
			return // records of TLS
		}
		for i, line := range strings.SplitAfter(conn.written.String(), "\n") {
			code, _, ok := parseReplyLine([]byte(strings.TrimRight(line, "\r\n")))
			if line != "" && (!ok || !strings.HasSuffix(line, "\r\n") || code == 354 || code == 235 || code == 334) {
				t.Errorf("line %d: %q", i+1, line)
			}
		}
	})
}

// Whatever a server says, an auditor ends, takes it for no far end, and keeps
// what it said bounded.
func FuzzReplies(f *testing.F) {
	for _, s := range []string{
		"220 far.example.org ESMTP XREFLECT1 a b\r\n250-x\r\n250-STARTTLS\r\n250 XREFLECT1\r\n250 OK\r\n500 no\r\n220 go\r\n\x16\x03\x03",
		"220-a\n220 b\n250 x\n250-QQ==\n250 QQ==\n", "554 no\r\n", "421", "220 \x00\xff\r\n", "250-\r\n250 \r\n", "SSH-2.0-x\r\n", "2", "",
	} {
		f.Add([]byte(s), 3, false)
		f.Add([]byte(s), 4096, true)
	}
	f.Fuzz(func(t *testing.T, data []byte, chunk int, implicit bool) {
		r := &Report{ImplicitTLS: implicit}
		o := Options{ImplicitTLS: implicit, Timeout: time.Second, LongLine: true, Reverse: []uint16{25}}
		a := newAuditor(context.Background(), &recording{rest: data, chunk: chunk}, PinOf(fuzzKey), o, r)
		a.hold(o)
		a.close()
		r.conclude(PinOf(fuzzKey))
		if r.Summary != nil || len(r.Conclusions) != 1 || r.Step == StepDone {
			t.Errorf("step %s, summary %+v, %+v", r.Step, r.Summary, r.Conclusions)
		}
		for _, e := range r.Talk {
			if len(e.Reply) > maxReply {
				t.Errorf("a reply of %d bytes is kept", len(e.Reply))
			}
		}
	})
}

// A ClientHello has one hash, however it is cut into records and reads.
func FuzzHello(f *testing.F) {
	f.Add([]byte{1, 0, 0, 2, 3, 3}, 1, 1)
	f.Add(append([]byte{1, 0, 2, 0}, make([]byte, 600)...), 100, 7)
	f.Add([]byte{2, 0, 0, 0}, 4, 1)
	f.Fuzz(func(t *testing.T, message []byte, record, read int) {
		if len(message) == 0 || len(message) > 10_000 {
			return
		}
		record, read = 1+max(0, record)%16384, 1+max(0, read)%5000
		whole, cut := new(helloHash), new(helloHash)
		whole.Write(records(message, 16384))
		short, guard := true, new(recordGuard)
		for rest := records(message, record); len(rest) > 0; {
			n := min(read, len(rest))
			cut.Write(rest[:n])
			short = short && guard.pass(rest[:n])
			rest = rest[n:]
		}
		if want := min(record, len(message)) <= maxRecord; short != want {
			t.Errorf("records of %d bytes pass: %v, want %v", min(record, len(message)), short, want)
		}
		if whole.sum() != cut.sum() || whole.size > maxHello+4 {
			t.Errorf("%s whole, %s in records of %d, read by %d", whole.sum(), cut.sum(), record, read)
		}
		// What comes as it may is no ClientHello, or one: never a fault.
		new(helloHash).Write(message)
	})
}

// records cuts a handshake message into TLS records.
func records(message []byte, size int) (out []byte) {
	for len(message) > 0 {
		n := min(size, len(message))
		out = append(out, 22, 3, 1, byte(n>>8), byte(n))
		out = append(out, message[:n]...)
		message = message[n:]
	}
	return out
}

func FuzzSYN(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 60, 0, 0, 0x40, 0, 202, 6, 0, 0, 127, 0, 0, 1, 127, 0, 0, 1, 201, 86, 150, 161, 162, 212, 41, 61, 0, 0, 0, 0, 0xa0, 2, 255, 215, 0, 0, 0, 0, 2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 2})
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 40, 6, 64}, make([]byte, 60)...))
	f.Add([]byte{0x4f})
	f.Fuzz(func(t *testing.T, p []byte) {
		s, err := parseSYN(p)
		if (s == nil) != (err != nil) {
			t.Fatalf("%+v, %v", s, err)
		}
		if s != nil && (len(s.Order) > 40 || s.Scale < -1) {
			t.Errorf("%+v", s)
		}
	})
}

func TestASYNIsReadAsItWasSent(t *testing.T) {
	t.Parallel()
	tcp := []byte{201, 86, 0, 25, 162, 212, 41, 61, 0, 0, 0, 0, 0xa0, 2, 0xfa, 0xf0, 0, 0, 0, 0,
		2, 4, 5, 180, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 5} // MSS 1460, SACK, timestamps, a filler, scale 5
	ip4 := append([]byte{0x45, 0, 0, 60, 0, 0, 0x40, 0, 197, 6, 0, 0, 192, 0, 2, 7, 192, 0, 2, 1}, tcp...)
	ip6 := append(append([]byte{0x60, 0, 0, 0, 0, 40, 6, 197}, make([]byte, 32)...), tcp...)
	for _, p := range [][]byte{ip4, ip6} {
		s, err := parseSYN(p)
		if want := "&{TTL:197 Window:64240 MSS:1460 Scale:5 SACK:true Timestamps:true Order:[2 4 8 1 3]}"; err != nil || fmt.Sprintf("%+v", s) != want {
			t.Errorf("got %+v, %v, want %s", s, err, want)
		}
	}
	for _, p := range [][]byte{nil, ip4[:39], ip6[:59], {0x45}, append([]byte{0x60, 0, 0, 0, 0, 40, 17, 64}, make([]byte, 60)...)} {
		if s, err := parseSYN(p); err == nil {
			t.Errorf("%x: %+v", p, s)
		}
	}
}
