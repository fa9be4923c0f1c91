package reflect

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// maxReplies bounds the bytes that are taken from a far end in a session.
const maxReplies = 512 << 10

// An auditor is our side of a session.
type auditor struct {
	ctx     context.Context
	conn    net.Conn
	stop    func() bool
	pin     Pin
	timeout time.Duration
	r       *Report
	key     ed25519.PrivateKey // of this session
	nonce   string             // its public half
	earlier string             // nonce of a session to ask about
	seq     int                // requests made
	farEnd  string             // nonce in the greeting; empty if there was none

	in      lineReader
	tls     *tls.Conn // nil outside TLS
	tallies tallies

	mu   sync.Mutex // guards following
	over bool       // ctx has ended
}

func newAuditor(ctx context.Context, conn net.Conn, pin Pin, o Options, r *Report) *auditor {
	public, key, _ := ed25519.GenerateKey(rand.Reader) // crypto/rand never fails
	a := &auditor{ctx: ctx, conn: conn, pin: pin, timeout: o.Timeout, r: r, key: key, nonce: base64.RawURLEncoding.EncodeToString(public)}
	a.in = lineReader{src: conn, most: maxReplies}
	a.stop = context.AfterFunc(ctx, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.over = true
		conn.SetDeadline(time.Unix(1, 0))
	})
	return a
}

func (a *auditor) close() {
	a.stop()
	a.r.RTTus = rttOf(a.conn).Microseconds()
	a.conn.Close()
}

// limit sets when pending reads and writes end.
func (a *auditor) limit(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.over {
		a.conn.SetDeadline(time.Now().Add(d))
	}
}

// errStop ends a session for a reason that is in the report.
var errStop = errors.New("stop")

// hold holds the whole session.
func (a *auditor) hold(o Options) {
	if !a.begin(o) {
		return
	}
	steps := []func(Options) error{a.encrypt, a.needSummary, a.sendLong, a.stayQuiet, a.askReverse}
	for _, step := range steps {
		if err := step(o); err != nil {
			if errors.Is(err, errStop) {
				a.quit()
			}
			return
		}
	}
	a.r.Step = StepDone
	a.quit()
}

// needSummary ends a session with somebody who is not the far end.
func (a *auditor) needSummary(Options) error {
	if a.r.Summary == nil {
		return a.broken("%s", a.r.Refused)
	}
	return nil
}

// begin holds a session up to the first summary, and reports whether it goes on.
func (a *auditor) begin(o Options) bool {
	if o.ImplicitTLS && a.handshake() != nil {
		return false
	}
	if a.greeting() != nil || a.hello(o) != nil {
		return false
	}
	return a.ask() == nil
}

// fail notes where and how the session ended.
func (a *auditor) fail(err error) error {
	if err != errStop {
		a.r.End, a.r.Error = endOf(err)
	}
	return err
}

// broken notes that a reply ended the session.
func (a *auditor) broken(format string, args ...any) error {
	a.r.End, a.r.Error = EndReply, fmt.Sprintf(format, args...)
	return errStop
}

// A reply is a whole one.
type reply struct {
	code  int
	lines [][]byte // without codes and ends
	raw   []byte   // as it came
}

func (r *reply) text() []byte {
	return bytes.TrimSuffix(bytes.ReplaceAll(r.raw, []byte("\r\n"), []byte("\n")), []byte("\n"))
}

func (r *reply) first() string { return clipped(r.text()) }

// read reads a reply (RFC 5321, 4.2).
func (a *auditor) read() (*reply, error) {
	r := new(reply)
	for len(r.lines) < maxSummaryLines {
		line, err := a.in.line(func() {})
		if err != nil {
			return r, err
		}
		r.raw = append(r.raw, line...)
		text := bytes.Clone(bytes.TrimRight(line, "\r\n"))
		code, more, ok := parseReplyLine(text)
		if !ok {
			return r, fmt.Errorf("%w: %s", errNotSMTP, clipped(text))
		}
		r.code = code
		r.lines = append(r.lines, text[min(4, len(text)):])
		if !more {
			return r, nil
		}
	}
	return r, errTooMuch
}

var errNotSMTP = errors.New("what came is no reply of SMTP")

// parseReplyLine reads the code of a line.
func parseReplyLine(text []byte) (code int, more, ok bool) {
	if len(text) < 3 || len(text) > 3 && text[3] != ' ' && text[3] != '-' {
		return 0, false, false
	}
	for _, c := range text[:3] {
		if c < '0' || c > '9' {
			return 0, false, false
		}
		code = 10*code + int(c-'0')
	}
	return code, len(text) > 3 && text[3] == '-', code >= 200 && code < 600
}

// greeting reads the greeting.
func (a *auditor) greeting() error {
	a.r.Step = StepGreeting
	a.limit(a.timeout)
	a.r.Talk = append(a.r.Talk, newExchange(nil, 0, a.tls != nil))
	g, err := a.finish(nil)
	if err != nil {
		return err
	}
	words := strings.Fields(string(g.raw))
	for i, w := range words {
		if w == protocol && i+2 < len(words) {
			a.farEnd = words[i+2]
		}
	}
	if g.code != 220 {
		return a.broken("the greeting is %s", g.first())
	}
	return nil
}

// finish reads the reply to what was said last, and notes it. isSummary, if not
// nil, says whether the reply is one, which is not counted.
func (a *auditor) finish(isSummary func(*reply) bool) (*reply, error) {
	r, err := a.read()
	e := &a.r.Talk[len(a.r.Talk)-1]
	if isSummary != nil && isSummary(r) {
		e.Summary = true
	} else {
		a.tallies.down(a.tls != nil, r.raw)
		e.answer(r.text())
	}
	if err != nil {
		return r, a.fail(err)
	}
	return r, nil
}

// say sends a command in one piece, and reads its reply.
func (a *auditor) say(command string, isSummary func(*reply) bool) (*reply, error) {
	a.send(command)
	return a.finish(isSummary)
}

// send sends a command. An error shows at the reply.
func (a *auditor) send(command string) {
	a.limit(a.timeout)
	line := []byte(command + "\r\n")
	a.tallies.up(a.tls != nil, line)
	a.r.Talk = append(a.r.Talk, newExchange([]byte(command), len(line), a.tls != nil))
	var w io.Writer = a.conn
	if a.tls != nil {
		w = a.tls
	}
	w.Write(line)
}

// hello says EHLO.
func (a *auditor) hello(o Options) error {
	a.r.Step = StepEHLO
	name := o.Helo
	if name == "" {
		name = literal(a.r.Local.Addr().String())
	}
	e, err := a.say("EHLO "+name, nil)
	if err != nil {
		return err
	}
	if e.code != 250 {
		return a.broken("the answer to EHLO is %s", e.first())
	}
	if a.tls == nil {
		a.r.TLS.Listed = lists(e.text(), "STARTTLS")
	}
	return nil
}

// literal is an address as it stands in EHLO (RFC 5321, 4.1.3), without a zone.
func literal(addr string) string {
	addr, _, _ = strings.Cut(addr, "%")
	if strings.Contains(addr, ":") {
		return "[IPv6:" + addr + "]"
	}
	return "[" + addr + "]"
}

// lists reports whether an EHLO reply has a keyword.
func lists(text []byte, word string) bool {
	for _, keyword := range keywords(text) {
		if first, _, _ := strings.Cut(keyword, " "); strings.EqualFold(first, word) {
			return true
		}
	}
	return false
}

// keywords are the lines of an EHLO reply after the first, without codes.
func keywords(text []byte) (words []string) {
	for i, line := range strings.Split(string(text), "\n") {
		if i > 0 && len(line) > 4 {
			words = append(words, line[4:])
		}
	}
	return words
}

// ask asks for a summary: with NOOP, and if that is answered by something else,
// with the verb of our own. Without a summary the session goes on.
func (a *auditor) ask() error {
	a.r.Step = StepSummary
	took, err := a.request("NOOP XREFLECT", "")
	if err != nil || took {
		return err
	}
	_, err = a.request("XREFLECT", "")
	return err
}

// request asks for a summary once, and takes it if it is one.
func (a *auditor) request(verb, more string) (took bool, err error) {
	a.seq++
	a.r.Asked = a.seq
	command := verb + " " + a.nonce + " " + strconv.Itoa(a.seq) + more
	if a.earlier != "" {
		command += " EARLIER=" + a.earlier
	}
	a.send(command)
	if verb == "NOOP XREVERSE" {
		a.limit(reverseWait)
	}
	bytes, known := a.tallies.sums(), len(a.r.Talk)
	r, err := a.finish(func(r *reply) bool { return len(r.lines) > 1 })
	if err != nil {
		return false, err
	}
	s, err := decodeSummary(r.lines, a.pin, a.nonce, a.seq)
	if err != nil {
		a.r.Refused = err.Error()
		if errors.Is(err, ErrNoSummary) {
			a.r.Refused += ": " + r.first()
		}
		return false, nil
	}
	a.r.Summary, a.r.Bytes, a.r.Known = s, bytes, known
	return true, nil
}

// encrypt starts TLS where it is offered, and asks again inside it. Where it is
// refused, it asks in the clear whether the request arrived.
func (a *auditor) encrypt(o Options) error {
	if a.tls != nil || !a.r.TLS.Listed {
		return nil
	}
	a.r.Step = StepSTARTTLS
	r, err := a.say("STARTTLS", nil)
	a.r.TLS.Asked = true
	if err != nil {
		return err
	}
	if a.r.TLS.Code = r.code; r.code != 220 {
		return a.ask()
	}
	// RFC 3207, 4.2: nothing that came in the clear counts in the protected session.
	a.r.TLS.Stray = a.in.drop()
	if err := a.handshake(); err != nil {
		return err
	}
	if err := a.hello(o); err != nil {
		return err
	}
	return a.ask()
}

// handshake is our side of TLS. Any certificate will do: the summary says which is right.
func (a *auditor) handshake() error {
	a.r.Step = StepTLS
	a.limit(a.timeout)
	hello := new(helloHash)
	conn := tls.Client(&spout{Conn: a.conn, hello: hello}, &tls.Config{InsecureSkipVerify: true, SessionTicketsDisabled: true})
	err := conn.HandshakeContext(context.Background())
	t := &a.r.TLS
	t.Hello = hello.sum()
	if err != nil {
		t.Error = endWords(err)
		return a.fail(err)
	}
	state := conn.ConnectionState()
	leaf := state.PeerCertificates[0]
	hash := sha256.Sum256(leaf.Raw)
	t.Done, t.Version, t.Cipher, t.Cert = true, state.Version, state.CipherSuite, hex.EncodeToString(hash[:])
	t.Subject, t.Issuer = clip(leaf.Subject.String()), clip(leaf.Issuer.String())
	a.tls, a.in.src = conn, conn
	return nil
}

// A spout is our connection under TLS: our ClientHello is hashed.
type spout struct {
	net.Conn
	hello *helloHash
}

func (s *spout) Write(p []byte) (int, error) {
	s.hello.Write(p)
	return s.Conn.Write(p)
}

// sendLong sends a line that fills a packet, if it was asked for, and then asks again.
func (a *auditor) sendLong(o Options) error {
	if !o.LongLine {
		return nil
	}
	a.r.Step = StepLine
	const begin = "NOOP XLINE "
	r, err := a.say(begin+strings.Repeat("x", longLine-len(begin)-2), nil)
	if err != nil {
		return err
	}
	if r.code != 250 {
		return a.broken("the answer to a line of 1400 bytes is %s", r.first())
	}
	return a.ask()
}

// stayQuiet says nothing for as long as was asked, and then something.
func (a *auditor) stayQuiet(o Options) error {
	for _, d := range o.Idle {
		a.r.Step = StepIdle
		began := time.Now()
		q := Quiet{Asked: d.Seconds()}
		a.limit(d)
		_, err := a.in.line(func() {})
		if errors.Is(err, os.ErrDeadlineExceeded) && a.ctx.Err() == nil {
			_, err = a.say("NOOP", nil)
		} else if err == nil {
			err = a.broken("the far end spoke unasked")
		}
		if err != nil {
			a.fail(err)
			q.After, q.How = time.Since(began).Seconds(), a.r.Error
			a.r.Idle = append(a.r.Idle, q)
			return err
		}
		q.Outlived = true
		a.r.Idle = append(a.r.Idle, q)
	}
	if len(o.Idle) == 0 {
		return nil
	}
	return a.ask()
}

// askReverse has the far end look at our own ports.
func (a *auditor) askReverse(o Options) error {
	if len(o.Reverse) == 0 {
		return nil
	}
	a.r.Step = StepReverse
	if a.r.Summary == nil {
		a.r.ReverseError = "the far end was not reached"
		return nil
	}
	var words []string
	for _, port := range o.Reverse {
		words = append(words, strconv.Itoa(int(port)))
	}
	ports := strings.Join(words, ",")
	signature := ed25519.Sign(a.key, reverseText(a.nonce, a.r.Summary.FarEnd, ports))
	a.r.Summary.Reverse = nil
	took, err := a.request("NOOP XREVERSE", " "+ports+" "+base64.RawURLEncoding.EncodeToString(signature))
	switch {
	case err != nil:
		a.r.ReverseError = "the session broke off"
		return err
	case !took:
		a.r.ReverseError = a.r.Refused
	default:
		a.r.Reverse, a.r.ReverseError = a.r.Summary.Reverse, a.r.Summary.ReverseError
	}
	return nil
}

// quit ends the session as the protocol wants it. What was learned does not hang on it.
func (a *auditor) quit() {
	talk := len(a.r.Talk)
	a.send("QUIT")
	a.limit(min(a.timeout, 2*time.Second))
	a.read()
	a.r.Talk = a.r.Talk[:talk]
}

// endOf says how a connection or a session ended.
func endOf(err error) (end, words string) {
	var op *net.OpError
	var dns net.Error
	switch {
	case errors.Is(err, errNotSMTP), errors.Is(err, errTooMuch), errors.Is(err, errTooLong):
		return EndReply, err.Error()
	case errors.Is(err, syscall.ECONNREFUSED):
		return EndRefused, "the connection was refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return EndUnreachable, "a router said that it cannot be reached"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return EndReset, "the connection was reset"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return EndClosed, "the connection was closed"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &dns) && dns.Timeout():
		return EndSilence, "no answer came"
	case errors.As(err, &op) && op.Op == "remote error":
		return EndTLS, "TLS was ended with the alert \"" + strings.TrimPrefix(op.Err.Error(), "tls: ") + "\""
	}
	return EndTLS, strings.TrimPrefix(err.Error(), "tls: ")
}

// clip bounds what is quoted.
func clip(s string) string { return s[:min(len(s), 160)] }

// clipped quotes a stranger's bytes, bounded.
func clipped(b []byte) string { return strconv.Quote(clip(string(b))) }
